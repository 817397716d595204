"""What came out: powers for every step, what follows from them, and a check that knows nothing of solvers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from energy.errors import SpecError
from optimizer.problem import Battery, Car, Problem, check_battery, finite

TOLERANCE = 1e-4
"""How far a plan may pass a limit [kW, kWh]: a solver's rounding, added up over its steps."""

PlanStatus = Literal["optimal", "fallback", "infeasible", "error"]


class DerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one battery or car shall do, step by step."""

    der_id: str
    power_kw: list[float]
    """+ charging / - discharging."""
    stored_kwh: list[float]
    """At the beginning of each step and the end of the last: N + 1."""
    stored_value: list[float] = []
    """What a kWh more in it after each step would save, in the tariff's currency; empty if not known."""
    limit: list[str] = []
    """What kept each step's power from being another, by name; empty if nothing was solved."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The DERs' powers for every step, and what follows from them. Signs as everywhere."""

    status: PlanStatus
    reason: str = ""
    """Why it is not optimal."""
    violations: list[str] = []
    """The soft limits that it misses, by name."""
    ders: list[DerPlan]
    """The batteries, then the cars, in the problem's order."""
    grid_kw: list[float]
    curtailed_kw: list[float]
    energy_cost: float
    """Import less what export earns, in the tariff's currency."""
    demand_cost: float
    """What the billing months' peaks cost once the plan is carried out, those already reached included."""
    peak_kw: float
    """The highest import planned."""
    objective: float | None = None
    """What the solver minimised; None if nothing was solved."""


def plan_of(
    problem: Problem,
    battery_kw: Sequence[Sequence[float]],
    car_kw: Sequence[Sequence[float]],
    curtailed_kw: Sequence[float],
    *,
    status: PlanStatus,
    reason: str = "",
    objective: float | None = None,
) -> Plan:
    """The plan that follows from what is done with the batteries, the cars and the PV.

    Grid and stored energy are computed from these, so that what is published balances exactly.

    Args:
        problem: what was to be planned.
        battery_kw: of each battery, N powers.
        car_kw: of each car, N powers.
        curtailed_kw: N powers.
        status: of the plan.
        reason: for a status that is not optimal.
        objective: what was minimised.
    """
    ders_kw = [sum(powers) for powers in zip(*battery_kw, *car_kw, strict=True)] or [0.0] * problem.steps
    flows = zip(problem.load_kw, problem.pv_kw, ders_kw, curtailed_kw, strict=True)
    grid_kw = [load + power + curtailed - pv for load, pv, power, curtailed in flows]
    batteries = [
        DerPlan(
            der_id=battery.der_id, power_kw=list(powers), stored_kwh=_stored(battery, powers, problem.hours)
        )
        for battery, powers in zip(problem.batteries, battery_kw, strict=True)
    ]
    cars = [
        DerPlan(der_id=car.der_id, power_kw=list(powers), stored_kwh=_charged(car, powers, problem.hours))
        for car, powers in zip(problem.cars, car_kw, strict=True)
    ]
    plan = Plan(
        status=status,
        reason=reason,
        ders=batteries + cars,
        grid_kw=grid_kw,
        curtailed_kw=list(curtailed_kw),
        energy_cost=_energy_cost(problem, grid_kw),
        demand_cost=_demand_cost(problem, grid_kw),
        peak_kw=max([0.0, *grid_kw]),
        objective=objective,
    )
    return msgspec.structs.replace(plan, violations=violations(plan, problem))


def _stored(battery: Battery, power_kw: Sequence[float], hours: Sequence[float]) -> list[float]:
    stored = [battery.stored_kwh]
    for power, step_h in zip(power_kw, hours, strict=True):
        into_cells_kw = power * battery.efficiency if power >= 0 else power / battery.efficiency
        stored.append(stored[-1] + into_cells_kw * step_h)
    return stored


def _charged(car: Car, power_kw: Sequence[float], hours: Sequence[float]) -> list[float]:
    stored = [car.stored_kwh]
    for power, step_h in zip(power_kw, hours, strict=True):
        stored.append(stored[-1] + power * car.efficiency * step_h)
    return stored


def _energy_cost(problem: Problem, grid_kw: Sequence[float]) -> float:
    priced = zip(grid_kw, problem.hours, problem.import_price, problem.export_price, strict=True)
    return sum(kw * step_h * (buy if kw > 0 else sell) for kw, step_h, buy, sell in priced)


def interval_means(problem: Problem, grid_kw: Sequence[float]) -> list[float]:
    """The mean import of each measurement interval [kW], with what had passed of the first."""
    interval_h = problem.step_h * problem.interval_steps
    means = [problem.passed_kwh / interval_h, *[0.0] * (problem.intervals - 1)]
    for step, (kw, step_h) in enumerate(zip(grid_kw, problem.hours, strict=True)):
        means[problem.interval_of(step)] += max(0.0, kw) * step_h / interval_h
    return means


def _demand_cost(problem: Problem, grid_kw: Sequence[float]) -> float:
    if not problem.demand:
        return 0.0
    peaks = period_peaks(problem, grid_kw)
    return sum(period.price_per_kw * peak for period, peak in zip(problem.demand, peaks, strict=True))


def period_peaks(problem: Problem, grid_kw: Sequence[float]) -> list[float]:
    """What each demand period's peak is once the plan is carried out [kW]."""
    peaks = [period.floor_kw for period in problem.demand]
    for index, kw in zip(problem.demand_of_interval, interval_means(problem, grid_kw), strict=True):
        peaks[index] = max(peaks[index], kw)
    return peaks


def violations(plan: Plan, problem: Problem) -> list[str]:
    """The soft limits that a plan misses, and by how much."""
    missed = []
    excess_kw = plan.peak_kw - problem.max_grid_import_kw
    if excess_kw > TOLERANCE:
        limit = f"max_grid_import_kw of {problem.max_grid_import_kw:g} kW"
        missed.append(
            f"{limit} is passed by up to {excess_kw:.3g} kW (step {plan.grid_kw.index(plan.peak_kw)})"
        )
    for car, der in zip(problem.cars, plan.ders[len(problem.batteries) :], strict=True):
        lacks_kwh = car.stored_kwh + car.needed_kwh - der.stored_kwh[-1]
        if lacks_kwh > TOLERANCE:
            target = f"target_soc_percent of {car.der_id}, {car.target_soc_percent:g} %"
            missed.append(f"{target}, is missed by {lacks_kwh:.3g} kWh at its departure")
    return missed


def idle_plan(problem: Problem, status: PlanStatus, reason: str) -> Plan:
    """Nothing is done; what may not be exported is curtailed. Numbers that are none count as 0."""

    def sound(values: Sequence[float]) -> list[float]:
        return finite([*values, *[0.0] * problem.steps][: problem.steps])

    bare = Problem(
        step_h=finite([problem.step_h])[0],
        load_kw=sound(problem.load_kw),
        pv_kw=sound(problem.pv_kw),
        import_price=sound(problem.import_price),
        export_price=sound(problem.export_price),
        batteries=[battery for battery in problem.batteries if _is_sound(battery)],
        max_grid_import_kw=problem.max_grid_import_kw,
        max_grid_export_kw=problem.max_grid_export_kw,
    )
    flows = zip(bare.load_kw, bare.pv_kw, strict=True)
    curtailed = [max(0.0, pv - load - bare.max_grid_export_kw) for load, pv in flows]
    idle = [0.0] * problem.steps
    plan = plan_of(bare, [idle for _ in bare.batteries], [], curtailed, status=status, reason=reason)
    # Those left out as unsound, and the cars, are told to do nothing as well.
    known = {der.der_id: der for der in plan.ders}
    ders = [
        known.get(der.der_id, DerPlan(der_id=der.der_id, power_kw=idle, stored_kwh=[0.0, *idle]))
        for der in problem.ders
    ]
    return msgspec.structs.replace(plan, ders=ders)


def _is_sound(battery: Battery) -> bool:
    try:
        check_battery(battery)
    except SpecError:
        return False
    return True


def check(plan: Plan, problem: Problem) -> str | None:
    """The first way in which a plan breaks physics or a hard limit, by name and step; None if it is sound."""
    for i in range(problem.steps):
        grid, curtailed = plan.grid_kw[i], plan.curtailed_kw[i]
        ders_kw = sum(der.power_kw[i] for der in plan.ders)
        limits = (
            ("balance", abs(grid + problem.pv_kw[i] - curtailed - problem.load_kw[i] - ders_kw), 0.0),
            ("max_grid_export_kw", -grid, problem.max_grid_export_kw),
            ("curtailed PV", curtailed, problem.pv_kw[i]),
            ("curtailed PV below 0", -curtailed, 0.0),
        )
        for name, value, limit in limits:
            if not value <= limit + TOLERANCE:
                return f"{name}: {value:.6g} kW at step {i}, the limit is {limit:.6g} kW"
    of_batteries, of_cars = plan.ders[: len(problem.batteries)], plan.ders[len(problem.batteries) :]
    faults = [
        *(_check_battery(*pair, problem) for pair in zip(of_batteries, problem.batteries, strict=True)),
        *(_check_car(*pair, problem) for pair in zip(of_cars, problem.cars, strict=True)),
    ]
    return next((fault for fault in faults if fault), None)


def _check_battery(der: DerPlan, battery: Battery, problem: Problem) -> str | None:
    """The energy stored follows from the powers, and leaves its range never, or only towards it."""
    low, high = battery.kwh(battery.min_soc_percent), battery.kwh(battery.max_soc_percent)
    if abs(der.stored_kwh[0] - battery.stored_kwh) > TOLERANCE:
        return f"{der.der_id} starts at {der.stored_kwh[0]:.6g} kWh, but has {battery.stored_kwh:.6g}"
    for i, ((before, after), power) in enumerate(zip(pairwise(der.stored_kwh), der.power_kw, strict=True)):
        charge, discharge = max(0.0, power), max(0.0, -power)
        change = (charge * battery.efficiency - discharge / battery.efficiency) * problem.hours[i]
        limits = (
            ("max_charge_kw", power, battery.max_charge_kw),
            ("max_discharge_kw", -power, battery.max_discharge_kw),
            ("change of stored energy", abs(after - before - change), 0.0),
            ("min_soc_percent", min(low, before) - after, 0.0),
            ("max_soc_percent", after - max(high, before), 0.0),
        )
        for name, value, limit in limits:
            if not value <= limit + TOLERANCE:
                return f"{name} of {der.der_id}: {value:.6g} at step {i}, the limit is {limit:.6g}"
    return None


def _check_car(der: DerPlan, car: Car, problem: Problem) -> str | None:
    """It charges with nothing or with a power its charge point has, while it is there and has room."""
    full_kwh = max(car.capacity_kwh, car.stored_kwh)
    for i, power in enumerate(der.power_kw):
        most_kw = car.max_charge_kw if i < car.departure_step else 0.0
        if not power <= most_kw + TOLERANCE:
            return f"max_charge_kw of {der.der_id}: {power:.6g} kW at step {i}, the limit is {most_kw:.6g} kW"
        if abs(power) > TOLERANCE and not power >= car.min_charge_kw - TOLERANCE:
            return f"min_charge_kw of {der.der_id}: {power:.6g} kW at step {i}, below {car.min_charge_kw:.6g}"
        change = power * car.efficiency * problem.hours[i]
        if not abs(der.stored_kwh[i + 1] - der.stored_kwh[i] - change) <= TOLERANCE:
            return f"change of stored energy of {der.der_id} at step {i} is not {change:.6g} kWh"
    if not der.stored_kwh[-1] <= full_kwh + TOLERANCE:
        return f"{der.der_id} is charged to {der.stored_kwh[-1]:.6g} kWh, it holds {full_kwh:.6g}"
    return None
