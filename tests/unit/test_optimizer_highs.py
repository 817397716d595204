"""The fast backend: the same optimum as CVXPY's, binaries only where needed, hot starts, values of stored energy."""

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import cvxpy as cp
import msgspec
import numpy as np
import pytest

from optimizer.exact import Exact
from optimizer.highs import Highs
from optimizer.linear import Linear
from optimizer.parameters import parameters_of
from optimizer.plan import Plan, check
from optimizer.problem import Battery, Car, DemandPeriod, Problem
from optimizer.program import Program, Structure, structure_of
from optimizer.solver import STRUCTURES_MAX, Solver, needs_modes
from tests.optimizer_cases import battery, car
from tests.optimizer_cases import problem as problem_of

EXACT = 1e-6
N = 16

# Random houses, edges included: nothing in a battery or all of it, outside its range, no power, no sun, limits at 0


def some_battery(rng: random.Random, k: int) -> Battery:
    return Battery(
        der_id=f"battery{k}",
        capacity_kwh=rng.uniform(2, 20),
        max_charge_kw=rng.choice([0.0, rng.uniform(1, 6), rng.uniform(1, 6)]),
        max_discharge_kw=rng.choice([0.0, rng.uniform(1, 6), rng.uniform(1, 6)]),
        efficiency_roundtrip=rng.choice([1.0, rng.uniform(0.6, 1.0), 0.9]),
        min_soc_percent=10.0,
        max_soc_percent=90.0,
        soc_percent=rng.choice([0.0, 10.0, 90.0, 100.0, rng.uniform(10, 90), rng.uniform(10, 90)]),
        end_value_per_kwh=rng.choice([0.0, rng.uniform(5, 40)]),
        wear_per_kwh=rng.uniform(0.01, 1),
    )


def some_car(rng: random.Random, k: int) -> Car:
    return Car(
        der_id=f"car{k}",
        capacity_kwh=rng.uniform(20, 80),
        max_charge_kw=rng.uniform(2, 11),
        soc_percent=rng.uniform(10, 95),
        target_soc_percent=rng.choice([80.0, 96.0, 100.0]),
        min_charge_kw=rng.choice([0.0, 1.38, 1.38]),
        departure_step=rng.choice([0, 5, N, rng.randint(1, N)]),
    )


def some_problem(rng: random.Random, kind: str) -> Problem:
    lowest = -20.0 if kind == "paid to import" else 0.0
    buy = [rng.uniform(lowest, 80) for _ in range(N)]
    most = 2.0 if kind == "dear export" else 1.0
    demand = [
        DemandPeriod(
            name=name,
            price_per_kw=rng.choice([0.0, 10.0, 10154.0]),
            floor_kw=rng.uniform(0, 4),
            expected_kw=rng.choice([(), (1.0, 2.0, 4.0, 9.0)]),
        )
        for name in rng.choice([(), "ab"])
    ]
    interval, passed = rng.choice([(1, 0), (2, 1)]) if demand else (1, 0)
    return Problem(
        step_h=0.25,
        first_step_h=rng.choice([None, 0.1]),
        load_kw=[rng.uniform(0, 9) for _ in range(N)],
        pv_kw=[max(0.0, rng.uniform(-6, 9)) for _ in range(N)],
        import_price=buy,
        export_price=[rng.uniform(-1, most) * price for price in buy],
        batteries=[some_battery(rng, k) for k in range(rng.choice([1, 1, 2]))],
        cars=[some_car(rng, k) for k in range(rng.choice([1, 2]))] if kind == "cars" else [],
        demand=demand,
        demand_of_interval=[rng.randrange(2) for _ in range(-(-(N + passed) // interval))] if demand else [],
        interval_steps=interval,
        passed_steps=passed,
        passed_kwh=0.5 * passed,
        max_grid_import_kw=rng.choice([6.0, 100.0]),
        max_grid_export_kw=rng.choice([0.0, 3.0]) if kind != "dear export" else 3.0,
    )


@cache
def program_of(structure: Structure) -> Program:
    return Program(structure)


def by_cvxpy(problem: Problem, *, modes: bool, **how: Any) -> float:
    """The optimum of the CVXPY problem itself, with binaries everywhere if it has modes."""
    program = program_of(structure_of(problem, modes=modes))
    program.data.load(problem)
    program.problem.solve(**how)
    assert program.problem.status == cp.OPTIMAL
    return float(program.problem.value)


SOLVER = Solver()
CLARABEL = {"solver": cp.CLARABEL, "tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9}
HIGHS = {"solver": cp.HIGHS, "mip_rel_gap": 1e-9, "mip_abs_gap": 1e-9}


@pytest.mark.parametrize("seed", range(100))
def test_agrees_with_clarabel(seed: int) -> None:
    problem = some_problem(random.Random(f"linear/{seed}"), "linear")
    plan = SOLVER.plan(problem, "house")
    assert plan.status == "optimal", plan.reason
    assert plan.objective == pytest.approx(by_cvxpy(problem, modes=False, **CLARABEL), rel=EXACT, abs=EXACT)


@pytest.mark.parametrize("kind", ["paid to import", "dear export", "cars"])
@pytest.mark.parametrize("seed", range(34))
def test_agrees_with_binaries_everywhere(kind: str, seed: int) -> None:
    problem = some_problem(random.Random(f"{kind}/{seed}"), kind)
    plan = SOLVER.plan(problem, "house")
    assert plan.status == "optimal", plan.reason
    assert plan.objective == pytest.approx(by_cvxpy(problem, modes=True, **HIGHS), rel=EXACT, abs=EXACT)


def test_a_rule_with_one_variable_is_a_bound() -> None:
    """Of the limits of charge, discharge, import and export, and of the peaks' levels no row is left."""
    problem = plain([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], demand=[PEAK], demand_of_interval=[0, 0, 0])
    numbers = Linear(Program(structure_of(problem, modes=False)), problem).numbers(parameters_of(problem))
    balance, storage, end, means, paid = 3, 3, 1, 3, 4
    assert len(numbers.row_high) == balance + storage + end + means + paid


# Binaries


BATTERY = battery(efficiency_roundtrip=0.81, soc_percent=50.0)
CAR = car(
    max_charge_kw=7.0,
    soc_percent=50.0,
    target_soc_percent=80.0,
    min_charge_kw=1.4,
    efficiency=0.9,
    departure_step=6,
)
PEAK = DemandPeriod(name="day", price_per_kw=100.0, floor_kw=1.0)


def plain(load: list[float], price: list[float], **more: Any) -> Problem:
    """Hourly steps, one battery, no sun, nothing sold."""
    return problem_of(load, price, BATTERY, **more)


def both_at_once(problem: Problem) -> bool:
    """Whether its linear program, without any binary, would charge and discharge at once."""
    exact = Exact(structure_of(problem, modes=False), problem)
    x = exact.highs.solve(exact.linear.numbers(parameters_of(problem))).x
    assert x is not None
    charge, discharge = x[exact.linear.columns["P_charge"]], x[exact.linear.columns["P_discharge"]]
    return bool(np.any(np.minimum(charge, discharge) > EXACT))


def test_losses_are_not_made_on_purpose_before_a_negative_price() -> None:
    """Room in the battery is worth more than what is in it, hours before: a step that is not suspected beforehand."""
    problem = plain([0.0] * 4, [0.1, 0.1, -50.0, -50.0])
    assert both_at_once(problem)
    plan = SOLVER.plan(problem)
    assert plan.ders[0].power_kw[:2] == [0.0, 0.0]
    assert plan.objective == pytest.approx(by_cvxpy(problem, modes=True, **HIGHS), rel=EXACT)
    assert plan.energy_cost == pytest.approx(plan.objective, rel=1e-4)


def test_a_car_gets_nothing_or_its_minimum() -> None:
    """The peak would have 0.5 kW in each step."""
    problem = plain(
        [1.0] * 6,
        [1.0] * 6,
        batteries=[],
        cars=[msgspec.structs.replace(CAR, target_soc_percent=55.0)],
        demand=[PEAK],
        demand_of_interval=[0] * 6,
    )
    plan = SOLVER.plan(problem)
    assert plan.status == "optimal"
    assert all(power == 0 or power >= CAR.min_charge_kw - EXACT for power in plan.ders[0].power_kw)
    assert plan.objective == pytest.approx(by_cvxpy(problem, modes=True, **HIGHS), rel=EXACT)


# Hot starts


def a_day(step: int, soc_percent: float) -> Problem:
    """A house's problem at a step of its days."""
    hours = [(step + i) % 96 / 4 for i in range(96)]
    return Problem(
        step_h=0.25,
        load_kw=[0.5 + 3 * (7 < hour < 9) + 4 * (18 < hour < 22) + 0.01 * hour for hour in hours],
        pv_kw=[max(0.0, 5 - abs(hour - 13)) for hour in hours],
        import_price=[40.0 if 10 <= hour < 20 else 15.0 for hour in hours],
        export_price=[5.0] * 96,
        batteries=[msgspec.structs.replace(BATTERY, soc_percent=soc_percent, wear_per_kwh=0.01)],
        demand=[PEAK],
        demand_of_interval=[0] * 96,
        max_grid_import_kw=20.0,
        max_grid_export_kw=4.0,
    )


def days(solver: Solver, house: str | None) -> Iterator[tuple[Problem, Plan]]:
    soc = 50.0
    for step in range(48):
        problem = a_day(step, soc)
        plan = solver.plan(problem, house)
        yield problem, plan
        soc = 100 * plan.ders[0].stored_kwh[1] / BATTERY.capacity_kwh


def test_a_hot_start_costs_what_a_cold_one_does() -> None:
    cold = Solver()
    for problem, plan in days(Solver(), "house"):
        assert plan.objective == pytest.approx(cold.plan(problem).objective, rel=1e-9)


def test_the_same_days_give_the_same_plans() -> None:
    """To the last bit, hot starts included: two houses in turn, twice."""
    runs = []
    for _ in range(2):
        solver = Solver()
        pairs = zip(days(solver, "one"), days(solver, "two"), strict=True)
        runs.append([msgspec.json.encode([one, two]) for (_, one), (_, two) in pairs])
    assert runs[0] == runs[1]


def test_without_a_house_a_plan_depends_on_its_problem_alone() -> None:
    alone = Solver().plan(a_day(3, 40.0))
    after_others = Solver()
    for _ in days(after_others, "house"):
        pass
    assert after_others.plan(a_day(3, 40.0)) == alone


def test_a_house_may_change_its_structure() -> None:
    solver = Solver()
    problem = a_day(0, 50.0)
    with_car = msgspec.structs.replace(problem, cars=[CAR])
    for case in (problem, with_car, problem, with_car):
        plan = solver.plan(case, "house")
        assert plan.status == "optimal"
        assert plan.objective == pytest.approx(Solver().plan(case).objective, rel=EXACT)


# The truth about what came of it


def hard() -> Problem:
    """Export is paid better than import, so that every step needs a binary, and many ways cost nearly the same."""
    rng = random.Random(1)
    problem = a_day(0, 50.0)
    return msgspec.structs.replace(
        problem,
        load_kw=[rng.uniform(0, 3) for _ in range(96)],
        export_price=[price + 10 for price in problem.import_price],
        demand=[],
        demand_of_interval=[],
    )


def test_a_time_limit_counts_for_each_plan() -> None:
    """HiGHS counts all its runs together: the hundredth plan has as much time as the first."""
    solver = Solver(time_limit_s=0.5)
    for step in range(100):
        assert solver.plan(a_day(step, 50.0)).status == "optimal"


def test_a_time_limit_counts_for_each_plan_with_binaries_too() -> None:
    """And these it counts from each run on."""
    exact = Exact(structure_of(hard(), modes=True), hard())
    for _ in range(4):
        assert exact.answer(hard(), time_limit_s=0.3).solved.took_s < 0.6


def test_of_many_structures_the_latest_are_kept() -> None:
    solver = Solver()
    for steps in range(1, STRUCTURES_MAX + 4):
        assert solver.plan(plain([1.0] * steps, [1.0] * steps), "house").status == "optimal"
    assert len(solver._exact) == STRUCTURES_MAX
    assert solver.plan(plain([1.0], [1.0]), "house").status == "optimal"
    solver.forget("house")
    assert not solver._bases


def test_what_is_found_by_the_time_limit_is_used_and_not_called_optimal() -> None:
    plan = Solver(time_limit_s=0.3).plan(hard())
    assert plan.status == "fallback"
    assert plan.reason.startswith("solver: time limit reached: within ")
    assert any(plan.ders[0].power_kw)
    assert check(plan, hard()) is None


def test_nothing_found_by_the_time_limit_leaves_the_battery_alone() -> None:
    plan = Solver(time_limit_s=0.0).plan(hard())
    assert (plan.status, plan.reason) == ("fallback", "solver: time limit reached")
    assert not any(plan.ders[0].power_kw)


def test_what_cannot_be_is_infeasible() -> None:
    """No problem that is let through is; so the numbers of one are made so."""
    problem = plain([1.0], [1.0])
    linear = Linear(Program(structure_of(problem, modes=False)), problem)
    numbers = linear.numbers(parameters_of(problem))
    numbers.low[:] = 1.0
    numbers.high[:] = 1.0
    solved = Highs().solve(numbers)
    assert (solved.outcome, solved.x) == ("infeasible", None)


# What stored energy is worth


def test_stored_energy_saves_what_it_replaces() -> None:
    """After the first step it replaces dear imports, after the second cheap ones, after the last it is kept."""
    lossless = msgspec.structs.replace(
        BATTERY, efficiency_roundtrip=1.0, max_charge_kw=1.0, soc_percent=20.0, end_value_per_kwh=3.0
    )
    plan = SOLVER.plan(
        plain([1.0, 5.0, 5.0], [10.0, 30.0, 10.0], batteries=[lossless], max_grid_import_kw=6.0)
    )
    assert plan.ders[0].stored_value == pytest.approx([30.0, 10.0, 3.0], abs=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_the_value_of_stored_energy_is_what_more_of_it_saves(seed: int) -> None:
    """Planned on from each step with a little more or less: the value lies between what these save and cost."""
    problem = msgspec.structs.replace(
        some_problem(random.Random(f"value/{seed}"), "linear"),
        demand=[],
        demand_of_interval=[],
        first_step_h=None,
    )
    solver = Solver()
    plan = solver.plan(problem)
    for step, value in enumerate(plan.ders[0].stored_value[:-1]):
        less, same, more = (cost_from(solver, problem, plan, step + 1, kwh) for kwh in (-LITTLE, 0.0, LITTLE))
        if None not in (less, same, more):
            assert (same - more) / LITTLE - 1e-3 <= value <= (less - same) / LITTLE + 1e-3


LITTLE = 1e-3


def cost_from(solver: Solver, problem: Problem, plan: Plan, step: int, kwh: float) -> float | None:
    """What the rest of a plan costs if the first battery holds that much more; None if it can't."""
    batteries = []
    for k, (one, der) in enumerate(zip(problem.batteries, plan.ders, strict=True)):
        soc = 100 * (der.stored_kwh[step] + (kwh if k == 0 else 0.0)) / one.capacity_kwh
        if not one.min_soc_percent <= soc <= one.max_soc_percent:
            return None
        batteries.append(msgspec.structs.replace(one, soc_percent=soc))
    rest = msgspec.structs.replace(
        problem,
        batteries=batteries,
        **{
            name: getattr(problem, name)[step:]
            for name in ("load_kw", "pv_kw", "import_price", "export_price")
        },
    )
    return solver.plan(rest).objective


def test_every_value_is_a_number() -> None:
    """Also of a house that needs more than it may import, whose every kWh is beyond price."""
    plan = SOLVER.plan(plain([9.0] * 4, [1.0] * 4, max_grid_import_kw=2.0))
    assert plan.violations
    assert all(abs(value) <= 1e6 for value in plan.ders[0].stored_value)
    assert len(plan.ders[0].stored_value) == len(plan.ders[0].power_kw)


def test_charge_in_a_car_is_worth_what_it_need_not_buy() -> None:
    """The last 3 of the 17 kWh it lacks are bought at 30; once it is charged, more saves nothing."""
    problem = plain(
        [0.0] * 4,
        [10.0, 20.0, 30.0, 40.0],
        batteries=[],
        cars=[msgspec.structs.replace(CAR, departure_step=4, efficiency=1.0, target_soc_percent=84.0)],
    )
    (car,) = SOLVER.plan(problem).ders
    assert car.stored_value == pytest.approx([30.0, 30.0, 0.0, 0.0])


def test_binaries_are_settled_before_energy_is_valued() -> None:
    plan = SOLVER.plan(plain([1.0] * 4, [10.0, -5.0, -5.0, 20.0]))
    assert len(plan.ders[0].stored_value) == len(plan.ders[0].power_kw)
    assert needs_modes(plain([1.0], [-1.0]))
