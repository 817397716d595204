"""A bus that may not be there yet: until then it is one whose broker is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from broker.errors import BusUnavailableError
from broker.port import Bus, Delivery
from contracts.messages import Message
from contracts.topics import Address, Topic

M = TypeVar("M", bound=Message)


class LateBus:
    """Stands for the bus before it is connected, so that a source measures from its first second on."""

    def __init__(self) -> None:
        self._bus: asyncio.Future[Bus] = asyncio.get_running_loop().create_future()

    def arrive(self, bus: Bus) -> None:
        """From now on it is this one."""
        self._bus.set_result(bus)

    async def wait(self, seconds: float) -> None:
        """Until it is there, and no longer than that [real s]."""
        await asyncio.wait([self._bus], timeout=seconds)

    async def publish(self, address: Address[M], message: M) -> None:
        await self._now.publish(address, message)

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
    def _now(self) -> Bus:
        if not self._bus.done():
            raise BusUnavailableError("not connected to the broker yet")
        return self._bus.result()
