"""The optimization problem: hand-checked numbers, an independent formulation, and what must always hold."""

import math
import random
from typing import Any

import cvxpy as cp
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.plan import TOLERANCE, Plan, check, plan_of
from optimizer.problem import Battery, DemandPeriod, Problem
from optimizer.solver import Solver

SOLVER = Solver()
EXACT = 1e-6

BATTERY = Battery(
    capacity_kwh=10.0,
    max_charge_kw=4.0,
    max_discharge_kw=4.0,
    efficiency_roundtrip=1.0,
    min_soc_percent=0.0,
    max_soc_percent=100.0,
    soc_percent=0.0,
)


def problem(load: list[float], price: list[float], *batteries: Battery, **more: Any) -> Problem:
    """Hourly steps, no PV, no export, nothing left is worth anything."""
    fields: dict[str, Any] = {
        "step_h": 1.0,
        "load_kw": load,
        "pv_kw": [0.0] * len(load),
        "import_price": price,
        "export_price": [0.0] * len(load),
        "batteries": batteries or [BATTERY],
        "max_grid_import_kw": 100.0,
        **more,
    }
    return Problem(**fields)


def battery(**fields: float) -> Battery:
    return msgspec.structs.replace(BATTERY, **fields)


# Reference numbers


def test_buys_cheap_and_uses_dear() -> None:
    plan = SOLVER.plan(problem([1.0, 1.0], [10.0, 30.0]))
    assert plan.status == "optimal"
    assert plan.ders[0].power_kw == pytest.approx([1.0, -1.0])
    assert plan.grid_kw == pytest.approx([2.0, 0.0])
    assert plan.ders[0].stored_kwh == pytest.approx([0.0, 1.0, 0.0])
    assert plan.energy_cost == pytest.approx(20.0)


@pytest.mark.parametrize(("dear", "charged_kw"), [(13.0, 1.25), (12.0, 0.0)])
def test_losses_decide_whether_arbitrage_pays(dear: float, charged_kw: float) -> None:
    """At 0.8 round trip, 1 kWh used costs 1.25 kWh bought: it pays from 12.5 for energy bought at 10."""
    plan = SOLVER.plan(problem([1.0, 1.0], [10.0, dear], battery(efficiency_roundtrip=0.8)))
    assert plan.ders[0].power_kw[0] == pytest.approx(charged_kw, abs=EXACT)


def test_efficiency_is_the_root_each_way() -> None:
    plan = SOLVER.plan(problem([0.0, 3.0], [1.0, 100.0], battery(efficiency_roundtrip=0.81)))
    assert plan.ders[0].power_kw == pytest.approx([3.0 / 0.81, -3.0])
    assert plan.ders[0].stored_kwh == pytest.approx([0.0, 3.0 / 0.9, 0.0])


def test_shaves_the_peak_flat() -> None:
    peak = DemandPeriod(name="all day", price_per_kw=1000.0, floor_kw=0.0)
    plan = SOLVER.plan(problem([1.0, 5.0], [1.0, 1.0], demand=[peak], demand_of_interval=[0, 0]))
    assert plan.grid_kw == pytest.approx([3.0, 3.0])
    assert plan.peak_kw == pytest.approx(3.0)
    assert plan.demand_cost == pytest.approx(3000.0)


def test_a_peak_already_paid_for_is_free() -> None:
    peak = DemandPeriod(name="all day", price_per_kw=1000.0, floor_kw=5.0)
    plan = SOLVER.plan(problem([1.0, 5.0], [1.0, 1.0], demand=[peak], demand_of_interval=[0, 0]))
    assert plan.ders[0].power_kw == pytest.approx([0.0, 0.0], abs=EXACT)
    assert plan.demand_cost == pytest.approx(5000.0)


def test_each_period_has_its_own_peak() -> None:
    cheap = DemandPeriod(name="night", price_per_kw=10.0, floor_kw=0.0)
    dear = DemandPeriod(name="day", price_per_kw=1000.0, floor_kw=0.0)
    plan = SOLVER.plan(problem([0.0, 4.0], [1.0, 1.0], demand=[cheap, dear], demand_of_interval=[0, 1]))
    assert plan.grid_kw == pytest.approx([4.0, 0.0], abs=EXACT)
    assert plan.demand_cost == pytest.approx(40.0)


def test_without_export_the_surplus_is_stored_then_curtailed() -> None:
    plan = SOLVER.plan(problem([1.0, 4.0], [10.0, 10.0], pv_kw=[8.0, 0.0]))
    assert plan.ders[0].power_kw == pytest.approx([4.0, -4.0])
    assert plan.curtailed_kw == pytest.approx([3.0, 0.0])
    assert min(plan.grid_kw) >= -EXACT


def test_exports_what_pays_up_to_the_limit() -> None:
    plan = SOLVER.plan(
        problem(
            [0.0, 0.0],
            [10.0, 10.0],
            pv_kw=[8.0, 0.0],
            export_price=[2.0, 5.0],
            max_grid_export_kw=3.0,
        )
    )
    assert plan.grid_kw == pytest.approx([-3.0, -3.0])
    assert plan.ders[0].power_kw == pytest.approx([3.0, -3.0])
    assert plan.curtailed_kw == pytest.approx([2.0, 0.0])
    assert plan.energy_cost == pytest.approx(-21.0)


def test_stored_energy_keeps_its_value_at_the_end() -> None:
    """Else every plan would empty the battery by its last step; between what using and buying it costs, it stays."""
    full = battery(soc_percent=80.0, efficiency_roundtrip=0.81)
    worthless = SOLVER.plan(problem([0.9] * 4, [10.0] * 4, full))
    assert worthless.ders[0].stored_kwh[-1] == pytest.approx(4.0)
    valued = SOLVER.plan(
        problem([0.9] * 4, [10.0] * 4, msgspec.structs.replace(full, end_value_per_kwh=10.0))
    )
    assert valued.ders[0].stored_kwh[-1] == pytest.approx(8.0)


def test_the_import_limit_is_kept_where_it_can_be() -> None:
    plan = SOLVER.plan(problem([1.0, 5.0], [10.0, 10.0], max_grid_import_kw=3.0))
    assert plan.grid_kw == pytest.approx([3.0, 3.0])
    assert not plan.violations


def test_a_missed_import_limit_is_named_and_planned_around() -> None:
    plan = SOLVER.plan(problem([9.0, 9.0], [10.0, 10.0], max_grid_import_kw=3.0))
    assert plan.status == "optimal"
    assert plan.violations == ["max_grid_import_kw of 3 kW is passed by up to 6 kW (step 0)"]


@pytest.mark.parametrize(("soc", "stored"), [(5.0, [0.5, 2.0, 2.0]), (95.0, [9.5, 8.5, 8.0])])
def test_a_battery_found_outside_its_range_goes_back(soc: float, stored: list[float]) -> None:
    narrow = battery(
        soc_percent=soc,
        min_soc_percent=20.0,
        max_soc_percent=80.0,
        end_value_per_kwh=9.0 if soc < 50 else 99.0,
    )
    plan = SOLVER.plan(problem([1.0, 0.5], [10.0, 10.0], narrow))
    assert plan.status == "optimal"
    assert plan.ders[0].stored_kwh == pytest.approx(stored)


# What can't be planned is named, and leaves the battery alone


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"load_kw": [1.0, math.nan]}, "load_kw[1] is nan"),
        ({"pv_kw": [math.inf, 0.0]}, "pv_kw[0] is inf"),
        ({"pv_kw": [-1.0, 0.0]}, "pv_kw[0] is -1"),
        ({"import_price": [1.0]}, "import_price has 1 numbers, load_kw 2"),
        ({"load_kw": [], "pv_kw": [], "import_price": [], "export_price": []}, "load_kw is empty"),
        ({"max_grid_import_kw": -1.0}, "max_grid_import_kw is -1"),
        ({"max_grid_export_kw": math.nan}, "max_grid_export_kw is nan"),
        ({"batteries": [battery(end_value_per_kwh=math.nan)]}, "battery end_value_per_kwh is nan"),
        ({"batteries": [BATTERY, BATTERY]}, "battery is there twice"),
        ({"step_h": 0.0}, "step_h is 0"),
        ({"step_h": math.nan}, "step_h is nan"),
        ({"batteries": [battery(capacity_kwh=0.0)]}, "battery capacity_kwh is 0"),
        ({"batteries": [battery(soc_percent=math.nan)]}, "battery soc_percent is nan"),
        ({"batteries": [battery(efficiency_roundtrip=-1.0)]}, "battery efficiency_roundtrip is -1"),
        ({"batteries": [battery(min_soc_percent=90.0, max_soc_percent=10.0)]}, "battery min_soc_percent 90"),
        (
            {
                "demand": [DemandPeriod(name="day", price_per_kw=-1.0, floor_kw=0.0)],
                "demand_of_interval": [0, 0],
            },
            "demand price of day is -1",
        ),
        (
            {
                "demand": [DemandPeriod(name="day", price_per_kw=1.0, floor_kw=0.0)],
                "demand_of_interval": [0, 1],
            },
            "demand_of_interval names a period outside 0..0",
        ),
    ],
)
def test_a_fault_in_the_input_is_named(change: dict[str, Any], cause: str) -> None:
    plan = SOLVER.plan(faulty(change))
    assert plan.status == "error"
    assert plan.reason.startswith(cause)
    assert not any(plan.ders[0].power_kw)
    assert all(map(math.isfinite, [*plan.grid_kw, *plan.ders[0].stored_kwh, plan.energy_cost, plan.peak_kw]))


def faulty(change: dict[str, Any]) -> Problem:
    return msgspec.structs.replace(problem([1.0, 1.0], [1.0, 1.0]), **change)


def test_out_of_time_is_a_fallback_that_says_so() -> None:
    plan = Solver(time_limit_s=0.0).plan(problem([1.0, 5.0] * 50, [1.0, 30.0] * 50))
    assert plan.status == "fallback"
    assert "user_limit" in plan.reason
    assert not any(plan.ders[0].power_kw)


# The check finds every kind of wrong plan


@pytest.mark.parametrize(
    ("change", "of_der", "cause"),
    [
        ({"grid_kw": [2.1, 0.0]}, {}, "balance"),
        ({"grid_kw": [6.0, 0.0]}, {"power_kw": [5.0, -1.0]}, "max_charge_kw of battery"),
        ({"grid_kw": [2.0, -1.0]}, {"power_kw": [1.0, -2.0]}, "max_grid_export_kw"),
        ({"curtailed_kw": [1.0, 0.0], "grid_kw": [3.0, 0.0]}, {}, "curtailed PV"),
        ({"curtailed_kw": [-1.0, 0.0], "grid_kw": [1.0, 0.0]}, {}, "curtailed PV below 0"),
        ({}, {"stored_kwh": [0.5, 1.0, 0.0]}, "battery starts"),
        ({}, {"stored_kwh": [0.0, 1.5, 0.5]}, "change of stored energy of battery"),
    ],
)
def test_check_finds(change: dict[str, Any], of_der: dict[str, Any], cause: str) -> None:
    case = problem([1.0, 1.0], [10.0, 30.0])
    plan = plan_of(case, [[1.0, -1.0]], [], [0.0, 0.0], status="optimal")
    assert check(plan, case) is None
    ders = [msgspec.structs.replace(plan.ders[0], **of_der)]
    fault = check(msgspec.structs.replace(plan, ders=ders, **change), case)
    assert fault is not None
    assert fault.startswith(cause)


def test_check_finds_too_fast_a_discharge() -> None:
    case = problem([1.0, 6.0], [10.0, 30.0])
    fault = check(plan_of(case, [[1.0, -5.0]], [], [0.0, 0.0], status="optimal"), case)
    assert fault is not None
    assert fault.startswith("max_discharge_kw of battery")


def test_check_finds_a_charge_outside_its_range() -> None:
    case = problem(
        [3.0, 1.0], [1.0, 1.0], battery(soc_percent=20.0, min_soc_percent=10.0, max_soc_percent=30.0)
    )
    for powers, cause in (([-2.0, 0.0], "min_soc_percent"), ([2.0, 0.0], "max_soc_percent")):
        fault = check(plan_of(case, [powers], [], [0.0, 0.0], status="optimal"), case)
        assert fault is not None
        assert fault.startswith(cause)


# What holds for every problem

powers = st.floats(0, 12).map(lambda x: round(x, 3))
prices = st.floats(0, 80).map(lambda x: round(x, 2))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Random houses of 6 steps of a quarter of an hour; few structures, so that they are compiled once."""
    n = 6
    import_price = draw(st.lists(prices, min_size=n, max_size=n))
    demand = [
        DemandPeriod(
            name=name, price_per_kw=draw(st.sampled_from([0.0, 50.0, 10154.0])), floor_kw=draw(powers)
        )
        for name in draw(st.sampled_from([(), ("day", "night")]))
    ]
    low = draw(st.floats(0, 40))
    return Problem(
        step_h=0.25,
        load_kw=draw(st.lists(powers, min_size=n, max_size=n)),
        pv_kw=draw(st.lists(powers, min_size=n, max_size=n)),
        import_price=import_price,
        export_price=[min(price, draw(st.floats(-5, 80))) for price in import_price],
        batteries=[
            Battery(
                capacity_kwh=draw(st.floats(0.5, 30)),
                max_charge_kw=draw(st.floats(0, 8)),
                max_discharge_kw=draw(st.floats(0, 8)),
                efficiency_roundtrip=draw(st.floats(0.6, 1.0)),
                min_soc_percent=low,
                max_soc_percent=draw(st.floats(low + 5, 100)),
                soc_percent=draw(st.floats(0, 100)),
                end_value_per_kwh=draw(st.floats(0, 50)),
                wear_per_kwh=draw(st.sampled_from([0.001, 0.5])),
            )
        ],
        demand=demand,
        demand_of_interval=[0, 0, 1, 1, 0, 1] if demand else [],
        max_grid_import_kw=draw(st.sampled_from([3.0, 100.0])),
        max_grid_export_kw=draw(st.sampled_from([0.0, 4.0])),
    )


@settings(max_examples=100, deadline=None)
@given(problems())
def test_every_plan_keeps_to_physics(case: Problem) -> None:
    plan = SOLVER.plan(case)
    assert plan.status == "optimal", plan.reason
    assert check(plan, case) is None
    for grid, pv, curtailed, load, power in zip(
        plan.grid_kw, case.pv_kw, plan.curtailed_kw, case.load_kw, plan.ders[0].power_kw, strict=True
    ):
        assert grid + pv - curtailed == pytest.approx(load + power, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(problems())
def test_what_is_published_costs_what_the_solver_found(case: Problem) -> None:
    """Charging and discharging at once would be netted in the plan and show here; so would any lost term."""
    plan = SOLVER.plan(case)
    assert plan.objective is not None
    assert objective(plan, case) == pytest.approx(plan.objective, rel=EXACT, abs=EXACT)


def objective(plan: Plan, case: Problem) -> float:
    """What a plan costs by the words of `Problem`, the soft limit aside."""
    battery = case.batteries[0]
    wear = battery.wear_per_kwh * case.step_h * sum(map(abs, plan.ders[0].power_kw))
    over = sum(max(0.0, kw - case.max_grid_import_kw) for kw in plan.grid_kw)
    energy = max(case.import_price) * case.step_h * case.steps
    energy += battery.end_value_per_kwh * case.step_h
    over_price = 10 * (1 + energy + sum(period.price_per_kw for period in case.demand))
    kept = battery.end_value_per_kwh * plan.ders[0].stored_kwh[-1]
    return plan.energy_cost + plan.demand_cost + wear + over_price * over - kept


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_clarabel_on_the_reference_formulation(seed: int) -> None:
    """Ordinary numbers: on degenerate ones Clarabel is the one that is off."""
    case = random_case(random.Random(seed))
    assert SOLVER.plan(case).objective == pytest.approx(reference_objective(case), rel=EXACT)


def random_case(rng: random.Random, n: int = 12) -> Problem:
    peaks = [
        DemandPeriod(name=name, price_per_kw=rng.uniform(5, 50), floor_kw=rng.uniform(0, 3)) for name in "ab"
    ]
    import_price = [rng.uniform(10, 80) for _ in range(n)]
    return Problem(
        step_h=0.25,
        load_kw=[rng.uniform(0.2, 9) for _ in range(n)],
        pv_kw=[max(0.0, rng.uniform(-4, 8)) for _ in range(n)],
        import_price=import_price,
        export_price=[rng.uniform(-2, 1) * price for price in import_price],
        batteries=[
            Battery(
                capacity_kwh=rng.uniform(3, 20),
                max_charge_kw=rng.uniform(1, 6),
                max_discharge_kw=rng.uniform(1, 6),
                efficiency_roundtrip=rng.uniform(0.7, 1.0),
                min_soc_percent=10.0,
                max_soc_percent=90.0,
                soc_percent=rng.uniform(10, 90),
                end_value_per_kwh=rng.uniform(5, 40),
                wear_per_kwh=rng.uniform(0.01, 1),
            )
        ],
        demand=peaks,
        demand_of_interval=[rng.randrange(2) for _ in range(n)],
        max_grid_import_kw=100.0,
        max_grid_export_kw=rng.choice([0.0, 3.0]),
    )


def reference_objective(case: Problem) -> float:
    """The reference document's constraints as it writes them, SOC in shares, one by one, no parameters."""
    n, dt, bat = case.steps, case.step_h, case.batteries[0]
    charge, discharge = cp.Variable(n, nonneg=True), cp.Variable(n, nonneg=True)
    buy, sell, curtailed = (
        cp.Variable(n, nonneg=True),
        cp.Variable(n, nonneg=True),
        cp.Variable(n, nonneg=True),
    )
    soc = cp.Variable(n + 1)
    rules: list[Any] = [soc[0] == bat.soc_percent / 100, sell <= case.max_grid_export_kw]
    cost: Any = -bat.end_value_per_kwh * bat.capacity_kwh * soc[n]
    for t in range(n):
        rules += [
            buy[t] - sell[t] + case.pv_kw[t] - curtailed[t] == case.load_kw[t] + charge[t] - discharge[t],
            soc[t + 1]
            == soc[t]
            + bat.efficiency * charge[t] * dt / bat.capacity_kwh
            - discharge[t] * dt / (bat.efficiency * bat.capacity_kwh),
            soc[t + 1] >= bat.min_soc_percent / 100,
            soc[t + 1] <= bat.max_soc_percent / 100,
            charge[t] <= bat.max_charge_kw,
            discharge[t] <= bat.max_discharge_kw,
            curtailed[t] <= case.pv_kw[t],
        ]
        cost += dt * (case.import_price[t] * buy[t] - case.export_price[t] * sell[t])
        cost += dt * bat.wear_per_kwh * (charge[t] + discharge[t])
    for index, period in enumerate(case.demand):
        steps = [t for t in range(n) if case.demand_of_interval[t] == index]
        cost += period.price_per_kw * cp.maximum(period.floor_kw, *[buy[t] for t in steps])
    reference = cp.Problem(cp.Minimize(cost), rules)
    reference.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return float(reference.value)


def test_a_plan_depends_on_its_problem_alone() -> None:
    one, other = problem([1.0, 5.0, 2.0], [1.0, 9.0, 3.0]), problem([4.0, 0.0, 9.0], [5.0, 1.0, 2.0])
    alone = Solver().plan(one)
    after_another = Solver()
    after_another.plan(other)
    assert after_another.plan(one) == alone
    assert TOLERANCE < 1e-3
