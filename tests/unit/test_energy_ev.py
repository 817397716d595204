from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from energy.errors import SpecError
from energy.ev import (
    EvseSpec,
    EvSpec,
    EvState,
    TripPattern,
    check_limit,
    driven_percent,
    power_kw,
    presence_at,
    step,
    trip_on,
)

PATTERN = TripPattern(timezone="America/Los_Angeles")
MONDAY = Instant.parse("2024-06-03T07:00:00Z")  # midnight there


def test_six_amperes_on_three_phases_are_4_14_kw() -> None:
    assert power_kw(EvseSpec(phases=3), 6) == pytest.approx(4.14)
    assert power_kw(EvseSpec(phases=1), 16) == pytest.approx(3.68)
    assert EvseSpec(max_current_a=16, phases=3).max_power_kw == pytest.approx(11.04)


@given(st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers(-5, 100).map(float)))
def test_a_limit_is_zero_or_whole_amperes_from_six_to_the_maximum(limit_a: float) -> None:
    evse = EvseSpec(max_current_a=16)
    if limit_a in {0, *range(6, 17)}:
        assert check_limit(evse, limit_a) == limit_a
    else:
        with pytest.raises(SpecError):
            check_limit(evse, limit_a)


@given(
    st.floats(0, 100),
    st.lists(st.tuples(st.sampled_from([0, 6, 10, 16]), st.floats(0.1, 86400)), max_size=20),
)
def test_the_charge_never_passes_100_percent_and_energy_is_conserved(
    soc: float, course: list[tuple[int, float]]
) -> None:
    evse, car, state = EvseSpec(), EvSpec(), EvState(soc, connected=True)
    for limit_a, dt_s in course:
        after, drawn_kw = step(evse, car, state, limit_a, dt_s)
        assert state.soc_percent <= after.soc_percent <= 100
        assert 0 <= drawn_kw <= power_kw(evse, limit_a)
        gained_kwh = (after.soc_percent - state.soc_percent) / 100 * car.capacity_kwh
        assert gained_kwh == pytest.approx(drawn_kw * dt_s / 3600 * car.efficiency_charging, abs=1e-9)
        state = after


def test_a_car_that_is_away_draws_nothing() -> None:
    away = EvState(50, connected=False)
    assert step(EvseSpec(), EvSpec(), away, 16, 3600) == (away, 0.0)


def test_a_car_takes_no_more_than_its_own_charger() -> None:
    evse, car = EvseSpec(max_current_a=32), EvSpec(max_charge_kw=7.4)
    assert step(evse, car, EvState(50, connected=True), 32, 60)[1] == 7.4
    assert step(evse, car, EvState(50, connected=True), 6, 60)[1] == pytest.approx(4.14)


def test_impossible_charge_points_and_habits_are_named() -> None:
    with pytest.raises(SpecError, match="max_current_a is 5"):
        EvseSpec(max_current_a=5)
    with pytest.raises(SpecError, match="phases is 2"):
        EvseSpec(phases=2)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="no timezone"):
        TripPattern(timezone="Mars/Base")
    with pytest.raises(SpecError, match="returns_hour"):
        TripPattern(timezone="UTC", leaves_hour=9, returns_hour=9.5)


def test_a_trip_is_the_same_for_the_same_seed_and_day_only() -> None:
    day = date(2024, 6, 3)
    first = trip_on(PATTERN, "a", day)
    trip_on.cache_clear()
    assert trip_on(PATTERN, "a", day) == first
    assert trip_on(PATTERN, "b", day) != first


@given(st.integers(0, 400), st.sampled_from(["America/Los_Angeles", "Europe/Paris", "Asia/Kolkata"]))
def test_a_trip_lies_within_its_local_day(offset: int, zone: str) -> None:
    pattern = TripPattern(timezone=zone)
    trip = trip_on(pattern, "a", date(2024, 1, 1) + timedelta(days=offset))
    if trip is not None:
        assert trip.leaves < trip.returns
        assert trip.returns.seconds_since(trip.leaves) < 16 * 3600
        assert 15 <= trip.used_percent <= 40


def test_presence_follows_the_trips() -> None:
    trip = trip_on(PATTERN, "a", date(2024, 6, 3))
    assert trip is not None
    home = presence_at(PATTERN, "a", MONDAY)
    assert home.connected
    assert home.until == trip.leaves
    away = presence_at(PATTERN, "a", trip.leaves)
    assert not away.connected
    assert away.until == trip.returns
    assert presence_at(PATTERN, "a", trip.returns).connected


def test_what_was_driven_adds_up_however_it_is_asked() -> None:
    week = [MONDAY.after(h * 3600) for h in range(0, 7 * 24 + 1, 5)]
    pieces = sum(driven_percent(PATTERN, "a", a, b) for a, b in pairwise(week))
    whole = driven_percent(PATTERN, "a", week[0], week[-1])
    assert pieces == pytest.approx(whole)
    assert whole >= 5 * 15
    assert driven_percent(PATTERN, "a", week[-1], week[0]) == 0
