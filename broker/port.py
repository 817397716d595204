"""The port: all that a service knows of the bus."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Protocol, TypeVar

from broker.transport import Incoming
from contracts.messages import Message
from contracts.topics import Address, Topic

M = TypeVar("M", bound=Message)


class Rejecter(Protocol):
    """Puts away what a consumer can't use."""

    async def put(self, incoming: Incoming, reason: str) -> None:
        """Keep it with the reason, then acknowledge it."""


class Delivery(Generic[M]):
    """One message as it arrived; acknowledged by the consumer once its effect is durable."""

    __slots__ = ("_incoming", "_rejecter", "address", "message")

    def __init__(self, address: Address[M], message: M, incoming: Incoming, rejecter: Rejecter) -> None:
        self.address = address
        self.message = message
        self._incoming = incoming
        self._rejecter = rejecter

    @property
    def retained(self) -> bool:
        """Whether it is the state from before the subscription, not news."""
        return self._incoming.retained

    async def ack(self) -> None:
        """Say that the message has had its effect; it will not come again."""
        await self._incoming.ack()

    async def reject(self, reason: str) -> None:
        """Put the message into quarantine; it will not come again."""
        await self._rejecter.put(self._incoming, reason)


class Bus(Protocol):
    """Typed messages to and from addresses; delivered as the topic's class says."""

    async def publish(self, address: Address[M], message: M) -> None:
        """Publish; returns when the broker has it (LIVE: when it is on its way).

        Raises:
            BusError: it is not known to be there; a reading may be published again, and is then
                told apart by its identity.
        """

    async def show(self, address: Address[M], message: M) -> None:
        """Show a reading now to those who only look, before the readings plane has it; `publish` does so too.

        Nothing is shown twice, nothing that is old, and nothing here where one broker serves both planes.
        That it can't be shown is counted, and loses nothing.
        """

    def subscribe(
        self, *topics: Topic[Any], durable: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery[Any]]]:
        """What arrives on these topics, from when the context is entered until it is left.

        Args:
            topics: what to hear.
            durable: the name of a durable queue on the readings plane, whose messages wait while
                nobody reads and come again until acknowledged; None hears the live plane.
        """

    async def declare(self, *topics: Topic[Any], durable: str) -> None:
        """Make sure that a durable queue keeps these topics from now on, before its reader has come."""


class Outlet(Protocol):
    """What a pipe needs of a bus, and no more."""

    async def publish(self, address: Address[Any], message: Any) -> None:  # noqa: ANN401 - of any kind
        """See `Bus.publish`."""

    async def show(self, address: Address[Any], message: Any) -> None:  # noqa: ANN401 - of any kind
        """See `Bus.show`."""
