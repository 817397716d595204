"""An electric car at its charge point: current limits, charging, and when it is at home."""

import random
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from contracts.instant import Instant
from energy.checks import check_range
from energy.errors import SpecError
from energy.zones import zone_of

MIN_CURRENT_A = 6
"""The lowest current a charge point may offer; below it there is only 0. Source: IEC 61851-1, annex A."""
VOLTAGE_V = 230.0
LONGEST_STAY_DAYS = 14
"""How far ahead a departure is looked for; a car that stays longer is looked at again then."""


class EvseSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A charge point's nameplate; current is per phase.

    Raises:
        SpecError: a maximum that IEC 61851 does not know, or a third number of phases.
    """

    max_current_a: int = 16
    phases: Literal[1, 3] = 3

    def __post_init__(self) -> None:
        check_range("EVSE max_current_a", self.max_current_a, MIN_CURRENT_A, 80)
        if self.phases not in (1, 3):
            raise SpecError(f"EVSE phases is {self.phases}: it must be 1 or 3")

    @property
    def max_power_kw(self) -> float:
        """Power at the largest current [kW]."""
        return power_kw(self, self.max_current_a)


class EvSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A car's battery, and the charge its driver wants at departure.

    Raises:
        SpecError: a value no car has.
    """

    capacity_kwh: float = 60.0
    efficiency_charging: float = 0.9
    target_soc_percent: float = 80.0
    max_charge_kw: float = 22.0
    """What its own charger takes at most, whatever the charge point offers."""

    def __post_init__(self) -> None:
        check_range("EV capacity_kwh", self.capacity_kwh, 0, 1e4, above_low=True)
        check_range("EV efficiency_charging", self.efficiency_charging, 0, 1, above_low=True)
        check_range("EV target_soc_percent", self.target_soc_percent, 0, 100)
        check_range("EV max_charge_kw", self.max_charge_kw, 0, 1e4)


class EvState(msgspec.Struct, frozen=True):
    """A car at one instant.

    Raises:
        SpecError: a charge outside 0..100 %.
    """

    soc_percent: float
    connected: bool

    def __post_init__(self) -> None:
        check_range("EV soc_percent", self.soc_percent, 0, 100)


def power_kw(evse: EvseSpec, current_a: float) -> float:
    """Power drawn at a current per phase [kW].

    Source: P = U I phases, at 230 V and a power factor of 1.
    """
    return VOLTAGE_V * current_a * evse.phases / 1000.0


def current_a(evse: EvseSpec, drawn_kw: float) -> float:
    """Current per phase [A] at which `drawn_kw` flows."""
    return drawn_kw * 1000.0 / (VOLTAGE_V * evse.phases)


def check_limit(evse: EvseSpec, limit_a: float) -> int:
    """Return a current limit if the charge point can offer it: 0, or whole amperes from 6 up.

    Raises:
        SpecError: any other current.
    """
    if limit_a != 0 and not (MIN_CURRENT_A <= limit_a <= evse.max_current_a and limit_a == int(limit_a)):
        raise SpecError(
            f"{limit_a:g} A: this charge point offers 0 or {MIN_CURRENT_A} to {evse.max_current_a} whole A"
        )
    return int(limit_a)


def possible_kw(evse: EvseSpec, car: EvSpec, state: EvState, limit_a: int, dt_s: float) -> float:
    """The mean power a car draws for `dt_s` under a current limit [kW]; never past 100 %.

    Raises:
        SpecError: a limit that the charge point can't offer.
    """
    limit_kw = power_kw(evse, check_limit(evse, limit_a))
    if not state.connected:
        return 0.0
    room_kwh = (100.0 - state.soc_percent) / 100.0 * car.capacity_kwh
    return min(limit_kw, car.max_charge_kw, room_kwh / car.efficiency_charging / (dt_s / 3600.0))


def step(evse: EvseSpec, car: EvSpec, state: EvState, limit_a: int, dt_s: float) -> tuple[EvState, float]:
    """Charge a car under a current limit for a while.

    Args:
        evse: the charge point.
        car: the car.
        state: the car at the start.
        limit_a: 0, or 6 A and up.
        dt_s: duration [s], above 0.

    Returns:
        The car at the end, and the mean power it drew [kW].

    Raises:
        SpecError: a limit that the charge point can't offer.
    """
    drawn_kw = possible_kw(evse, car, state, limit_a, dt_s)
    if drawn_kw == 0:
        return state, 0.0
    gained = drawn_kw * car.efficiency_charging * dt_s / 3600.0 / car.capacity_kwh * 100.0
    return EvState(min(100.0, state.soc_percent + gained), state.connected), drawn_kw


class TripPattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a car is usually away, on the house's own clocks; each day differs a little, by the seed.

    Raises:
        SpecError: an unknown timezone, or hours that may run past midnight.
    """

    timezone: str
    leaves_hour: float = 7.5
    returns_hour: float = 18.0
    spread_hours: float = 0.75
    """Leaving and returning vary by up to this much, either way."""
    used_percent_min: float = 15.0
    used_percent_max: float = 40.0
    weekend_trips: float = 0.5
    """The share of Saturdays and Sundays with a trip."""

    def __post_init__(self) -> None:
        zone_of(self.timezone)
        check_range("trip spread_hours", self.spread_hours, 0, 6)
        check_range("trip leaves_hour", self.leaves_hour, self.spread_hours, 23)
        earliest_return = self.leaves_hour + 2 * self.spread_hours
        check_range("trip returns_hour", self.returns_hour, earliest_return, 23.99 - self.spread_hours)
        check_range("trip used_percent_min", self.used_percent_min, 0, 100)
        check_range("trip used_percent_max", self.used_percent_max, self.used_percent_min, 100)
        check_range("trip weekend_trips", self.weekend_trips, 0, 1)


class Trip(msgspec.Struct, frozen=True):
    """One trip: away from `leaves` until `returns`, with so much less charge after it."""

    leaves: Instant
    returns: Instant
    used_percent: float


class Presence(msgspec.Struct, frozen=True):
    """Whether a car is at home, and until when that holds."""

    connected: bool
    until: Instant


@lru_cache(maxsize=256)
def trip_on(pattern: TripPattern, seed: str, day: date) -> Trip | None:
    """The trip of a local day, or None: the same for the same seed and day, whatever happened before."""
    rng = random.Random(f"{seed}/trip/{day.isoformat()}")
    stays, leaving, returning, use = (rng.random() for _ in range(4))
    if day.weekday() >= 5 and stays >= pattern.weekend_trips:  # noqa: PLR2004 - Saturday
        return None
    spread = pattern.spread_hours
    return Trip(
        _moment(pattern, day, pattern.leaves_hour + (2 * leaving - 1) * spread),
        _moment(pattern, day, pattern.returns_hour + (2 * returning - 1) * spread),
        pattern.used_percent_min + use * (pattern.used_percent_max - pattern.used_percent_min),
    )


def _moment(pattern: TripPattern, day: date, hour: float) -> Instant:
    minutes = int(hour * 60)
    return Instant.of(
        datetime.combine(day, time(minutes // 60, minutes % 60), tzinfo=ZoneInfo(pattern.timezone))
    )


def presence_at(pattern: TripPattern, seed: str, now: Instant) -> Presence:
    """Whether the car is at home at an instant, and when it next leaves or comes back."""
    today = now.local(ZoneInfo(pattern.timezone)).date()
    for ahead in range(LONGEST_STAY_DAYS):
        trip = trip_on(pattern, seed, today + timedelta(days=ahead))
        if trip is None or trip.returns <= now:
            continue
        return Presence(False, trip.returns) if trip.leaves <= now else Presence(True, trip.leaves)  # noqa: FBT003
    return Presence(True, now.after(86400.0 * LONGEST_STAY_DAYS))  # noqa: FBT003


def driven_percent(pattern: TripPattern, seed: str, since: Instant, now: Instant) -> float:
    """The charge used by all trips that ended after `since` and not after `now` [%]."""
    zone = ZoneInfo(pattern.timezone)
    last = now.local(zone).date()
    # Two weeks of trips empty any car.
    first = max(since.local(zone).date(), last - timedelta(days=LONGEST_STAY_DAYS))
    days = (first + timedelta(days=i) for i in range((last - first).days + 1))
    trips = (trip_on(pattern, seed, day) for day in days)
    return sum(trip.used_percent for trip in trips if trip is not None and since < trip.returns <= now)
