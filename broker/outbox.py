"""The outbox of one source: each message stays in it until the broker has it, over outages and restarts."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from broker.outbox_file import OutboxFile
from broker.outbox_keeper import Keeper
from broker.pipe import Parcel, Pipe
from broker.port import Bus
from contracts.codec import encode
from contracts.instant import Instant
from contracts.topics import Address
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import Log
from runtime.metrics import Metric, counter, gauge

UNKEPT_MAX = 10_000
"""Readings kept in memory while the disk does not take them."""

Alarm = Callable[[str, str], None]


class Limits(NamedTuple):
    """How much may wait for the broker; what comes then is refused, counted and alarmed."""

    rows: int = 1_000_000
    """Eleven days at one a second."""
    bytes: int = 256 << 20
    """Of their payloads."""
    age_s: float | None = None
    """Of the oldest [s]; None: however old."""


IN_MEMORY = Limits(rows=100_000)
"""Without a file: eleven days at one every 10 s."""


async def _nothing() -> None:
    pass


class Outbox:
    """The messages of one source that the broker does not have yet.

    With a file, each is on the disk or confirmed by the broker 200 ms after it was added, and what waits
    takes no memory; without one, all wait in memory.

    Args:
        address: where readings go.
        bus: through which.
        clock: paces attempts and commits.
        life: a service that is stopped waits for no broker.
        log: says when the broker is away, when it is back, and what was refused.
        file: keeps what waits over a restart; the outbox closes it.
        limits: how much may wait.
        alarm: told (name, text) of what somebody should know; it may `post` an alert.
        prepare: what must be done before the first message, such as declaring its queue.
    """

    def __init__(
        self,
        address: Address[Any],
        bus: Bus,
        clock: Clock,
        life: Lifecycle,
        log: Log,
        *,
        file: OutboxFile | None = None,
        limits: Limits | None = None,
        alarm: Alarm | None = None,
        prepare: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        self._address = address
        self._clock = clock
        self._log = log
        self._tell = alarm
        self._limits = limits or (IN_MEMORY if file is None else Limits())
        self._pipe = Pipe(bus, clock, life, log, self._confirmed, prepare)
        self._number = 0 if file is None else file.last
        self._bytes = 0 if file is None else file.bytes
        self._keeper = None if file is None else Keeper(file, self._pipe, clock, log, self._alarm)
        self._file = file
        self._closed = asyncio.Event()
        self._is_refusing = False
        self.refused = 0
        """Readings that could not be kept: their numbers are missing for good."""

    @property
    def published(self) -> int:
        """Messages the broker has taken."""
        return self._pipe.published

    @property
    def waiting(self) -> int:
        """Messages accepted, and not known to be at the broker."""
        return len(self._pipe) + (0 if self._keeper is None else self._keeper.behind)

    def metrics(self) -> Iterator[Metric]:
        """What it counts, for Prometheus."""
        waiting = "Readings and alerts the broker does not have yet."
        yield gauge("wattbus_outbox_messages", waiting, self.waiting)
        yield counter("wattbus_confirmed", "Readings and alerts the broker has.", self.published)
        lost = "Readings that could not be kept: their numbers are missing for good."
        yield counter("wattbus_refused", lost, self.refused)

    def add(self, reading: Any) -> bool:  # noqa: ANN401 - a reading of any kind
        """Take a reading, whether a broker is there or not; False if it is refused."""
        why = self._why_not(reading.timestamp)
        if why:
            self.refused += 1
            if not self._is_refusing:
                self._is_refusing = True
                self._alarm("outbox-full", f"readings are refused from seq {reading.seq} on: {why}")
            return False
        if self._is_refusing:
            self._is_refusing = False
            self._alarm(
                "outbox-gap", f"readings up to seq {reading.seq - 1} are missing, {self.refused} in all"
            )
        self.post(self._address, reading)
        return True

    def post(self, address: Address[Any], message: Any) -> None:  # noqa: ANN401 - a message of any kind
        """Take a message whatever the limits say, such as the alert that tells of them."""
        self._number += 1
        parcel = Parcel(self._number, address, message)
        if self._keeper is None:
            self._pipe.put(parcel)
            return
        payload = encode(message)
        self._bytes += len(payload)
        self._keeper.put(parcel, payload)

    def close(self) -> None:
        """No more will come: `publish` ends with the last one."""
        self._closed.set()
        self._pipe.close()
        if self._keeper is not None:
            self._keeper.close()

    async def publish(self) -> None:
        """Publish until closed and all are there, or until stopped without a broker.

        With a file, what does not fit into memory then stays for the next start.

        Raises:
            BusRefusedError: the broker says no, and trying again does not change it.
        """
        if self._keeper is None:
            await self._pipe.run()
            if len(self._pipe):
                self._log.error("stopped with readings unpublished", count=len(self._pipe))
            return
        self._tell_of_the_past()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keeper.run())
                await self._pipe.run()
                await self._closed.wait()  # what comes until then is kept, if not published
        finally:
            self._keeper.finish()

    async def _confirmed(self, parcel: Parcel) -> None:
        if self._keeper is not None:
            self._bytes -= len(encode(parcel.message))
            self._keeper.confirmed(parcel.number)

    def _why_not(self, now: Instant) -> str:
        """Why no more can be kept, or nothing."""
        limits = self._limits
        if self.waiting >= limits.rows:
            return f"{self.waiting} wait for the broker"
        if self._bytes >= limits.bytes:
            return f"{self._bytes >> 20} MiB wait for the broker"
        if self._keeper is not None and len(self._keeper.unkept) >= UNKEPT_MAX:
            return f"{UNKEPT_MAX} wait for the disk: {self._keeper.failing or 'it does not answer'}"
        first = self._pipe.first
        if limits.age_s is not None and first is not None:
            age_s = now.seconds_since(first.message.timestamp)
            if age_s > limits.age_s:
                return f"the broker has been away for {age_s / 86400:.1f} days"
        return ""

    def _alarm(self, name: str, text: str) -> None:
        self._log.error(text)
        if self._tell is not None:
            self._tell(name, text)

    def _tell_of_the_past(self) -> None:
        if self._file is not None and self._file.aside is not None:
            text = (
                f"{self._file.path} was damaged: moved to {self._file.aside}, what is in it is not published"
            )
            self._alarm("outbox-damaged", text)
        if self.waiting:
            self._log.info("readings wait in the outbox", count=self.waiting)
