"""What is RabbitMQ's alone: properties and queues as the broker sees them, and the way back after a loss."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from time import monotonic

import aio_pika
import pytest

from broker.amqp import DEAD, EXCHANGE, AmqpTransport, open_amqp
from broker.errors import BusError, BusRefusedError, BusUnavailableError
from broker.transport import Filter, Incoming, Outgoing, Transport
from contracts.topics import DeliveryClass
from tests.brokers import Broker, running, vhost
from tests.tcp_proxy import Proxy, proxy_to

NAME = "wattbus/house-a/meter/main/reading"
READINGS = (Filter("wattbus/+/meter/+/reading", DeliveryClass.READING),)
ACKS = (Filter("wattbus/+/der/+/ack", DeliveryClass.LIVE),)
ACK = "wattbus/house-a/der/battery/ack"


@pytest.fixture
def broker(rabbitmq: Broker) -> Iterator[Broker]:
    with vhost(rabbitmq) as own:
        yield own


@pytest.fixture
async def transport(broker: Broker) -> AsyncIterator[AmqpTransport]:
    async with open_amqp(broker.amqp_url, client="test", wait_s=0) as opened:
        yield opened


def reading(number: int) -> Outgoing:
    return Outgoing(NAME, b"%d" % number, DeliveryClass.READING)


async def take(incoming: AsyncIterator[Incoming], count: int) -> list[bytes]:
    payloads = []
    async with asyncio.timeout(30):
        for _ in range(count):
            one = await anext(incoming)
            payloads.append(one.payload)
            await one.ack()
    return payloads


async def until(transport: Transport, *, connected: bool) -> None:
    async with asyncio.timeout(30):
        while transport.connected != connected:  # noqa: ASYNC110 - the port has no event for it
            await asyncio.sleep(0.02)


# --- as the broker sees it ----------------------------------------------------


async def test_readings_are_persistent_and_commands_expire(broker: Broker, transport: AmqpTransport) -> None:
    connection = await aio_pika.connect(broker.amqp_url)
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(f"{EXCHANGE}.readings", "#")
        await queue.bind(EXCHANGE, "wattbus.*.der.#")
        command = Outgoing("wattbus/house-a/der/battery/command", b"{}", DeliveryClass.COMMAND, 0.3)
        await transport.publish(reading(1))
        await transport.publish(command)
        kept = await queue.get(timeout=5)
        assert kept.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
        assert kept.expiration is None
        passing = await queue.get(timeout=5)
        assert passing.delivery_mode == aio_pika.DeliveryMode.NOT_PERSISTENT
        assert passing.expiration == pytest.approx(0.3)
        assert {kept.message_id, passing.message_id}.isdisjoint({None, ""})
        assert kept.message_id != passing.message_id
        await transport.publish(command)
        await asyncio.sleep(0.6)
        assert await queue.get(timeout=1, fail=False) is None


async def test_what_is_never_acknowledged_ends_in_the_dead_queue(
    broker: Broker, transport: AmqpTransport
) -> None:
    await transport.declare(READINGS, "reader")
    await transport.publish(reading(1))
    connection = await aio_pika.connect(broker.amqp_url)
    async with connection, connection.channel() as channel:
        queue = await channel.get_queue(f"{EXCHANGE}.reader")
        while message := await queue.get(timeout=5, fail=False):
            await message.nack(requeue=True)
        dead = await channel.get_queue(DEAD)
        async with asyncio.timeout(10), dead.iterator() as buried:
            assert (await anext(buried)).body == b"1"


async def test_a_queue_that_differs_is_named(broker: Broker, transport: AmqpTransport) -> None:
    connection = await aio_pika.connect(broker.amqp_url)
    async with connection, connection.channel() as channel:
        await channel.declare_queue(f"{EXCHANGE}.reader", durable=True)
        with pytest.raises(BusRefusedError, match=r"wattbus\.reader.*delete") as caught:
            await transport.declare(READINGS, "reader")
        assert "\n" not in str(caught.value)
        with pytest.raises(BusRefusedError, match=r"wattbus\.reader"):
            async with transport.subscribe(READINGS, "reader"):
                pass
    assert transport.connected
    await transport.declare(READINGS, "another")
    await transport.publish(reading(1))


async def test_a_full_queue_refuses_and_its_publisher_keeps(broker: Broker, transport: AmqpTransport) -> None:
    connection = await aio_pika.connect(broker.amqp_url)
    async with connection, connection.channel() as channel:
        limits: dict[str, str | int] = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = await channel.declare_queue("small", exclusive=True, arguments=limits)
        await queue.bind(f"{EXCHANGE}.readings", "#")
        await transport.publish(reading(1))
        with pytest.raises(BusUnavailableError, match="full"):
            await transport.publish(reading(2))
        assert transport.connected


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (("/test-", "/absent-"), BusRefusedError, "vhost"),
        (("wattbus:", "nobody:"), BusRefusedError, "user nobody"),
        ((":PORT/", ":1/"), BusUnavailableError, "127.0.0.1:1"),
    ],
)
async def test_what_is_wrong_with_a_url_is_told_without_its_password(
    broker: Broker, change: tuple[str, str], error: type[BusError], says: str
) -> None:
    old, new = change
    url = broker.amqp_url.replace(old.replace("PORT", str(broker.ports["amqp"])), new)
    assert url != broker.amqp_url
    with pytest.raises(error, match=says) as caught:
        async with open_amqp(url, client="test", wait_s=0):
            pass
    assert broker.password not in str(caught.value)
    assert "\n" not in str(caught.value)


# --- the way back -------------------------------------------------------------


def through(proxy: Proxy, broker: Broker) -> str:
    return broker.amqp_url.replace(f":{broker.ports['amqp']}/", f":{proxy.port}/")


async def test_after_a_cut_everything_is_as_before(broker: Broker) -> None:
    async with (
        proxy_to(broker.ports["amqp"]) as proxy,
        open_amqp(through(proxy, broker), client="test", wait_s=0) as transport,
        transport.subscribe(READINGS, "reader") as kept,
        transport.subscribe(ACKS, None) as live,
    ):
        for number in (1, 2, 3):
            await transport.publish(reading(number))
        first = await anext(kept)
        waiting = asyncio.create_task(anext(live))
        proxy.cut(reopen=False)
        await until(transport, connected=False)
        await first.ack()  # too late, and harmless: it comes again
        with pytest.raises(BusUnavailableError):
            await transport.publish(reading(4))
        proxy.reopen()
        await until(transport, connected=True)
        await transport.publish(reading(5))
        assert await take(kept, 4) == [b"1", b"2", b"3", b"5"]
        await transport.publish(Outgoing(ACK, b"{}", DeliveryClass.LIVE))
        assert (await waiting).payload == b"{}"


async def test_a_deleted_queue_is_made_again(broker: Broker, transport: AmqpTransport) -> None:
    connection = await aio_pika.connect(broker.amqp_url)
    async with (
        connection,
        connection.channel() as channel,
        transport.subscribe(READINGS, "reader") as kept,
    ):
        await channel.queue_delete(f"{EXCHANGE}.reader")
        await until(transport, connected=False)
        await until(transport, connected=True)
        await transport.publish(reading(1))
        assert await take(kept, 1) == [b"1"]


async def test_leaving_while_the_broker_is_away_is_quick_and_clean(broker: Broker) -> None:
    begun = monotonic()
    async with (
        proxy_to(broker.ports["amqp"]) as proxy,
        open_amqp(through(proxy, broker), client="test", wait_s=0) as transport,
        transport.subscribe(READINGS, "reader"),
    ):
        proxy.cut(reopen=False)
        await until(transport, connected=False)
    assert monotonic() - begun < 5


@pytest.mark.fault
async def test_a_silent_broker_is_noticed_within_15_s(broker: Broker) -> None:
    async with (
        proxy_to(broker.ports["amqp"]) as proxy,
        open_amqp(through(proxy, broker), client="test", wait_s=0) as transport,
        transport.subscribe(READINGS, "reader") as kept,
    ):
        proxy.freeze()
        begun = monotonic()
        published = asyncio.gather(
            *(transport.publish(reading(number)) for number in range(3)), return_exceptions=True
        )
        await until(transport, connected=False)
        assert monotonic() - begun < 15
        assert all(isinstance(result, BusUnavailableError) for result in await published)
        proxy.cut()
        proxy.thaw()
        await until(transport, connected=True)
        await transport.publish(reading(9))
        assert b"9" in await take(kept, 1)


@pytest.mark.fault
async def test_a_killed_broker_gives_back_every_confirmed_reading(rabbitmq: Broker) -> None:
    with running("rabbitmq") as own:
        async with (
            open_amqp(own.amqp_url, client="test", wait_s=0) as transport,
            transport.subscribe(READINGS, "reader") as kept,
        ):
            await asyncio.sleep(2)  # RabbitMQ 3.10 forgets a quorum queue younger than that
            for number in range(50):
                await transport.publish(reading(number))
            assert await take(kept, 10) == [b"%d" % number for number in range(10)]
            await asyncio.to_thread(own.kill)
            await until(transport, connected=False)
            await asyncio.to_thread(own.start)
            await until(transport, connected=True)
            await transport.publish(reading(50))
            again = await take(kept, 41)
            while again[-1] != b"50":  # an acknowledgement that was under way may be lost
                again += await take(kept, 1)
            assert set(again) >= {b"%d" % number for number in range(10, 51)}


async def test_whatever_waits_on_a_link_that_is_lost_fails_as_one_that_is_lost(broker: Broker) -> None:
    """aiormq rejects some of what waits with a bare Exception: it must not end a service."""
    async with (
        proxy_to(broker.ports["amqp"]) as proxy,
        open_amqp(through(proxy, broker), client="test", wait_s=0) as transport,
        transport.subscribe(READINGS, "reader"),
    ):
        for _ in range(3):
            await until(transport, connected=True)
            waiting = [asyncio.create_task(transport.publish(reading(number))) for number in range(300)]
            await asyncio.sleep(0.02)
            proxy.cut()
            declaring = asyncio.create_task(transport.declare(READINGS, "another"))
            outcomes = await asyncio.gather(*waiting, declaring, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes if outcome is not None} <= {BusUnavailableError}
