"""Publishing beside the control loop: a broker that is slow or away never holds up a tick."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from broker.errors import BusError
from broker.port import Bus
from contracts.messages import Alert, Message
from contracts.topics import ALERT, Address
from runtime.clock import Clock
from runtime.logs import Log

PUBLISH_WITHIN_S = 5.0
"""Of the machine's own time."""
ALERTS_MAX = 10_000
RETRY_MIN_S, RETRY_MAX_S = 1.0, 60.0

Posting = tuple[Address[Any], Message]


class Sender:
    """Of each key, such as a DER, one posting is on its way and one waits; a newer one takes its place."""

    def __init__(self, bus: Bus, clock: Clock, log: Log) -> None:
        self._bus = bus
        self._clock = clock
        self._log = log
        self._waiting: dict[object, Sequence[Posting]] = {}
        self._tasks: dict[object, asyncio.Task[None]] = {}
        self._since_s: dict[object, float] = {}
        self.busy = asyncio.Event()
        """Set while anything is on its way."""
        self.unsent = 0
        """Postings the broker did not take."""
        self.superseded = 0
        """Postings that were never sent, because a newer one came first."""

    def send(self, key: object, postings: Sequence[Posting]) -> None:
        """Publish these one after the other, as soon as nothing else of this key is on its way."""
        if key in self._waiting:
            self.superseded += 1
        self._waiting[key] = postings
        if key not in self._tasks:
            self._start(key)

    def _start(self, key: object) -> None:
        self._since_s[key] = self._clock.monotonic()
        self._tasks[key] = asyncio.create_task(self._run(key))
        self.busy.set()

    async def _run(self, key: object) -> None:
        try:
            while (postings := self._waiting.pop(key, None)) is not None:
                self._since_s[key] = self._clock.monotonic()
                for address, message in postings:
                    await self._bus.publish(address, message)
        except BusError as error:
            # The next tick brings a newer one; meanwhile the DERs go to their safe state by themselves.
            self.unsent += 1
            self._log.warning("not published", what=str(key), why=str(error))
        finally:
            del self._tasks[key], self._since_s[key]
            if key in self._waiting:
                self._start(key)
            elif not self._tasks:
                self.busy.clear()

    def give_up(self) -> None:
        """Drop what the broker has not confirmed in time, for newer ones to follow; called every second."""
        late_s = self._clock.monotonic() - PUBLISH_WITHIN_S * self._clock.speed
        for key, since_s in list(self._since_s.items()):
            if since_s <= late_s:
                self.unsent += 1
                self._log.warning("not published", what=str(key), why="no confirmation in time")
                self._tasks[key].cancel()

    async def idle(self) -> None:
        """Wait until nothing is on its way."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def close(self) -> None:
        """Wait a little for what is on its way; what waits behind it is not sent."""
        self._waiting.clear()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=PUBLISH_WITHIN_S / 2)
        left = list(self._tasks.values())
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)


class AlertPost:
    """Alerts, one after the other, each tried until the broker has it."""

    def __init__(self, bus: Bus, clock: Clock, log: Log) -> None:
        self._bus = bus
        self._clock = clock
        self._log = log
        self._queue: deque[Alert] = deque()
        self._task: asyncio.Task[None] | None = None
        self.lost = 0
        """Alerts given up: too many were waiting, or the service ended first."""

    def post(self, alert: Alert) -> None:
        """Have it published; if too many wait, the oldest is given up."""
        if len(self._queue) >= ALERTS_MAX:
            self._lose(self._queue.popleft())
        self._queue.append(alert)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def _lose(self, alert: Alert) -> None:
        self.lost += 1
        self._log.error("alert given up", house=alert.house, alert=alert.text)

    async def _run(self) -> None:
        pause_s = RETRY_MIN_S
        while self._queue:
            alert = self._queue[0]
            try:
                await self._bus.publish(ALERT.at(house=alert.house, source=alert.source), alert)
            except BusError as error:
                self._log.warning("alert not published yet", house=alert.house, why=str(error))
                await self._clock.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)
                continue
            pause_s = RETRY_MIN_S
            if self._queue and self._queue[0] is alert:
                self._queue.popleft()

    async def close(self) -> None:
        """Publish what waits if the broker takes it at once; the log has the rest."""
        if self._task is None or self._task.done():
            return
        await asyncio.wait([self._task], timeout=PUBLISH_WITHIN_S / 2)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        while self._queue:
            self._lose(self._queue.popleft())
