"""Publishes rows at their times, each until the broker has it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from broker.pipe import Parcel, Pipe
from broker.port import Bus
from contracts import topics
from contracts.instant import Instant
from contracts.topics import Address
from recorder.replay.model import Ledger, Messages, Row, Scribe, merge, rebase_ms
from recorder.replay.rows import StoppedError
from recorder.replay.survey import Survey
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log

PROMPT_S = 0.002
"""A row that is due sooner is not waited for [s]."""
ROWS_AHEAD = 500
"""Rows that are read at once; the others stay in their files."""


class _Together:
    """The bus as the pipe sees it: the messages of one row are published as one, in their order."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def publish(self, _address: Address[Any], messages: Messages) -> None:
        for address, message in messages:
            await self._bus.publish(address, message)

    async def show(self, _address: Address[Any], messages: Messages) -> None:
        for address, message in messages:
            await self._bus.show(address, message)


class ReplayService:
    """One replay: a pass through the rows, or one after the other.

    Args:
        survey: what there is to replay.
        bus: where it goes.
        clock: what the speed is measured by.
        life: ends it between two rows.
        speed: times real time; None: as fast as the bus takes it.
        loop: begin again at the end, until stopped.
        rebase: move the times to today.
        fault: told of a file that has become unreadable.
    """

    def __init__(
        self,
        survey: Survey,
        bus: Bus,
        clock: Clock,
        life: Lifecycle,
        *,
        speed: float | None,
        loop: bool,
        rebase: bool,
        fault: Callable[[str], None],
    ) -> None:
        self.survey = survey
        self._bus = bus
        self._clock = clock
        self._life = life
        self._speed = speed
        self._loop = loop
        self._rebase = rebase
        self._fault = fault
        self._pipe = Pipe(_Together(bus), clock, life, get_log("replay"), self._confirmed, self._declare)
        self._ended = False
        self.published = 0
        """Readings that the bus has: a row that tells of PV makes two."""
        self.noted: Counter[str] = Counter()
        """What was read, left out and decided, by the words of the summary."""
        self.passes = 0
        self.played = 0
        """Rows handed to the pipe, of all passes."""
        self.played_of_pass = 0
        self.first: Instant | None = None
        """The time of the first row played."""
        self.last: Instant | None = None
        """And of the last."""

    @property
    def waiting(self) -> int:
        """Rows that the bus is not known to have."""
        return len(self._pipe)

    async def run(self) -> None:
        """Play until the end, or until stopped; what was begun is published.

        Raises:
            BusRefusedError: the broker says no, and trying again does not change it.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pipe.run())
                await self._play_pass()
                while self._loop and self.played_of_pass and not self._life.stopping:
                    await self._play_pass()
                self._pipe.close()
        finally:
            self._ended = True

    async def _play_pass(self) -> None:
        self.passes += 1
        self.played_of_pass = 0
        survey = self.survey
        shift_ms = 0
        if self._rebase:
            shift_ms = rebase_ms(survey.first_ms, survey.last_ms, self._clock.now())
        scribe = Scribe(survey.meters, survey.run, self.passes, shift_ms)
        rows = self._rows()
        ahead = await self._read(rows)
        begin_s = self._clock.monotonic()
        while ahead:
            for row in ahead:
                if self._speed is not None:
                    await self._wait(begin_s + (row.at_ms - survey.first_ms) / 1000 / self._speed)
                if self._life.stopping:
                    return
                await self._publish(scribe, row)
            ahead = await self._read(rows)

    def _rows(self) -> Iterator[Row]:
        """Those that count, in order of time."""
        reader = self.survey.reader
        streams = [
            reader.stream(found, number, self.noted, self._fault, lambda: self._life.stopping or self._ended)
            for number, found in enumerate(self.survey.found)
        ]
        return filter(Ledger(self.noted).accepts, merge(streams))

    async def _read(self, rows: Iterator[Row]) -> list[Row]:
        """The next rows, read in a thread: a file that is put in order first holds up nobody else."""
        try:
            return await asyncio.get_running_loop().run_in_executor(None, list, islice(rows, ROWS_AHEAD))
        except StoppedError:
            return []

    async def _wait(self, due_s: float) -> None:
        left_s = due_s - self._clock.monotonic()
        if left_s > PROMPT_S:
            with suppress(TimeoutError):
                async with self._clock.timeout(left_s):
                    await self._life.wait()

    async def _publish(self, scribe: Scribe, row: Row) -> None:
        await self._pipe.room()
        messages = scribe.messages(row)
        self.played += 1
        self.played_of_pass += 1
        address, reading = messages[0]
        self._pipe.put(Parcel(self.played, address, messages))
        self.last = reading.timestamp
        self.first = self.first or self.last

    async def _confirmed(self, parcel: Parcel) -> None:
        self.published += len(parcel.message)

    async def _declare(self) -> None:
        """Whoever records them later finds them: the queue exists before the first reading."""
        await self._bus.declare(topics.METER_READING, topics.PV_READING, durable=topics.RECORDER)
