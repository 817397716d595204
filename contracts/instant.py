"""`Instant`: a moment in UTC, to the millisecond, as it stands on the wire and in the files."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self


class Instant(datetime):
    """A UTC time with whole milliseconds; RFC 3339 with `Z` on the wire.

    msgspec writes a plain datetime with microseconds, or with none: this type is what makes
    every timestamp in a message and in a file look the same.
    """

    @classmethod
    def of(cls, moment: datetime) -> Self:
        """`moment` in UTC, cut down to the millisecond.

        Raises:
            ValueError: `moment` carries no timezone: a local time is never guessed.
        """
        if moment.tzinfo is None:
            raise ValueError(f"{moment.isoformat()} has no timezone: write it with Z or +hh:mm")
        utc = moment.astimezone(UTC)
        return cls(
            utc.year,
            utc.month,
            utc.day,
            utc.hour,
            utc.minute,
            utc.second,
            utc.microsecond // 1000 * 1000,
            tzinfo=UTC,
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read RFC 3339; finer digits than milliseconds are cut off.

        Raises:
            ValueError: not a time, or one without a timezone.
        """
        if "\0" in text:  # `fromisoformat` reads no further
            raise ValueError("a NUL is no part of a time")
        return cls.of(datetime.fromisoformat(text))

    @classmethod
    def at_ms(cls, unix_ms: int) -> Self:
        """The instant that many milliseconds after 1970-01-01T00:00:00Z."""
        return cls(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=unix_ms)

    @property
    def unix_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z."""
        return (self - _EPOCH) // _MILLISECOND

    def after(self, seconds: float) -> Self:
        """The instant that many seconds later (earlier if negative), to the millisecond."""
        return self + timedelta(milliseconds=round(seconds * 1000))

    def seconds_since(self, earlier: datetime) -> float:
        """Seconds from `earlier` to this instant."""
        return datetime.__sub__(self, earlier).total_seconds()

    def floor(self, step_s: float) -> "Instant":
        """The last multiple of `step_s` since the epoch, at or before this instant."""
        step_ms = round(step_s * 1000)
        return Instant.at_ms(self.unix_ms // step_ms * step_ms)

    def local(self, zone: tzinfo) -> datetime:
        """The same moment on the wall clocks of `zone`, as a plain datetime."""
        return datetime.fromtimestamp(self.timestamp(), zone)

    def __str__(self) -> str:
        return self.isoformat(timespec="milliseconds")[:-6] + "Z"


_EPOCH = Instant(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
