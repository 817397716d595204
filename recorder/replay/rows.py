"""The rows of one file, read and checked."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple
from zoneinfo import ZoneInfo

from contracts.errors import BadArchiveError
from contracts.ids import check_id, refuse_reserved
from recorder.replay.columns import Cell, Column, Shape, shape_of
from recorder.replay.find import Source
from recorder.replay.model import HOUR_MS, Roster, Row
from recorder.replay.text import Table, open_table
from recorder.replay.times import FIRST_MS, NO_SUCH_TIME, PAST_MS, LocalTimes, read_time, utc_ms

POWER_MAX_W = 1e8
COUNTER_MAX = 2**62
"""What a reading can say."""

ROWS = "rows"
LATE = "rows out of order"
OUTSIDE = "outside --from and --to"
OTHERS = "of other houses or meters"
EMPTY = "rows without a value"
BELOW_ZERO = "PV below 0 W, taken as 0"
SKIPPED = (OUTSIDE, OTHERS, EMPTY, NO_SUCH_TIME)

UNWANTED = -1
"""In the place of a meter's number: it is not selected."""
STEPS_MAX = 1_000
POLL_LINES = 1_000


class StoppedError(Exception):
    """Nobody wants to know any more."""


class Selection(NamedTuple):
    """What is read of the files, and how."""

    columns: Mapping[str, Column]
    zone: ZoneInfo | None
    """Of times that name none."""
    houses: frozenset[str]
    """Empty: all."""
    meters: frozenset[str]
    """Likewise."""
    since_ms: int = FIRST_MS
    until_ms: int = PAST_MS


class Reading:
    """One file, being read to its end.

    Args:
        selection: what of it.
        roster: numbers its meters.
        source: the file.
        file: its number.
        step_ms: the interval of its energies, once it is known.
        noted: counts what is read, left out and decided.
    """

    def __init__(
        self,
        selection: Selection,
        roster: Roster,
        source: Source,
        file: int,
        step_ms: int | None,
        noted: Counter[str],
    ) -> None:
        self._selection = selection
        self._roster = roster
        self._source = source
        self._file = file
        self._per_hour = 1.0 if step_ms is None else HOUR_MS / step_ms
        self._noted = noted
        self._series: int | None = None
        self._local: dict[int, LocalTimes] = {}
        self._last_ms: dict[int, int] = {}
        self._file_ms = FIRST_MS
        self._steps: Counter[int] = Counter()
        self._has_energy = False
        self.in_order = True
        """Whether no row was earlier than one before it."""
        self.torn = ""
        """What to say of the last line, if that is cut short."""

    def rows(self, stopping: Callable[[], bool] = lambda: False) -> Iterator[Row]:
        """Those that are selected, as they stand in the file.

        Args:
            stopping: asked now and then.

        Raises:
            StoppedError: it was told to stop.
            BadArchiveError: a row that is none; file and line are named.
        """
        path = self._source.path
        with open_table(path) as table:
            shape = shape_of(path, table.header, self._selection.columns)
            self._has_energy = shape.has_energy
            if shape.house_at is None and shape.meter_at is None:
                self._series = self._number(self._source.house, self._source.meter)
            for number, cells in table.records():
                if not number % POLL_LINES and stopping():
                    raise StoppedError
                try:
                    row = self._row(shape, number, cells)
                except ValueError as error:
                    self._refuse(table, number, error)
                    return
                if row is not None:
                    yield row

    def usual_step_ms(self) -> int | None:
        """The commonest interval, if energies need it.

        Raises:
            BadArchiveError: there is one row only.
        """
        if not self._has_energy:
            return None
        if not self._steps:
            raise BadArchiveError(
                f"{self._source.path}:2: one row only: the interval of its energy is not known"
            )
        return self._steps.most_common(1)[0][0]

    def _refuse(self, table: Table, number: int, error: ValueError) -> None:
        where = f"{self._source.path}:{number}"
        if number != table.unended:
            raise BadArchiveError(f"{where}: {error}") from error
        self.torn = f"{where}: the last line is cut short and left out: {error}"

    def _row(self, shape: Shape, number: int, cells: list[str]) -> Row | None:
        if len(cells) != shape.width:
            raise ValueError(f"{len(cells)} cells, but {shape.width} columns")
        self._noted[ROWS] += 1
        series = self._series_in(shape, cells) if self._series is None else self._series
        if series == UNWANTED:
            self._noted[OTHERS] += 1
            return None
        at_ms = self._time(series, cells[shape.time_at])
        if at_ms is None:
            self._noted[NO_SUCH_TIME] += 1
            return None
        if not self._selection.since_ms <= at_ms < self._selection.until_ms:
            self._noted[OUTSIDE] += 1
            return None
        powers = self._powers(shape, cells)
        if powers is None:
            self._noted[EMPTY] += 1
            return None
        self._note_order(series, at_ms)
        identity = None if shape.identity_at is None else _identity(cells, *shape.identity_at)
        return Row(at_ms, series, self._file, number, *powers, identity)

    def _series_in(self, shape: Shape, cells: list[str]) -> int:
        house, meter = self._source.house, self._source.meter
        if shape.house_at is not None:
            house = check_id(cells[shape.house_at].strip(), "house")
            refuse_reserved(house)
        if shape.meter_at is not None:
            meter = check_id(cells[shape.meter_at].strip(), "meter")
        return self._number(house, meter)

    def _number(self, house: str, meter: str) -> int:
        wanted = self._selection
        if (wanted.houses and house not in wanted.houses) or (wanted.meters and meter not in wanted.meters):
            return UNWANTED
        return self._roster.number(house, meter)

    def _time(self, series: int, text: str) -> int | None:
        """Milliseconds since the epoch; None if there is no such time."""
        moment = read_time(text)
        if moment.tzinfo is not None:
            return utc_ms(moment)
        zone = self._selection.zone
        if zone is None:
            raise ValueError(f"{text[:40]!r} has no timezone: give --timezone, such as Europe/Paris")
        local = self._local.get(series)
        if local is None:
            local = self._local[series] = LocalTimes(zone)
        utc = local.utc(moment, self._noted)
        return None if utc is None else utc_ms(utc)

    def _powers(self, shape: Shape, cells: list[str]) -> tuple[float, float | None, float | None] | None:
        """Meter, PV and their sum [W]; None if there is nothing to tell."""
        pv_w = None if shape.pv is None else self._power(shape.pv, cells)
        if pv_w is not None and pv_w < 0:
            self._noted[BELOW_ZERO] += 1
            pv_w = 0.0
        if shape.meter is not None:
            meter_w = self._power(shape.meter, cells)
        else:
            meter_w = None if pv_w is None else 0.0  # PV alone: beside it, nothing is known to consume
        if meter_w is None:
            return None
        if shape.sum_at is not None:
            return meter_w, pv_w, _watts(cells[shape.sum_at])
        if pv_w is None:
            return meter_w, None, None
        return meter_w, pv_w, _checked(meter_w + pv_w)

    def _power(self, cell: Cell, cells: list[str]) -> float | None:
        value = _watts(cells[cell.at])
        if value is None or cell.is_watts:
            return value
        # The digits of a unit's change, without those that only binary fractions have.
        return _checked(round(value * cell.factor * (self._per_hour if cell.is_energy else 1.0), 6))

    def _note_order(self, series: int, at_ms: int) -> None:
        if at_ms < self._file_ms:
            self.in_order = False
        else:
            self._file_ms = at_ms
        last_ms = self._last_ms.get(series)
        if last_ms is None or at_ms > last_ms:
            self._last_ms[series] = at_ms
            if self._has_energy and last_ms is not None and len(self._steps) < STEPS_MAX:
                self._steps[at_ms - last_ms] += 1
        elif at_ms < last_ms:
            self._noted[LATE] += 1


def _watts(text: str) -> float | None:
    """The number in a cell; None if that is empty.

    Raises:
        ValueError: none, not finite, or more than a reading can say.
    """
    try:
        value = float(text)
    except ValueError as error:
        if not text or text.isspace():
            return None
        hint = ": write 1.5, not 1,5" if "," in text else ""
        raise ValueError(f"{text[:40]!r} is no number{hint}") from error
    if "_" in text or not text.isascii():  # Python takes more for a number than anybody means by it
        raise ValueError(f"{text[:40]!r} is no number")
    if -POWER_MAX_W <= value <= POWER_MAX_W:
        return value
    return _checked(value)


def _checked(watts: float) -> float:
    if not -POWER_MAX_W <= watts <= POWER_MAX_W:
        raise ValueError(f"{watts:g}: beyond {POWER_MAX_W:g} W, or not finite")
    return watts


def _identity(cells: list[str], boot_at: int, seq_at: int) -> tuple[int, int]:
    try:
        boot, seq = int(cells[boot_at]), int(cells[seq_at])
    except ValueError as error:
        raise ValueError(f"{cells[boot_at][:20]!r}, {cells[seq_at][:20]!r}: no boot and seq") from error
    if not 0 <= boot <= COUNTER_MAX or not 0 <= seq <= COUNTER_MAX:
        raise ValueError(f"boot {boot:.3g}, seq {seq:.3g}: beyond 0 to 2^62")
    return boot, seq
