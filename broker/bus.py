"""The typed bus over two planes of bytes: codec, routing by class, quarantine, states on request."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from broker.counts import BusCounts
from broker.errors import BusError
from broker.port import Delivery
from broker.quarantine import Quarantine
from broker.transport import Filter, Incoming, Outgoing, Transport, matches
from contracts import topics
from contracts.codec import decode_at, encode
from contracts.errors import ContractError
from contracts.instant import Instant
from contracts.messages import Alert, Message, StateRequest
from contracts.topics import Address, DeliveryClass, Topic
from runtime.clock import Clock
from runtime.logs import get_log
from runtime.metrics import Metric, counter, counters, gauge

M = TypeVar("M", bound=Message)

NEWS_S = 30.0
"""An older reading says nothing of how things are now."""
_UNKEPT_MAX = 100
"""Messages that wait for the quarantine's disk; with more, nothing else is read meanwhile."""
_KEEP_AGAIN_S = 1.0
_ADDRESSES_MAX = 100_000
"""Names that are remembered; a hostile flood of names clears the memory, never fills it."""
_REASON_MAX = 500
"""Letters of a reason: it may quote what was sent."""
_SHOWN_MAX = 10_000
"""Readings remembered as shown: those that are published again because no confirm has come."""


class PlanesBus:
    """A `Bus` over a readings plane and a live plane, which may be one and the same transport."""

    def __init__(
        self, readings: Transport, live: Transport, clock: Clock, *, client: str, quarantine: Quarantine
    ) -> None:
        self._readings = readings
        self._live = live
        self._clock = clock
        self._client = client
        self._quarantine = quarantine
        # On the live plane the next message replaces a bad one: it is logged and counted.
        self._refusals = Quarantine(None, clock)
        self._log = get_log("broker")
        self._states: dict[str, Outgoing] = {}
        self._told: dict[str, Instant] = {}
        self._shown: dict[tuple[str, int, int], None] = {}
        self._answering: asyncio.Task[None] | None = None
        self._answering_begins = asyncio.Lock()
        self._open = AsyncExitStack()
        self.counts = BusCounts(clock)
        self.not_shown = 0
        """Readings that could not be shown on the live plane."""

    @property
    def connected(self) -> bool:
        """Whether both brokers are there right now."""
        return self._readings.connected and self._live.connected

    @property
    def refused(self) -> int:
        """Messages put into quarantine."""
        return self._quarantine.count + self._refusals.count

    @property
    def ailing(self) -> str:
        """Why it can't do its work right now; empty: it does."""
        return "" if self.connected else "a broker is away"

    def metrics(self) -> Iterator[Metric]:
        """What it counts, for Prometheus."""
        yield gauge("wattbus_connected", "1: both brokers are there; 0: one is away.", self.connected)
        yield from self.counts.metrics()
        refused = {"readings": self._quarantine.count, "live": self._refusals.count}
        rejected = "Messages that could not be read or used, by plane; those of the readings are kept."
        yield counters("wattbus_rejected", rejected, "plane", refused)
        dropped = {"live": self._live.dropped}
        if self._readings is not self._live:
            dropped["readings"] = self._readings.dropped
        late = "LIVE messages that could not be sent, came unasked, or faster than they were read."
        yield counters("wattbus_dropped", late, "plane", dropped)
        shown = "Readings that are safe, but could not be shown on the live plane."
        yield counter("wattbus_not_shown", shown, self.not_shown)

    async def publish(self, address: Address[M], message: M) -> None:
        delivery = address.topic.delivery
        out = Outgoing(address.name, encode(message), delivery, self._expiry_s(message, delivery))
        match delivery:
            case DeliveryClass.READING:
                await self.show(address, message)
                is_news = self._is_one_plane and self._is_news(address.name, message)
                await self._readings.publish(out._replace(is_news=is_news))
            case DeliveryClass.STATE:
                if not self._live.keeps_state:
                    await self._keep_state(out)
                await self._live.publish(out)
            case DeliveryClass.LIVE | DeliveryClass.COMMAND:
                await self._live.publish(out)
        self.counts.published[type(message).__name__] += 1

    async def show(self, address: Address[M], message: M) -> None:
        if self._is_one_plane or not self._is_first_sight(address.name, message):
            return
        if not self._is_news(address.name, message):
            return
        try:
            await self._live.publish(Outgoing(address.name, encode(message), DeliveryClass.LIVE))
        except BusError as error:
            self.not_shown += 1
            self._log.debug("reading not shown on the live plane", topic=address.name, why=str(error))

    async def clear(self, address: Address[Any]) -> None:
        """Have the broker forget a STATE.

        Raises:
            BusError: it is not known to have forgotten it.
        """
        self._states.pop(address.name, None)
        await self._live.publish(Outgoing(address.name, b"", DeliveryClass.STATE))

    async def declare(self, *wanted: Topic[Any], durable: str) -> None:
        await self._readings.declare(_filters(wanted), durable)

    @asynccontextmanager
    async def subscribe(
        self, *wanted: Topic[Any], durable: str | None = None
    ) -> AsyncIterator[AsyncIterator[Delivery[Any]]]:
        plane = self._live if durable is None else self._readings
        async with plane.subscribe(_filters(wanted), durable) as incoming:
            if durable is None and not plane.keeps_state:
                await self._ask_for_states(wanted)
            quarantine = self._refusals if durable is None else self._quarantine
            yield _Deliveries(incoming, wanted, quarantine, self.counts, self._clock)

    async def close(self) -> None:
        """Stop answering for states; the transports are closed by who opened them."""
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.wait([self._answering])
        await self._open.aclose()

    def _is_news(self, name: str, message: Any) -> bool:  # noqa: ANN401 - a reading of any kind
        """Whether it tells those who look how things are now, and nothing newer has been told there."""
        if isinstance(message, Alert) or message.historical:
            return True  # a replay says of itself that it is none of now
        now = self._clock.now()
        told = self._told.get(name)
        # One from the future, told before the clock was set back, does not silence those that follow.
        is_older = told is not None and message.timestamp < told <= now
        if is_older or now.seconds_since(message.timestamp) > NEWS_S:
            return False
        if len(self._told) >= _ADDRESSES_MAX:
            self._told.clear()
        self._told[name] = message.timestamp
        return True

    @property
    def _is_one_plane(self) -> bool:
        return self._live is self._readings

    def _is_first_sight(self, name: str, message: Any) -> bool:  # noqa: ANN401 - a reading of any kind
        """Whether it is not one that is published again."""
        identity = (name, message.boot, message.seq)
        if identity in self._shown:
            return False
        if len(self._shown) >= _SHOWN_MAX:
            del self._shown[next(iter(self._shown))]
        self._shown[identity] = None
        return True

    def _expiry_s(self, message: Message, delivery: DeliveryClass) -> float | None:
        if delivery is not DeliveryClass.COMMAND or self._clock.speed != 1.0 or self._clock.is_virtual:
            return None
        left: float = message.valid_until.seconds_since(self._clock.now())  # type: ignore[attr-defined]
        return max(left, 0.0)

    async def _keep_state(self, out: Outgoing) -> None:
        self._states[out.name] = out
        if self._answering is not None:
            return
        async with self._answering_begins:
            if self._answering is None:
                requests = await self._open.enter_async_context(
                    self.subscribe(topics.STATE_GET.of(house=topics.SITE))
                )
                self._answering = asyncio.create_task(self._answer(requests))

    async def _answer(self, requests: AsyncIterator[Delivery[Any]]) -> None:
        """Publish our states again for whoever asks: this broker keeps none."""
        async for request in requests:
            for name, out in list(self._states.items()):
                if not matches(request.message.pattern, name):
                    continue
                try:
                    await self._live.publish(out)
                except BusError as error:
                    self._log.info("state not given to who asked", topic=name, why=str(error))

    async def _ask_for_states(self, wanted: Sequence[Topic[Any]]) -> None:
        for topic in wanted:
            if topic.delivery is DeliveryClass.STATE:
                address = topics.STATE_GET.at(house=topics.SITE, client=self._client)
                request = StateRequest(house=topics.SITE, client=self._client, pattern=topic.filter)
                await self._live.publish(Outgoing(address.name, encode(request), DeliveryClass.LIVE))


class _Deliveries:
    """Decodes what arrives; what can't be decoded goes to quarantine and is not seen here."""

    def __init__(
        self,
        incoming: AsyncIterator[Incoming],
        wanted: Sequence[Topic[Any]],
        quarantine: Quarantine,
        counts: BusCounts,
        clock: Clock,
    ) -> None:
        self._incoming = incoming
        self._wanted = wanted
        self._quarantine = quarantine
        self._counts = counts
        self._clock = clock
        self._unkept: list[tuple[Incoming, str]] = []
        """What the disk has not taken; it stays with the broker until it has."""
        self._addresses: dict[str, Address[Any]] = {}

    def __aiter__(self) -> AsyncIterator[Delivery[Any]]:
        return self

    async def __anext__(self) -> Delivery[Any]:
        while True:
            if self._unkept:
                await self._keep()
            incoming = await anext(self._incoming)
            if incoming.buried:
                await self._put_aside(incoming, incoming.buried)
                continue
            try:
                address = self._addresses.get(incoming.name) or self._find(incoming.name)
                message = decode_at(address, incoming.payload)
            except ContractError as error:
                await self._put_aside(incoming, str(error))
                continue
            self._counts.note_heard(message, retained=incoming.retained)
            return Delivery(address, message, incoming, self._quarantine)

    async def _put_aside(self, incoming: Incoming, reason: str) -> None:
        self._unkept.append((incoming, reason[:_REASON_MAX]))
        await self._keep()
        while len(self._unkept) >= _UNKEPT_MAX:  # else they take all that the broker sends unacknowledged
            await self._clock.sleep(_KEEP_AGAIN_S * self._clock.speed)
            await self._keep()

    async def _keep(self) -> None:
        """Put aside what waits for it, in its order, as far as the disk takes it."""
        while self._unkept:
            try:
                await self._quarantine.put(*self._unkept[0])
            except OSError as error:
                get_log("broker").error("not put aside: it stays with the broker", why=str(error))
                return
            del self._unkept[0]

    def _find(self, name: str) -> Address[Any]:
        for topic in self._wanted:
            if (address := topic.match(name)) is not None:
                if len(self._addresses) >= _ADDRESSES_MAX:
                    self._addresses.clear()
                self._addresses[name] = address
                return address
        raise ContractError(f"{name[:200]!r} is no topic that was asked for")


def _filters(wanted: Sequence[Topic[Any]]) -> tuple[Filter, ...]:
    return tuple(Filter(topic.filter, topic.delivery) for topic in wanted)
