"""What a transport is: bytes to and from named places, delivered by class. It knows nothing of energy."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from contracts.topics import DeliveryClass

LIVE_QUEUE_MAX = 10_000
LIVE_BYTES_MAX = 64 << 20
"""A live subscriber that lags by more messages, or by more bytes of payload, loses the oldest, counted."""


class Outgoing(NamedTuple):
    """A payload on its way out."""

    name: str
    """The address, such as `wattbus/house-a/meter/main/reading`."""
    payload: bytes
    delivery: DeliveryClass
    expires_s: float | None = None
    """The broker may drop it after that many seconds."""
    is_news: bool = True
    """A reading that is none is kept, but not shown to those who only look, where the broker can tell."""


class Filter(NamedTuple):
    """Which names to hear (`+` one level, a last `#` the rest), and how they are delivered."""

    pattern: str
    delivery: DeliveryClass


class Incoming(Protocol):
    """A payload that arrived."""

    name: str
    payload: bytes
    retained: bool
    buried: str
    """Why the broker has given it up, so that it must not be tried again; empty for all others."""

    async def ack(self) -> None:
        """Never send it again."""


class Transport(Protocol):
    """One connection to one broker."""

    keeps_state: bool
    """Whether a new subscriber, with a wildcard too, is sent the last STATE by the broker."""

    @property
    def connected(self) -> bool:
        """Whether the broker is there right now."""

    @property
    def dropped(self) -> int:
        """LIVE messages that could not be sent, or that a subscriber was too slow for."""

    async def publish(self, out: Outgoing) -> None:
        """Hand over to the broker, as the class says.

        Raises:
            BusError: not handed over, or not known to be.
        """

    def subscribe(
        self, filters: tuple[Filter, ...], durable: str | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Incoming]]:
        """What arrives. Entering means bound; leaving releases, and what was not acknowledged comes again."""

    async def declare(self, filters: tuple[Filter, ...], durable: str) -> None:
        """Make a durable queue exist and keep these names, where the broker can."""


def matches(pattern: str, name: str) -> bool:
    """Whether an MQTT topic filter takes a name."""
    wanted = pattern.split("/")
    levels = name.split("/")
    for i, want in enumerate(wanted):
        if want == "#":
            return True
        if i >= len(levels) or want not in ("+", levels[i]):
            return False
    return len(wanted) == len(levels)
