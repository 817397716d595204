"""What came out: powers for every step, what follows from them, and a check that knows nothing of solvers."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from energy.errors import SpecError
from optimizer.problem import (
    LIMIT_MAX_KW,
    POWER_MAX_KW,
    PRICE_MAX,
    STEP_MAX_H,
    Battery,
    Car,
    Problem,
    check_battery,
    fault_in,
    sound,
)

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
    grid_ceiling_kw: list[float] = []
    """What each step may import without a new peak; 0 where peaks cost nothing, empty if none do."""
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
    hours = np.array(problem.hours)
    net_kw = np.asarray(problem.load_kw) + np.asarray(curtailed_kw) - problem.pv_kw
    grid_kw: list[float] = (net_kw + np.sum([*battery_kw, *car_kw], axis=0)).tolist()
    batteries = [
        DerPlan(der_id=battery.der_id, power_kw=list(powers), stored_kwh=_stored(battery, powers, hours))
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
        grid_ceiling_kw=_ceiling(problem, grid_kw),
        objective=objective,
    )
    return msgspec.structs.replace(plan, violations=violations(plan, problem))


def _stored(battery: Battery, power_kw: Sequence[float], hours: np.ndarray) -> list[float]:
    power = np.asarray(power_kw)
    into_cells_kw = np.where(power >= 0, power * battery.efficiency, power / battery.efficiency)
    stored: list[float] = np.cumsum([battery.stored_kwh, *(into_cells_kw * hours)]).tolist()
    return stored


def _charged(car: Car, power_kw: Sequence[float], hours: Sequence[float]) -> list[float]:
    """It stops by itself when it is full."""
    stored = [car.stored_kwh]
    for power, step_h in zip(power_kw, hours, strict=True):
        stored.append(min(car.capacity_kwh, stored[-1] + power * car.efficiency * step_h))
    return stored


def _energy_cost(problem: Problem, grid_kw: Sequence[float]) -> float:
    grid = np.asarray(grid_kw)
    price = np.where(grid > 0, problem.import_price, problem.export_price)
    return float(np.sum(grid * problem.hours * price))


def interval_means(problem: Problem, grid_kw: Sequence[float]) -> list[float]:
    """The mean import of each measurement interval [kW], with what had passed of the first."""
    interval_h = problem.step_h * problem.interval_steps
    interval = (np.arange(problem.steps) + problem.passed_steps) // problem.interval_steps
    means = np.bincount(interval, np.maximum(0.0, grid_kw) * problem.hours, problem.intervals)
    means[0] += problem.passed_kwh
    reached: list[float] = (means / interval_h).tolist()
    return reached


def _demand_cost(problem: Problem, grid_kw: Sequence[float]) -> float:
    if not problem.demand:
        return 0.0
    peaks = period_peaks(problem, grid_kw)
    return sum(period.price_per_kw * peak for period, peak in zip(problem.demand, peaks, strict=True))


def period_peaks(problem: Problem, grid_kw: Sequence[float]) -> list[float]:
    """What each demand period's peak is once the plan is carried out [kW]."""
    peaks = np.array([period.floor_kw for period in problem.demand])
    np.maximum.at(peaks, list(problem.demand_of_interval), interval_means(problem, grid_kw))
    reached: list[float] = peaks.tolist()
    return reached


def _ceiling(problem: Problem, grid_kw: Sequence[float]) -> list[float]:
    if not problem.demand:
        return []
    priced = zip(problem.demand, period_peaks(problem, grid_kw), strict=True)
    peaks = [peak_kw if period.price_per_kw > 0 else 0.0 for period, peak_kw in priced]
    return [peaks[problem.demand_of_interval[problem.interval_of(step)]] for step in range(problem.steps)]


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
    """Nothing is done; what may not be exported is curtailed. Numbers that none can be count as 0."""
    bare = problem if fault_in(problem) is None else _bare(problem)
    flows = zip(bare.load_kw, bare.pv_kw, strict=True)
    curtailed = [max(0.0, pv - load - bare.max_grid_export_kw) for load, pv in flows]
    idle = [0.0] * problem.steps
    rest = [idle for _ in bare.batteries], [idle for _ in bare.cars]
    plan = plan_of(bare, *rest, curtailed, status=status, reason=reason)
    # Those left out as unsound are told to do nothing as well.
    known = {der.der_id: der for der in plan.ders}
    ders = [
        known.get(der.der_id, DerPlan(der_id=der.der_id, power_kw=idle, stored_kwh=[0.0, *idle]))
        for der in problem.ders
    ]
    return msgspec.structs.replace(plan, ders=ders)


def _bare(problem: Problem) -> Problem:
    """What is sound of a problem that is not."""
    n = problem.steps

    def numbers(values: Sequence[float], low: float, high: float) -> list[float]:
        return sound([*values, *[0.0] * n][:n], low, high)

    (step_h,) = sound([problem.step_h], 0.0, STEP_MAX_H)
    limits = sound([problem.max_grid_import_kw, problem.max_grid_export_kw], 0.0, LIMIT_MAX_KW)
    return Problem(
        step_h=step_h,
        load_kw=numbers(problem.load_kw, 0.0, POWER_MAX_KW),
        pv_kw=numbers(problem.pv_kw, 0.0, POWER_MAX_KW),
        import_price=numbers(problem.import_price, -PRICE_MAX, PRICE_MAX),
        export_price=numbers(problem.export_price, -PRICE_MAX, PRICE_MAX),
        batteries=[battery for battery in problem.batteries if _is_sound(battery)],
        max_grid_import_kw=limits[0] or LIMIT_MAX_KW,
        max_grid_export_kw=limits[1],
    )


def _is_sound(battery: Battery) -> bool:
    try:
        check_battery(battery)
    except SpecError:
        return False
    return True


class _Passed(NamedTuple):
    name: str
    value: float
    limit: float
    step: int


def _first_passed(*limits: tuple[str, np.ndarray, np.ndarray | float]) -> _Passed | None:
    """In the first step in which any does, the first value that passes its limit; NaN passes every limit."""
    values = np.array([value for _, value, _ in limits])
    most = np.array([np.broadcast_to(limit, values.shape[1:]) for _, _, limit in limits])
    passed = ~(values <= most + TOLERANCE)
    if not passed.any():
        return None
    step = int(passed.any(axis=0).argmax())
    k = int(passed[:, step].argmax())
    return _Passed(limits[k][0], float(values[k, step]), float(most[k, step]), step)


def check(plan: Plan, problem: Problem) -> str | None:
    """The first way in which a plan breaks physics or a hard limit, by name and step; None if it is sound."""
    grid, curtailed, pv = np.array(plan.grid_kw), np.array(plan.curtailed_kw), np.array(problem.pv_kw)
    net_kw = np.array(problem.load_kw) - pv
    ders_kw = np.sum([der.power_kw for der in plan.ders], axis=0)
    passed = _first_passed(
        ("balance", np.abs(grid - curtailed - net_kw - ders_kw), 0.0),
        # The house alone may need more than its connection should give, but no battery or car adds to it.
        ("max_grid_import_kw", grid, np.maximum(problem.max_grid_import_kw, net_kw)),
        ("max_grid_export_kw", -grid, problem.max_grid_export_kw),
        ("curtailed PV", curtailed, pv),
        ("curtailed PV below 0", -curtailed, 0.0),
    )
    if passed:
        return (
            f"{passed.name}: {passed.value:.6g} kW at step {passed.step}, the limit is {passed.limit:.6g} kW"
        )
    of_batteries, of_cars = plan.ders[: len(problem.batteries)], plan.ders[len(problem.batteries) :]
    faults = [
        *(_check_battery(*pair, problem) for pair in zip(of_batteries, problem.batteries, strict=True)),
        *(_check_car(*pair, problem) for pair in zip(of_cars, problem.cars, strict=True)),
    ]
    return next((fault for fault in faults if fault), None)


def _check_battery(der: DerPlan, battery: Battery, problem: Problem) -> str | None:
    """The energy stored follows from the powers, and leaves its range never, or only towards it."""
    low, high = battery.kwh(battery.min_soc_percent), battery.kwh(battery.max_soc_percent)
    power, stored = np.array(der.power_kw), np.array(der.stored_kwh)
    before, after = stored[:-1], stored[1:]
    into_cells_kw = np.maximum(0.0, power) * battery.efficiency - np.maximum(0.0, -power) / battery.efficiency
    passed = _first_passed(
        ("max_charge_kw", power, battery.max_charge_kw),
        ("max_discharge_kw", -power, battery.max_discharge_kw),
        ("change of stored energy", np.abs(after - before - into_cells_kw * problem.hours), 0.0),
        ("min_soc_percent", np.minimum(low, before) - after, 0.0),
        ("max_soc_percent", after - np.maximum(high, before), 0.0),
    )
    return _start_fault(der, battery.stored_kwh) or _fault(der, passed)


def _check_car(der: DerPlan, car: Car, problem: Problem) -> str | None:
    """It charges with nothing or with a power its charge point has, while it is there and not full."""
    power, stored = np.array(der.power_kw), np.array(der.stored_kwh)
    before, after = stored[:-1], stored[1:]
    change = np.minimum(car.capacity_kwh - before, power * car.efficiency * problem.hours)
    is_there = np.arange(problem.steps) < car.departure_step
    passed = _first_passed(
        ("departure", np.where(is_there, 0.0, power), 0.0),
        ("capacity_kwh", np.where(before >= car.capacity_kwh, power, 0.0), 0.0),
        ("max_charge_kw", power, car.max_charge_kw),
        ("charging below 0", -power, 0.0),
        ("min_charge_kw less its power", np.where(power > TOLERANCE, car.min_charge_kw - power, 0.0), 0.0),
        ("change of stored energy", np.abs(after - before - change), 0.0),
    )
    return _start_fault(der, car.stored_kwh) or _fault(der, passed)


def _start_fault(der: DerPlan, stored_kwh: float) -> str | None:
    if abs(der.stored_kwh[0] - stored_kwh) <= TOLERANCE:
        return None
    return f"{der.der_id} starts at {der.stored_kwh[0]:.6g} kWh, but has {stored_kwh:.6g}"


def _fault(der: DerPlan, passed: _Passed | None) -> str | None:
    if passed is None:
        return None
    name, value, limit, step = passed
    return f"{name} of {der.der_id}: {value:.6g} at step {step}, the limit is {limit:.6g}"
