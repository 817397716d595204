"""A pipe to the broker: readings published in order, many on their way at once, each until it is there."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from typing import Any, NamedTuple

from broker.errors import BusUnavailableError, NotRoutedError
from broker.port import Outlet
from contracts.topics import Address
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import Log

IN_FLIGHT_MAX = 100
"""RabbitMQ confirms 3,600 a second with so many on their way, and 970 one by one; MQTT takes 20 of them."""
RETRY_FIRST_S, RETRY_MAX_S = 0.1, 0.5
"""Real seconds between two attempts while the broker is away; without a connection one costs nothing."""
UNSHOWN_MAX = 100
"""New ones that wait to be shown; of more the oldest is not."""
SAY_AGAIN_S = 60.0
"""A broker that comes and goes is not told of more often [s]."""


class Parcel(NamedTuple):
    """A message on its way; parcels go in the order of their numbers."""

    number: int
    address: Address[Any]
    message: Any


async def _nothing() -> None:
    pass


class Pipe:
    """What shall be at the broker, and is not known to be.

    While the broker is away one parcel alone is tried, the first; then all go again, in their order. What
    was on its way then may arrive twice, and in another order than before. New ones are shown meanwhile to
    those who only look.

    Args:
        bus: where it leads.
        clock: waits between two attempts.
        life: a service that is stopped waits for no broker.
        log: says when the broker is away, and when it is back.
        confirmed: told of each parcel that the broker has.
        prepare: what must have been done before the first parcel, such as declaring its queue.
    """

    def __init__(
        self,
        bus: Outlet,
        clock: Clock,
        life: Lifecycle,
        log: Log,
        confirmed: Callable[[Parcel], Awaitable[None]],
        prepare: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._life = life
        self._log = log
        self._confirmed = confirmed
        self._prepare = prepare
        self._unconfirmed: dict[int, Parcel] = {}
        self._ready: list[Parcel] = []
        self._unshown: deque[Parcel] = deque(maxlen=UNSHOWN_MAX)
        self._some_unshown = asyncio.Event()
        self._in_flight = 0
        self._away = False
        self._pause_s = RETRY_FIRST_S
        self._said_s: float | None = None
        self._closed = False
        self._moved = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self.published = 0

    def __len__(self) -> int:
        """How many parcels the broker is not known to have."""
        return len(self._unconfirmed)

    @property
    def parcels(self) -> list[Parcel]:
        """Those that the broker is not known to have, in their order."""
        return list(self._unconfirmed.values())

    @property
    def first(self) -> Parcel | None:
        """The first of them."""
        return next(iter(self._unconfirmed.values()), None)

    def put(self, parcel: Parcel) -> None:
        """Take a parcel, whose number is higher than all before."""
        self._unconfirmed[parcel.number] = parcel
        heappush(self._ready, parcel)
        if self._away:
            self.show(parcel)
        if len(self) >= IN_FLIGHT_MAX:
            self._has_room.clear()
        self._moved.set()

    def show(self, parcel: Parcel) -> None:
        """Have it shown now: it has to wait for its turn."""
        self._unshown.append(parcel)
        self._some_unshown.set()

    async def room(self) -> None:
        """Wait until not all that may be on its way is; or until the pipe has ended."""
        await self._has_room.wait()

    def close(self) -> None:
        """No more will come: `run` ends with the last one."""
        self._closed = True
        self._moved.set()

    async def run(self) -> None:
        """Publish until closed and all are there, or until stopped without a broker.

        Raises:
            BusRefusedError: the broker says no, and trying again does not change it.
        """
        try:
            async with asyncio.TaskGroup() as showing:
                shower = showing.create_task(self._show())
                if await self._is_prepared():
                    await self._publish()
                shower.cancel()
        finally:
            self._has_room.set()

    async def _publish(self) -> None:
        async with asyncio.TaskGroup() as group:
            while (parcel := await self._next()) is not None:
                self._in_flight += 1
                group.create_task(self._send(parcel))

    async def _show(self) -> None:
        while True:
            await self._some_unshown.wait()
            self._some_unshown.clear()
            while self._unshown:
                parcel = self._unshown.popleft()
                await self._bus.show(parcel.address, parcel.message)

    async def _is_prepared(self) -> bool:
        while True:
            try:
                await self._prepare()
            except BusUnavailableError as error:
                self._lose(error)
            else:
                self._find_again()
                return True
            if self._life.stopping:
                return False
            await self._rest()

    async def _next(self) -> Parcel | None:
        while not self._ready or self._in_flight >= (1 if self._away else IN_FLIGHT_MAX):
            if self._closed and not self._unconfirmed:
                return None
            self._moved.clear()
            await self._moved.wait()
        if self._away:
            if self._life.stopping:
                return None
            await self._rest()
        return heappop(self._ready)

    async def _rest(self) -> None:
        await self._clock.sleep(self._pause_s * self._clock.speed)
        self._pause_s = min(2 * self._pause_s, RETRY_MAX_S)

    async def _send(self, parcel: Parcel) -> None:
        is_probe = self._away
        try:
            await self._bus.publish(parcel.address, parcel.message)
        except (BusUnavailableError, NotRoutedError) as error:
            heappush(self._ready, parcel)
            self._lose(error)
        else:
            self.published += 1
            del self._unconfirmed[parcel.number]
            if len(self) < IN_FLIGHT_MAX:
                self._has_room.set()
            if is_probe:
                self._find_again()
            await self._confirmed(parcel)
        finally:
            self._in_flight -= 1
            self._moved.set()

    def _lose(self, error: Exception) -> None:
        now_s = self._clock.monotonic()
        if not self._away and (self._said_s is None or now_s - self._said_s >= SAY_AGAIN_S):
            self._said_s = now_s
            what = "readings wait for the broker" if self._unconfirmed else "the broker is away"
            self._log.warning(what, waiting=len(self), why=str(error))
        self._away = True

    def _find_again(self) -> None:
        if self._away and self._said_s is not None:
            self._log.info("broker is back", waiting=len(self))
        self._away = False
        self._pause_s = RETRY_FIRST_S
