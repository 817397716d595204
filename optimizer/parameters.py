"""The numbers of a problem, by the names that the program's parameters have."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from optimizer.problem import Battery, Problem

Parameters = dict[str, np.ndarray]
"""A parameter's numbers by its name, in its shape."""


def parameters_of(problem: Problem) -> Parameters:
    """All that a program of this problem's structure may ask for."""
    hours = np.asarray(problem.hours)
    load, pv = np.asarray(problem.load_kw, float), np.asarray(problem.pv_kw, float)
    short_price = _short_price(problem)
    return {
        "net_load": load - pv,
        "pv": pv,
        "import_price": np.asarray(problem.import_price) * hours,
        "export_price": np.asarray(problem.export_price) * hours,
        "max_import": np.asarray(problem.max_grid_import_kw),
        "max_export": np.asarray(_most_export_kw(problem)),
        "over_price": np.asarray(_over_price(problem, short_price)),
        "over_most": np.maximum(0.0, load - pv - problem.max_grid_import_kw),
        "most_import": load + sum(der.max_charge_kw for der in problem.ders),
        **(_of_batteries(problem, hours) if problem.batteries else {}),
        **(_of_cars(problem, hours, short_price) if problem.cars else {}),
        **(_of_demand(problem, hours) if problem.demand else {}),
    }


def _most_export_kw(problem: Problem) -> float:
    """The limit, but no more than the house could export at once: a binary is multiplied by it."""
    could_kw = max(problem.pv_kw) + sum(battery.max_discharge_kw for battery in problem.batteries)
    return min(problem.max_grid_export_kw, could_kw)


def _of_batteries(problem: Problem, hours: np.ndarray) -> Parameters:
    batteries = problem.batteries
    efficiency = _column(batteries, "efficiency")
    low, high = _stored_range(problem, hours)
    reserved = np.array([_reserved(battery, problem.steps) for battery in batteries])
    # A battery found too full is not charged until it is back in its range; one too empty gives nothing.
    least_kwh = np.array([[battery.kwh(battery.min_soc_percent)] for battery in batteries])
    most_kwh = np.array([[battery.kwh(battery.max_soc_percent)] for battery in batteries])
    return {
        "stored_per_charge": efficiency * hours,
        "stored_per_discharge": hours / efficiency,
        "stored_low": low,
        "stored_high": high,
        "max_charge": np.where(high[:, 1:] > most_kwh, 0.0, _column(batteries, "max_charge_kw")),
        "max_discharge": np.where(low[:, 1:] < least_kwh, 0.0, _column(batteries, "max_discharge_kw")),
        "end_value": _column(batteries, "end_value_per_kwh")[:, 0],
        "reserved": reserved,
        "charge_cost": _column(batteries, "wear_per_kwh") * hours - reserved * efficiency * hours,
        "discharge_cost": _column(batteries, "wear_per_kwh") * hours + reserved * hours / efficiency,
    }


def _reserved(battery: Battery, steps: int) -> np.ndarray:
    """What a kWh charged in each step is worth for being there from then on."""
    value = np.asarray(battery.reserve_value or np.zeros(steps), float)
    worth: np.ndarray = np.cumsum(value[::-1])[::-1]
    return worth


def _of_cars(problem: Problem, hours: np.ndarray, short_price: float) -> Parameters:
    cars = problem.cars
    there = np.arange(problem.steps) < _column(cars, "departure_step")
    needs = np.array([car.asked_kwh(problem.step_h) for car in cars])
    return {
        "car_min": there * _column(cars, "min_charge_kw"),
        "car_max": there * _column(cars, "max_charge_kw"),
        "car_gain": there * _column(cars, "efficiency") * hours,
        "car_need": needs,
        "car_room": np.maximum(needs, [car.room_kwh(problem.step_h) for car in cars]),
        "short_price": np.asarray(short_price),
    }


def _of_demand(problem: Problem, hours: np.ndarray) -> Parameters:
    interval_h = problem.step_h * problem.interval_steps
    passed = np.zeros(problem.intervals)
    passed[0] = problem.passed_kwh / interval_h
    return {
        "demand_price": np.array([period.price_per_kw for period in problem.demand]),
        "peak_level": np.array([period.levels_kw for period in problem.demand]),
        "peak_of_interval": np.eye(len(problem.demand))[list(problem.demand_of_interval)],
        "interval_share": hours / interval_h,
        "passed": passed,
    }


def _dearest(problem: Problem) -> float:
    """The most that a kWh at the terminals could be worth, peaks aside."""
    kept = [
        (battery.end_value_per_kwh + sum(battery.reserve_value) + 2 * battery.wear_per_kwh)
        / battery.efficiency
        for battery in problem.batteries
    ]
    return max(0.0, *problem.import_price, *problem.export_price, *kept)


def _short_price(problem: Problem) -> float:
    """A price per kWh that no car waits for: all that a kWh in one step could cost, four times over."""
    efficiency = min([car.efficiency for car in problem.cars], default=1.0)
    demand = sum(period.price_per_kw for period in problem.demand) / problem.step_h
    return 4.0 * (1.0 + _dearest(problem) + demand) / efficiency


def _over_price(problem: Problem, short_price: float) -> float:
    """A price per kW and step that no saving reaches: all that a kW could ever save, ten times over."""
    energy = _dearest(problem) * problem.step_h * problem.steps
    car = short_price * problem.step_h if problem.cars else 0.0
    return 10.0 * (1.0 + energy + car + sum(period.price_per_kw for period in problem.demand))


def _stored_range(problem: Problem, hours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The energy allowed between the steps [kWh], shape (batteries, N + 1); the first is what is stored now.

    A battery found outside its range goes back into it: up as fast as it can charge and the import limit
    allows, down as fast as the house uses what it gives. So the range is never one that can't be kept.
    """
    batteries = problem.batteries
    empty = sum(battery.soc_percent < battery.min_soc_percent for battery in batteries)
    full = sum(battery.soc_percent > battery.max_soc_percent for battery in batteries)
    net_kw = np.asarray(problem.load_kw) - np.asarray(problem.pv_kw)
    give_kw = np.maximum(0.0, problem.max_grid_import_kw - net_kw) / max(1, empty)
    take_kw = np.maximum(0.0, net_kw) / max(1, full)
    ranges = [_range_of(battery, give_kw, take_kw, hours) for battery in batteries]
    return np.array([low for low, _ in ranges]), np.array([high for _, high in ranges])


def _range_of(
    battery: Battery, give_kw: np.ndarray, take_kw: np.ndarray, hours: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The range of one battery, of what grid and sun can give it and what the house can take from it."""
    now, efficiency = battery.stored_kwh, battery.efficiency
    charged = np.cumsum(np.minimum(give_kw, battery.max_charge_kw) * hours * efficiency)
    discharged = np.cumsum(np.minimum(take_kw, battery.max_discharge_kw) * hours / efficiency)
    low = np.minimum(battery.kwh(battery.min_soc_percent), now + np.concatenate([[0.0], charged]))
    high = np.maximum(battery.kwh(battery.max_soc_percent), now - np.concatenate([[0.0], discharged]))
    low[0] = high[0] = now
    return low, high


def _column(ders: Sequence[Any], field: str) -> np.ndarray:
    """One number of each, shape (how many, 1)."""
    return np.array([[getattr(der, field)] for der in ders], dtype=float)
