"""Times of rows: UTC, or local ones with the hours that a clock's change repeats or leaves out."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from contracts.codec import FIRST_YEAR, LAST_YEAR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
FIRST_MS = (datetime(FIRST_YEAR, 1, 1, tzinfo=UTC) - _EPOCH) // _MS
PAST_MS = (datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC) - _EPOCH) // _MS

WRONG_YEAR = f"is no time of this system: {FIRST_YEAR} to {LAST_YEAR}"
AMBIGUOUS = "local times that occur twice"
NO_SUCH_TIME = "local times that do not exist"


def read_time(text: str) -> datetime:
    """The time in a cell; naive where it names no timezone.

    Raises:
        ValueError: it is none.
    """
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is no time: write it as 2024-07-01T06:00:00Z") from error


def utc_ms(moment: datetime) -> int:
    """Milliseconds since the epoch of a time with a timezone; finer digits are cut off.

    Raises:
        ValueError: a year this system does not know, in UTC.
    """
    at_ms = (moment - _EPOCH) // _MS
    if not FIRST_MS <= at_ms < PAST_MS:
        raise ValueError(f"{moment.isoformat()} {WRONG_YEAR}")
    return at_ms


class LocalTimes:
    """Makes UTC of the local times of one series, row by row.

    A time that occurs twice, since clocks were set back, is the first of the two unless that would not be
    later than the row before; one that clocks were set forward over does not exist.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._last: datetime | None = None

    def utc(self, wall: datetime, noted: Counter[str]) -> datetime | None:
        """The moment of a wall clock's time; None if there is none.

        Args:
            wall: naive.
            noted: counts what was decided.

        Raises:
            ValueError: a year this system does not know.
        """
        if not FIRST_YEAR <= wall.year <= LAST_YEAR:
            raise ValueError(f"{wall.isoformat()} {WRONG_YEAR}")
        early, late = (wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if early > late:
            return None
        if early < late:
            noted[AMBIGUOUS] += 1
            if self._last is not None and early <= self._last:
                early = late
        self._last = early
        return early
