"""A house and its battery in closed loop on recorded days: the real planner and the real dispatch, no bus."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import cvxpy as cp
import msgspec
import numpy as np

from contracts.instant import Instant
from contracts.messages import DerTelemetry, MeterReading, PvReading
from energy.battery import BatterySpec, BatteryState, possible_kw, step
from energy.bill import Bill, Costs
from energy.series import read_series
from energy.tariff import Tariff, load_tariff
from optimizer.model import PlannerModel
from optimizer.plan import Plan
from optimizer.posing import Setup
from optimizer.solver import Solver
from orchestrator.flow import compute_flows
from orchestrator.limits import (
    BatteryState as Charge,
)
from orchestrator.limits import (
    Constraints,
    EconomicObjectives,
    PhysicalConstraints,
    PowerFlowInputs,
    SafetyConstraints,
)

DATA = Path(__file__).parents[1] / "examples" / "data"
STEP_S = 900.0
STEP_H = STEP_S / 3600.0
HORIZON = 192
START_SOC = 50.0
WAY_BACK = 32
"""Steps at the end in which every policy goes back to the charge it began with."""
FUSE_KW = 30.0


class House(NamedTuple):
    """A recorded house, and the battery it gets."""

    name: str
    file: str
    timezone: str
    battery: BatterySpec


def _battery(capacity_kwh: float) -> BatterySpec:
    return BatterySpec(capacity_kwh=capacity_kwh, max_charge_kw=5.0, max_discharge_kw=5.0)


HOUSES = (
    House("fr_house", "fr_house_30min.csv", "Europe/Paris", _battery(10.0)),
    House("ca_house1", "ca_house1_60min.csv", "America/Los_Angeles", _battery(6.4)),
    House("ca_house2", "ca_house2_60min.csv", "America/Los_Angeles", _battery(6.4)),
    House("ca_house4", "ca_house4_60min.csv", "America/Los_Angeles", _battery(6.4)),
)


class Case(NamedTuple):
    """A house, its days and its tariff: means of each step [kW]."""

    house: House
    tariff: Tariff
    max_export_kw: float
    start: Instant
    load_kw: list[float]
    pv_kw: list[float]

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self.load_kw)

    def at(self, i: int) -> Instant:
        """When step i begins."""
        return self.start.after(i * STEP_S)


class Run(NamedTuple):
    """What a policy did: means of each step [kW]."""

    battery_kw: list[float]
    grid_kw: list[float]
    costs: Costs


def case_of(house: House, tariff: str, first_day: int = 0, days: int | None = None) -> Case:
    """A house under a built-in tariff, whose hours are those of the house's own wall clocks.

    Nothing is exported where that earns nothing.
    """
    local = msgspec.structs.replace(load_tariff(tariff), zone=ZoneInfo(house.timezone))
    load, pv = (read_series(DATA / house.file, column) for column in ("meter_w", "pv_w"))
    start = load.start.after(first_day * 86400.0)
    n = int(load.end.seconds_since(start) // STEP_S) if days is None else days * 96
    exports = any(period.export_price for period in local.periods)
    return Case(
        house,
        local,
        10.0 if exports else 0.0,
        start,
        [max(0.0, watts) / 1000 for watts in load.resample(start, STEP_S, n)],
        [max(0.0, watts) / 1000 for watts in pv.resample(start, STEP_S, n)],
    )


def without(case: Case) -> Run:
    """No battery."""
    return _run(case, [0.0] * case.steps)


def rule(case: Case) -> Run:
    """Solar surplus is stored, and used as soon as the house needs more than the sun gives."""
    return _loop(case, lambda _i, _state: None)


class Mpc:
    """The optimizer, with forecasts from the past alone; dispatched as the orchestrator does it.

    Args:
        case: the house.
        every: steps between two plans.
        solver: shared by several runs: it compiles once.
        ignore: what the planner is made to forget, to see what it is worth.
    """

    def __init__(self, case: Case, every: int, solver: Solver, *, peak_aware: bool = True) -> None:
        self._case = case
        self._every = every
        self._solver = solver
        self._peak_aware = peak_aware
        setup = Setup(
            tariff=case.tariff,
            step_s=STEP_S,
            steps=HORIZON,
            max_grid_import_kw=FUSE_KW,
            max_grid_export_kw=case.max_export_kw,
        )
        self._model = PlannerModel("house", setup, None, case.start)
        self._plan: Plan | None = None
        self._made = 0
        self.plans = 0

    def run(self) -> Run:
        """Through all the steps."""
        return _loop(self._case, self._objectives, self._hear)

    def _objectives(self, i: int, state: BatteryState) -> EconomicObjectives | None:
        if i % self._every == 0:
            self._replan(i, state)
        if self._plan is None or self._plan.status != "optimal":
            return None
        k = i - self._made
        period = self._case.tariff.period_at(self._case.at(i))
        return EconomicObjectives(
            import_price=period.import_price,
            scheduled_kw={"battery": self._plan.ders[0].power_kw[k]},
            scheduled_grid_kw=self._plan.grid_kw[k],
            grid_ceiling_kw=self._plan.grid_ceiling_kw[k] if self._plan.grid_ceiling_kw else 0.0,
            demand_priced=period.demand_price > 0,
        )

    def _replan(self, i: int, state: BatteryState) -> None:
        at = self._case.at(i)
        self._model.hear(_telemetry(self._case.house.battery, at, state, 0.0), at)
        inputs = self._model.plan_inputs(at)
        problem = inputs.problem
        assert problem is not None, "the battery has just been heard"  # noqa: S101
        if not self._peak_aware:
            bare = [msgspec.structs.replace(period, expected_kw=()) for period in problem.demand]
            plain = [msgspec.structs.replace(battery, reserve_value=()) for battery in problem.batteries]
            problem = msgspec.structs.replace(problem, demand=bare, batteries=plain)
        self._plan, self._made = self._solver.plan(problem, "house"), i
        self.plans += 1

    def _hear(self, i: int, state: BatteryState, battery_kw: float) -> None:
        at = self._case.at(i)
        load_w, pv_w = self._case.load_kw[i] * 1000, self._case.pv_kw[i] * 1000
        self._model.hear(_telemetry(self._case.house.battery, at, state, battery_kw), at)
        reading = {"house": "house", "meter": "main", "boot": 1, "seq": i, "timestamp": at}
        self._model.hear(MeterReading(**reading, power_w=load_w, has_pv=True), at)  # type: ignore[arg-type]
        self._model.hear(PvReading(**reading, meter_w=load_w, pv_w=pv_w, sum_w=load_w + pv_w), at)  # type: ignore[arg-type]


def perfect(case: Case) -> Run:
    """One linear program over all the steps, which knows them all: no policy can cost less.

    The tariff's prices, its peaks by billing month, the same limits and losses; the battery ends as it began.
    """
    n, spec, tariff = case.steps, case.house.battery, case.tariff
    prices = tariff.series(case.start, STEP_S, n)
    charge, discharge, buy, sell, curtailed = (cp.Variable(n, nonneg=True) for _ in range(5))
    stored = cp.Variable(n + 1)
    kwh = spec.capacity_kwh / 100
    one_way = spec.efficiency_oneway
    load, pv = np.array(case.load_kw), np.array(case.pv_kw)
    rules: list[Any] = [
        buy - sell == load - pv + curtailed + charge - discharge,
        stored[1:] == stored[:-1] + STEP_H * (one_way * charge - discharge / one_way),
        stored >= spec.min_soc_percent * kwh,
        stored <= spec.max_soc_percent * kwh,
        stored[0] == START_SOC * kwh,
        stored[n] == START_SOC * kwh,
        charge <= spec.max_charge_kw,
        discharge <= spec.max_discharge_kw,
        sell <= case.max_export_kw,
        curtailed <= pv,
    ]
    cost = STEP_H * (np.array(prices.import_price) @ buy - np.array(prices.export_price) @ sell)
    for indices, price in _demand_groups(case):
        peak = cp.Variable(nonneg=True)
        rules.append(buy[indices] <= peak)
        cost = cost + price * peak
    cp.Problem(cp.Minimize(cost + 1e-6 * cp.sum(charge + discharge)), rules).solve(solver=cp.HIGHS)
    return _run(case, (charge.value - discharge.value).tolist())


def _demand_groups(case: Case) -> Iterator[tuple[list[int], float]]:
    groups: dict[tuple[object, str], tuple[list[int], float]] = {}
    for i in range(case.steps):
        period = case.tariff.period_at(case.at(i))
        if period.demand_price:
            key = (case.tariff.billing_month(case.at(i)), period.demand_group)
            groups.setdefault(key, ([], period.demand_price))[0].append(i)
    yield from groups.values()


def _loop(case: Case, objectives: Any, hear: Any = None) -> Run:  # noqa: ANN401 - two callbacks
    """Step by step: what is wished for, what dispatch makes of it, what the battery can do."""
    spec = case.house.battery
    constraints = Constraints(
        physical=PhysicalConstraints(
            max_grid_import_kw=FUSE_KW,
            max_grid_export_kw=case.max_export_kw,
            max_battery_charge_kw=spec.max_charge_kw,
            max_battery_discharge_kw=spec.max_discharge_kw,
        ),
        safety=SafetyConstraints(),
    )
    state, powers_kw = BatteryState(START_SOC), []
    for i in range(case.steps):
        wish = objectives(i, state)
        if case.steps - i <= WAY_BACK:
            setpoint_kw = _homeward(spec, state, case.steps - i)
        else:
            inputs = PowerFlowInputs(
                house="house",
                timestamp=case.at(i),
                house_load_kw=case.load_kw[i],
                pv_kw=case.pv_kw[i],
                batteries=(Charge(der_id="battery", soc_percent=state.soc_percent),),
            )
            flows = compute_flows(inputs, constraints, wish or EconomicObjectives())
            setpoint_kw = flows.verdicts[0].given_kw
        began = state
        state, power_kw = step(spec, state, setpoint_kw, STEP_S)
        powers_kw.append(power_kw)
        if hear is not None:
            hear(i, began, power_kw)
    return _run(case, powers_kw)


def _homeward(spec: BatterySpec, state: BatteryState, steps_left: int) -> float:
    """The power that brings the battery back to where it began, evenly over the steps left."""
    missing_kwh = (START_SOC - state.soc_percent) / 100 * spec.capacity_kwh
    one_way = spec.efficiency_oneway
    power_kw = missing_kwh / (one_way if missing_kwh > 0 else 1 / one_way) / (steps_left * STEP_H)
    return possible_kw(spec, state, power_kw, STEP_S)


def _run(case: Case, battery_kw: list[float]) -> Run:
    bill, grid_kw = Bill(case.tariff), []
    for i, power in enumerate(battery_kw):
        net_kw = case.load_kw[i] - case.pv_kw[i] + power
        grid_kw.append(max(net_kw, -case.max_export_kw))
        bill.add(case.at(i), STEP_S, grid_kw[-1])
    return Run(battery_kw, grid_kw, bill.costs())


def _telemetry(spec: BatterySpec, at: Instant, state: BatteryState, power_kw: float) -> DerTelemetry:
    return DerTelemetry(
        der_id="battery",
        house="house",
        is_online=True,
        timestamp=at,
        current_output=power_kw,
        power_meter_measurement=0.0,
        baseline=0.0,
        contract_threshold=0.0,
        project_id="year",
        is_standalone=False,
        connection_start_at=at,
        current_soc=state.soc_percent,
        type="battery_storage",
        nameplate_capacity=spec.max_charge_kw,
        capacity_kwh=spec.capacity_kwh,
        max_charge_kw=spec.max_charge_kw,
        max_discharge_kw=spec.max_discharge_kw,
        efficiency_roundtrip=spec.efficiency_roundtrip,
        min_soc_percent=spec.min_soc_percent,
        max_soc_percent=spec.max_soc_percent,
    )
