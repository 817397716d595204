"""What is to be planned, what came out, and a check that knows nothing of how it was found."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isfinite, sqrt
from typing import Literal

import msgspec

from energy.battery import BatterySpec, BatteryState
from energy.errors import SpecError

SHARES = 4
"""Of a demand price, each charged above a level of its own."""
TOLERANCE = 1e-4
"""How far a plan may pass a limit [kW, kWh]: a solver's rounding, added up over its steps."""

PlanStatus = Literal["optimal", "fallback", "infeasible", "error"]


class Battery(msgspec.Struct, frozen=True, kw_only=True):
    """A battery now, as its telemetry tells it; powers are at its terminals."""

    capacity_kwh: float
    max_charge_kw: float
    max_discharge_kw: float
    efficiency_roundtrip: float
    min_soc_percent: float
    max_soc_percent: float
    soc_percent: float

    @property
    def efficiency(self) -> float:
        """The share that survives charging, and again discharging."""
        return sqrt(self.efficiency_roundtrip)

    @property
    def stored_kwh(self) -> float:
        """Energy in it now [kWh]."""
        return self.kwh(self.soc_percent)

    def kwh(self, soc_percent: float) -> float:
        """The energy in it at a state of charge [kWh]."""
        return self.capacity_kwh * soc_percent / 100.0


NO_BATTERY = Battery(
    capacity_kwh=0.0,
    max_charge_kw=0.0,
    max_discharge_kw=0.0,
    efficiency_roundtrip=1.0,
    min_soc_percent=0.0,
    max_soc_percent=0.0,
    soc_percent=0.0,
)
"""Stands in where the one given can't be."""


class DemandPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """A billing month's tariff period: what its highest mean import costs, and what it already is."""

    name: str
    price_per_kw: float
    floor_kw: float
    """The peak so far: a plan pays only for what it adds to it."""
    expected_kw: Sequence[float] = ()
    """What the month will likely come to anyway: `SHARES` levels, rising, or none.

    A plan reckons with an equal share of the price above each; without them, with all of it above the floor.
    """

    @property
    def levels_kw(self) -> list[float]:
        """The levels above which the shares of the price are charged."""
        return [max(self.floor_kw, level) for level in self.expected_kw or [self.floor_kw] * SHARES]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One house and one battery over N steps; every list has N numbers, means over the step.

    Holds whatever it is given: `fault_in` says what is wrong with it.
    """

    step_h: float
    load_kw: Sequence[float]
    pv_kw: Sequence[float]
    """Available, before curtailment, which is always allowed."""
    import_price: Sequence[float]
    """Currency per kWh, as all prices here."""
    export_price: Sequence[float]
    battery: Battery
    demand: Sequence[DemandPeriod] = ()
    demand_of_step: Sequence[int] = ()
    """The index of each step's period in `demand`; empty if there is no demand charge."""
    max_grid_import_kw: float
    """Soft: a house that needs more gets it, and the plan says so."""
    max_grid_export_kw: float = 0.0
    end_value_per_kwh: float
    """What a kWh still stored after the last step is worth."""
    wear_per_kwh: float
    """What a kWh through the terminals costs, each way; above 0, lest a tie does both at once."""

    @property
    def steps(self) -> int:
        """N."""
        return len(self.load_kw)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A battery's powers for every step, and what follows from them. Signs as everywhere."""

    status: PlanStatus
    reason: str = ""
    battery_kw: list[float]
    grid_kw: list[float]
    curtailed_kw: list[float]
    stored_kwh: list[float]
    """At the beginning of each step and the end of the last: N + 1."""
    energy_cost: float
    """Import less what export earns, in the tariff's currency."""
    demand_cost: float
    """What the billing months' peaks cost once the plan is carried out, those already reached included."""
    peak_kw: float
    """The highest import planned."""
    objective: float | None = None
    """What the solver minimised; None if nothing was solved."""


def fault_in(problem: Problem) -> str | None:
    """The first thing in a problem that no house can have, by name; None if it is sound."""
    return _fault_in_lists(problem) or _fault_in_battery(problem.battery) or _fault_in_terms(problem)


def _fault_in_lists(problem: Problem) -> str | None:
    lists = {
        "load_kw": problem.load_kw,
        "pv_kw": problem.pv_kw,
        "import_price": problem.import_price,
        "export_price": problem.export_price,
    }
    if problem.steps == 0:
        return "load_kw is empty: there is nothing to plan"
    for name, values in lists.items():
        if len(values) != problem.steps:
            return f"{name} has {len(values)} numbers, load_kw {problem.steps}"
        for i, value in enumerate(values):
            if not isfinite(value):
                return f"{name}[{i}] is {value}: it must be finite"
            if value < 0 and name in ("load_kw", "pv_kw"):
                return f"{name}[{i}] is {value:g}: it must not be negative"
    return None


def _fault_in_battery(battery: Battery) -> str | None:
    try:
        fields = {name: getattr(battery, name) for name in BatterySpec.__struct_fields__}
        BatterySpec(**fields)
        BatteryState(battery.soc_percent)
    except SpecError as error:
        return str(error)
    return None


def _fault_in_terms(problem: Problem) -> str | None:
    numbers = {
        "step_h": problem.step_h,
        "max_grid_import_kw": problem.max_grid_import_kw,
        "max_grid_export_kw": problem.max_grid_export_kw,
        "end_value_per_kwh": problem.end_value_per_kwh,
        "wear_per_kwh": problem.wear_per_kwh,
        **{f"demand price of {period.name}": period.price_per_kw for period in problem.demand},
        **{f"demand floor of {period.name}": period.floor_kw for period in problem.demand},
        **{
            f"expected peak {k} of {period.name}": level
            for period in problem.demand
            for k, level in enumerate(period.expected_kw)
        },
    }
    for name, value in numbers.items():
        if not isfinite(value) or value < 0:
            return f"{name} is {value:g}: it must be finite and not negative"
    if problem.step_h == 0:
        return "step_h is 0: a step must last"
    if problem.demand or problem.demand_of_step:
        if fault := _fault_in_demand(problem.demand):
            return fault
        if len(problem.demand_of_step) != problem.steps:
            return f"demand_of_step has {len(problem.demand_of_step)} numbers, load_kw {problem.steps}"
        if not all(0 <= index < len(problem.demand) for index in problem.demand_of_step):
            return f"demand_of_step names a period outside 0..{len(problem.demand) - 1}"
    return None


def _fault_in_demand(demand: Sequence[DemandPeriod]) -> str | None:
    for period in demand:
        if len(period.expected_kw) not in (0, SHARES):
            return f"expected_kw of {period.name} has {len(period.expected_kw)} levels: it must be {SHARES}"
    return None


def needs_binaries(problem: Problem) -> str | None:
    """Why a linear program would charge and discharge, or import and export, at once; None: it won't."""
    for i, (buy, sell) in enumerate(zip(problem.import_price, problem.export_price, strict=True)):
        if buy < 0:
            return f"import_price[{i}] is {buy:g}: negative prices can't be planned yet"
        if problem.max_grid_export_kw > 0 and sell > buy:
            return f"export_price[{i}] is {sell:g}, above the import price {buy:g}: can't be planned yet"
    return None


def plan_of(
    problem: Problem,
    battery_kw: Iterable[float],
    curtailed_kw: Iterable[float],
    *,
    status: PlanStatus,
    reason: str = "",
    objective: float | None = None,
) -> Plan:
    """The plan that follows from what is done with the battery and the PV.

    Grid and stored energy are computed from these two, so that what is published balances exactly.
    """
    battery_kw, curtailed_kw = list(battery_kw), list(curtailed_kw)
    flows = zip(problem.load_kw, problem.pv_kw, battery_kw, curtailed_kw, strict=True)
    grid_kw = [load + power + curtailed - pv for load, pv, power, curtailed in flows]
    efficiency = problem.battery.efficiency
    stored = [problem.battery.stored_kwh]
    for power in battery_kw:
        into_cells_kw = power * efficiency if power >= 0 else power / efficiency
        stored.append(stored[-1] + into_cells_kw * problem.step_h)
    priced = zip(grid_kw, problem.import_price, problem.export_price, strict=True)
    return Plan(
        status=status,
        reason=reason,
        battery_kw=battery_kw,
        grid_kw=grid_kw,
        curtailed_kw=curtailed_kw,
        stored_kwh=stored,
        energy_cost=problem.step_h * sum(kw * (buy if kw > 0 else sell) for kw, buy, sell in priced),
        demand_cost=_demand_cost(problem, grid_kw),
        peak_kw=max([0.0, *grid_kw]),
        objective=objective,
    )


def _demand_cost(problem: Problem, grid_kw: Sequence[float]) -> float:
    peaks = [period.floor_kw for period in problem.demand]
    for index, kw in zip(problem.demand_of_step, grid_kw, strict=False):
        peaks[index] = max(peaks[index], kw)
    return sum(period.price_per_kw * peak for period, peak in zip(problem.demand, peaks, strict=True))


def idle_plan(problem: Problem, status: PlanStatus, reason: str) -> Plan:
    """The battery does nothing; what may not be exported is curtailed. Numbers that are none count as 0."""
    steps = problem.steps
    sound = msgspec.structs.replace(
        problem,
        step_h=_finite([problem.step_h], 1)[0],
        battery=problem.battery if _fault_in_battery(problem.battery) is None else NO_BATTERY,
        load_kw=_finite(problem.load_kw, steps),
        pv_kw=_finite(problem.pv_kw, steps),
        import_price=_finite(problem.import_price, steps),
        export_price=_finite(problem.export_price, steps),
        demand=(),
        demand_of_step=(),
    )
    flows = zip(sound.load_kw, sound.pv_kw, strict=True)
    curtailed = [max(0.0, pv - load - sound.max_grid_export_kw) for load, pv in flows]
    return plan_of(sound, [0.0] * steps, curtailed, status=status, reason=reason)


def _finite(values: Sequence[float], n: int) -> list[float]:
    return [value if isfinite(value) else 0.0 for value in [*values, *[0.0] * n][:n]]


def check(plan: Plan, problem: Problem) -> str | None:
    """The first way in which a plan breaks physics or a hard limit, by name and step; None if it is sound."""
    battery = problem.battery
    for i in range(problem.steps):
        power, grid, curtailed = plan.battery_kw[i], plan.grid_kw[i], plan.curtailed_kw[i]
        balance = grid + problem.pv_kw[i] - curtailed - problem.load_kw[i] - power
        limits = (
            ("balance", abs(balance), 0.0),
            ("max_charge_kw", power, battery.max_charge_kw),
            ("max_discharge_kw", -power, battery.max_discharge_kw),
            ("max_grid_export_kw", -grid, problem.max_grid_export_kw),
            ("curtailed PV", curtailed, problem.pv_kw[i]),
            ("curtailed PV below 0", -curtailed, 0.0),
        )
        for name, value, limit in limits:
            if not value <= limit + TOLERANCE:
                return f"{name}: {value:.6g} kW at step {i}, the limit is {limit:.6g} kW"
    return _check_stored(plan, problem)


def _check_stored(plan: Plan, problem: Problem) -> str | None:
    """The energy stored follows from the powers, and leaves its range never, or only towards it."""
    battery = problem.battery
    low, high = battery.kwh(battery.min_soc_percent), battery.kwh(battery.max_soc_percent)
    if abs(plan.stored_kwh[0] - battery.stored_kwh) > TOLERANCE:
        return (
            f"stored energy starts at {plan.stored_kwh[0]:.6g} kWh, the battery has {battery.stored_kwh:.6g}"
        )
    for i, (before, after) in enumerate(pairwise(plan.stored_kwh)):
        charge, discharge = max(0.0, plan.battery_kw[i]), max(0.0, -plan.battery_kw[i])
        change = (charge * battery.efficiency - discharge / battery.efficiency) * problem.step_h
        if not abs(after - before - change) <= TOLERANCE:
            return (
                f"stored energy changes by {after - before:.6g} kWh at step {i}, the power gives {change:.6g}"
            )
        if not after >= min(low, before) - TOLERANCE:
            return f"min_soc_percent: {after:.6g} kWh after step {i}, the limit is {low:.6g} kWh"
        if not after <= max(high, before) + TOLERANCE:
            return f"max_soc_percent: {after:.6g} kWh after step {i}, the limit is {high:.6g} kWh"
    return None


def over_import(plan: Plan, problem: Problem) -> str:
    """By how much the soft import limit is missed, in words; empty if it is kept."""
    excess = plan.peak_kw - problem.max_grid_import_kw
    if excess <= TOLERANCE:
        return ""
    step = plan.grid_kw.index(plan.peak_kw)
    limit = f"max_grid_import_kw of {problem.max_grid_import_kw:g} kW"
    return f"{limit} is passed by up to {excess:.3g} kW (step {step})"
