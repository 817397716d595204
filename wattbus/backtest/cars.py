"""When a car can charge, tick by tick, and what it draws if it charges as soon as it comes. Pure."""

from datetime import date, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from contracts.instant import Instant
from der_controller.devices import ChargingCar
from energy.ev import Trip, trip_on
from optimizer.history import FloatArray
from wattbus.backtest.case import START_SOC_PERCENT, Case


class Presence(NamedTuple):
    """A car's ticks; it is there in a tick if it is there all through it."""

    there: npt.NDArray[np.bool_]
    used_percent: FloatArray
    """What its trips have used by the time it is back, before each tick."""
    leaves: npt.NDArray[np.bool_]
    """Whether it leaves after this tick: then it is to have its target. The end counts as leaving."""


class AtOnce(NamedTuple):
    """What a car draws that charges at full power from when it comes until it has its target."""

    power_kw: FloatArray
    stored_kwh: FloatArray
    """Before each tick and after the last: the most that any policy could have in it, up to its target."""
    used_kwh: FloatArray
    """What its trips have taken, before each tick: no more than was in it."""


def presence_of(case: Case, number: int) -> Presence:
    """When one of a house's cars can charge."""
    n, spec = case.ticks, case.devices.cars[number]
    starts_ms = case.days.start.unix_ms + np.arange(n + 1) * round(case.days.tick_s * 1000)
    there, used = np.ones(n, bool), np.zeros(n)
    for trip in _trips(spec, case.car_seed(number), case.days.start, case.end):
        leaves_ms, returns_ms = trip.leaves.unix_ms, trip.returns.unix_ms
        there &= (starts_ms[1:] < leaves_ms) | (starts_ms[:-1] >= returns_ms)
        back = int(np.searchsorted(starts_ms[:-1], returns_ms, "left"))
        if returns_ms > starts_ms[0] and back < n:
            used[back] += trip.used_percent
    leaves = there & ~np.append(there[1:], False)
    return Presence(there, used, leaves)


def _trips(spec: ChargingCar, seed: str, start: Instant, end: Instant) -> list[Trip]:
    zone = ZoneInfo(spec.trips.timezone)
    first: date = start.local(zone).date()
    days = (end.local(zone).date() - first).days + 1
    trips = (trip_on(spec.trips, seed, first + timedelta(days=i)) for i in range(days))
    return [trip for trip in trips if trip is not None]


def at_once(case: Case, number: int) -> AtOnce:
    """What one of a house's cars draws if it charges as soon as it comes."""
    spec, presence, hours = case.devices.cars[number], presence_of(case, number), case.tick_h
    capacity_kwh, efficiency = spec.car.capacity_kwh, spec.car.efficiency_charging
    target_kwh = capacity_kwh * spec.car.target_soc_percent / 100.0
    most_kw = min(spec.evse.max_power_kw, spec.car.max_charge_kw)
    power, stored = np.zeros(case.ticks), np.empty(case.ticks + 1)
    used_kwh = presence.used_percent / 100.0 * capacity_kwh
    kwh = capacity_kwh * START_SOC_PERCENT / 100.0
    for i in range(case.ticks):
        used_kwh[i] = min(used_kwh[i], kwh)
        kwh -= used_kwh[i]
        stored[i] = kwh
        if presence.there[i] and kwh < target_kwh:
            power[i] = min(most_kw, (target_kwh - kwh) / efficiency / hours)
            kwh += power[i] * efficiency * hours
    stored[-1] = kwh
    return AtOnce(power, stored, used_kwh)
