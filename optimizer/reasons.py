"""Why a planned power is what it is: for each step the limit that binds it, by name."""

from collections.abc import Sequence

from optimizer.plan import DerPlan, Plan, interval_means, period_peaks
from optimizer.problem import Battery, Car, Problem

CLOSE = 1e-3
"""So near to a limit [kW, kWh] a power or an energy counts as held by it."""
PRICE = "price"
"""Nothing else holds it: it is where the prices have it."""


def limits_of(plan: Plan, problem: Problem) -> list[list[str]]:
    """Of each DER of a plan, what holds it in each step: a limit's name, or `PRICE`."""
    of_house = _grid_limits(plan, problem)
    count = len(problem.batteries)
    return [
        *(
            _battery_limits(der, battery, of_house)
            for der, battery in zip(plan.ders[:count], problem.batteries, strict=True)
        ),
        *(_car_limits(der, car, of_house) for der, car in zip(plan.ders[count:], problem.cars, strict=True)),
    ]


def _grid_limits(plan: Plan, problem: Problem) -> list[str]:
    """What holds the grid power in each step; empty where nothing does."""
    means = interval_means(problem, plan.grid_kw) if problem.demand else []
    peaks = period_peaks(problem, plan.grid_kw) if problem.demand else []
    names = []
    for step, kw in enumerate(plan.grid_kw):
        name = ""
        if abs(kw) < CLOSE:
            name = "self-consumption" if plan.curtailed_kw[step] < CLOSE else "curtailment"
        elif kw >= problem.max_grid_import_kw - CLOSE:
            name = "max_grid_import_kw"
        elif -kw >= problem.max_grid_export_kw - CLOSE:
            name = "max_grid_export_kw"
        elif problem.demand:
            interval = problem.interval_of(step)
            index = problem.demand_of_interval[interval]
            if problem.demand[index].price_per_kw > 0 and means[interval] >= peaks[index] - CLOSE:
                name = f"peak of {problem.demand[index].name}"
        names.append(name)
    return names


def _battery_limits(der: DerPlan, battery: Battery, of_house: Sequence[str]) -> list[str]:
    low, high = battery.kwh(battery.min_soc_percent), battery.kwh(battery.max_soc_percent)
    limits = []
    for step, power in enumerate(der.power_kw):
        after = der.stored_kwh[step + 1]
        if power >= battery.max_charge_kw - CLOSE:
            limits.append("max_charge_kw")
        elif -power >= battery.max_discharge_kw - CLOSE:
            limits.append("max_discharge_kw")
        elif of_house[step]:
            limits.append(of_house[step])
        elif after >= high - CLOSE:
            limits.append("max_soc_percent")
        elif after <= low + CLOSE:
            limits.append("min_soc_percent")
        else:
            limits.append(PRICE)
    return limits


def _car_limits(der: DerPlan, car: Car, of_house: Sequence[str]) -> list[str]:
    wanted_kwh = car.stored_kwh + car.needed_kwh
    limits = []
    for step, power in enumerate(der.power_kw):
        if step >= car.departure_step:
            limits.append("departure")
        elif der.stored_kwh[step] >= wanted_kwh - CLOSE:
            limits.append("target_soc_percent")
        elif power >= car.max_charge_kw - CLOSE:
            limits.append("max_charge_kw")
        elif 0 < power <= car.min_charge_kw + CLOSE:
            limits.append("min_charge_kw")
        else:
            limits.append(of_house[step] if power > 0 and of_house[step] else PRICE)
    return limits
