"""Moving recorded days to the present: same weekday, same season, same hour of the day."""

from contracts.instant import Instant
from energy.errors import OutsideSeriesError
from energy.series import Series

DAY_S = 86400.0
YEAR_DAYS = 364
"""52 weeks: a Saturday stays a Saturday, and the season moves by a day and a quarter a year."""
SHORTER_DAYS = (7, 1)
"""For a record that is too short: the same weekday at least, or the same hour."""


def to_present(series: Series, now: Instant) -> Series:
    """The series, moved by whole multiples of 52 weeks to cover `now`; a short one by weeks, or by days.

    Raises:
        OutsideSeriesError: it is shorter than a day, and no whole day's shift reaches `now`.
    """
    return series.shifted(shift_to_present_s(series.start, series.end, now))


def shift_to_present_s(start: Instant, end: Instant, now: Instant) -> float:
    """By how much later a record must begin to cover `now`; see `to_present` [s].

    Raises:
        OutsideSeriesError: it is shorter than a day, and no whole day's shift reaches `now`.
    """
    for unit_days in (YEAR_DAYS, *SHORTER_DAYS):
        away_days = now.seconds_since(start) / DAY_S
        shift_s = away_days // unit_days * unit_days * DAY_S
        if now < end.after(shift_s):
            return shift_s
    raise OutsideSeriesError(
        f"the record from {start} to {end} does not cover that hour of any day: it can't be moved to {now}"
    )
