"""The day files follow the journal: a few of them a second are synchronised, then it is cut."""

from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path, PurePath

from recorder.files import DayFile
from recorder.journal import Journal
from runtime.clock import SystemClock
from runtime.logs import get_log

ROUND_S = 30.0
"""A round over the files begins so long after the last one began, or when that has ended."""
SYNCS_PER_S = 50
"""Of files and of folders: a new file costs three or so, and readings wait meanwhile."""
CLOSING_S = 8.0
"""A recorder that is stopped leaves what takes longer to the journal: the next one reads it."""


class Follower:
    """Which files have lines that stand in the journal, and are not known to be on the disk.

    A round takes the files that have grown so far, and begins a new segment of the journal; when all of them
    are synchronised, the segments before are dropped. A file that still fails when the round should be over
    holds up none of them: its lines go on into the new segment, and it is in the next round.

    Args:
        journal: whose segments are dropped.
        mend: makes a file whole again whose sync has failed.
    """

    def __init__(self, journal: Journal, mend: Callable[[PurePath, DayFile], None]) -> None:
        self._journal = journal
        self._mend = mend
        self._grown: dict[PurePath, DayFile] = {}
        self._round: dict[PurePath, DayFile] = {}
        self._failed: set[PurePath] = set()
        """Of the round."""
        self._in_round = False
        self._began_s: float | None = None
        self._last_s: float | None = None
        self._disk_clock = SystemClock()
        """Whatever clock the services run on, a disk takes real time."""

    @property
    def behind(self) -> int:
        """How many files have lines that only the journal is known to have on the disk."""
        return len(self._round.keys() | self._grown.keys())

    def has_grown(self, path: PurePath, day: DayFile) -> None:
        """Say that a file has lines that are not synchronised."""
        self._grown[path] = day

    def follow(self, now_s: float) -> None:
        """Synchronise some files, if it is time for it.

        Args:
            now_s: of a clock that only moves forward [s].
        """
        if self._last_s is not None and now_s - self._last_s < 1.0:
            return
        self._last_s = now_s
        if not self._in_round and (self._began_s is None or now_s - self._began_s >= ROUND_S):
            self._began_s = now_s
            self._begin_round()
        self._sync(SYNCS_PER_S)
        is_over = self._began_s is not None and now_s - self._began_s >= ROUND_S
        if self._in_round and is_over and self._round.keys() <= self._failed:
            self._end_round()

    def finish(self) -> None:
        """Synchronise what is left and let go of the journal, if that does not take too long."""
        until_s = self._disk_clock.monotonic() + CLOSING_S
        self._sync(until_s=until_s)
        if not self._in_round:
            self._begin_round()
            self._sync(until_s=until_s)
        if self.behind:
            what = "stopped: the journal keeps the rows of some files"
            get_log("recorder").warning(what, files=self.behind)

    def _begin_round(self) -> None:
        self._in_round = True
        self._round, self._grown = self._grown, {}
        self._failed.clear()
        self._journal.begin_segment()

    def _sync(self, syncs_max: float = inf, until_s: float = inf) -> None:
        """Go on with the round, by a file at least; one that fails is tried again behind all others."""
        synced: set[Path] = set()
        for files, path in enumerate(list(self._round), start=1):
            day = self._round.pop(path)
            if not self._is_synced(path, day, synced):
                self._round[path] = day
                self._failed.add(path)
            if files + len(synced) >= syncs_max or self._disk_clock.monotonic() >= until_s:
                break
        if self._in_round and not self._round:
            self._end_round()

    def _end_round(self) -> None:
        with suppress(OSError):  # what is still there then goes with the next
            if self._round:
                self._journal.carry(self._round.keys())
            self._journal.drop_old()
        self._grown = {**self._round, **self._grown}
        self._round = {}
        self._in_round = False

    def _is_synced(self, path: PurePath, day: DayFile, synced: set[Path]) -> bool:
        try:
            day.sync(synced)
        except OSError as error:
            what = "sync failed: the file is written anew"
            get_log("recorder").warning(what, file=str(path), why=str(error))
            return self._is_mended(path, day)
        return True

    def _is_mended(self, path: PurePath, day: DayFile) -> bool:
        try:
            self._mend(path, day)
        except OSError as error:
            what = "not synchronised: the journal keeps its lines"
            get_log("recorder").error(what, file=str(path), why=str(error))
            return False
        return True
