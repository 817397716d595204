"""The data folder: fixed to one timezone, written by one recorder, with few of its files open at a time."""

import fcntl
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePath

import msgspec

from recorder.files import AppendFile, DayFile, Opener
from recorder.model import Entry, Outcome, Verdict
from runtime.errors import StoreError, UsageError
from runtime.store import Store, sync_folder

KNOWN_MAX = 20_000
"""Files whose identities are kept in memory, about 1 kB each; another one is read again when it is needed."""


class Fixed(msgspec.Struct, frozen=True):
    """What is fixed once for a data folder."""

    day_timezone: str


class DataFolder:
    """Writes entries to their files; blocking, one call at a time.

    Args:
        root: the folder, which exists.
        open_files_max: files held open, at most.
        opener: how a file is opened.
    """

    def __init__(self, root: Path, open_files_max: int, opener: Opener = AppendFile) -> None:
        self._root = root
        self._open_files_max = open_files_max
        self._opener = opener
        self._days: OrderedDict[PurePath, DayFile] = OrderedDict()
        self._open: OrderedDict[PurePath, DayFile] = OrderedDict()
        self._names: dict[PurePath, dict[str, str]] = {}

    def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        """What became of each entry; what is WRITTEN or a DUPLICATE is on the disk when this returns."""
        places: dict[PurePath, list[int]] = {}
        for i, entry in enumerate(entries):
            places.setdefault(entry.path, []).append(i)
        outcomes: dict[int, Outcome] = {}
        paths = iter(places)
        while chunk := list(islice(paths, self._open_files_max)):
            for path, those in self._write_files([[entries[i] for i in places[path]] for path in chunk]):
                outcomes.update(zip(places[path], those, strict=True))
        return [outcomes[i] for i in range(len(entries))]

    def close(self) -> None:
        """Close every file."""
        for day in self._open.values():
            day.close()
        self._open.clear()

    def _write_files(self, groups: list[list[Entry]]) -> Iterator[tuple[PurePath, list[Outcome]]]:
        """Append to each file, then synchronise them one after the other: the disk does more at once."""
        appended: list[tuple[DayFile, list[Entry], list[Outcome]]] = []
        for group in groups:
            path = group[0].path
            day = self._day(path, group[0])
            try:
                if (twin := self._case_twin(path)) is not None:
                    yield path, [Outcome(Verdict.REFUSED, twin)] * len(group)
                else:
                    appended.append((day, group, day.append(group)))
            except OSError as error:
                day.roll_back()
                yield path, _failed(group, error)
        synced: set[Path] = set()
        for day, group, outcomes in appended:
            try:
                day.commit(synced)
            except OSError as error:
                day.roll_back()
                yield group[0].path, _failed(group, error)
            else:
                yield group[0].path, outcomes

    def _day(self, path: PurePath, entry: Entry) -> DayFile:
        day = self._days.get(path)
        if day is None:
            day = self._days[path] = DayFile(self._root, self._root / path, entry.form, self._opener)
        self._days.move_to_end(path)
        self._open[path] = day
        self._open.move_to_end(path)
        while len(self._open) > self._open_files_max:
            self._open.popitem(last=False)[1].close()
        while len(self._days) > KNOWN_MAX:
            oldest, known = self._days.popitem(last=False)
            known.close()
            self._open.pop(oldest, None)
        return day

    def _case_twin(self, path: PurePath) -> str | None:
        """What to say if a folder on the way has a name that differs from another's only in case."""
        for folder in reversed(path.parents[:-1]):
            names = self._names.get(folder.parent)
            if names is None:
                names = self._names[folder.parent] = _names_in(self._root / folder.parent)
            twin = names.setdefault(folder.name.lower(), folder.name)
            if twin != folder.name:
                return f"{folder.name!r} differs only in case from {twin!r}, which is recorded: rename one"
        return None


@contextmanager
def open_data_folder(
    root: Path, day_timezone: str, open_files_max: int, opener: Opener = AppendFile
) -> Iterator[DataFolder]:
    """The data folder, made if it is missing, and ours alone until the context is left.

    Raises:
        UsageError: its days are of another timezone, or another recorder writes to it.
        StoreError: it can't be made or written.
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
        store.save(fixed)
        folder = DataFolder(root, open_files_max, opener)
        try:
            yield folder
        finally:
            folder.close()
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


def _failed(group: Sequence[Entry], error: OSError) -> list[Outcome]:
    what = error.strerror or str(error)
    return [Outcome(Verdict.FAILED, f"{group[0].path}: {what}")] * len(group)
