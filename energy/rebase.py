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
    for unit_days in (YEAR_DAYS, *SHORTER_DAYS):
        away_days = now.seconds_since(series.start) / DAY_S
        shift_s = away_days // unit_days * unit_days * DAY_S
        if now < series.end.after(shift_s):
            return series.shifted(shift_s)
    raise OutsideSeriesError(
        f"the record from {series.start} to {series.end} does not cover that hour of any day: "
        f"it can't be moved to {now}"
    )
