"""Recorded days moved to the present."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from energy.errors import OutsideSeriesError
from energy.rebase import to_present
from energy.series import Series

FIRST = Instant.parse("2016-08-01T07:00:00Z")


def series(days: int) -> Series:
    hours = days * 24
    times = tuple(FIRST.after(3600 * i).unix_ms for i in range(hours))
    return Series(times, tuple(float(i) for i in range(hours)), FIRST.after(3600 * hours).unix_ms)


@given(st.integers(0, 20 * 366 * 86400), st.sampled_from([7, 30, 365]))
def test_the_present_is_covered_on_the_same_weekday_at_the_same_hour(seconds: int, days: int) -> None:
    now = FIRST.after(seconds)
    moved = to_present(series(days), now)
    shift_s = moved.start.seconds_since(FIRST)
    assert moved.start <= now < moved.end
    assert shift_s % (7 * 86400) == 0
    if days == 365:
        assert shift_s % (364 * 86400) == 0


def test_a_day_is_moved_by_whole_days() -> None:
    moved = to_present(series(1), FIRST.after(5 * 86400 + 3600))
    assert moved.start == FIRST.after(5 * 86400)


def test_what_is_too_short_is_said() -> None:
    hour = Series((FIRST.unix_ms,), (1.0,), FIRST.after(3600).unix_ms)
    with pytest.raises(OutsideSeriesError, match="does not cover that hour"):
        to_present(hour, FIRST.after(5 * 86400 + 7200))
