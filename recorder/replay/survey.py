"""What there is to replay: files found and looked at, their meters, their span, and a name for the run."""

import hashlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

from contracts.errors import BadArchiveError
from contracts.ids import refuse_case_twins
from contracts.instant import Instant
from recorder.replay.find import Source, find_files, source_of
from recorder.replay.model import DAY_MS, Roster
from recorder.replay.options import Options
from recorder.replay.reader import Found, Reader
from recorder.replay.rows import Selection
from runtime.errors import UsageError

EPOCH = date(1970, 1, 1)
SAMPLE_BYTES = 4096
NAME_DIGITS = 8


class Survey(NamedTuple):
    """What there is to replay."""

    reader: Reader
    found: list[Found]
    meters: list[tuple[str, str]]
    run: str
    rows: int

    @property
    def first_ms(self) -> int:
        """The first row's time."""
        return min(found.first_ms for found in self.found)

    @property
    def last_ms(self) -> int:
        """The last row's time."""
        return max(found.last_ms for found in self.found)


def survey(options: Options, seed: int, fault: Callable[[str], None], stopping: Callable[[], bool]) -> Survey:
    """Find the files and look at each; blocking, and it takes a while.

    Args:
        options: which, and what of them.
        seed: another one is another run.
        fault: told of each file that is left out, and why.
        stopping: asked now and then.

    Raises:
        UsageError: nothing to replay, or a file that tells no house and several are given.
        StoppedError: it was told to stop.
        BadIdError: two houses differ only in case.
    """
    missing: list[str] = []
    files = find_files(options.paths, missing)
    for text in missing:
        fault(text)
    roster = Roster()
    houses, meters = frozenset(options.houses), frozenset(options.meters)
    selection = Selection(options.columns, options.zone, houses, meters, options.since_ms, options.until_ms)
    reader = Reader(selection, roster)
    found: list[Found] = []
    for path in files:
        try:
            source = _source(path, options)
            one = None if source is None else reader.look(source, len(found), stopping)
        except BadArchiveError as error:
            fault(str(error))
            continue
        if one is not None:
            found.append(one)
            if one.torn:
                fault(one.torn)
    if not found:
        raise UsageError("nothing to replay: no row of these files is selected")
    refuse_case_twins(sorted({house for house, _ in roster.meters}), "house")
    run = options.run or _name(found, options, seed)
    return Survey(reader, found, list(roster.meters), run, sum(one.rows for one in found))


def _source(path: Path, options: Options) -> Source | None:
    """Whose rows a file holds; None if it tells by where it stands that they are not wanted."""
    house = options.houses[0] if len(options.houses) == 1 else None
    meter = options.meters[0] if len(options.meters) == 1 else None
    source = source_of(path, house, meter)
    if source.day is None:
        return source
    is_wanted = (
        (not options.houses or source.house in options.houses)
        and (not options.meters or source.meter in options.meters)
        and _may_hold(source.day, options.since_ms, options.until_ms)
    )
    return source if is_wanted else None


def _may_hold(day: date, since_ms: int, until_ms: int) -> bool:
    """Whether a day of whatever timezone has something of the time asked for."""
    begin_ms = (day - EPOCH).days * DAY_MS
    return since_ms < begin_ms + 2 * DAY_MS and begin_ms - DAY_MS < until_ms


def _name(found: list[Found], options: Options, seed: int) -> str:
    """The same for the same rows, wherever they stand: its first day, and digits of what is played."""
    digest = hashlib.sha256(f"{options.essence}/{options.rebase}/{seed}".encode())
    for one in found:
        digest.update(repr((one.source[1:], one.rows, one.first_ms, one.last_ms)).encode())
        digest.update(_sample(one.source.path))
    return f"{Instant.at_ms(min(one.first_ms for one in found)).date()}-{digest.hexdigest()[:NAME_DIGITS]}"


def _sample(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(SAMPLE_BYTES)
        file.seek(max(0, path.stat().st_size - SAMPLE_BYTES))
        return head + file.read(SAMPLE_BYTES)
