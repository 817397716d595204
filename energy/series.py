"""Recorded data: a column of a CSV file, or of a directory of them, read once and looked up by time."""

import csv
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import fsum, isfinite
from pathlib import Path

import msgspec

from contracts.instant import Instant
from energy.errors import OutsideSeriesError, SeriesError

TIME_COLUMN = "timestamp"
RECORDER_COLUMNS = frozenset({"boot", "seq"})
"""Columns that only the recorder's own files have: their rows stand in order of arrival."""


class Series(msgspec.Struct, frozen=True):
    """Means over consecutive intervals: value i holds from its time until the next one's.

    Times are milliseconds since the epoch, rising; `end_ms` is where the last value ends.
    """

    times_ms: tuple[int, ...]
    values: tuple[float, ...]
    end_ms: int

    @property
    def start(self) -> Instant:
        """The beginning of the first interval."""
        return Instant.at_ms(self.times_ms[0])

    @property
    def end(self) -> Instant:
        """The end of the last interval; nothing is known from here on."""
        return Instant.at_ms(self.end_ms)

    @property
    def step_s(self) -> float:
        """Length of the last interval [s], which is the usual one."""
        return (self.end_ms - self.times_ms[-1]) / 1000.0

    def covers(self, start: Instant, duration_s: float) -> bool:
        """Whether it has a value all through [start, start + duration_s), and at `start` itself."""
        begin_ms = start.unix_ms
        return self.times_ms[0] <= begin_ms < self.end_ms and begin_ms + duration_s * 1000 <= self.end_ms

    def at(self, instant: Instant) -> float:
        """The value that holds at an instant.

        Raises:
            OutsideSeriesError: the data does not cover it.
        """
        return self.values[self._index(instant.unix_ms)]

    def mean(self, start: Instant, interval_s: float) -> float:
        """The mean over [start, start + interval_s): a held value if finer than the data, else their mean.

        Raises:
            OutsideSeriesError: the data does not cover all of it.
        """
        begin_ms = start.unix_ms
        end_ms = begin_ms + round(interval_s * 1000)
        first = self._index(begin_ms)
        last = self._index(end_ms - 1)
        if first == last:
            return self.values[first]
        bounds = (begin_ms, *self.times_ms[first + 1 : last + 1], end_ms)
        held = zip(self.values[first : last + 1], pairwise(bounds), strict=True)
        return fsum(value * (until - since) for value, (since, until) in held) / (end_ms - begin_ms)

    def resample(self, start: Instant, step_s: float, n: int) -> list[float]:
        """The means over `n` consecutive steps.

        Raises:
            OutsideSeriesError: the data does not cover all of them.
        """
        return [self.mean(start.after(i * step_s), step_s) for i in range(n)]

    def shifted(self, seconds: float) -> "Series":
        """The same values that many seconds later."""
        shift_ms = round(seconds * 1000)
        return Series(tuple(t + shift_ms for t in self.times_ms), self.values, self.end_ms + shift_ms)

    def _index(self, at_ms: int) -> int:
        if not self.times_ms[0] <= at_ms < self.end_ms:
            raise OutsideSeriesError(
                f"no data at {Instant.at_ms(at_ms)}: the record runs from {self.start} to {self.end}"
            )
        return bisect_right(self.times_ms, at_ms) - 1


class _Row(msgspec.Struct, frozen=True):
    at_ms: int
    value: float
    where: str


def read_series(path: Path, column: str) -> Series:
    """Read one column of a CSV file, or of all `*.csv` of a directory in the order of their names.

    The recorder's own files are put in order of time, and their empty cells (a house without PV)
    are left out; in any other file both are errors.

    Args:
        path: a file or a directory; times are in the column `timestamp`.
        column: the column to read, such as `meter_w`.

    Raises:
        SeriesError: no such file or column, no number, not finite, no timezone, a time that runs
            backwards or stands twice, no data; file and line are named.
    """
    files = [path]
    if path.is_dir():
        files = sorted(path.glob("*.csv"))
        if not files:
            raise SeriesError(f"{path}: no .csv file in this directory")
    return read_files(files, column)


def read_files(files: Sequence[Path], column: str) -> Series:
    """Read one column of several CSV files, one after the other; as `read_series` does.

    Raises:
        SeriesError: as there.
    """
    rows: list[_Row] = []
    for file in files:
        rows.extend(_read_file(file, column))
    for earlier, later in pairwise(rows):
        if later.at_ms <= earlier.at_ms:
            fault = "stands twice" if later.at_ms == earlier.at_ms else "runs backwards"
            raise SeriesError(
                f"{later.where}: time {fault}: {Instant.at_ms(later.at_ms)} "
                f"after {Instant.at_ms(earlier.at_ms)} ({earlier.where})"
            )
    return _series(files[0] if len(files) == 1 else files[0].parent, column, rows)


def _series(where: Path, column: str, rows: list[_Row]) -> Series:
    if not rows:
        raise SeriesError(f"{where}: no data in column {column}")
    if len(rows) == 1:
        raise SeriesError(f"{rows[0].where}: one row only: a second one is needed to know the step")
    steps = Counter(later.at_ms - earlier.at_ms for earlier, later in pairwise(rows))
    usual_ms = steps.most_common(1)[0][0]
    return Series(
        tuple(row.at_ms for row in rows), tuple(row.value for row in rows), rows[-1].at_ms + usual_ms
    )


def _read_file(path: Path, column: str) -> list[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            _check_header(path, header, column)
            recorded = set(header) >= RECORDER_COLUMNS
            rows = list(_rows(path, lines, header, column, blanks=recorded))
    except FileNotFoundError as error:
        raise SeriesError(f"{path.absolute()}: no such file") from error
    except OSError as error:
        raise SeriesError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SeriesError(f"{path}: not a text file in UTF-8") from error
    return _in_order(rows) if recorded else rows


def _in_order(rows: list[_Row]) -> list[_Row]:
    """A recorder's rows by time; where a restarted meter repeats an instant, the later row holds."""
    by_time = {row.at_ms: row for row in rows}
    return [by_time[at_ms] for at_ms in sorted(by_time)]


def _check_header(path: Path, header: list[str], column: str) -> None:
    if not header:
        raise SeriesError(f"{path}:1: empty: the first line must name the columns")
    for wanted in (TIME_COLUMN, column):
        if header.count(wanted) != 1:
            fault = "no column" if wanted not in header else "more than one column"
            raise SeriesError(f"{path}:1: {fault} {wanted!r}; there are: {', '.join(header)[:200]}")


def _rows(
    path: Path, lines: Iterator[list[str]], header: list[str], column: str, *, blanks: bool
) -> Iterator[_Row]:
    time_at, value_at = header.index(TIME_COLUMN), header.index(column)
    number = 1
    try:
        # The reader's own line_num counts lines inside quotes too; one row a line is all these files have.
        for number, cells in enumerate(lines, start=2):
            if not cells:
                continue
            where = f"{path}:{number}"
            if len(cells) != len(header):
                raise SeriesError(f"{where}: {len(cells)} cells, but {len(header)} columns")
            at_ms = _time(where, cells[time_at])
            if cells[value_at] or not blanks:
                yield _Row(at_ms, _number(where, column, cells[value_at]), where)
    except csv.Error as error:
        raise SeriesError(f"{path}:{number + 1}: not a CSV line: {error}") from error


def _time(where: str, text: str) -> int:
    try:
        return Instant.parse(text.strip()).unix_ms
    except (ValueError, OverflowError) as error:
        fault = "no timezone: write it with Z or +hh:mm" if "timezone" in str(error) else "no time"
        raise SeriesError(f"{where}: {TIME_COLUMN} {text[:40]!r} has {fault}") from error


def _number(where: str, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise SeriesError(f"{where}: {column} is {text[:40]!r}: not a number") from error
    if not isfinite(value):
        raise SeriesError(f"{where}: {column} is {text[:40]!r}: not finite")
    return value
