"""One file of a day: judged against, appended to, and whole again after whatever happened."""

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from recorder.disk import ABSENT, AppendFile, Opener, Stamp, stamp_at
from recorder.model import Entry, Form, Outcome, Seen, judge, mark_seen, scan
from runtime.logs import get_log
from runtime.store import sync_folder

SHOWN_MAX = 200
"""So much of a torn line is told in the log [bytes]."""


class DayFile:
    """One day of one meter (or of a house's alerts), and what is known of its content.

    No handle stays open: opening costs 5 microseconds, and with thousands of meters none would be met again.

    Args:
        root: the data folder, which exists.
        path: the file; the folders between are made when they are missing.
        form: what its lines look like.
        opener: how a file is opened.
    """

    def __init__(self, root: Path, path: Path, form: Form, opener: Opener) -> None:
        self._root = root
        self._path = path
        self._form = form
        self._opener = opener
        self._known: Stamp | None = None
        self._seen: Seen = {}
        self._names_synced = False
        self._to_cut = False

    @property
    def seen(self) -> Seen:
        """The identities that the file had when it was last judged or appended to."""
        return self._seen

    def judge(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Which of `entries` the file does not have; it is read only if it is not known.

        Raises:
            OSError: it can't be read, or its end not be mended.
        """
        if self._to_cut or self._known is None or self._known != stamp_at(self._path):
            self._learn()
        return judge(entries, self._seen, self._read)

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries that were judged to be new; the system has them when this returns, not the disk.

        Raises:
            OSError: none of them is there, or none will be once the file is judged against again.
        """
        with self._opener(self._path) as file:
            before = file.stamp()
            if self._known not in (before, ABSENT) or (self._known is ABSENT and before.size):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            header = b"" if before.size else self._form.header
            content = header + b"".join([entry.line for entry in entries])
            self._known = before
            try:
                file.write(content)
            except OSError:
                self._to_cut = True
                with suppress(OSError):  # if the disk won't even do that, it is done before the next append
                    self._cut(file, before)
                raise
            self._known = before._replace(size=before.size + len(content))
        for entry in entries:
            mark_seen(self._seen, entry.identity)

    def sync(self, synced: set[Path]) -> None:
        """Return once the content is on the disk, and the names that lead to it.

        Args:
            synced: the folders synchronised since any file was last born; added to.

        Raises:
            OSError: it may not be there, whatever a second call says: `rewrite` it.
        """
        if stamp_at(self._path) is ABSENT:
            return  # somebody took it away: it is theirs now
        with self._opener(self._path) as file:
            file.sync()
        if not self._names_synced:
            # Every folder with a name in it that may be new; the deepest first.
            folder = self._path
            while folder != self._root:
                folder = folder.parent
                if folder not in synced:
                    sync_folder(folder)
                    synced.add(folder)
            self._names_synced = True

    def rewrite(self) -> None:
        """Put the content on the disk anew: after a failed sync the system takes lost pages for written.

        Raises:
            OSError: the disk does not take that either.
        """
        content = self._read()
        self._replace(content[: content.rfind(b"\n") + 1])
        self._known = None

    def _read(self) -> bytes:
        with self._opener(self._path) as file:
            return file.read()

    def _cut(self, file: AppendFile, known: Stamp) -> None:
        file.cut(known.size)
        file.sync()
        self._to_cut = False

    def _learn(self) -> None:
        """Learn what a file has that was written before, by us or by anybody, and mend its end."""
        found = stamp_at(self._path)
        if self._to_cut and self._known is not None and found[:2] == self._known[:2]:
            with self._opener(self._path) as file:
                self._cut(file, self._known)
            return
        self._to_cut = self._names_synced = False
        self._known, self._seen = None, {}
        if found is not ABSENT:
            self._mend()
        self._known = stamp_at(self._path)

    def _mend(self) -> None:
        content = self._read()
        found = scan(self._form, content)
        if found.good + found.torn != content:
            self._repair(found.good, found.damaged)
        elif found.torn:
            with self._opener(self._path) as file:
                file.cut(len(found.good))
                file.sync()
            get_log("recorder").warning(
                "torn line cut", file=str(self._path), line=repr(found.torn[:SHOWN_MAX])
            )
        self._seen = found.seen

    def _repair(self, good: bytes, damaged: int) -> None:
        """Keep the file as it was found under another name, and go on with its good lines."""
        aside = _free_name(self._path)
        aside.hardlink_to(self._path)
        self._replace(good)
        get_log("recorder").error(
            "file repaired: somebody else wrote to it, or the disk did",
            file=str(self._path),
            lines_left_out=damaged,
            kept_as=aside.name,
        )

    def _replace(self, content: bytes) -> None:
        scratch = self._path.with_name(f"{self._path.name}.new")
        scratch.unlink(missing_ok=True)
        with self._opener(scratch) as copy:
            copy.write(content)
            copy.sync()
        scratch.replace(self._path)
        sync_folder(self._path.parent)


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside
