"""Why a planned power is what it is: for each step the limit that binds it, by name."""

from math import inf

from optimizer.plan import DerPlan, Plan, interval_means, period_peaks
from optimizer.problem import Battery, Car, Problem

CLOSE = 1e-3
"""So near to a limit [kW, kWh] a power or an energy counts as held by it."""
PRICE = "price"
"""Nothing else holds it: another hour is the better one, or would be as good."""
SOLAR_SURPLUS = "solar surplus"
"""It charges what the sun leaves over; more would have to be bought."""
SELF_CONSUMPTION = "self-consumption"
"""It gives what the house needs; more would go into the grid."""


def limits_of(plan: Plan, problem: Problem) -> list[list[str]]:
    """Of each DER of a plan, what holds it in each step: a limit's name, or `PRICE`."""
    bought = _import_limits(plan, problem)
    count = len(problem.batteries)
    return [
        *(
            [_battery_limit(der, battery, plan, problem, step, bought[step]) for step in range(problem.steps)]
            for der, battery in zip(plan.ders[:count], problem.batteries, strict=True)
        ),
        *(
            [_car_limit(der, car, plan, problem, step, bought[step]) for step in range(problem.steps)]
            for der, car in zip(plan.ders[count:], problem.cars, strict=True)
        ),
    ]


def _import_limits(plan: Plan, problem: Problem) -> list[str]:
    """What lets no more be imported in each step; empty where nothing does."""
    peaks = [""] * problem.steps
    if problem.demand:
        means, reached = interval_means(problem, plan.grid_kw), period_peaks(problem, plan.grid_kw)
        # Below its lowest level a peak may rise for nothing.
        held = [
            kw - CLOSE if period.price_per_kw > 0 and kw >= min(period.levels_kw) - CLOSE else inf
            for period, kw in zip(problem.demand, reached, strict=True)
        ]
        for step in range(problem.steps):
            interval = problem.interval_of(step)
            index = problem.demand_of_interval[interval]
            if means[interval] >= held[index]:
                peaks[step] = f"peak of {problem.demand[index].name}"
    return [
        "max_grid_import_kw" if kw >= problem.max_grid_import_kw - CLOSE else peak if kw > CLOSE else ""
        for kw, peak in zip(plan.grid_kw, peaks, strict=True)
    ]


def _battery_limit(
    der: DerPlan, battery: Battery, plan: Plan, problem: Problem, step: int, bought: str
) -> str:
    power = der.power_kw[step]
    if power > CLOSE:
        return _charging_limit(der, battery, plan, problem, step) or bought or PRICE
    if power < -CLOSE:
        return _discharging_limit(der, battery, plan, problem, step, bought) or PRICE
    return _resting_limit(der, battery, plan, problem, step, bought) or PRICE


def _charging_limit(der: DerPlan, battery: Battery, plan: Plan, problem: Problem, step: int) -> str:
    if der.power_kw[step] >= battery.max_charge_kw - CLOSE:
        return "max_charge_kw"
    if der.stored_kwh[step + 1] >= _most_kwh(battery) - CLOSE:
        return "max_soc_percent"
    return _surplus_limit(plan, problem, step)


def _surplus_limit(plan: Plan, problem: Problem, step: int) -> str:
    """What holds a power that takes the sun's surplus, if it does."""
    if plan.curtailed_kw[step] > CLOSE:
        return ""
    if abs(plan.grid_kw[step]) < CLOSE:
        return SOLAR_SURPLUS if problem.pv_kw[step] > problem.load_kw[step] + CLOSE else ""
    return _export_limit(plan, problem, step)


def _export_limit(plan: Plan, problem: Problem, step: int) -> str:
    export_kw = -plan.grid_kw[step]
    return (
        "max_grid_export_kw" if export_kw > CLOSE and export_kw >= problem.max_grid_export_kw - CLOSE else ""
    )


def _discharging_limit(
    der: DerPlan, battery: Battery, plan: Plan, problem: Problem, step: int, bought: str
) -> str:
    if -der.power_kw[step] >= battery.max_discharge_kw - CLOSE:
        return "max_discharge_kw"
    if bought:
        return bought
    if abs(plan.grid_kw[step]) < CLOSE:
        return SELF_CONSUMPTION
    if limit := _export_limit(plan, problem, step):
        return limit
    return "min_soc_percent" if der.stored_kwh[step + 1] <= _least_kwh(battery) + CLOSE else ""


def _resting_limit(
    der: DerPlan, battery: Battery, plan: Plan, problem: Problem, step: int, bought: str
) -> str:
    """Full before a surplus, empty before a need, or without any power at all."""
    after_kwh = der.stored_kwh[step + 1]
    if max(battery.max_charge_kw, battery.max_discharge_kw) <= CLOSE:
        return "max_charge_kw"
    if after_kwh >= _most_kwh(battery) - CLOSE:
        return "max_soc_percent" if problem.pv_kw[step] > problem.load_kw[step] + CLOSE else ""
    if after_kwh <= _least_kwh(battery) + CLOSE and plan.grid_kw[step] > CLOSE:
        return "min_soc_percent"
    return bought


def _car_limit(der: DerPlan, car: Car, plan: Plan, problem: Problem, step: int, bought: str) -> str:
    wanted_kwh = car.stored_kwh + car.needed_kwh
    power, lacks_kwh = der.power_kw[step], wanted_kwh - der.stored_kwh[-1]
    if step >= car.departure_step:
        return "departure"
    if power >= car.max_charge_kw - CLOSE:
        return "max_charge_kw"
    if power <= CLOSE:
        if der.stored_kwh[step] >= wanted_kwh - CLOSE:
            return "target_soc_percent"
        # It would charge at any price, so there is no room for the least that it can.
        return "max_grid_import_kw" if lacks_kwh > CLOSE else PRICE
    if power <= car.min_charge_kw + CLOSE:
        return "min_charge_kw"
    if bought:
        return bought
    return _surplus_limit(plan, problem, step) or ("target_soc_percent" if lacks_kwh > -CLOSE else PRICE)


def _least_kwh(battery: Battery) -> float:
    return battery.kwh(battery.min_soc_percent)


def _most_kwh(battery: Battery) -> float:
    return battery.kwh(battery.max_soc_percent)
