"""A bus that may not be there yet: until then it is one whose broker is away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from broker.bus import PlanesBus
from broker.connect import open_bus
from broker.errors import BusUnavailableError
from broker.port import Delivery
from contracts.messages import Message, Status
from contracts.topics import Address, Topic
from runtime.clock import Clock
from runtime.metrics import Metric
from runtime.settings import CommonSettings

M = TypeVar("M", bound=Message)

HEAD_START_S = 2.0
"""What the connection gets before the first reading: a wrong URL or password is then all that is said."""


@asynccontextmanager
async def open_late_bus(
    settings: CommonSettings, clock: Clock, *, client: str, presence: Address[Status]
) -> AsyncIterator["LateBus"]:
    """The bus the settings name, connected or not: for a source, which measures without a broker too.

    Raises:
        ExceptionGroup: of what `open_bus` raises, at any time.
    """
    late = LateBus()

    async def connect() -> None:
        async with open_bus(settings, clock, client=client, presence=presence) as bus:
            late.arrive(bus)
            await asyncio.Event().wait()  # until cancelled: then it takes its leave

    async with asyncio.TaskGroup() as group:
        connecting = group.create_task(connect())
        await late.wait(HEAD_START_S)
        yield late
        connecting.cancel()


class LateBus:
    """Stands for the bus before it is connected, so that a source measures from its first second on."""

    def __init__(self) -> None:
        self._bus: asyncio.Future[PlanesBus] = asyncio.get_running_loop().create_future()

    def arrive(self, bus: PlanesBus) -> None:
        """From now on it is this one."""
        self._bus.set_result(bus)

    async def wait(self, seconds: float) -> None:
        """Until it is there, and no longer than that [real s]."""
        await asyncio.wait([self._bus], timeout=seconds)

    @property
    def ailing(self) -> str:
        """Why it can't do its work right now; empty: it does."""
        return self._bus.result().ailing if self._bus.done() else "not connected to a broker yet"

    def metrics(self) -> Iterator[Metric]:
        """What the bus counts, from when it is there."""
        if self._bus.done():
            yield from self._bus.result().metrics()

    async def publish(self, address: Address[M], message: M) -> None:
        await self._now.publish(address, message)

    async def show(self, address: Address[M], message: M) -> None:
        """Before it is there, there is nobody to show it to."""
        if self._bus.done():
            await self._now.show(address, message)

    async def declare(self, *topics: Topic[Any], durable: str) -> None:
        await self._now.declare(*topics, durable=durable)

    @asynccontextmanager
    async def subscribe(
        self, *topics: Topic[Any], durable: str | None = None
    ) -> AsyncIterator[AsyncIterator[Delivery[Any]]]:
        """Waits for the bus: a subscription begins with it."""
        bus = await asyncio.shield(self._bus)
        async with bus.subscribe(*topics, durable=durable) as deliveries:
            yield deliveries

    @property
    def _now(self) -> PlanesBus:
        if not self._bus.done():
            raise BusUnavailableError("not connected to the broker yet")
        return self._bus.result()
