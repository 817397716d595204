"""What a policy's run comes to: costs, energy, checks of physics, errors of forecasts. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from contracts.messages import BALANCE_TOLERANCE_KW
from optimizer.history import FloatArray
from wattbus.backtest.bill import Month, Prices, months_of, prices_of, stored_worth
from wattbus.backtest.cars import at_once, presence_of
from wattbus.backtest.case import Case, Flows, Policy
from wattbus.backtest.loop import Run
from wattbus.backtest.perfect import LACK_KWH
from wattbus.backtest.planner import Foretold

Mask = npt.NDArray[np.bool_]

ROUNDING = 1e-6
"""Of sums over a year, and of a solver [kW, kWh, %]."""


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """How far plans and forecasts were off, over the 24 h after each plan."""

    plans: int
    load_mae_kw: float
    pv_mae_kw: float
    grid_mae_kw: float
    """Of the grid power planned: what the forecasts missed, and what later plans have made better."""
    planned_cost_a_day: float
    """The energy cost of each day, as the plan of its first step had it; the mean."""
    real_cost_a_day: float
    day_cost_mae: float
    """By how much the two differed."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One policy's line; money in the tariff's currency, export is what it earned."""

    policy: Policy
    energy: float
    demand: float
    export: float
    degradation: float
    stored: float
    """What the battery holds less at the end than at the start, at its worth; below zero if it holds more."""
    total: float
    import_kwh: float
    export_kwh: float
    curtailed_kwh: float
    battery_kwh: float
    """Through its terminals, both ways."""
    car_kwh: float
    peak_kw: float
    """The highest mean over the tariff's measurement interval."""
    cycles: float
    self_consumption_percent: float | None
    """Of the production, what was used in the house; None without PV."""
    end_soc_percent: float | None
    """It began with 50."""
    violations: dict[str, int]
    """How many ticks broke what, by name; a policy that is sound has 0 in all."""
    errors: Errors | None
    """Of plans and forecasts; None: it makes none."""
    months: list[Month]


def figures_of(case: Case, policy: Policy, run: Run) -> Figures:
    """What a run comes to."""
    prices, flows = prices_of(case), run.flows
    months = months_of(case, prices, flows.grid_kw, flows.battery_kw)
    energy, demand, export, degradation = (
        sum(getattr(month, line) for month in months)
        for line in ("energy", "demand", "export", "degradation")
    )
    stored = stored_cost(case, prices, flows)
    through_kwh = _kwh(np.abs(flows.battery_kw), case)
    battery = case.devices.battery
    return Figures(
        policy=policy,
        energy=energy,
        demand=demand,
        export=export,
        degradation=degradation,
        stored=stored,
        total=energy + demand - export + degradation + stored,
        import_kwh=sum(month.import_kwh for month in months),
        export_kwh=sum(month.export_kwh for month in months),
        curtailed_kwh=_kwh(flows.curtailed_kw, case),
        battery_kwh=through_kwh,
        car_kwh=_kwh(flows.car_kw, case),
        peak_kw=float(prices.means_kw(flows.grid_kw, case.tick_h).max()),
        cycles=through_kwh / 2 / battery.capacity_kwh if battery is not None else 0.0,
        self_consumption_percent=_self_consumption(case, flows),
        end_soc_percent=float(flows.soc_percent[-1]) if len(flows.soc_percent) else None,
        violations=violations_of(case, policy, run),
        errors=_errors_of(case, prices, run) if run.foretold else None,
        months=months,
    )


def stored_cost(case: Case, prices: Prices, flows: Flows) -> float:
    """What is to be paid for ending with less in the battery than there was: nobody saves by emptying it."""
    if case.devices.battery is None or not len(flows.soc_percent):
        return 0.0
    less_kwh = (flows.soc_percent[0] - flows.soc_percent[-1]) / 100.0 * case.devices.battery.capacity_kwh
    return float(less_kwh) * stored_worth(prices, case.devices.battery)


def _kwh(power_kw: FloatArray, case: Case) -> float:
    return float(power_kw.sum()) * case.tick_h


def _self_consumption(case: Case, flows: Flows) -> float | None:
    produced_kwh = _kwh(case.days.pv_kw, case)
    if produced_kwh <= 0:
        return None
    # What the battery exports has been bought or produced before: the house can't use more than it makes.
    away_kwh = _kwh(np.maximum(-flows.grid_kw, 0.0) + flows.curtailed_kw, case)
    return max(0.0, 100.0 * (1.0 - away_kwh / produced_kwh))


def violations_of(case: Case, policy: Policy, run: Run) -> dict[str, int]:
    """How many ticks broke what: looked at anew, from the flows alone."""
    flows, days, limits = run.flows, case.days, case.limits
    balance_kw = days.load_kw + flows.battery_kw + flows.car_kw + flows.curtailed_kw - days.pv_kw
    alone_kw = days.load_kw - days.pv_kw
    if policy != "mpc":
        # A car that charges at once is load like any other: nobody holds it back.
        alone_kw = alone_kw + flows.car_kw
    broken = {
        "balance": np.abs(flows.grid_kw - balance_kw) > BALANCE_TOLERANCE_KW,
        "fuse": flows.grid_kw > np.maximum(limits.max_grid_import_kw, alone_kw) + ROUNDING,
        "export": -flows.grid_kw > limits.max_grid_export_kw + ROUNDING,
        "curtailment": (flows.curtailed_kw < -ROUNDING) | (flows.curtailed_kw > days.pv_kw + ROUNDING),
        **_battery_faults(case, policy, flows),
    }
    return {
        **{name: int(np.count_nonzero(where)) for name, where in broken.items()},
        "car not ready": sum(_lacks(case, number, flows) for number in range(len(case.devices.cars))),
        "refused commands": run.refused,
        "safe defaults": run.undecided,
        "failed plans": run.failed_plans,
    }


def _battery_faults(case: Case, policy: Policy, flows: Flows) -> dict[str, Mask]:
    spec = case.devices.battery
    if spec is None or not len(flows.soc_percent):
        return {}
    soc, power = flows.soc_percent, flows.battery_kw
    one_way = spec.efficiency_oneway
    into_kwh = np.where(power > 0, power * one_way, power / one_way) * case.tick_h
    off_kwh = np.abs(np.diff(soc) / 100.0 * spec.capacity_kwh - into_kwh)
    faults: dict[str, Mask] = {
        "state of charge": (soc < spec.min_soc_percent - ROUNDING) | (soc > spec.max_soc_percent + ROUNDING),
        "battery power": (power > spec.max_charge_kw + ROUNDING)
        | (power < -spec.max_discharge_kw - ROUNDING),
    }
    if policy != "perfect":  # which may do both at once
        faults["stored energy"] = off_kwh > ROUNDING
    return faults


def _lacks(case: Case, number: int, flows: Flows) -> int:
    """How often a car left with less than charging at once would have given it."""
    spec, presence, hurried = case.devices.cars[number], presence_of(case, number), at_once(case, number)
    capacity_kwh, into = spec.car.capacity_kwh, spec.car.efficiency_charging * case.tick_h
    kwh, lacking = hurried.stored_kwh[0], 0
    for tick in range(case.ticks):
        kwh = max(0.0, kwh - (presence.used_percent[tick] / 100.0 * capacity_kwh if tick else 0.0))
        kwh = min(capacity_kwh, kwh + flows.cars_kw[number, tick] * into)
        if presence.leaves[tick]:
            lacking += int(kwh < hurried.stored_kwh[tick + 1] - LACK_KWH - ROUNDING)
    return lacking


def _errors_of(case: Case, prices: Prices, run: Run) -> Errors:
    """Each plan's first 24 h beside what came."""
    ticks_a_step = round(case.settings.step_s / case.days.tick_s)
    steps = case.ticks // ticks_a_step
    whole = steps * ticks_a_step

    def by_step(values: FloatArray) -> FloatArray:
        means: FloatArray = values[:whole].reshape(steps, ticks_a_step).mean(axis=1)
        return means

    load, pv, grid = (by_step(kw) for kw in (case.days.load_kw, case.days.pv_kw, run.flows.grid_kw))
    day = len(run.foretold[0].load_kw)
    first_step = [
        round(told.at.seconds_since(case.days.start) / case.settings.step_s) for told in run.foretold
    ]
    judged = [
        (first, told) for first, told in zip(first_step, run.foretold, strict=True) if first + day <= steps
    ]

    def mae(field: str, came: FloatArray) -> float:
        off = [np.abs(getattr(told, field) - came[first : first + day]).mean() for first, told in judged]
        return float(np.mean(off)) if off else 0.0

    buy, sell = by_step(prices.import_price), by_step(prices.export_price)
    days = [
        [
            _cost(kw, buy[first : first + day], sell[first : first + day])
            for kw in (told.grid_kw, grid[first : first + day])
        ]
        for first, told in _one_a_day(judged, day)
    ]
    hours = case.settings.step_s / 3600.0
    costs = np.array(days or [[0.0, 0.0]]) * hours
    return Errors(
        plans=len(run.foretold),
        load_mae_kw=mae("load_kw", load),
        pv_mae_kw=mae("pv_kw", pv),
        grid_mae_kw=mae("grid_kw", grid),
        planned_cost_a_day=float(costs[:, 0].mean()),
        real_cost_a_day=float(costs[:, 1].mean()),
        day_cost_mae=float(np.abs(costs[:, 0] - costs[:, 1]).mean()),
    )


def _one_a_day(judged: Sequence[tuple[int, Foretold]], day: int) -> list[tuple[int, Foretold]]:
    """The last plan made for each whole day from the first step on."""
    return sorted({first: told for first, told in judged if first % day == 0}.items())


def _cost(grid_kw: npt.NDArray[Any], buy: FloatArray, sell: FloatArray) -> float:
    """Of energy, per step's hours."""
    return float((np.maximum(grid_kw, 0.0) * buy - np.maximum(-grid_kw, 0.0) * sell).sum())
