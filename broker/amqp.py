"""The AMQP transport: RabbitMQ through aio-pika.

Two topic exchanges (see `broker.topology`): `wattbus.readings`, to which durable queues alone are bound, so
that a reading that came back unroutable is one that nobody keeps; and `wattbus`, which everybody may hear.

The connection is kept by us and not by `connect_robust`: one way back serves a lost connection, a lost
channel and a deleted queue, with the back-off of every transport, and it stops at a wrong password.
"""

import asyncio
import itertools
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache, partial

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError
from aiormq.abc import AbstractChannel as UnderlayChannel

from broker.acks import Acks
from broker.amqp_errors import translated
from broker.amqp_url import read_url
from broker.backoff import may_pass, redact, wait_for_broker
from broker.errors import BusError, BusUnavailableError, TopologyError
from broker.inbox import Inbox
from broker.topology import (
    DEAD,
    EXCHANGE,
    READINGS,
    declare_durable_queue,
    declare_exchanges,
    declare_live_queue,
    key_of,
    name_of,
    publishes_to,
    queue_of,
    why_buried,
)
from broker.transport import Filter, Incoming, Outgoing, matches
from contracts.topics import DeliveryClass
from runtime.logs import Log, get_log

PREFETCH = 1000
"""Unacknowledged messages a durable reader takes at a time."""

NAMES_MAX = 10_000
"""Names that a live subscriber remembers as asked for, or not."""

CONNECT_WITHIN_S = 10.0
ANSWER_WITHIN_S = 10.0

# Their lines name the user and carry tracebacks; whatever matters is said in ours.
for _library in ("aio_pika", "aiormq"):
    logging.getLogger(_library).setLevel(logging.CRITICAL)


@asynccontextmanager
async def open_amqp(url: str, *, client: str, wait_s: float) -> AsyncIterator["AmqpTransport"]:
    """A connection to RabbitMQ, which comes back by itself when it is lost.

    Args:
        url: `amqp://user:password@host:port/vhost`, or `amqps://...?ca=FILE&cert=FILE&key=FILE`; with a
            certificate and no user, the certificate says who it is; `account=NAME` says that it is one
            of docs/access.md, for which the operator has made everything.
        client: the name the broker shows for the connection.
        wait_s: how long to wait for a broker that is not there [real s].

    Raises:
        BusUrlError: an option or a file that can't be used.
        BusUnavailableError: the broker was not there within `wait_s`.
        BusRefusedError: wrong user, password, vhost or certificate.
        TopologyError: an exchange that differs.
    """
    transport = AmqpTransport(url, client)
    await transport.open(wait_s)
    try:
        yield transport
    finally:
        await transport.close()


class _Link:
    """One life of the connection, and the exchanges published to through it."""

    def __init__(self, connection: aio_pika.Connection, account: str) -> None:
        self.connection = connection
        self._account = account
        self.lost = asyncio.Event()
        self.readings: AbstractExchange
        self.confirmed: AbstractExchange
        self.unconfirmed: AbstractExchange

    async def open(self) -> None:
        """Make the exchanges, and the channels to publish on."""
        self.connection.close_callbacks.add(self.lose)
        if not self._account:
            await declare_exchanges(self.connection)
        live, readings = (publishes_to(exchange, self._account) for exchange in (EXCHANGE, READINGS))
        confirming = await self.connection.channel(publisher_confirms=True, on_return_raises=True)
        self.confirmed = await confirming.get_exchange(live, ensure=False)
        self.readings = await confirming.get_exchange(readings, ensure=False)
        silent = await self.connection.channel(publisher_confirms=False)
        self.unconfirmed = await silent.get_exchange(live, ensure=False)
        self.needs(confirming)
        self.needs(silent)

    async def declare(self, filters: tuple[Filter, ...], durable: str) -> None:
        """Make a durable reader's queue, unless the operator has."""
        if not self._account:
            await declare_durable_queue(self.connection, filters, durable)

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
        self._target = read_url(url, client, self._where)
        self._client = client
        self._log = get_log("broker")
        self._link: _Link | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._subscriptions: set[_Subscription] = set()
        self._numbers = itertools.count()
        self._newest: dict[str, Outgoing] = {}
        """Of the readings on their way, by name."""
        self._broken: TopologyError | None = None

    @property
    def connected(self) -> bool:
        """Whether the broker is there right now."""
        return self._link is not None and not self._link.lost.is_set()

    @property
    def dropped(self) -> int:
        """How many live messages its present subscribers were too slow for, or had not asked for."""
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
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await link.declare(filters, durable)

    async def _publish_reading(self, link: _Link, out: Outgoing) -> None:
        if out.is_news:
            self._newest[out.name] = out
        is_newest = False
        try:
            await self._send(link.readings, out, keep=True)
        finally:
            # Of many on their way at once, the newest is shown: it costs as much as keeping it.
            if self._newest.get(out.name) is out:
                del self._newest[out.name]
                is_newest = True
        if is_newest:
            await self._show(link, out)

    async def _show(self, link: _Link, out: Outgoing) -> None:
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
                try:
                    await exchange.publish(message, key_of(out.name), mandatory=keep)
                except DeliveryError:
                    # No live queue of ours refuses anything: one that does has been bound beside them.
                    if keep:
                        raise

    def _up(self) -> _Link:
        if self._broken is not None:
            raise self._broken
        link = self._link
        if link is None or link.lost.is_set():
            raise BusUnavailableError(f"{self._where}: no connection to the broker")
        return link

    async def _connect(self) -> _Link:
        connection = aio_pika.Connection(self._target.url, ssl_context=self._target.tls)
        link = _Link(connection, self._target.account)
        try:
            with translated(self._where, user=self._target.url.user):
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
            try:
                link = await wait_for_broker(
                    self._connect, self._where, math.inf, self._log, tries_again=may_pass
                )
            except TopologyError as error:
                self._break(error)
                return
            self._link = link
            self._log.info("connection to the broker is back", broker=self._where)

    def _break(self, error: TopologyError) -> None:
        """There is no way back before a person has decided: whoever publishes or reads is told."""
        self._link, self._broken = None, error
        for subscription in self._subscriptions:
            subscription.fail(error)


class _Subscription(Inbox):
    """What arrives for one subscriber, over as many lives of the connection as it lasts."""

    def __init__(self, filters: tuple[Filter, ...], durable: str | None, where: str, log: Log) -> None:
        super().__init__(self._lose if durable is None else None)
        self.dropped = 0
        self._filters = filters
        self._durable = durable
        self._where = where
        self._log = log
        self._link: _Link | None = None
        self._channel: AbstractChannel | None = None
        self._acks: Acks | None = None
        self._left = False
        # RabbitMQ before 4.1 lets a header add keys that its sender may not publish to.
        self._is_asked_for = lru_cache(NAMES_MAX)(partial(_takes, filters))
        self._has_strays = False

    async def open(self, link: _Link) -> None:
        """Bind and consume, on a channel of this link."""
        if self._durable is not None:
            self.clear()
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
        if self._acks is not None:
            await self._acks.finish()
        try:
            with translated(self._where):
                await channel.close()
        except BusUnavailableError as error:
            self._log.debug("channel was gone already", why=str(error))

    async def _consume(self, channel: AbstractChannel, link: _Link) -> None:
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(link.lose)
        if self._durable is not None:
            await channel.set_qos(prefetch_count=PREFETCH)
            self._acks = acks = Acks(partial(self._acknowledge, underlay), self._log)
            await link.declare(self._filters, self._durable)
            queue = await channel.get_queue(queue_of(self._durable), ensure=False)
            await (await channel.get_queue(DEAD, ensure=False)).consume(partial(self._exhume, acks))
            await queue.consume(partial(self._take, acks))
        else:
            queue = await declare_live_queue(channel, self._filters)
            await queue.consume(partial(self._take, None), no_ack=True)
        link.needs(channel)

    async def _take(self, acks: Acks | None, message: AbstractIncomingMessage) -> None:
        incoming = _AmqpIncoming(message, acks)
        if self._durable is not None or self._is_asked_for(incoming.name):
            self.put(incoming)
            return
        if not self._has_strays:
            self._log.warning("dropped what names us in a CC or BCC header", topic=incoming.name)
        self._has_strays = True
        self._lose(1)

    async def _exhume(self, acks: Acks, message: AbstractIncomingMessage) -> None:
        self.put(_AmqpIncoming(message, acks, buried=why_buried(message.headers)))

    async def _acknowledge(self, channel: UnderlayChannel, tag: int, with_all_before: bool) -> None:  # noqa: FBT001
        with translated(self._where):
            await channel.basic_ack(tag, multiple=with_all_before)

    def _lose(self, messages: int) -> None:
        self.dropped += messages


def _takes(filters: tuple[Filter, ...], name: str) -> bool:
    return any(matches(one.pattern, name) for one in filters)


class _AmqpIncoming:
    __slots__ = ("_acks", "_tag", "buried", "name", "payload", "retained")

    def __init__(self, message: AbstractIncomingMessage, acks: Acks | None, *, buried: str = "") -> None:
        self.name = name_of(message.routing_key or "")
        self.payload = message.body
        self.retained = False
        self.buried = buried
        self._acks = acks
        self._tag = message.delivery_tag or 0
        if acks is not None:
            acks.expect(self._tag)

    async def ack(self) -> None:
        acks, self._acks = self._acks, None
        if acks is not None:
            acks.done(self._tag)
