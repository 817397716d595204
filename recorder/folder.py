"""The data folder: fixed to one timezone, written by one recorder, and whole after every crash."""

import fcntl
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path, PurePath
from typing import NamedTuple

import msgspec

from contracts.errors import BadArchiveError
from recorder.disk import AppendFile, Opener
from recorder.files import DayFile
from recorder.follow import Follower
from recorder.journal import Journal, Line
from recorder.model import Entry, Outcome, Seen, Verdict, entry_from, form_of, merge_seen
from runtime.errors import StoreError, UsageError
from runtime.store import Store, sync_folder

KNOWN_MAX = 20_000
"""Files whose identities are kept in memory, about 1 kB each; another one is read again when it is needed."""
REMEMBERED_MAX = 10
"""At most so many of a meter's files say which of its numbers are there."""


class Fixed(msgspec.Struct, frozen=True):
    """What is fixed for a data folder."""

    day_timezone: str
    """Once and for all."""
    boot: int = 0
    """How often a recorder has begun to write to it."""


class _Group(NamedTuple):
    """The entries of one file in a batch, and what became of them."""

    path: PurePath
    day: DayFile | None
    entries: list[Entry]
    outcomes: list[Outcome]

    @property
    def fresh(self) -> list[Entry]:
        pairs = zip(self.entries, self.outcomes, strict=True)
        return [entry for entry, outcome in pairs if outcome.verdict is Verdict.WRITTEN]

    def failed(self, where: object, error: OSError) -> "_Group":
        why = f"{where}: {error.strerror or error}"
        return self._replace(outcomes=[Outcome(Verdict.FAILED, why)] * len(self.entries))


class DataFolder:
    """Writes entries to their files; blocking, one call at a time.

    Args:
        root: the folder, which exists.
        opener: how a file is opened.
        boot: the number of this recorder's life.

    Raises:
        OSError: what a former recorder left in the journal can't be brought into its files.
        BadArchiveError: it left a journal of another format.
    """

    def __init__(self, root: Path, opener: Opener = AppendFile, boot: int = 1) -> None:
        self.boot = boot
        self._root = root
        self._opener = opener
        self._days: OrderedDict[PurePath, DayFile] = OrderedDict()
        self._names: dict[str, dict[str, str]] = {}
        """What is in a folder, by its path below the root: each name by its lower case."""
        self._journal = Journal(root, opener)
        self._follower = Follower(self._journal, self._mend)
        for lines in self._journal.read():
            self._recover(lines)

    @property
    def behind(self) -> int:
        """How many files have lines that only the journal is known to have on the disk."""
        return self._follower.behind

    def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        """What became of each entry; what is WRITTEN or a DUPLICATE is safe on return, and can be read."""
        places: dict[PurePath, list[int]] = {}
        for i, entry in enumerate(entries):
            places.setdefault(entry.path, []).append(i)
        groups = [self._judge(path, [entries[i] for i in at]) for path, at in places.items()]
        outcomes: dict[int, Outcome] = {}
        for group in self._write(groups):
            outcomes.update(zip(places[group.path], group.outcomes, strict=True))
        return [outcomes[i] for i in range(len(entries))]

    def follow(self, now_s: float) -> None:
        """Let some of the files follow the journal, if it is time for it; to be called after each `write`."""
        self._follower.follow(now_s)

    def recorded(self, path: PurePath) -> Seen:
        """The numbers of a meter that its files have, from the day before that of `path` on.

        Raises:
            OSError: they can't be read.
        """
        meter = path.parent
        names = sorted(file.name for file in (self._root / meter).glob(f"{meter.name}_*.csv"))
        before = [name for name in names if name < path.name]
        seen: Seen = {}
        for name in [*before[-1:], *names[len(before) :]][-REMEMBERED_MAX:]:
            day = self._day(meter / name)
            day.judge([])
            merge_seen(seen, day.seen)
        return seen

    def close(self) -> None:
        """Synchronise what is left, if that does not take too long; the journal has it all."""
        self._follower.finish()
        self._journal.close()

    def _judge(self, path: PurePath, entries: list[Entry]) -> _Group:
        day = self._days.get(path)
        if day is None:
            if (twin := self._case_twin(path)) is not None:
                return _Group(path, None, entries, [Outcome(Verdict.REFUSED, twin)] * len(entries))
            day = self._day(path)
        self._days.move_to_end(path)
        group = _Group(path, day, entries, [])
        try:
            return group._replace(outcomes=day.judge(entries))
        except OSError as error:
            return group.failed(path, error)

    def _write(self, groups: list[_Group]) -> Iterator[_Group]:
        """Put what is new into the journal, and then into its files."""
        lines = [Line(entry.path, entry.line) for group in groups for entry in group.fresh]
        try:
            if lines:
                self._journal.append(lines)
        except OSError as error:
            yield from (group.failed("journal", error) if group.fresh else group for group in groups)
            return
        for group in groups:
            try:
                self._append(group.path, group.day, group.fresh)
            except OSError as error:
                yield group.failed(group.path, error)
            else:
                yield group

    def _append(self, path: PurePath, day: DayFile | None, fresh: Sequence[Entry]) -> None:
        if day is not None and fresh:
            day.append(fresh)
            self._follower.has_grown(path, day)

    def _day(self, path: PurePath) -> DayFile:
        day = self._days.get(path)
        if day is None:
            day = self._days[path] = DayFile(self._root, self._root / path, form_of(path), self._opener)
        while len(self._days) > KNOWN_MAX:
            self._days.popitem(last=False)
        return day

    def _recover(self, lines: Iterable[Line]) -> None:
        """Bring lines of the journal into their files, where they are missing."""
        entries: dict[PurePath, list[Entry]] = {}
        for path, line in lines:
            entries.setdefault(path, []).append(entry_from(path, line))
        for path, those in entries.items():
            day = self._day(path)
            group = _Group(path, day, those, day.judge(those))
            self._append(path, day, group.fresh)
            self._follower.has_grown(path, day)

    def _mend(self, path: PurePath, day: DayFile) -> None:
        """Put a file on the disk anew, with all that the journal has for it."""
        day.rewrite()
        for lines in self._journal.read():
            self._recover(line for line in lines if line.path == path)
        self._day(path).sync(set())

    def _case_twin(self, path: PurePath) -> str | None:
        """What to say if a folder on the way has a name that differs from another's only in case."""
        where = ""
        for name in path.parts[:-1]:
            names = self._names.get(where)
            if names is None:
                names = self._names[where] = _names_in(self._root / where)
            twin = names.setdefault(name.lower(), name)
            if twin != name:
                return f"{name!r} differs only in case from {twin!r}, which is recorded: rename one"
            where += f"{name}/"
        return None


@contextmanager
def open_data_folder(root: Path, day_timezone: str, opener: Opener = AppendFile) -> Iterator[DataFolder]:
    """The data folder, made if it is missing, whole, and ours alone until the context is left.

    Raises:
        UsageError: its days are of another timezone, or another recorder writes to it.
        StoreError: it can't be made, read or written.
    """
    lock = _lock(root)
    try:
        store = Store(root / "archive.json", Fixed, Fixed(day_timezone))
        fixed = store.load()
        if fixed.day_timezone != day_timezone:
            raise UsageError(
                f"{root}: its files are days of {fixed.day_timezone}, not of {day_timezone}: "
                f"give --day-timezone {fixed.day_timezone}, or another --data-dir"
            )
        # Stored before its first use: two lives of a recorder never share an identity.
        fixed = Fixed(day_timezone, fixed.boot + 1)
        store.save(fixed)
        try:
            folder = DataFolder(root, opener, fixed.boot)
        except OSError as error:
            raise StoreError(
                f"{root}: what the last recorder left in the journal can't be written ({error.strerror}): "
                "make room, or mend the folder"
            ) from error
        except BadArchiveError as error:
            raise StoreError(
                f"{error}: it is left as it is, rows may stand in it alone: start and stop the recorder that "
                "wrote it, or move it away if none did"
            ) from error
        with closing(folder):
            yield folder
    finally:
        os.close(lock)


def _lock(root: Path) -> int:
    try:
        missing = [folder for folder in (root, *root.parents) if not folder.exists()]
        root.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)
        lock = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(f"{root}: can't be written ({error.strerror}): give another --data-dir") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise UsageError(
            f"{root}: another recorder writes to it: stop that one, or give another --data-dir"
        ) from error
    return lock


def _names_in(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        return {}
    return {item.name.lower(): item.name for item in folder.iterdir() if item.is_dir()}
