"""Perfect foresight: one linear program over the whole span, which knows it all. Nobody can pay less."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import cvxpy as cp
import numpy as np
import scipy.sparse as sp

from energy.battery import BatterySpec
from optimizer.history import FloatArray
from wattbus.backtest.bill import Prices, prices_of, stored_worth
from wattbus.backtest.cars import at_once, presence_of
from wattbus.backtest.case import START_SOC_PERCENT, Case, Flows
from wattbus.backtest.errors import BacktestError

TIE = 1e-6
"""Currency per kW and tick: energy goes through the battery only if that saves something."""
LACK_KWH = 0.25
"""So much less than charging at once would have given it may be in a car that leaves; more is a violation."""

Expression = Any
"""A CVXPY expression; its classes are not typed."""


class _Store(NamedTuple):
    """A battery or a car: what it draws, and what must hold of that."""

    power_kw: Expression
    stored_kwh: Expression
    rules: list[Expression]
    cost: Expression


def perfect_flows(case: Case) -> Flows:
    """The cheapest flows there are, with the tariff's prices and peaks, the same limits and losses.

    A relaxation: cars take any power up to their most, where a charge point gives 0 or 6 A and up, and a
    battery may charge and discharge at once. So it is a bound, and no policy.

    Raises:
        BacktestError: nothing keeps the limits, or the solver gives up.
    """
    n, prices = case.ticks, prices_of(case)
    battery = [] if case.devices.battery is None else [_battery(case, prices, case.devices.battery)]
    cars = [_car(case, number) for number in range(len(case.devices.cars))]
    stores = [*battery, *cars]
    net_kw = case.days.load_kw - case.days.pv_kw
    hurried_kw = np.sum([net_kw, *(at_once(case, i).power_kw for i in range(len(cars)))], axis=0)
    buy, sell = cp.Variable(n, nonneg=True), cp.Variable(n, nonneg=True)
    curtailed = cp.Variable(n, bounds=[0, case.days.pv_kw])
    rules = [
        buy - sell == net_kw + curtailed + sum(store.power_kw for store in stores),
        # Cars that charge at once may pass the fuse; what holds for every policy must let them.
        buy <= np.maximum(case.limits.max_grid_import_kw, hurried_kw),
        sell <= case.limits.max_grid_export_kw,
        *(rule for store in stores for rule in store.rules),
    ]
    cost = case.tick_h * (prices.import_price @ buy - prices.export_price @ sell)
    cost += sum(store.cost for store in stores)
    for means_kw, price in _peaks(case, prices, buy):
        peak = cp.Variable(nonneg=True)
        rules.append(means_kw <= peak)
        cost += price * peak
    problem = cp.Problem(cp.Minimize(cost), rules)
    try:
        problem.solve(solver=cp.HIGHS, threads=1)
    except cp.SolverError as error:
        raise BacktestError(f"it can't be solved: {error}") from error
    if problem.status != cp.OPTIMAL:
        raise BacktestError(f"it has no optimum: the solver says {problem.status}")
    battery_kw = battery[0].power_kw.value if battery else np.zeros(n)
    cars_kw = np.reshape([car.power_kw.value for car in cars], (len(cars), n))
    return Flows(
        battery_kw=battery_kw,
        cars_kw=cars_kw,
        curtailed_kw=curtailed.value,
        grid_kw=net_kw + battery_kw + cars_kw.sum(axis=0) + curtailed.value,
        soc_percent=_soc_percent(battery[0].stored_kwh.value, case) if battery else np.empty(0),
    )


def _battery(case: Case, prices: Prices, spec: BatterySpec) -> _Store:
    """What it holds more or less at the end than at the start counts as in every policy's costs."""
    n, hours, one_way = case.ticks, case.tick_h, spec.efficiency_oneway
    percent_kwh = spec.capacity_kwh / 100.0
    charge = cp.Variable(n, bounds=[0, spec.max_charge_kw])
    discharge = cp.Variable(n, bounds=[0, spec.max_discharge_kw])
    stored = cp.Variable(
        n + 1, bounds=[spec.min_soc_percent * percent_kwh, spec.max_soc_percent * percent_kwh]
    )
    rules = [
        stored[1:] == stored[:-1] + hours * (one_way * charge - discharge / one_way),
        stored[0] == START_SOC_PERCENT * percent_kwh,
    ]
    cost = (hours * case.settings.degradation_cost + TIE) * cp.sum(charge + discharge)
    cost += stored_worth(prices, spec) * (stored[0] - stored[n])
    return _Store(charge - discharge, stored, rules, cost)


def _car(case: Case, number: int) -> _Store:
    """Whenever it leaves it has what charging at once would have given it, or its target."""
    spec, presence, hurried = case.devices.cars[number], presence_of(case, number), at_once(case, number)
    n, capacity_kwh = case.ticks, spec.car.capacity_kwh
    most_kw = min(spec.evse.max_power_kw, spec.car.max_charge_kw)
    power = cp.Variable(n, bounds=[0, np.where(presence.there, most_kw, 0.0)])
    stored = cp.Variable(n + 1, bounds=[0, capacity_kwh])
    into = case.tick_h * spec.car.efficiency_charging
    leaves = np.flatnonzero(presence.leaves)
    rules = [
        stored[1:] == stored[:-1] - hurried.used_kwh + into * power,
        stored[0] == capacity_kwh * START_SOC_PERCENT / 100.0,
    ]
    if len(leaves):
        rules.append(stored[leaves + 1] >= hurried.stored_kwh[leaves + 1] - LACK_KWH)
    return _Store(power, stored, rules, 0.0)


def _peaks(case: Case, prices: Prices, buy: Expression) -> Iterator[tuple[Expression, float]]:
    """Of each demand group that costs something, its intervals' means [kW] and its price."""
    share = np.full(case.ticks, case.tick_h / prices.interval_h)
    mean_of = sp.csr_array((share, (prices.interval_of, np.arange(case.ticks))))
    for index, group in enumerate(prices.group):
        if group.price > 0:
            yield mean_of[np.flatnonzero(prices.group_of == index)] @ buy, group.price


def _soc_percent(stored_kwh: FloatArray, case: Case) -> FloatArray:
    battery = case.devices.battery
    return stored_kwh * (100.0 / battery.capacity_kwh) if battery is not None else np.empty(0)
