"""The MQTT transport: HiveMQ, Mosquitto, RabbitMQ's MQTT plugin; MQTT 5, or 3.1.1 where that is all there is.

One connection publishes and hears what is not durable. Each durable subscription is an MQTT session, and
so a connection, of its own: the broker keeps its messages while nobody reads, and sends what was not
acknowledged again.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from paho.mqtt.client import MQTTMessage

from broker.backoff import may_pass, wait_for_broker
from broker.errors import BusUnavailableError, NotRoutedError
from broker.inbox import Inbox
from broker.mqtt_client import MQTT5
from broker.mqtt_link import NO_SUBSCRIBERS, Link, OtherVersionError
from broker.mqtt_url import Target, parse_url
from broker.transport import Filter, Incoming, Outgoing, matches
from contracts.topics import DeliveryClass
from runtime.logs import get_log

_NAMES_MAX = 100_000
"""Names remembered; a hostile flood of names clears the memory, never fills it."""


@asynccontextmanager
async def open_mqtt(
    url: str, *, client: str, wait_s: float, will: Outgoing | None
) -> AsyncIterator["MqttTransport"]:
    """An MQTT broker, connected; from then on it is connected again whenever it was lost.

    Args:
        url: see `broker.mqtt_url.parse_url`.
        client: the client id; two with one id push each other out for ever.
        wait_s: how long to wait for the broker [real s].
        will: what the broker publishes, retained, when we are gone without a word.

    Raises:
        BusUrlError: a URL that can't be used.
        BusUnavailableError: the broker was not there in that time.
        BusRefusedError: a wrong password, or a right that is missing.
    """
    transport = MqttTransport(parse_url(url), client, will)
    await transport.open(wait_s)
    try:
        yield transport
    finally:
        await transport.close()


class MqttTransport:
    """One MQTT broker."""

    def __init__(self, target: Target, client: str, will: Outgoing | None) -> None:
        self.keeps_state = target.keeps_state
        self.dropped = 0
        """LIVE messages that could not be sent, and messages a subscriber was too slow for."""
        self.where = target.where
        self._target = target
        self._version = target.version
        self._subscribers: list[_Subscriber] = []
        self._routes: dict[str, list[tuple[_Subscriber, int]]] = {}
        self._identifiers: dict[str, int] = {}
        self._main = _Connection(self, client, will=will, receive=self._receive, patterns=self._patterns)
        self._connections = [self._main]

    @property
    def connected(self) -> bool:
        """Whether the broker is there right now, for every session we have with it."""
        return all(connection.up for connection in self._connections)

    @property
    def trouble(self) -> str:
        """Why the broker is not there right now, as far as that is known; empty while it is."""
        return next((connection.trouble for connection in self._connections if connection.trouble), "")

    async def open(self, wait_s: float) -> None:
        """Connect; see `open_mqtt`."""
        await self._main.open(wait_s)

    async def close(self) -> None:
        """Take leave."""
        await self._main.close()

    async def publish(self, out: Outgoing) -> None:
        link = self._main.link
        if out.delivery is DeliveryClass.LIVE:
            if link is None:
                self.count_dropped(1)
            else:
                link.send(out)
            return
        if link is None:
            raise BusUnavailableError(f"broker at {self.where} is not connected")
        reason = await link.confirm(out, retain=out.delivery is DeliveryClass.STATE)
        if out.delivery is DeliveryClass.READING and reason == NO_SUBSCRIBERS:
            raise NotRoutedError(f"{out.name}: nobody at {self.where} takes it; start the recorder once")

    @asynccontextmanager
    async def subscribe(
        self, filters: tuple[Filter, ...], durable: str | None
    ) -> AsyncIterator[AsyncIterator[Incoming]]:
        patterns = list(dict.fromkeys(f.pattern for f in filters))
        async with AsyncExitStack() as stack:
            if durable is None:
                yield await stack.enter_async_context(self._hear(patterns))
            else:
                yield await stack.enter_async_context(self._read(patterns, durable))

    async def declare(self, filters: tuple[Filter, ...], durable: str) -> None:
        """Nothing: only the reader itself can make its MQTT session.

        So a durable reader must have been there once before its readings are kept; until then an
        MQTT 5 broker says that nobody takes them (NotRoutedError), a 3.1.1 broker can't.
        """

    def count_dropped(self, messages: int) -> None:
        """Note messages that are lost."""
        self.dropped += messages

    async def dial(self, make: Callable[[Target, int], Link]) -> Link:
        """A link of whichever version the broker speaks: some close on an MQTT 5 CONNECT without a word."""
        versions = [MQTT5, 3] if self._version is None else [self._version]
        while True:
            link = make(self._target, versions.pop(0))
            try:
                await link.open()
            except OtherVersionError:
                if not versions:
                    raise
                continue
            self._version = link.version
            return link

    @asynccontextmanager
    async def _hear(self, patterns: list[str]) -> AsyncIterator["_Subscriber"]:
        subscriber = _Subscriber(patterns, self.count_dropped)
        for pattern in patterns:
            self._identifiers.setdefault(pattern, len(self._identifiers) + 1)
        self._subscribers.append(subscriber)
        self._routes.clear()
        try:
            await self._main.subscribe([(pattern, self._identifiers[pattern]) for pattern in patterns])
            yield subscriber
        finally:
            self._subscribers.remove(subscriber)
            self._routes.clear()
            still = {pattern for other in self._subscribers for pattern in other.patterns}
            if self._main.link is not None:
                self._main.link.unsubscribe([pattern for pattern in patterns if pattern not in still])

    @asynccontextmanager
    async def _read(self, patterns: list[str], durable: str) -> AsyncIterator[Inbox]:
        inbox = Inbox()

        def receive(link: Link, message: MQTTMessage) -> None:
            inbox.put(_MqttIncoming(link, message))

        # No pattern that another one covers, or each message would come twice.
        wanted = [(p, 1) for p in patterns if not any(q != p and matches(q, p) for q in patterns)]
        connection = _Connection(
            self, f"wattbus-{durable}", durable=True, receive=receive, patterns=lambda: wanted
        )
        connection.on_lost = inbox.clear  # the broker sends them again
        self._connections.append(connection)
        try:
            await connection.open(math.inf)
            yield inbox
        finally:
            self._connections.remove(connection)
            await connection.close()

    def _patterns(self) -> list[tuple[str, int]]:
        """What to subscribe to on a new connection, whose retained messages are news again."""
        for subscriber in self._subscribers:
            subscriber.seen.clear()
        wanted = dict.fromkeys(p for subscriber in self._subscribers for p in subscriber.patterns)
        return [(pattern, self._identifiers[pattern]) for pattern in wanted]

    def _receive(self, link: Link, message: MQTTMessage) -> None:
        incoming = _MqttIncoming(link, message)
        routes = self._routes.get(incoming.name)
        if routes is None:
            routes = self._route(incoming.name)
        # A broker may send one copy for each subscription that matches, and says for which.
        came_for = getattr(message.properties, "SubscriptionIdentifier", None)
        for subscriber, identifier in routes:
            if came_for is None or identifier in came_for:
                subscriber.hear(incoming)

    def _route(self, name: str) -> list[tuple["_Subscriber", int]]:
        routes = []
        for subscriber in self._subscribers:
            pattern = next((p for p in subscriber.patterns if matches(p, name)), None)
            if pattern is not None:
                routes.append((subscriber, self._identifiers[pattern]))
        if len(self._routes) >= _NAMES_MAX:
            self._routes.clear()
        self._routes[name] = routes
        return routes


class _Connection:
    """Keeps one client id connected and subscribed, until it is closed."""

    def __init__(
        self,
        transport: MqttTransport,
        client_id: str,
        *,
        receive: Callable[[Link, MQTTMessage], None],
        patterns: Callable[[], Sequence[tuple[str, int]]],
        durable: bool = False,
        will: Outgoing | None = None,
    ) -> None:
        self.link: Link | None = None
        """None while the broker is not there."""
        self.on_lost: Callable[[], None] = lambda: None
        self.trouble = ""
        """Why it was lost, or could not be made again."""
        self._transport = transport
        self._client_id = client_id
        self._durable = durable
        self._will = will
        self._receive = receive
        self._patterns = patterns
        self._there = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._log = get_log("broker")

    @property
    def up(self) -> bool:
        return self.link is not None

    async def open(self, wait_s: float) -> None:
        """Connect for the first time, then keep it so."""
        link = await wait_for_broker(self._connect, self._transport.where, wait_s, self._log)
        self._keeping = asyncio.create_task(self._keep(link))

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        self._there.set()  # who still waits for the broker learns that it won't come
        link, self.link = self.link, None
        if link is not None:
            await link.close()

    async def subscribe(self, patterns: Sequence[tuple[str, int]]) -> None:
        """Returns when the broker has granted them, however often it is lost meanwhile."""
        while True:
            await self._there.wait()
            if self._keeping is None or self._keeping.done():
                raise BusUnavailableError(f"broker at {self._transport.where}: the connection is closed")
            if self.link is not None:
                try:
                    return await self.link.subscribe(patterns)
                except BusUnavailableError:
                    continue

    async def _connect(self) -> Link:
        link = await self._transport.dial(self._make_link)
        try:
            await link.subscribe(self._patterns())
        except BaseException:
            link.leave()
            raise
        self.link = link
        self._there.set()
        return link

    def _make_link(self, target: Target, version: int) -> Link:
        return Link(
            target,
            version,
            self._client_id,
            durable=self._durable,
            will=self._will,
            receive=self._receive,
            dropped=self._transport.count_dropped,
            on_lost=self._forget,
        )

    def _forget(self, link: Link) -> None:
        if link is self.link:
            self.link = None
            self._there.clear()
            self.on_lost()

    async def _keep(self, link: Link) -> None:
        where = self._transport.where
        while True:
            await link.lost.wait()
            self.trouble = f"broker at {where}: {link.why}"
            self._log.warning("broker lost", client=self._client_id, why=link.why)
            link = await wait_for_broker(
                self._connect, where, math.inf, self._log, tries_again=self._tries_again
            )
            self.trouble = ""
            self._log.info("broker found again", client=self._client_id)

    def _tries_again(self, error: BaseException) -> bool:
        self.trouble = str(error)
        return may_pass(error)


class _MqttIncoming:
    __slots__ = ("_link", "_mid", "_qos", "name", "payload", "retained")
    buried = ""

    def __init__(self, link: Link, message: MQTTMessage) -> None:
        self.name = message.topic
        self.payload = bytes(message.payload)
        self.retained = message.retain
        self._link = link
        self._mid = message.mid
        self._qos = message.qos

    async def ack(self) -> None:
        self._link.ack(self._mid, self._qos)


class _Subscriber(Inbox):
    """One who hears some patterns on the connection that all share."""

    def __init__(self, patterns: list[str], dropped: Callable[[int], None]) -> None:
        super().__init__(dropped)
        self.patterns = patterns
        self.seen: set[str] = set()
        """Names heard since the connection was made: a retained message for another's sake is no news."""

    def hear(self, incoming: Incoming) -> None:
        if incoming.retained and incoming.name in self.seen:
            return
        if len(self.seen) >= _NAMES_MAX:
            self.seen.clear()
        self.seen.add(incoming.name)
        self.put(incoming)
