"""Files, read twice: once to know them, so that a bad one is left out whole, and once to play them."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from contracts.errors import BadArchiveError
from recorder.replay.find import Source
from recorder.replay.model import Roster, Row, Stream
from recorder.replay.rows import ROWS, Reading, Selection
from recorder.replay.sorting import in_order


class Found(NamedTuple):
    """A file that can be read, and what is selected of it."""

    source: Source
    rows: int
    first_ms: int
    last_ms: int
    in_order: bool
    step_ms: int | None
    """The usual interval, where energies must be divided by it."""
    torn: str
    """What to say of its last line, if that is cut short."""


class Reader:
    """Reads files alike each time.

    Args:
        selection: what of them.
        roster: numbers their meters.
    """

    def __init__(self, selection: Selection, roster: Roster) -> None:
        self._selection = selection
        self._roster = roster

    def look(self, source: Source, file: int, stopping: Callable[[], bool]) -> Found | None:
        """Read a file to its end; None if nothing of it is selected.

        Args:
            source: the file.
            file: its number.
            stopping: asked now and then.

        Raises:
            BadArchiveError: it can't be read; file and line are named.
            StoppedError: it was told to stop.
        """
        noted: Counter[str] = Counter()
        reading = Reading(self._selection, self._roster, source, file, None, noted)
        count = first_ms = last_ms = 0
        for count, row in enumerate(reading.rows(stopping), start=1):
            if count == 1:
                first_ms = last_ms = row.at_ms
            elif row.at_ms > last_ms:
                last_ms = row.at_ms
            elif row.at_ms < first_ms:
                first_ms = row.at_ms
        if not count:
            if reading.torn or not noted[ROWS]:
                raise BadArchiveError(reading.torn or f"{source.path}:2: no rows")
            return None
        step_ms = reading.usual_step_ms()
        return Found(source, count, first_ms, last_ms, reading.in_order, step_ms, reading.torn)

    def stream(
        self,
        found: Found,
        file: int,
        noted: Counter[str],
        fault: Callable[[str], None],
        stopping: Callable[[], bool],
    ) -> Stream:
        """The rows of a file in order of time.

        Args:
            found: the file.
            file: its number.
            noted: counts what is read, left out and decided.
            fault: told if the file has become unreadable since it was looked at.
            stopping: asked now and then; the rows then end with a StoppedError.
        """

        def rows() -> Iterator[Row]:
            reading = Reading(self._selection, self._roster, found.source, file, found.step_ms, noted)
            read = reading.rows(stopping)
            try:
                yield from read if found.in_order else in_order(read)
            except BadArchiveError as error:
                fault(str(error))
            except OSError as error:
                fault(f"{found.source.path}: can't be put in order of time: {error.strerror}")

        return Stream(found.first_ms, rows)
