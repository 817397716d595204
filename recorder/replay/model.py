"""A replay as pure functions of rows: their order, their doubles and holes, and the messages they become."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush, heapreplace
from typing import Any, NamedTuple

from contracts import topics
from contracts.instant import Instant
from contracts.messages import MeterReading, PvReading
from contracts.topics import Address
from energy.rebase import shift_to_present_s

DUPLICATE = "duplicates"
GAPS = "gaps"
MISSING = "intervals missing in them"

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

STEADY = 0.1
"""Two steps that differ by less than this share of one are the same interval."""
GAP = 1.5
"""A step longer than so many usual ones is a gap."""


class Row(NamedTuple):
    """One row of a file; rows sort by their first four fields, which no two have in common."""

    at_ms: int
    series: int
    """Its number in the roster."""
    file: int
    number: int
    """Its place in the file."""
    meter_w: float
    pv_w: float | None
    sum_w: float | None
    identity: tuple[int, int] | None
    """(boot, seq) in the recorder's own files."""


class Stream(NamedTuple):
    """Rows in order of time, opened when the first of them is due."""

    first_ms: int
    open: Callable[[], Iterator[Row]]


class Roster:
    """Numbers the meters in the order in which they are met."""

    def __init__(self) -> None:
        self.meters: dict[tuple[str, str], int] = {}

    def number(self, house: str, meter: str) -> int:
        """The number of a meter of a house."""
        return self.meters.setdefault((house, meter), len(self.meters))


def merge(streams: Iterable[Stream]) -> Iterator[Row]:
    """All rows in order of time; a stream is opened only when its first row is next."""
    pending = sorted(streams, key=lambda stream: stream.first_ms, reverse=True)
    heads: list[tuple[Row, Iterator[Row]]] = []
    while heads or pending:
        while pending and (not heads or pending[-1].first_ms <= heads[0][0].at_ms):
            rows = pending.pop().open()
            if (head := next(rows, None)) is not None:
                heappush(heads, (head, rows))
        if not heads:
            continue
        row, rows = heads[0]
        yield row
        if (head := next(rows, None)) is None:
            heappop(heads)
        else:
            heapreplace(heads, (head, rows))


class _Past:
    """What is known of one meter's rows so far."""

    __slots__ = ("at_ms", "seen", "step_ms", "usual_ms")

    def __init__(self) -> None:
        self.at_ms: int | None = None
        self.seen: set[tuple[int, int] | None] = set()
        self.step_ms = 0
        self.usual_ms = 0


class Ledger:
    """Leaves out rows that stand twice, and counts what is missing.

    The first of several rows of one meter and instant counts; the recorder's own rows all do, unless boot and
    seq are the same too. The usual interval is the last that came twice running; a longer one is a gap, of
    which nothing is made up.

    Args:
        noted: counts duplicates, gaps and the intervals missing in them.
    """

    def __init__(self, noted: Counter[str]) -> None:
        self._noted = noted
        self._pasts: dict[int, _Past] = {}

    def accepts(self, row: Row) -> bool:
        """Whether a row counts; rows come in order of time."""
        past = self._pasts.get(row.series)
        if past is None:
            past = self._pasts[row.series] = _Past()
        if past.at_ms == row.at_ms:
            if row.identity is None or None in past.seen or row.identity in past.seen:
                self._noted[DUPLICATE] += 1
                return False
            past.seen.add(row.identity)
            return True
        if past.at_ms is not None:
            self._step(past, row.at_ms - past.at_ms)
        past.at_ms = row.at_ms
        past.seen = {row.identity}
        return True

    def _step(self, past: _Past, step_ms: int) -> None:
        if abs(step_ms - past.step_ms) <= STEADY * step_ms:
            past.usual_ms = step_ms
        elif past.usual_ms and step_ms > GAP * past.usual_ms:
            self._noted[GAPS] += 1
            self._noted[MISSING] += round(step_ms / past.usual_ms) - 1
        past.step_ms = step_ms


Messages = list[tuple[Address[Any], MeterReading | PvReading]]
"""What a row becomes, in the order in which it is published."""


class Scribe:
    """Makes messages of rows, with the replay's own identity.

    Args:
        meters: (house, meter) by their numbers in the roster.
        run: the replay they belong to.
        boot: which pass of it.
        shift_ms: by how much later than recorded they are said to be.
    """

    def __init__(self, meters: Sequence[tuple[str, str]], run: str, boot: int, shift_ms: int) -> None:
        self._meters = meters
        self._run = run
        self._boot = boot
        self._shift_ms = shift_ms
        self._seqs = [0] * len(meters)
        self._meter_at = [topics.METER_READING.at(house=house, meter=meter) for house, meter in meters]
        self._pv_at = [topics.PV_READING.at(house=house, meter=meter) for house, meter in meters]

    def messages(self, row: Row) -> Messages:
        """The meter's reading and, of a row that tells of PV, the one that carries both."""
        at = row.series
        self._seqs[at] += 1
        house, meter = self._meters[at]
        same: dict[str, Any] = {
            "house": house,
            "meter": meter,
            "boot": self._boot,
            "seq": self._seqs[at],
            "timestamp": Instant.at_ms(row.at_ms + self._shift_ms),
            "historical": True,
            "run": self._run,
        }
        has_pv = row.pv_w is not None or row.sum_w is not None
        messages: Messages = [(self._meter_at[at], MeterReading(power_w=row.meter_w, has_pv=has_pv, **same))]
        if has_pv:
            both = PvReading(meter_w=row.meter_w, pv_w=row.pv_w, sum_w=row.sum_w, **same)
            messages.append((self._pv_at[at], both))
        return messages


def rebase_ms(first_ms: int, last_ms: int, now: Instant) -> int:
    """By how much rows are moved to reach today: whole multiples of 52 weeks, of weeks, or of days."""
    # A record lasts to the end of its last hour; a short one counts as a day, which always reaches today.
    hours = (last_ms - first_ms) // HOUR_MS + 1
    end_ms = first_ms + max(hours * HOUR_MS, DAY_MS)
    return round(shift_to_present_s(Instant.at_ms(first_ms), Instant.at_ms(end_ms), now) * 1000)
