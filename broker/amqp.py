"""The AMQP transport: RabbitMQ through aio-pika, which is imported here alone.

Two topic exchanges: `wattbus.readings`, to which durable queues alone are bound, so that a reading
that came back unroutable is one that nobody keeps; and `wattbus`, which everybody may hear.

The connection is kept by us and not by `connect_robust`: one way back serves a lost connection, a lost
channel and a deleted queue, with the back-off of every transport, and it stops at a wrong password.
"""

import asyncio
import itertools
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage, AbstractQueue
from aio_pika.connection import make_url
from pamqp.common import FieldTable

from broker.amqp_errors import translated
from broker.backoff import redact, wait_for_broker
from broker.errors import BusError, BusRefusedError, BusUnavailableError
from broker.transport import Filter, Incoming, Outgoing
from contracts.topics import DeliveryClass
from runtime.logs import Log, get_log

EXCHANGE = "wattbus"
READINGS = "wattbus.readings"
DEAD = "wattbus.dead"
"""Exchange and queue of what was delivered DELIVERIES_MAX times and never acknowledged."""

QUEUE_MAX = 1_000_000
"""A durable queue that is longer refuses what is published, which its publisher then keeps."""
DELIVERIES_MAX = 1000
"""Many: a reader that crashes at its start must not bury healthy readings (RabbitMQ 4 does so after 20)."""
PREFETCH = 1000
LIVE_QUEUE_MAX = 10_000
"""A live subscriber that lags further loses the oldest, counted."""

CONNECT_WITHIN_S = 10.0
ANSWER_WITHIN_S = 10.0
HEARTBEAT_S = 3
"""aiormq gives up after three missed ones and their grace: a dead peer is seen within 13 s."""

# Their lines name the user and carry tracebacks; whatever matters is said in ours.
for _library in ("aio_pika", "aiormq"):
    logging.getLogger(_library).setLevel(logging.CRITICAL)


@asynccontextmanager
async def open_amqp(url: str, *, client: str, wait_s: float) -> AsyncIterator["AmqpTransport"]:
    """A connection to RabbitMQ, which comes back by itself when it is lost.

    Args:
        url: `amqp://user:password@host:port/vhost`, or `amqps://`.
        client: the name the broker shows for the connection.
        wait_s: how long to wait for a broker that is not there [real s].

    Raises:
        BusUnavailableError: the broker was not there within `wait_s`.
        BusRefusedError: wrong user, password or vhost, or an exchange that differs.
    """
    transport = AmqpTransport(url, client)
    await transport.open(wait_s)
    try:
        yield transport
    finally:
        await transport.close()


class _Link:
    """One life of the connection, and the exchanges published to through it."""

    def __init__(self, connection: aio_pika.Connection) -> None:
        self.connection = connection
        self.lost = asyncio.Event()
        self.readings: AbstractExchange
        self.confirmed: AbstractExchange
        self.unconfirmed: AbstractExchange

    async def open(self) -> None:
        """Make the exchanges, and the channels to publish on."""
        self.connection.close_callbacks.add(self.lose)
        confirming = await self.connection.channel(publisher_confirms=True, on_return_raises=True)
        topic = aio_pika.ExchangeType.TOPIC
        self.confirmed = await confirming.declare_exchange(EXCHANGE, topic, durable=True)
        self.readings = await confirming.declare_exchange(READINGS, topic, durable=True)
        silent = await self.connection.channel(publisher_confirms=False)
        self.unconfirmed = await silent.get_exchange(EXCHANGE, ensure=False)
        self.needs(confirming)
        self.needs(silent)

    def needs(self, channel: AbstractChannel) -> None:
        """From now on the link counts as lost when this channel is."""
        channel.close_callbacks.add(self.lose)
        if channel.is_closed:
            self.lose()

    def lose(self, *_: object) -> None:
        """Have the connection made anew; a callback for whatever can be lost."""
        self.lost.set()


class AmqpTransport:
    """One connection to RabbitMQ."""

    keeps_state = False

    def __init__(self, url: str, client: str) -> None:
        self._where = redact(url)
        self._url = make_url(url, heartbeat=HEARTBEAT_S, name=client)
        self._client = client
        self._log = get_log("broker")
        self._link: _Link | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._subscriptions: set[_Subscription] = set()
        self._numbers = itertools.count()
        self._newest: dict[str, Outgoing] = {}

    @property
    def connected(self) -> bool:
        """Whether the broker is there right now."""
        return self._link is not None and not self._link.lost.is_set()

    @property
    def dropped(self) -> int:
        """How many live messages its present subscribers were too slow for."""
        return sum(subscription.dropped for subscription in self._subscriptions)

    async def open(self, wait_s: float) -> None:
        """Connect, and from now on stay connected."""
        self._link = await wait_for_broker(self._connect, self._where, wait_s, self._log)
        self._keeping = asyncio.create_task(self._keep_connected(self._link))

    async def close(self) -> None:
        """Close the connection for good."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        link, self._link = self._link, None
        if link is not None:
            await link.connection.close()

    async def publish(self, out: Outgoing) -> None:
        link = self._up()
        if out.delivery is DeliveryClass.READING:
            await self._publish_reading(link, out)
        elif out.delivery is DeliveryClass.LIVE:
            await self._send(link.unconfirmed, out, keep=False)
        else:
            await self._send(link.confirmed, out, keep=False)

    @asynccontextmanager
    async def subscribe(
        self, filters: tuple[Filter, ...], durable: str | None
    ) -> AsyncIterator[AsyncIterator[Incoming]]:
        subscription = _Subscription(filters, durable, self._where, self._log)
        link = self._up()
        await subscription.open(link)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            await subscription.close()

    async def declare(self, filters: tuple[Filter, ...], durable: str) -> None:
        link = self._up()
        with translated(self._where):
            async with asyncio.timeout(ANSWER_WITHIN_S), link.connection.channel() as channel:
                await _durable_queue(channel, filters, durable)

    async def _publish_reading(self, link: _Link, out: Outgoing) -> None:
        if out.is_news:
            self._newest[out.name] = out
        await self._send(link.readings, out, keep=True)
        # Of many on their way at once, the newest is shown: it costs as much as keeping it.
        if not out.is_news or self._newest.get(out.name) is not out:
            return
        try:
            await self._send(link.unconfirmed, out, keep=False)
        except BusError as error:
            self._log.debug("reading kept, but not shown", topic=out.name, why=str(error))

    async def _send(self, exchange: AbstractExchange, out: Outgoing, *, keep: bool) -> None:
        message = aio_pika.Message(
            out.payload,
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT if keep else aio_pika.DeliveryMode.NOT_PERSISTENT,
            expiration=out.expires_s,
            # Another for each attempt: aiormq finds by it which of those in flight came back.
            message_id=f"{self._client}-{next(self._numbers)}",
        )
        with translated(out.name if keep else self._where):
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await exchange.publish(message, _key(out.name), mandatory=keep)

    def _up(self) -> _Link:
        link = self._link
        if link is None or link.lost.is_set():
            raise BusUnavailableError(f"{self._where}: no connection to the broker")
        return link

    async def _connect(self) -> _Link:
        connection = aio_pika.Connection(self._url)
        link = _Link(connection)
        try:
            with translated(self._where, user=self._url.user):
                await connection.connect(timeout=CONNECT_WITHIN_S)
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    await link.open()
            for subscription in tuple(self._subscriptions):
                await subscription.open(link)
        except BaseException:
            await connection.close()
            raise
        return link

    async def _keep_connected(self, link: _Link) -> None:
        while True:
            await link.lost.wait()
            self._log.warning("connection to the broker lost", broker=self._where)
            await link.connection.close()
            link = await wait_for_broker(self._reconnect, self._where, math.inf, self._log)
            self._link = link
            self._log.info("connection to the broker is back", broker=self._where)

    async def _reconnect(self) -> _Link:
        try:
            return await self._connect()
        except BusRefusedError as error:
            # It was allowed before: a broker that is being set up again, say.
            raise BusUnavailableError(str(error)) from error


class _Subscription:
    """What arrives for one subscriber, over as many lives of the connection as it lasts."""

    def __init__(self, filters: tuple[Filter, ...], durable: str | None, where: str, log: Log) -> None:
        self.dropped = 0
        self._filters = filters
        self._durable = durable
        self._where = where
        self._log = log
        self._arrived: asyncio.Queue[_AmqpIncoming] = asyncio.Queue()
        self._link: _Link | None = None
        self._channel: AbstractChannel | None = None
        self._left = False

    def __aiter__(self) -> AsyncIterator[Incoming]:
        return self

    async def __anext__(self) -> Incoming:
        return await self._arrived.get()

    async def open(self, link: _Link) -> None:
        """Bind and consume, on a channel of this link."""
        if self._durable is not None:
            while not self._arrived.empty():
                self._arrived.get_nowait()  # not read yet: it comes again from the broker, in its order
        with translated(self._where):
            async with asyncio.timeout(ANSWER_WITHIN_S):
                channel = await link.connection.channel(publisher_confirms=False)
                try:
                    await self._consume(channel, link)
                except BaseException:
                    await channel.close()
                    raise
        self._link, self._channel = link, channel
        if self._left:
            await self.close()

    async def close(self) -> None:
        """Stop consuming; the broker takes back what is not acknowledged."""
        self._left = True
        channel, self._channel = self._channel, None
        if channel is None or self._link is None:
            return
        channel.close_callbacks.discard(self._link.lose)
        try:
            with translated(self._where):
                await channel.close()
        except BusUnavailableError as error:
            self._log.debug("channel was gone already", why=str(error))

    async def _consume(self, channel: AbstractChannel, link: _Link) -> None:
        if self._durable is not None:
            await channel.set_qos(prefetch_count=PREFETCH)
            queue = await _durable_queue(channel, self._filters, self._durable)
        else:
            limits: FieldTable = {"x-max-length": LIVE_QUEUE_MAX, "x-overflow": "drop-head"}
            queue = await channel.declare_queue(exclusive=True, auto_delete=True, arguments=limits)
            await _bind(queue, EXCHANGE, self._filters)
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(link.lose)
        await queue.consume(self._take, no_ack=self._durable is None)
        link.needs(channel)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        if self._durable is not None:
            self._arrived.put_nowait(_AmqpIncoming(message, message, self._log))
            return
        if self._arrived.qsize() >= LIVE_QUEUE_MAX:
            self._arrived.get_nowait()
            self.dropped += 1
        self._arrived.put_nowait(_AmqpIncoming(message, None, self._log))


class _AmqpIncoming:
    __slots__ = ("_log", "_unacknowledged", "name", "payload", "retained")

    def __init__(
        self, message: AbstractIncomingMessage, unacknowledged: AbstractIncomingMessage | None, log: Log
    ) -> None:
        self.name = (message.routing_key or "").replace(".", "/")
        self.payload = message.body
        self.retained = False
        self._unacknowledged = unacknowledged
        self._log = log

    async def ack(self) -> None:
        message, self._unacknowledged = self._unacknowledged, None
        if message is None:
            return
        try:
            with translated(self.name):
                await message.ack()
        except BusUnavailableError:
            self._log.debug("acknowledged after its channel was lost: it comes again", topic=self.name)


async def _durable_queue(
    channel: AbstractChannel, filters: tuple[Filter, ...], durable: str
) -> AbstractQueue:
    dead = await channel.declare_exchange(DEAD, aio_pika.ExchangeType.FANOUT, durable=True)
    limits: FieldTable = {"x-queue-type": "quorum", "x-max-length": QUEUE_MAX, "x-overflow": "reject-publish"}
    grave = await channel.declare_queue(DEAD, durable=True, arguments=limits)
    await grave.bind(dead)
    arguments: FieldTable = {
        **limits,
        "x-delivery-limit": DELIVERIES_MAX,
        "x-dead-letter-exchange": DEAD,
        "x-dead-letter-strategy": "at-least-once",
    }
    queue = await channel.declare_queue(f"{EXCHANGE}.{durable}", durable=True, arguments=arguments)
    await _bind(queue, READINGS, filters)
    return queue


async def _bind(queue: AbstractQueue, exchange: str, filters: tuple[Filter, ...]) -> None:
    for pattern, _ in filters:
        await queue.bind(exchange, _key(pattern).replace("+", "*"))


def _key(name: str) -> str:
    return name.replace("/", ".")
