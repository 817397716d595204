"""Which numbers of a meter are missing: seen, told after a patience, and taken back when they come. Pure."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from recorder.model import Meter

METERS_MAX = 20_000
"""Meters that are followed, a few hundred bytes each; another one is learnt from its files again."""
BOOTS_MAX = 4
"""Of a meter: its latest lives."""
HOLES_MAX = 100
"""Of one life: what is more is given up, from the oldest on."""
SHOWN_MAX = 5
"""Holes that a text names."""

Run = tuple[int, int]
"""The first and the last of numbers that follow one another."""
Past = Sequence[tuple[int, Sequence[Run]]]
"""Boots, each with the unbroken runs of its numbers, rising."""


class Finding(NamedTuple):
    """Something to tell of a meter."""

    meter: Meter
    boot: int
    runs: Sequence[Run]
    """The numbers that are missing, or that were and have come."""
    is_filled: bool

    @property
    def readings(self) -> int:
        """How many numbers."""
        return sum(last - first + 1 for first, last in self.runs)

    @property
    def text(self) -> str:
        """It in words."""
        shown = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in self.runs[:SHOWN_MAX])
        more = f" and {len(self.runs) - SHOWN_MAX} gaps more" if len(self.runs) > SHOWN_MAX else ""
        what = "have come after all" if self.is_filled else "are missing"
        return f"{self.readings} readings of {self.meter.meter} {what}: boot {self.boot}, seq {shown}{more}"


class _Hole(NamedTuple):
    first: int
    last: int
    since_s: float
    is_told: bool = False


@dataclass(slots=True)
class _Life:
    """The numbers of one boot: from the first to the last, without the holes."""

    first: int
    last: int
    holes: list[_Hole] = field(default_factory=list)
    """Rising."""
    told: list[Run] = field(default_factory=list)
    """The holes as they were told; empty when nothing is left to be taken back."""

    def add(self, number: int, now_s: float) -> None:
        if number > self.last:
            self._open(self.last + 1, number - 1, now_s)
            self.last = number
        elif number >= self.first:
            self._fill(number)
        else:  # it came before the one that we took for the first
            self._open(number + 1, self.first - 1, now_s)
            self.first = number

    def _open(self, first: int, last: int, now_s: float) -> None:
        if first <= last:
            self._replace([*self.holes, _Hole(first, last, now_s)])

    def _fill(self, number: int) -> None:
        at = bisect_right(self.holes, number, key=lambda hole: hole.first) - 1
        if at >= 0 and number <= self.holes[at].last:
            hole = self.holes[at]
            parts = (hole._replace(last=number - 1), hole._replace(first=number + 1))
            whole = [part for part in parts if part.first <= part.last]
            self._replace([*self.holes[:at], *whole, *self.holes[at + 1 :]])

    def _replace(self, holes: list[_Hole]) -> None:
        self.holes = sorted(holes)
        if len(self.holes) > HOLES_MAX:
            if self.holes[0].is_told:
                self.told = []  # nobody will know when all of them have come
            del self.holes[0]

    def overdue(self, now_s: float, patience_s: float) -> list[Run]:
        """The holes that have been open for long enough to tell."""
        due = [hole for hole in self.holes if not hole.is_told and now_s - hole.since_s >= patience_s]
        if due:
            self.holes = [hole._replace(is_told=hole.is_told or hole in due) for hole in self.holes]
            self.told += [(hole.first, hole.last) for hole in due]
            del self.told[:-HOLES_MAX]
        return [(hole.first, hole.last) for hole in due]

    def healed(self) -> list[Run]:
        """What was told, once nothing of it is missing."""
        if any(hole.is_told for hole in self.holes):
            return []
        healed, self.told = self.told, []
        return healed


class Gaps:
    """Follows the numbers of all meters.

    A gap is a number that has not come while a higher one of the same boot has. That a boot begins, and with
    which number, is none; nor is what a meter that fell silent may have counted after its last reading.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._meters: OrderedDict[Meter, OrderedDict[int, _Life]] = OrderedDict()
        self._restless: set[tuple[Meter, int]] = set()
        """Who has something that may have to be told."""

    @property
    def missing(self) -> int:
        """How many numbers are missing that were told."""
        lives = (self._lives(meter).get(boot) for meter, boot in self._restless)
        holes = [hole for life in lives if life is not None for hole in life.holes if hole.is_told]
        return sum(hole.last - hole.first + 1 for hole in holes)

    def knows(self, meter: Meter) -> bool:
        """Whether a meter is followed, so that `add` will do; else its past must be given to `begin`."""
        return meter in self._meters

    def begin(self, meter: Meter, past: Past, now_s: float) -> None:
        """Follow a meter from what is recorded of it."""
        lives = self._meters[meter] = OrderedDict()
        while len(self._meters) > METERS_MAX:
            self._meters.popitem(last=False)
        for boot, runs in sorted(past)[-BOOTS_MAX:]:
            life = lives[boot] = _Life(runs[0][0], runs[-1][1])
            between = pairwise(runs)
            life.holes = [_Hole(before[1] + 1, after[0] - 1, now_s) for before, after in between][-HOLES_MAX:]
            self._restless.add((meter, boot))

    def add(self, meter: Meter, boot: int, seq: int, now_s: float) -> None:
        """Say that a reading is there."""
        lives = self._meters.get(meter)
        if lives is None:
            return  # pushed out by others: it is learnt anew with its next reading
        self._meters.move_to_end(meter)
        life = lives.get(boot)
        if life is None:
            lives[boot] = _Life(seq, seq)
            if len(lives) > BOOTS_MAX:
                lives.popitem(last=False)
            return
        if seq == life.last + 1:
            life.last = seq
            return
        life.add(seq, now_s)
        self._restless.add((meter, boot))

    def findings(self, now_s: float) -> Iterator[Finding]:
        """What has to be told now."""
        for meter, boot in sorted(self._restless):
            life = self._lives(meter).get(boot)
            if life is None:
                self._restless.discard((meter, boot))
                continue
            if due := life.overdue(now_s, self._patience_s):
                yield Finding(meter, boot, due, is_filled=False)
            if healed := life.healed():
                yield Finding(meter, boot, healed, is_filled=True)
            if not life.holes:
                self._restless.discard((meter, boot))

    def _lives(self, meter: Meter) -> OrderedDict[int, _Life]:
        return self._meters.get(meter, OrderedDict())
