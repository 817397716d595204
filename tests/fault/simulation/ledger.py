"""Who judges the readings: what was made, what was promised, and what stands in the files at the end."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from contracts import archive
from contracts.codec import decode
from contracts.errors import BadArchiveError
from contracts.messages import MeterReading, PvReading

HOUSE, METER = "house-a", "main"
KEPT_WITHIN_S = 0.5
"""The outbox's 200 ms, and two disk jobs at their slowest."""
Key = tuple[int, int]
"""Boot and seq."""


class Ledger:
    """The readings of one house over a seed.

    `breaches` counts, by what was broken; the details are in the trace.
    """

    def __init__(self) -> None:
        self.breaches: Counter[str] = Counter()
        self.details: list[str] = []
        self.made: dict[Key, MeterReading] = {}
        self.kept: set[Key] = set()
        """On the outbox's disk, or at the broker: not to be lost any more."""
        self.written: list[Key] = []
        """By the last write to the outbox's disk: it can be torn."""
        self.given: list[Key] = []
        """Rows in the making: what the recorder was given, each time, in that order."""
        self._made_s: dict[Key, float] = {}
        self._tried: set[Key] = set()
        self._tried_last = (0, 0)

    def breach(self, what: str, detail: object = "") -> None:
        self.breaches[what] += 1
        if self.breaches[what] <= 5:
            self.details.append(f"{what}: {detail}")

    def make(self, reading: MeterReading, now_s: float) -> None:
        """The meter has taken a reading, and gives it to its outbox."""
        self.made[_key(reading)] = reading
        self._made_s[_key(reading)] = now_s

    def meter_died(self, now_s: float) -> None:
        """What is neither kept nor quite new should have been kept."""
        for key, made_s in self._made_s.items():
            if made_s < now_s - KEPT_WITHIN_S and key not in self.kept:
                self.breach("not kept in time", f"{key}, {now_s - made_s:.1f} s old")
        self._made_s.clear()

    def keep(self, readings: Iterable[MeterReading]) -> None:
        """They are on the outbox's disk."""
        self.written = [_key(reading) for reading in readings]
        self.kept.update(self.written)

    def torn(self, confirmed: set[Key]) -> None:
        """The last of them are not, after all."""
        self.kept.difference_update(set(self.written) - confirmed)

    def tried(self, reading: MeterReading) -> None:
        """The meter publishes one: what it has not tried before, it tries in order."""
        key = _key(reading)
        if self.made.get(key) != reading:
            self.breach("a reading that was not made", key)
        if key not in self._tried and key < self._tried_last:
            self.breach("out of the outbox out of order", f"{key} after {self._tried_last}")
        self._tried_last = max(key, self._tried_last)
        self._tried.add(key)

    def judge(self, data: Path, quarantine: Path) -> int:
        """Look at the files once all has arrived; returns the number of rows."""
        rows: Counter[Key] = Counter()
        for path in sorted((data / HOUSE / METER).glob("*.csv")):
            rows.update(self._judge_file(path))
        for key in sorted(self.kept - rows.keys()):
            self.breach("lost", key)
        for key, count in rows.items():
            if count > 1:
                self.breach("written twice", f"{key}, {count} times")
        for path in sorted(data.rglob("*damaged*")):
            self.breach("file damaged", path.relative_to(data))
        for path in sorted(quarantine.glob("*")):
            self.breach("quarantined", path.read_text().splitlines()[0])
        return rows.total()

    def _judge_file(self, path: Path) -> Sequence[Key]:
        text = path.read_bytes().decode()
        lines = text.split("\n")
        if lines.pop() != "" or lines[:1] != [archive.HEADER]:
            self.breach("torn", f"{path.name} begins {text[:50]!r}, ends {text[-50:]!r}")
        keys: list[Key] = []
        for line in lines[1:]:
            try:
                row = archive.parse_row(line)
            except BadArchiveError as error:
                self.breach("torn", f"{path.name}: {error}")
                continue
            keys.append((row.boot, row.seq))
            made = self.made.get((row.boot, row.seq))
            if made is None or (row.timestamp, row.meter_w) != (made.timestamp, made.power_w):
                self.breach("a row of no reading", line)
            elif (row.pv_w is None) is made.has_pv:
                self.breach("a row without its PV", line)
        if not _is_subsequence(keys, iter(self.given)):
            self.breach("rows in another order than they came in", path.name)
        return keys


def reading_of(payload: bytes) -> MeterReading:
    return decode(MeterReading, payload)


def key_of(name: str, payload: bytes) -> Key:
    """Of a meter's reading, or of the answer to it."""
    kind: Any = PvReading if name.split("/")[2] == "pv" else MeterReading
    message = decode(kind, payload)
    return message.boot, message.seq


def _key(reading: MeterReading) -> Key:
    return reading.boot, reading.seq


def _is_subsequence(keys: Sequence[Key], all_of_them: Iterator[Key]) -> bool:
    return all(key in all_of_them for key in keys)
