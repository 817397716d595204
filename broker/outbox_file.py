"""The outbox on the disk: an SQLite file of the messages that the broker is not known to have."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from runtime.errors import StoreError
from runtime.store import sync_folder

VERSION = 1
CACHE_KIB = 64
"""Of pages; rows are read once, in their order."""

_SETTINGS = (
    "locking_mode=EXCLUSIVE",  # two processes with one identity would number their readings alike
    "auto_vacuum=INCREMENTAL",
    "journal_mode=WAL",
    "synchronous=FULL",
    "journal_size_limit=4194304",
    f"cache_size=-{CACHE_KIB}",
)
_TABLES = (
    "CREATE TABLE IF NOT EXISTS waiting (number INTEGER PRIMARY KEY, topic TEXT, payload BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS unreadable (topic TEXT, payload BLOB NOT NULL)",
    f"PRAGMA user_version={VERSION}",
)
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BESIDE = ("", "-wal", "-shm")


class Row(NamedTuple):
    """One message; rows leave in the order of their numbers."""

    number: int
    topic: str
    payload: bytes


class OutboxDiskError(StoreError):
    """The disk does not take it: nothing of it is there, try again."""


class OutboxDamagedError(StoreError):
    """The file is no longer what was written to it."""


class OutboxFile:
    """One file, of one process. Its calls block, and are made one after the other, from any thread.

    Args:
        path: made, with its folder, if it is not there; moved aside if it is damaged.

    Raises:
        StoreError: another process has it open, a later wattbus wrote it, or the folder can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.aside: Path | None = None
        """Where a damaged file was moved when this one was opened."""
        self.rows = self.bytes = self.first = self.last = 0
        """How many messages wait, how large they were at first, the lowest number or less, the highest."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path}: can't be written: {error.strerror}") from error
        try:
            self._open()
        except OutboxDamagedError:
            self.renew()

    def write(self, rows: Iterable[Row], gone_to: int) -> None:
        """Keep rows and let go of all up to a number; both are on the disk when this returns.

        Raises:
            OutboxDiskError: the disk is full or fails; nothing has changed.
            OutboxDamagedError: the file is damaged: `renew` it.
        """
        with self._translated(), self._transaction():
            gone = self._database.execute("DELETE FROM waiting WHERE number <= ?", (gone_to,)).rowcount
            kept = self._database.executemany("INSERT INTO waiting VALUES (?, ?, ?)", rows).rowcount
        self.rows += max(kept, 0) - gone
        self.first = max(self.first, gone_to + 1)
        if gone and not self.rows:
            self._give_space_back()

    def read(self, after: int, limit: int) -> list[Row]:
        """The first rows with a higher number than `after`."""
        with self._translated():
            found = self._database.execute(
                "SELECT number, topic, payload FROM waiting WHERE number > ? ORDER BY number LIMIT ?",
                (after, limit),
            )
            return [Row(*row) for row in found]

    def set_aside(self, number: int) -> None:
        """Keep a row that can't be read where it no longer stands in the way."""
        with self._translated(), self._transaction():
            self._database.execute(
                "INSERT INTO unreadable SELECT topic, payload FROM waiting WHERE number = ?", (number,)
            )
            self.rows -= self._database.execute("DELETE FROM waiting WHERE number = ?", (number,)).rowcount

    def renew(self) -> None:
        """Move the file aside, and begin an empty one."""
        if hasattr(self, "_database"):
            self._database.close()
        aside = self._free_name()
        try:
            for suffix in _BESIDE:
                part = Path(f"{self.path}{suffix}")
                if part.exists():
                    part.rename(f"{aside}{suffix}")
            sync_folder(self.path.parent)
        except OSError as error:
            raise StoreError(f"{self.path}: damaged, and can't be moved aside: {error.strerror}") from error
        self.aside = aside
        self._open()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _open(self) -> None:
        with self._translated():
            self._database = sqlite3.connect(
                self.path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=8
            )
            try:
                self._begin()
            except BaseException:
                self._database.close()
                raise

    def _begin(self) -> None:
        def first(question: str) -> tuple[int | str, ...]:
            answer: tuple[int | str, ...] = self._database.execute(question).fetchone()
            return answer

        for setting in _SETTINGS:
            self._database.execute(f"PRAGMA {setting}")
        if (first("PRAGMA user_version")[0]) not in (0, VERSION):
            raise StoreError(f"{self.path}: a later wattbus wrote it: use that one until it is empty")
        found = first("PRAGMA quick_check(1)")[0]
        if found != "ok":
            raise OutboxDamagedError(f"{self.path}: {found}")
        for statement in _TABLES:
            self._database.execute(statement)
        sync_folder(self.path.parent)
        rows, size, low, high = first(
            "SELECT count(*), ifnull(sum(length(payload)), 0), ifnull(min(number), 1), ifnull(max(number), 0)"
            " FROM waiting"
        )
        self.rows, self.bytes, self.first, self.last = int(rows), int(size), int(low), int(high)

    def _free_name(self) -> Path:
        numbers = range(1, 1_000_000)
        names = (self.path.with_name(f"{self.path.stem}.damaged-{n}{self.path.suffix}") for n in numbers)
        return next(name for name in names if not name.exists())

    def _give_space_back(self) -> None:
        """A file that an outage has made large becomes small again; nothing is lost if it does not."""
        try:
            self._database.executescript("PRAGMA incremental_vacuum")  # `execute` would give back one page
        except sqlite3.OperationalError:
            return

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _DAMAGED:
                raise OutboxDamagedError(f"{self.path}: {error}") from error
            if code == sqlite3.SQLITE_BUSY:
                raise StoreError(
                    f"{self.path}: another process publishes for this source: stop one of the two"
                ) from error
            raise OutboxDiskError(f"{self.path}: {error}") from error
