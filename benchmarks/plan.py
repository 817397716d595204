"""The optimizer's plans: beside CVXPY on the same problems, where the time goes, and 1,000 houses."""

import gc
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cvxpy as cp
import msgspec
import numpy as np

from benchmarks.measure import pin_to_one_core, report
from contracts.instant import Instant
from energy.series import read_series
from energy.tariff import load_tariff
from optimizer.exact import Exact
from optimizer.parameters import parameters_of
from optimizer.plan import Plan, check, plan_of
from optimizer.problem import Battery, Car, DemandPeriod, Problem, fault_in
from optimizer.program import Program, structure_of
from optimizer.reasons import limits_of
from optimizer.solver import Solver

CSV = Path(__file__).parents[1] / "examples" / "data" / "fr_house_30min.csv"
STEPS, STEP_S = 192, 900.0
DAY = 96
PLANS = 96
"""A day, re-planned each quarter of an hour."""
BESIDE = 4
"""Of so many plans one is made by CVXPY too."""
HOUSES = 1000
SOLVE_MS, OF_DPP, OF_REBUILT = 3.5, 0.35, 0.14
HOUSES_S, RSS_MB = 15.0, 300.0
FLOORS_KW = {"peak": 3.0, "valley": 3.4, "night": 3.2}

BATTERY = Battery(
    capacity_kwh=10.0,
    max_charge_kw=5.0,
    max_discharge_kw=5.0,
    efficiency_roundtrip=0.9,
    min_soc_percent=10.0,
    max_soc_percent=90.0,
    soc_percent=50.0,
    end_value_per_kwh=32.0,
    wear_per_kwh=0.04,
)
CAR = Car(
    capacity_kwh=60.0,
    max_charge_kw=7.4,
    soc_percent=40.0,
    target_soc_percent=80.0,
    min_charge_kw=1.38,
    departure_step=52,
)


class House:
    """Recorded days, foreseen from the days before and the last hour, under a tariff with three peaks.

    Args:
        seed: 0 is the recorded house itself; others have another size and other noise.
    """

    def __init__(self, seed: int = 0) -> None:
        rng = random.Random(f"benchmark/{seed}")
        scale = 1.0 if seed == 0 else rng.uniform(0.4, 1.6)
        noise = np.array([1.0 if seed == 0 else rng.uniform(0.8, 1.2) for _ in RECORDED.load])
        self._load, self._pv = RECORDED.load * scale * noise, RECORDED.pv * scale
        self._scale = scale
        self.soc_percent = 50.0 if seed == 0 else rng.uniform(10, 90)

    def problem(self, step: int) -> Problem:
        """What is to be planned at a step, from the fourth day on."""
        ahead = np.arange(step, step + STEPS)
        load, pv = (self._foreseen(series, step) for series in (self._load, self._pv))
        names = [RECORDED.names[i] for i in ahead]
        first_met = list(dict.fromkeys(names))
        return Problem(
            step_h=STEP_S / 3600,
            load_kw=load.tolist(),
            pv_kw=pv.tolist(),
            import_price=RECORDED.price[ahead].tolist(),
            export_price=[0.0] * STEPS,
            batteries=[msgspec.structs.replace(BATTERY, soc_percent=self.soc_percent)],
            demand=[self._demand(name) for name in first_met],
            demand_of_interval=[first_met.index(name) for name in names],
            max_grid_import_kw=30.0,
        )

    def go_on(self, plan: Plan) -> None:
        """A step later, the battery is where the plan has it."""
        self.soc_percent = 100 * plan.ders[0].stored_kwh[1] / BATTERY.capacity_kwh

    def _demand(self, name: str) -> DemandPeriod:
        floor = FLOORS_KW[name] * self._scale
        levels = [floor * (0.9 + 0.1 * k) for k in range(4)]
        price = RECORDED.demand_price[name]
        return DemandPeriod(name=name, price_per_kw=price, floor_kw=floor, expected_kw=levels)

    def _foreseen(self, series: np.ndarray, step: int) -> np.ndarray:
        days = np.mean([series[step - k * DAY : step - k * DAY + DAY] for k in (1, 2, 3)], axis=0)
        usual = np.concatenate([days, days])
        lately = series[step - 1] - days[-1]
        return np.maximum(0.0, usual + lately * 0.8 ** np.arange(STEPS))


class Recorded(NamedTuple):
    """Means of each step, and the tariff's prices."""

    load: np.ndarray
    pv: np.ndarray
    price: np.ndarray
    names: list[str]
    demand_price: dict[str, float]


def _recorded() -> Recorded:
    tariff, n = load_tariff("costa_rica"), 8 * DAY
    load, pv = (read_series(CSV, column) for column in ("meter_w", "pv_w"))
    at: list[Instant] = [load.start.after(i * STEP_S) for i in range(n)]
    periods = [tariff.period_at(instant) for instant in at]
    return Recorded(
        np.array(load.resample(load.start, STEP_S, n)) / 1000,
        np.array(pv.resample(load.start, STEP_S, n)) / 1000,
        np.array([period.import_price for period in periods]),
        [period.demand_group for period in periods],
        {period.demand_group: period.demand_price for period in tariff.periods},
    )


RECORDED = _recorded()


def rolled(count: int = PLANS) -> Iterator[Problem]:
    """One house's problems, one after the other as its days go on."""
    house, solver = House(), Solver()
    for step in range(4 * DAY, 4 * DAY + count):
        problem = house.problem(step)
        yield problem
        house.go_on(solver.plan(problem))


class Stopwatch:
    """Times of named works [ms]."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def run(self, name: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the work gives
        """Do it, and note how long it took."""
        began = time.perf_counter()
        result = work()
        self.times.setdefault(name, []).append(1000 * (time.perf_counter() - began))
        return result

    def median(self, name: str) -> float:
        """The median time of a work [ms]."""
        return statistics.median(self.times[name])


def _houses() -> None:
    """All houses planned anew, then once more a quarter of an hour later."""
    houses, solver = [House(seed) for seed in range(HOUSES)], Solver()
    plans: dict[str, Plan] = {}
    for run, what in enumerate(("first plans, compiling included", "re-planned")):
        problems = [house.problem(4 * DAY + run) for house in houses]
        began = time.perf_counter()
        for i, problem in enumerate(problems):
            plans[str(i)] = solver.plan(problem, str(i))
        took = time.perf_counter() - began
        assert all(plan.status == "optimal" for plan in plans.values())  # noqa: S101
        report(f"{HOUSES} houses, {what}", took, "s", f"to reach: {HOUSES_S:g}")
        for house, plan in zip(houses, plans.values(), strict=True):
            house.go_on(plan)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report("memory of the process then, at its highest", peak_mb, "MB", f"to reach: {RSS_MB:g}")


def _beside_cvxpy(watch: Stopwatch) -> None:
    """The same problems by the fast backend, by CVXPY with DPP, and by CVXPY anew each time."""
    whole, cold = Solver(), Solver()
    problems = list(rolled())
    program = Program(structure_of(problems[0], modes=False))
    exact = Exact(program.structure, problems[0])
    basis = None
    for i, problem in enumerate(problems):
        answer = watch.run("fast backend, re-solve", lambda p=problem, b=basis: exact.answer(p, b))
        basis = exact.basis
        plan = watch.run("fast backend, whole plan", lambda p=problem: whole.plan(p, "house"))
        if i % BESIDE:
            continue
        watch.run("fast backend, whole plan, cold", lambda p=problem: cold.plan(p))
        watch.run("CVXPY with DPP, HiGHS", lambda p=problem: _solve(program, p))
        watch.run("CVXPY rebuilt, HiGHS", lambda p=problem: _solve(Program(structure_of(p, modes=False)), p))
        difference = abs(answer.solved.cost - program.problem.value) / abs(program.problem.value)
        assert difference < 1e-6, difference  # noqa: PLR2004, S101
        assert plan.status == "optimal"  # noqa: S101


def _solve(program: Program, problem: Problem) -> None:
    program.data.load(problem)
    program.problem.solve(solver=cp.HIGHS, enforce_dpp=True, warm_start=False)


def _parts(watch: Stopwatch) -> None:
    """Where the time of a plan goes."""
    solver = Solver()
    exact: Exact | None = None
    for problem in rolled(PLANS // 4):
        exact = exact or Exact(structure_of(problem, modes=False), problem)
        plan = solver.plan(problem, "house")
        watch.run("  its input is checked", lambda p=problem: fault_in(p))
        parameters = watch.run("  its parameters", lambda p=problem: parameters_of(p))
        numbers = watch.run("  its numbers", lambda q=parameters, e=exact: e.linear.numbers(q))
        basis = exact.basis
        watch.run(
            "  HiGHS: numbers in, solution out", lambda n=numbers, b=basis, e=exact: e.highs.solve(n, None, b)
        )
        exact.answer(problem, basis)
        powers = [plan.ders[0].power_kw], [], plan.curtailed_kw
        watch.run(
            "  what follows from the powers", lambda p=problem, a=powers: plan_of(p, *a, status="optimal")
        )
        watch.run("  what limits each step", lambda p=problem, a=plan: limits_of(a, p))
        watch.run("  its plan is checked", lambda p=problem, a=plan: check(a, p))


def _with_binaries(watch: Stopwatch) -> None:
    """Plans that need whole numbers: a car, and prices below 0."""
    solver = Solver()
    for i, problem in enumerate(rolled(PLANS // 8)):
        car = msgspec.structs.replace(CAR, departure_step=CAR.departure_step - i)
        with_car = msgspec.structs.replace(problem, cars=[car])
        paid = [-5.0 if 44 <= k + i < 60 else price for k, price in enumerate(problem.import_price)]  # noqa: PLR2004
        watch.run("with a car", lambda p=with_car: solver.plan(p, "car"))
        negative = msgspec.structs.replace(problem, import_price=paid)
        watch.run("with 4 hours of negative prices", lambda p=negative: solver.plan(p, "negative"))


def main() -> None:
    """Print the table."""
    pin_to_one_core()
    _houses()
    gc.collect()
    watch = Stopwatch()
    _beside_cvxpy(watch)
    _parts(watch)
    _with_binaries(watch)
    fast = watch.median("fast backend, re-solve")
    targets = {
        "fast backend, re-solve": f"to reach: {SOLVE_MS:g}",
        "CVXPY with DPP, HiGHS": f"re-solve / this = {fast / watch.median('CVXPY with DPP, HiGHS'):.2f}, "
        f"to reach: {OF_DPP:g}",
        "CVXPY rebuilt, HiGHS": f"re-solve / this = {fast / watch.median('CVXPY rebuilt, HiGHS'):.2f}, "
        f"to reach: {OF_REBUILT:g}",
    }
    for name in watch.times:
        report(name, watch.median(name), "ms", targets.get(name, ""))
