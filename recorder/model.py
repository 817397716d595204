"""What a message becomes in a file, and which of them the file has already: pure."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Sequence
from datetime import tzinfo
from enum import Enum
from pathlib import PurePath
from typing import NamedTuple, cast

from msgspec import UNSET

from contracts import archive
from contracts.codec import encode
from contracts.errors import BadArchiveError
from contracts.messages import Alert, Message, MeterReading, PlantReading, PvReading

Reading = MeterReading | PvReading | PlantReading


class Numbers:
    """A set of whole numbers that mostly follow one another: its size is that of its gaps."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, number: int) -> None:
        """Put a number in."""
        if self._lasts and number == self._lasts[-1] + 1:
            self._lasts[-1] = number
            return
        self.add_run(number, number)

    def add_run(self, first: int, last: int) -> None:
        """Put in all from `first` to `last`."""
        begin = bisect_left(self._lasts, first - 1)
        end = bisect_right(self._firsts, last + 1)
        if begin < end:
            first = min(first, self._firsts[begin])
            last = max(last, self._lasts[end - 1])
        self._firsts[begin:end] = [first]
        self._lasts[begin:end] = [last]

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number)
        return at > 0 and number <= self._lasts[at - 1]

    @property
    def runs(self) -> list[tuple[int, int]]:
        """The first and the last of each unbroken run, rising."""
        return list(zip(self._firsts, self._lasts, strict=True))


class Identity(NamedTuple):
    """What tells one line of a file from all others."""

    source: Hashable
    """Whose counter: the boot in a meter's file, an AlertSource in a house's alerts."""
    seq: int


Seen = dict[Hashable, Numbers]
"""The identities that a file has, by their source."""


def has_seen(seen: Seen, identity: Identity) -> bool:
    """Whether the file has that identity."""
    numbers = seen.get(identity.source)
    return numbers is not None and identity.seq in numbers


def mark_seen(seen: Seen, identity: Identity) -> None:
    """Say that the file has that identity."""
    numbers = seen.get(identity.source)
    if numbers is None:
        numbers = seen[identity.source] = Numbers()
    numbers.add(identity.seq)


def merge_seen(seen: Seen, other: Seen) -> None:
    """Add what another file has."""
    for source, numbers in other.items():
        mine = seen.setdefault(source, Numbers())
        for first, last in numbers.runs:
            mine.add_run(first, last)


class AlertSource(NamedTuple):
    """Whose counter numbers an alert."""

    name: str
    boot: int


class Form(NamedTuple):
    """What a file's lines look like."""

    header: bytes
    """Its first line with its end, or nothing."""
    identify: Callable[[str], Identity | None]
    """The identity of a line without its end; None if it is no line of this form."""
    mark: Callable[[Identity], bytes]
    """A part of a line that no line with another identity has."""


class Entry(NamedTuple):
    """One message as a line of a file."""

    path: PurePath
    """Below the data folder."""
    form: Form
    identity: Identity
    line: bytes
    """With its end."""


def _identify_row(line: str) -> Identity | None:
    found = archive.identity_of(line)
    return None if found is None else Identity(*found)


def _mark_row(identity: Identity) -> bytes:
    return f",{identity.source},{identity.seq}\n".encode()


# The fields as Alert declares them: the codec writes them in that order.
_alert = re.compile(
    r'\{"house":"[\w-]+","source":"([\w-]+)","boot":(\d+),"seq":(\d+),"timestamp":.*\}', re.ASCII
).fullmatch


def _identify_alert(line: str) -> Identity | None:
    found = _alert(line)
    return None if found is None else Identity(AlertSource(found[1], int(found[2])), int(found[3]))


def _mark_alert(identity: Identity) -> bytes:
    name, boot = cast(AlertSource, identity.source)
    return f'"source":"{name}","boot":{boot},"seq":{identity.seq},'.encode()


ROWS = Form(f"{archive.HEADER}\n".encode(), _identify_row, _mark_row)
ALERTS = Form(b"", _identify_alert, _mark_alert)


def form_of(path: PurePath) -> Form:
    """What the lines of a file look like."""
    return ROWS if path.suffix == ".csv" else ALERTS


def entry_from(path: PurePath, line: bytes) -> Entry:
    """An entry from its line, as `entry_of` made it.

    Raises:
        BadArchiveError: it made no such line.
    """
    form = form_of(path)
    identity = form.identify(line.decode("ascii", errors="replace").rstrip("\n"))
    if identity is None:
        raise BadArchiveError(f"{line[:80]!r} is no line of {path}")
    return Entry(path, form, identity, line)


def is_numbered(message: Message) -> bool:
    """Whether it is a reading whose meter must leave no number out: none that is played again."""
    return isinstance(message, Reading) and not message.historical


def is_covered(message: Message) -> bool:
    """Whether another message carries all that this one says, so that only that one is written."""
    return isinstance(message, MeterReading) and message.has_pv


PLANT_METER = "main"
"""A plant has one meter, as its topic says."""


class Meter(NamedTuple):
    """Whose readings are numbered, from each of its boots on."""

    house: str
    meter: str


def meter_of(reading: Reading) -> Meter:
    """Whose reading it is."""
    return Meter(reading.house, PLANT_METER if isinstance(reading, PlantReading) else reading.meter)


def entry_of(message: Reading | Alert, zone: tzinfo) -> Entry:
    """The line a message becomes, and the file in which it stands.

    Args:
        message: a reading that is written (not `is_covered`), or an alert.
        zone: whose days the files are.

    Raises:
        ContractError: an id or a time that can't become a file's name.
    """
    day = archive.day_of(message.timestamp, zone)
    if isinstance(message, Alert):
        return Entry(
            archive.alerts_file(message.house, day),
            ALERTS,
            Identity(AlertSource(message.source, message.boot), message.seq),
            encode(message) + b"\n",
        )
    meter = PLANT_METER
    pv_w: float | None
    sum_w: float | None
    if isinstance(message, PlantReading):
        meter_w, pv_w = message.consumption_w, message.generation_w
        sum_w = meter_w + message.generation_w
    elif isinstance(message, PvReading):
        meter, meter_w, pv_w, sum_w = message.meter, message.meter_w, message.pv_w, message.sum_w
    else:
        meter, meter_w, pv_w, sum_w = message.meter, message.power_w, None, None
    row = archive.Row(message.timestamp, meter_w, pv_w, sum_w, message.boot, message.seq)
    return Entry(
        archive.day_file(message.house, meter, day, _run_of(message)),
        ROWS,
        Identity(message.boot, message.seq),
        f"{archive.format_row(row)}\n".encode(),
    )


def _run_of(message: Reading) -> str | None:
    if not message.historical:
        return None
    run = UNSET if isinstance(message, PlantReading) else message.run
    return archive.UNNAMED_RUN if run is UNSET else run


class Scan(NamedTuple):
    """What a file holds, as found on the disk."""

    good: bytes
    """Header and well-formed lines, as we would have written them."""
    seen: Seen
    torn: bytes
    """What follows the last line's end: a write that was cut."""
    damaged: int
    """Lines that have an end and yet are none of ours."""


def scan(form: Form, content: bytes) -> Scan:
    """Read a file that a writer left, however it came to its end."""
    whole, end, torn = content.rpartition(b"\n")
    if not end:
        return Scan(b"", {}, content, 0)
    seen: Seen = {}
    # A spreadsheet that saved the file leaves \r\n: its rows are rows nevertheless.
    lines = [line.removesuffix(b"\r") for line in whole.split(b"\n")]
    has_header = bool(form.header) and lines[0] + b"\n" == form.header
    good: list[bytes] = []
    damaged = int(bool(form.header) and not has_header)
    for line in lines[1:] if has_header else lines:
        identity = form.identify(line.decode("ascii", errors="replace"))
        if identity is None:
            damaged += 1
        else:
            mark_seen(seen, identity)
            good.append(line + b"\n")
    return Scan(form.header + b"".join(good), seen, torn, damaged)


class Verdict(Enum):
    """What became of a message."""

    WRITTEN = "it is on the disk"
    DUPLICATE = "it was on the disk already"
    REFUSED = "it contradicts what is on the disk, and will whenever it comes"
    FAILED = "the disk did not take it; nothing of it is there; try again"


class Outcome(NamedTuple):
    """What became of a message, and why if it was not taken."""

    verdict: Verdict
    why: str = ""
    is_conflict: bool = False
    """Refused, for another message with its identity is there."""


WRITTEN = Outcome(Verdict.WRITTEN)
DUPLICATE = Outcome(Verdict.DUPLICATE)


def judge(entries: Sequence[Entry], seen: Seen, read: Callable[[], bytes]) -> list[Outcome]:
    """Which of one file's entries are new, and which it has already.

    Args:
        entries: in the order in which they came.
        seen: what the file has.
        read: gives the file's content; called only when something comes a second time.
    """
    fresh: dict[Identity, bytes] = {}
    content: bytes | None = None
    outcomes: list[Outcome] = []
    for entry in entries:
        if has_seen(seen, entry.identity):
            content = read() if content is None else content
            known = line_with(entry.form.mark(entry.identity), content)
        elif (known := fresh.get(entry.identity, b"")) == b"":
            fresh[entry.identity] = entry.line
            outcomes.append(WRITTEN)
            continue
        outcomes.append(DUPLICATE if known == entry.line else _contradiction(entry, known))
    return outcomes


def line_with(mark: bytes, content: bytes) -> bytes:
    """The last line that has `mark`, with its end; nothing if there is none."""
    at = content.rfind(mark)
    if at < 0:
        return b""
    return content[content.rfind(b"\n", 0, at) + 1 : content.index(b"\n", at) + 1]


def _contradiction(entry: Entry, known: bytes) -> Outcome:
    has, says = (line.decode(errors="replace").rstrip("\n") for line in (known, entry.line))
    return Outcome(
        Verdict.REFUSED,
        f"the same identity with other values: {entry.path} has {has!r}, this says {says!r}; "
        "if the meter lost its boot counter, raise its boot_floor",
        is_conflict=True,
    )
