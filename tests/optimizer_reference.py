"""The optimizer's problem written a second time, from its words: SOC in percent as sums, a binary wherever one could be.

Shares no line with `optimizer.program`; only the prices of missed limits are read from its parameters.
"""

from typing import Any

import cvxpy as cp
import numpy as np

from optimizer.parameters import parameters_of
from optimizer.problem import SHARES, Battery, Problem

Term = Any


def reference_objective(case: Problem, *, binaries: bool) -> float:
    """The least cost, by Clarabel or, with binaries, by HiGHS."""
    house = _House(case)
    rules = house.rules() + (house.one_way() if binaries else [])
    reference = cp.Problem(cp.Minimize(house.cost()), rules)
    if binaries:
        reference.solve(solver=cp.HIGHS, mip_rel_gap=0.0, mip_abs_gap=1e-9)
    else:
        reference.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    assert reference.value is not None, reference.status
    return float(reference.value)


class _House:
    def __init__(self, case: Problem) -> None:
        self.case = case
        self.n, self.hours = case.steps, np.array(case.hours)
        self.net = np.array(case.load_kw) - np.array(case.pv_kw)
        positive = {"nonneg": True}
        self.buy, self.over, self.sell, self.curtailed = (cp.Variable(self.n, **positive) for _ in range(4))
        self.charge = [cp.Variable(self.n, **positive) for _ in case.batteries]
        self.discharge = [cp.Variable(self.n, **positive) for _ in case.batteries]
        self.car = [cp.Variable(self.n, **positive) for _ in case.cars]
        self.short = [cp.Variable(nonneg=True) for _ in case.cars]

    def rules(self) -> list[Term]:
        case = self.case
        ders = sum(self.charge) - sum(self.discharge) + sum(self.car)
        return [
            self.buy - self.sell == self.net + ders + self.curtailed,
            self.buy <= case.max_grid_import_kw + self.over,
            self.over <= np.maximum(0.0, self.net - case.max_grid_import_kw),
            self.sell <= case.max_grid_export_kw,
            self.curtailed <= np.array(case.pv_kw),
            *(rule for i, battery in enumerate(case.batteries) for rule in self._battery_rules(i, battery)),
            *(rule for i in range(len(case.cars)) for rule in self._car_rules(i)),
        ]

    def soc(self, i: int, battery: Battery) -> Term:
        """After each step [%]."""
        one_way = battery.efficiency_roundtrip**0.5
        flow = one_way * self.charge[i] - self.discharge[i] / one_way
        return battery.soc_percent + cp.cumsum(cp.multiply(self.hours, flow)) * (100 / battery.capacity_kwh)

    def _battery_rules(self, i: int, battery: Battery) -> list[Term]:
        soc = self.soc(i, battery)
        low, high = self._range(battery)
        may_charge = np.where(high > battery.max_soc_percent, 0.0, battery.max_charge_kw)
        may_discharge = np.where(low < battery.min_soc_percent, 0.0, battery.max_discharge_kw)
        return [
            soc >= low,
            soc <= high,
            self.charge[i] <= may_charge,
            self.discharge[i] <= may_discharge,
        ]

    def _range(self, battery: Battery) -> tuple[np.ndarray, np.ndarray]:
        """Step by step back into its range, sharing what there is with the others that are outside."""
        case, low, high = self.case, [], []
        empty = sum(b.soc_percent < b.min_soc_percent for b in case.batteries)
        full = sum(b.soc_percent > b.max_soc_percent for b in case.batteries)
        least = most = battery.soc_percent
        one_way = battery.efficiency_roundtrip**0.5
        for net, h in zip(self.net, self.hours, strict=True):
            percent_per_kw = 100 * h / battery.capacity_kwh
            if least < battery.min_soc_percent:
                kw = min(battery.max_charge_kw, max(0.0, case.max_grid_import_kw - net) / empty)
                least = min(battery.min_soc_percent, least + kw * one_way * percent_per_kw)
            else:
                least = battery.min_soc_percent
            if most > battery.max_soc_percent:
                kw = min(battery.max_discharge_kw, max(0.0, net) / full)
                most = max(battery.max_soc_percent, most - kw / one_way * percent_per_kw)
            else:
                most = battery.max_soc_percent
            low.append(least)
            high.append(most)
        return np.array(low), np.array(high)

    def _car_rules(self, i: int) -> list[Term]:
        car, power = self.case.cars[i], self.car[i]
        on = cp.Variable(self.n, boolean=True)
        there = np.arange(self.n) < car.departure_step
        charged = car.efficiency * self.hours @ power
        asked = car.asked_kwh(self.case.step_h)
        return [
            power >= car.min_charge_kw * on,
            power <= car.max_charge_kw * on,
            on <= there,
            self.short[i] >= asked - charged,
            charged <= max(asked, car.room_kwh(self.case.step_h)),
        ]

    def one_way(self) -> list[Term]:
        case, rules = self.case, []
        for i, battery in enumerate(case.batteries):
            charges = cp.Variable(self.n, boolean=True)
            rules += [self.charge[i] <= battery.max_charge_kw * charges]
            rules += [self.discharge[i] <= battery.max_discharge_kw * (1 - charges)]
        buys = cp.Variable(self.n, boolean=True)
        most_buy = np.array(case.load_kw) + sum(der.max_charge_kw for der in case.ders)
        most_sell = np.array(case.pv_kw) + sum(battery.max_discharge_kw for battery in case.batteries)
        return [
            *rules,
            self.buy <= cp.multiply(most_buy, buys),
            self.sell <= cp.multiply(most_sell, 1 - buys),
        ]

    def cost(self) -> Term:
        case, prices = self.case, parameters_of(self.case)
        cost = cp.multiply(self.hours, case.import_price) @ self.buy
        cost -= cp.multiply(self.hours, case.export_price) @ self.sell
        cost += prices["over_price"] * cp.sum(self.over)
        for i, battery in enumerate(case.batteries):
            cost += battery.wear_per_kwh * self.hours @ (self.charge[i] + self.discharge[i])
            cost -= battery.end_value_per_kwh * battery.capacity_kwh / 100 * self.soc(i, battery)[-1]
            if battery.reserve_value:
                more = self.soc(i, battery) - battery.soc_percent
                cost -= battery.capacity_kwh / 100 * np.asarray(battery.reserve_value) @ more
        for short in self.short:
            cost += prices["short_price"] * short
        return cost + self._demand_cost()

    def _demand_cost(self) -> Term:
        case, cost = self.case, 0.0
        interval_h = case.step_h * case.interval_steps
        for index, period in enumerate(case.demand):
            means = [
                sum(
                    (
                        self.hours[t] * self.buy[t]
                        for t in range(self.n)
                        if (t + case.passed_steps) // case.interval_steps == j
                    ),
                    case.passed_kwh if j == 0 else 0.0,
                )
                / interval_h
                for j, of in enumerate(case.demand_of_interval)
                if of == index
            ]
            for level in period.expected_kw or [period.floor_kw] * SHARES:
                cost += period.price_per_kw / SHARES * cp.maximum(period.floor_kw, level, *means)
        return cost
