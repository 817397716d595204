"""The CSV form in which readings are kept: columns, where a day's file stands, a row and back."""

import re
from datetime import date, tzinfo
from functools import lru_cache
from math import isfinite
from pathlib import PurePath
from typing import NamedTuple

from contracts.errors import BadArchiveError
from contracts.ids import check_id
from contracts.instant import Instant

COLUMNS = ("timestamp", "meter_w", "pv_w", "sum_w", "boot", "seq")
HEADER = ",".join(COLUMNS)

REPLAY = "replay"
"""The folder of what was replayed, not measured, with a folder a run: it stands beside the houses."""
UNNAMED_RUN = "unnamed"

_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_COUNTER = r"(0|[1-9]\d*)"
_row = re.compile(
    rf"(\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z),({_NUMBER}),({_NUMBER})?,({_NUMBER})?,{_COUNTER},{_COUNTER}",
    re.ASCII,
).fullmatch


class Row(NamedTuple):
    """One reading as it is kept; powers in W, `pv_w` and `sum_w` None for a house without PV."""

    timestamp: Instant
    meter_w: float
    pv_w: float | None
    sum_w: float | None
    boot: int
    seq: int


def format_row(row: Row) -> str:
    """One line, without its end; the shortest digits that read back as the same numbers."""
    pv = "" if row.pv_w is None else repr(float(row.pv_w))
    total = "" if row.sum_w is None else repr(float(row.sum_w))
    return f"{row.timestamp},{float(row.meter_w)!r},{pv},{total},{row.boot},{row.seq}"


def parse_row(line: str) -> Row:
    """The reading in one line, with or without its end.

    Raises:
        BadArchiveError: not a row: cut short, a text where a number stands, not finite, no such time.
    """
    found = _row(line.rstrip("\r\n"))
    if found is None:
        raise BadArchiveError(f"{line[:80]!r} is no row of {HEADER}")
    stamp, meter, pv, total, boot, seq = found.groups()
    powers = [None if text is None else float(text) for text in (meter, pv, total)]
    if powers[0] is None or not all(isfinite(power) for power in powers if power is not None):
        raise BadArchiveError(f"{line[:80]!r}: a power that is not finite")
    try:
        return Row(Instant.parse(stamp), powers[0], powers[1], powers[2], int(boot), int(seq))
    except ValueError as error:
        raise BadArchiveError(f"{line[:80]!r}: {error}") from error


def identity_of(line: str) -> tuple[int, int] | None:
    """The (boot, seq) of a line without its end, or None if it has not the shape of a row."""
    found = _row(line)
    return None if found is None else (int(found[5]), int(found[6]))


def day_of(moment: Instant, zone: tzinfo) -> date:
    """The day in whose file a moment belongs.

    Raises:
        BadArchiveError: before the first day there is, or after the last.
    """
    try:
        return moment.astimezone(zone).date()
    except (OverflowError, ValueError) as error:
        raise BadArchiveError(f"{moment} has no day in {zone}") from error


@lru_cache(maxsize=20_000)
def day_file(house: str, meter: str, day: date, run: str | None = None) -> PurePath:
    """Where the readings of one day stand, below the data folder; those of a replay's run apart.

    Raises:
        BadIdError: a house, meter or run that must not become a file's name.
    """
    check_id(house, "house")
    check_id(meter, "meter")
    path = PurePath(house, meter, f"{meter}_{day.isoformat()}.csv")
    return path if run is None else REPLAY / PurePath(check_id(run, "run")) / path


def alerts_file(house: str, day: date) -> PurePath:
    """Where a house's alerts of one day stand, below the data folder.

    Raises:
        BadIdError: a house that must not become a folder's name.
    """
    return PurePath(check_id(house, "house"), f"alerts_{day.isoformat()}.jsonl")


def diary_file(house: str, day: date) -> PurePath:
    """Where what was decided for a house on one day stands, below the data folder; `.gz` once it is over.

    Raises:
        BadIdError: a house that must not become a folder's name.
    """
    return PurePath(check_id(house, "house"), f"diary_{day.isoformat()}.jsonl")
