"""One file of a day on the disk: appended to, synchronised, and whole again after whatever happened."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from recorder.model import Entry, Form, Outcome, Seen, Verdict, judge, mark_seen, scan
from runtime.logs import get_log
from runtime.store import sync_folder

SHOWN_MAX = 200
"""So much of a torn line is told in the log [bytes]."""


class Stamp(NamedTuple):
    """By which a file is known again: another one, or another's writing, differs in it."""

    device: int
    inode: int
    size: int


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp in what the system says of a file."""
    return Stamp(status.st_dev, status.st_ino, status.st_size)


class AppendFile:
    """A file that only grows at its end; the system's, with nothing held back in this process."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def read(self) -> bytes:
        """All of it."""
        pieces: list[bytes] = []
        at = 0
        while piece := os.pread(self._handle, 1 << 20, at):
            pieces.append(piece)
            at += len(piece)
        return b"".join(pieces)

    def write(self, content: bytes) -> None:
        """Put `content` at the end; after an error some of it may be there."""
        left = memoryview(content)
        while left:
            left = left[os.write(self._handle, left) :]

    def cut(self, size: int) -> None:
        """Drop what is past the first `size` bytes."""
        os.ftruncate(self._handle, size)

    def sync(self) -> None:
        """Return once the content is on the disk."""
        os.fsync(self._handle)

    def stamp(self) -> Stamp:
        """By which it is known again."""
        return stamp_of(os.fstat(self._handle))

    def close(self) -> None:
        """Give the handle back."""
        os.close(self._handle)


Opener = Callable[[Path], AppendFile]


class DayFile:
    """One day of one meter (or of a house's alerts), and what is known of its content.

    Either an append and its commit succeed, or `roll_back` leaves the file as it was before.

    Args:
        root: the data folder, which exists.
        path: the file; the folders between are made when they are missing.
        form: what its lines look like.
        opener: how a file is opened.
    """

    def __init__(self, root: Path, path: Path, form: Form, opener: Opener) -> None:
        self._path = path
        self._form = form
        self._opener = opener
        # Every folder with a name in it that may be new; the deepest first.
        self._folders = [path.parent, *(p for p in path.parent.parents if p == root or root in p.parents)]
        self._file: AppendFile | None = None
        self._known: Stamp | None = None
        self._seen: Seen = {}
        self._names_synced = False
        self._to_cut = False
        self._fresh: list[Entry] = []

    def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Write what is new of `entries`; it counts only once `commit` has returned.

        Raises:
            OSError: call `roll_back`.
        """
        file = self._open()
        outcomes = judge(entries, self._seen, file.read)
        pairs = zip(entries, outcomes, strict=True)
        self._fresh = [entry for entry, outcome in pairs if outcome.verdict is Verdict.WRITTEN]
        if self._fresh:
            header = b"" if file.stamp().size else self._form.header
            self._to_cut = True
            file.write(header + b"".join(entry.line for entry in self._fresh))
        return outcomes

    def commit(self, synced: set[Path]) -> None:
        """Make what was appended durable, and the names that lead to it.

        Args:
            synced: the folders synchronised since the last append to any file; added to.

        Raises:
            OSError: call `roll_back`.
        """
        file = self._open_file()
        if self._fresh:
            file.sync()
        if not self._names_synced:
            for folder in self._folders:
                if folder not in synced:
                    sync_folder(folder)
                    synced.add(folder)
            self._names_synced = True
        for entry in self._fresh:
            mark_seen(self._seen, entry.identity)
        self._fresh = []
        self._to_cut = False
        self._known = file.stamp()

    def roll_back(self) -> None:
        """Take back what was appended; if the disk won't even do that, it is done before the next append."""
        self._fresh = []
        if self._file is not None and self._known is not None and self._to_cut:
            with suppress(OSError):
                self._cut_to(self._file, self._known)
        self.close()

    def close(self) -> None:
        """Give the handle back; what is known of the content stays known."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # everything that counts is synchronised already
                file.close()

    def _open_file(self) -> AppendFile:
        if self._file is None:
            raise FileNotFoundError(f"{self._path} is not open")
        return self._file

    def _open(self) -> AppendFile:
        """The file, its end where we left it, and its content known."""
        if self._file is not None and not self._is_in_place():
            self.close()
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._opener(self._path)
            stamp = self._file.stamp()
            if self._to_cut and self._known is not None and stamp[:2] == self._known[:2]:
                self._cut_to(self._file, self._known)
            elif stamp != self._known:
                self._file = self._recover(self._file)
        return self._file

    def _is_in_place(self) -> bool:
        """Whether the path still leads to the file in hand, and nobody else has written to it."""
        try:
            return stamp_of(self._path.stat()) == self._known
        except FileNotFoundError:
            return False

    def _cut_to(self, file: AppendFile, known: Stamp) -> None:
        file.cut(known.size)
        file.sync()
        self._to_cut = False

    def _recover(self, file: AppendFile) -> AppendFile:
        """Learn what a file has that was written before, by us or by anybody, and mend its end."""
        self._known, self._seen = None, {}
        self._names_synced = self._to_cut = False
        content = file.read()
        found = scan(self._form, content)
        if found.good + found.torn != content:
            file = self._repair(found.good, found.damaged)
        elif found.torn:
            file.cut(len(found.good))
            get_log("recorder").warning(
                "torn line cut", file=str(self._path), line=repr(found.torn[:SHOWN_MAX])
            )
        if content:
            # What a killed process wrote can be read, but need not be on the disk yet.
            file.sync()
        self._seen = found.seen
        self._known = file.stamp()
        return file

    def _repair(self, good: bytes, damaged: int) -> AppendFile:
        """Keep the file as it was found under another name, and go on with its good lines."""
        scratch = self._path.with_name(f"{self._path.name}.new")
        scratch.unlink(missing_ok=True)
        copy = self._opener(scratch)
        try:
            copy.write(good)
            copy.sync()
        finally:
            copy.close()
        aside = _free_name(self._path)
        aside.hardlink_to(self._path)
        scratch.replace(self._path)
        sync_folder(self._path.parent)
        get_log("recorder").error(
            "file repaired: somebody else wrote to it, or the disk did",
            file=str(self._path),
            lines_left_out=damaged,
            kept_as=aside.name,
        )
        self.close()
        self._file = self._opener(self._path)
        return self._file


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside
