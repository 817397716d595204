"""Keeps on the disk what the broker does not confirm soon, and feeds the pipe from there in order."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from broker.outbox_file import OutboxDamagedError, OutboxDiskError, OutboxFile, Row
from broker.pipe import IN_FLIGHT_MAX, Parcel, Pipe
from contracts import topics
from contracts.codec import decode_at, encode
from contracts.errors import ContractError
from contracts.topics import Address
from runtime.clock import Clock
from runtime.logs import Log

COMMIT_ROWS = 100
COMMIT_S = 0.2
"""So long [real s] a message that is not confirmed waits for others to be written with."""
WRITE_MAX = 1000
"""Rows of one transaction, at most."""
IN_MEMORY_MAX = 150
"""Messages in the pipe; the others wait on the disk alone, so that an outage takes no memory."""
DISK_RETRY_S = 1.0

T = TypeVar("T")


class Keeper:
    """Between the outbox, its file and its pipe.

    What the broker confirms at once never touches the disk. Everything else is there within `COMMIT_S`,
    and leaves it after its confirm. The file is used by one thread at a time.

    Args:
        file: the outbox on the disk.
        pipe: leads to the broker.
        clock: paces the commits.
        log: has what goes wrong.
        alarm: told (name, text) of what somebody should know.
    """

    def __init__(
        self, file: OutboxFile, pipe: Pipe, clock: Clock, log: Log, alarm: Callable[[str, str], None]
    ) -> None:
        self._file = file
        self._pipe = pipe
        self._clock = clock
        self._log = log
        self._alarm = alarm
        self.unkept: dict[int, Row] = {}
        """Neither on the disk nor confirmed; every number on the disk is lower than these."""
        self.behind = file.rows
        """Accepted, but not in the pipe yet."""
        self.failing = ""
        """Why the disk does not take what waits; empty when it does."""
        self._piped_to = file.first - 1
        self._closed = False
        self._some = asyncio.Event()
        self._now = asyncio.Event()
        self._note()

    def put(self, parcel: Parcel, payload: bytes) -> None:
        """Take a message: into the pipe, or behind all that waits on the disk."""
        self.unkept[parcel.number] = Row(parcel.number, parcel.address.name, payload)
        if self.behind or len(self._pipe) >= IN_MEMORY_MAX:
            self.behind += 1
            self._pipe.show(parcel)
        else:
            self._pipe.put(parcel)
            self._piped_to = parcel.number
        self._note()

    def confirmed(self, number: int) -> None:
        """The broker has that message."""
        self.unkept.pop(number, None)
        self._note()

    def close(self) -> None:
        """Nothing more will come."""
        self._closed = True
        self._note()

    async def run(self) -> None:
        """Write, delete and read until closed; the last is written by `finish`."""
        while not self._closed:
            await self._some.wait()
            if not self._now.is_set():
                with suppress(TimeoutError):
                    async with self._clock.timeout(COMMIT_S * self._clock.speed):
                        await self._now.wait()
            await self._step()
            if self.failing and not self._closed:
                await self._clock.sleep(DISK_RETRY_S * self._clock.speed)
            self._note()

    def finish(self) -> None:
        """Write what is left, and close the file; blocks for one commit."""
        try:
            self._file.write(list(self.unkept.values()), self._gone_to)
            self.unkept.clear()
        except (OutboxDiskError, OutboxDamagedError) as error:
            self._log.error(
                "readings lost: the disk did not take them", count=len(self.unkept), why=str(error)
            )
        if left := self.behind + len(self._pipe):
            self._log.warning("readings stay in the outbox for the next start", count=left)
        self._file.close()

    async def _step(self) -> None:
        try:
            trouble = await self._attempt(self._write)
            if self._is_hungry:
                trouble = await self._attempt(self._feed) or trouble
        except OutboxDamagedError as error:
            await self._renew(error)
            return
        if trouble and not self.failing:
            self._alarm("outbox-disk", f"readings are kept in memory alone: {trouble}")
        if self.failing and not trouble:
            self._log.info("the outbox is written again")
        self.failing = trouble

    async def _attempt(self, step: Callable[[], Awaitable[None]]) -> str:
        """Do it; returns why the disk did not let us, or nothing."""
        try:
            await step()
        except OutboxDiskError as error:
            return str(error)
        return ""

    async def _write(self) -> None:
        rows = list(islice(self.unkept.values(), WRITE_MAX))
        gone_to = self._gone_to
        if rows or self._is_gone(gone_to):
            await self._in_thread(lambda: self._file.write(rows, gone_to))
            for row in rows:
                self.unkept.pop(row.number, None)

    async def _feed(self) -> None:
        """Put the next messages into the pipe: first those on the disk, then those on their way there."""
        after, wanted = self._piped_to, self._wanted
        rows = await self._in_thread(lambda: self._file.read(after, wanted))
        for row in rows:
            await self._pipe_row(row)
        self.behind -= len(rows)
        if len(rows) < wanted:
            self._feed_from_memory(wanted - len(rows))

    def _feed_from_memory(self, wanted: int) -> None:
        """None on the disk is left that is not in the pipe."""
        found = [row for row in self.unkept.values() if row.number > self._piped_to]
        for row in found[:wanted]:
            self._put(row, _message_of(row))
        self.behind = len(found) - min(wanted, len(found))

    async def _pipe_row(self, row: Row) -> None:
        try:
            self._put(row, _message_of(row))
        except ContractError as error:
            self._piped_to = row.number
            await self._in_thread(lambda: self._file.set_aside(row.number))
            why = f"{row.topic} can't be published and stays in {self._file.path}, table unreadable: {error}"
            self._alarm("outbox-unreadable", why)

    def _put(self, row: Row, message: Any) -> None:  # noqa: ANN401 - a reading of any kind
        self._pipe.put(Parcel(row.number, _address_of(row.topic), message))
        self._piped_to = row.number

    async def _renew(self, damage: OutboxDamagedError) -> None:
        """Go on with an empty file; what memory has of the old one is written again."""
        lost = self.behind - sum(number > self._piped_to for number in self.unkept)
        await self._in_thread(self._file.renew)
        held = {p.number: Row(p.number, p.address.name, encode(p.message)) for p in self._pipe.parcels}
        self.unkept = {**held, **self.unkept}
        self.behind -= lost
        where = f"{damage}: moved to {self._file.aside} with {lost} readings that are not published"
        self._alarm("outbox-damaged", where)

    @property
    def _gone_to(self) -> int:
        """All up to this number need not be on the disk any more."""
        first = self._pipe.first
        return self._piped_to if first is None else first.number - 1

    def _is_gone(self, gone_to: int) -> bool:
        return self._file.rows > 0 and gone_to >= self._file.first

    @property
    def _is_hungry(self) -> bool:
        return bool(self.behind) and len(self._pipe) < IN_FLIGHT_MAX and not self._closed

    @property
    def _wanted(self) -> int:
        return IN_MEMORY_MAX - len(self._pipe)

    def _note(self) -> None:
        now = self._closed or len(self.unkept) >= COMMIT_ROWS or self._is_hungry
        for event, holds in (
            (self._some, now or bool(self.unkept) or self._is_gone(self._gone_to)),
            (self._now, now),
        ):
            if holds:
                event.set()
            else:
                event.clear()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        job = asyncio.get_running_loop().run_in_executor(None, work)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job])  # the file must not be closed under the thread that writes it
            raise


@lru_cache(maxsize=64)
def _address_of(topic: str) -> Address[Any]:
    address = topics.find(topic)
    if address is None:
        raise ContractError(f"{topic!r} is no topic")
    return address


def _message_of(row: Row) -> Any:  # noqa: ANN401 - a reading of any kind
    return decode_at(_address_of(row.topic), row.payload)
