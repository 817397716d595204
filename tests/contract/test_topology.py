"""RabbitMQ's exchanges and queues: one clear line where they differ, and what nobody acknowledges is put aside."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from broker import topology
from broker.amqp import AmqpTransport, open_amqp
from broker.bus import PlanesBus
from broker.errors import TopologyError
from broker.quarantine import Quarantine
from broker.topology import DEAD, EXCHANGE, READINGS, what_differs
from broker.transport import Filter, Outgoing
from contracts import topics
from contracts.codec import encode
from contracts.instant import Instant
from contracts.messages import MeterReading
from contracts.topics import DeliveryClass
from runtime.clock import SystemClock
from tests.brokers import Broker, vhost
from tests.tcp_proxy import proxy_to

FILTERS = (Filter("wattbus/+/meter/+/reading", DeliveryClass.READING),)
ADDRESS = topics.METER_READING.at(house="house-a", meter="main")
QUEUE = f"{EXCHANGE}.recorder"
AS_IT_MUST_BE: dict[str, Any] = dict(topology.DURABLE)


def reading(seq: int) -> MeterReading:
    at = Instant.parse("2026-06-21T12:00:00Z")
    return MeterReading(house="house-a", meter="main", boot=1, seq=seq, timestamp=at, power_w=seq)


@pytest.fixture
def broker(rabbitmq: Broker) -> Iterator[Broker]:
    with vhost(rabbitmq) as own:
        yield own


@pytest.fixture
async def channel(broker: Broker) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    connection = await aio_pika.connect(broker.amqp_url)
    async with connection, connection.channel() as opened:
        yield opened


@pytest.fixture
async def transport(broker: Broker) -> AsyncIterator[AmqpTransport]:
    async with open_amqp(broker.amqp_url, client="test", wait_s=0) as opened:
        yield opened


def bus_over(transport: AmqpTransport, folder: Path) -> PlanesBus:
    clock = SystemClock()
    return PlanesBus(transport, transport, clock, client="test", quarantine=Quarantine(folder, clock))


# --- what differs ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "theirs", "says"),
    [
        ("x-delivery-limit", None, "x-delivery-limit is none, must be '1000'"),
        ("x-delivery-limit", 20, "x-delivery-limit is '20', must be '1000'"),
        ("x-max-length", 5, "x-max-length is '5', must be '1000000'"),
        ("x-overflow", "drop-head", "x-overflow is 'drop-head', must be 'reject-publish'"),
        ("x-dead-letter-exchange", "elsewhere", f"x-dead-letter-exchange is 'elsewhere', must be '{DEAD}'"),
        ("x-dead-letter-strategy", None, "x-dead-letter-strategy is none, must be 'at-least-once'"),
    ],
)
async def test_each_argument_that_differs_is_named(
    transport: AmqpTransport, channel: aio_pika.abc.AbstractChannel, argument: str, theirs: object, says: str
) -> None:
    arguments = {**AS_IT_MUST_BE, argument: theirs}
    if theirs is None:
        del arguments[argument]
    await channel.declare_queue(QUEUE, durable=True, arguments=arguments)
    with pytest.raises(TopologyError) as refused:
        await transport.declare(FILTERS, "recorder")
    line = str(refused.value)
    assert f"queue {QUEUE} differs from what wattbus declares: {says}: " in line
    assert f"rabbitmqctl delete_queue {QUEUE} --vhost test-" in line
    assert "\n" not in line
    assert refused.value.exit_code == 2
    assert transport.connected, "the rest goes on"


async def test_a_queue_of_another_kind_is_named(
    transport: AmqpTransport, channel: aio_pika.abc.AbstractChannel
) -> None:
    await channel.declare_queue(QUEUE, durable=True)
    with pytest.raises(TopologyError, match=f"queue {QUEUE} differs .* is none, must be "):
        async with transport.subscribe(FILTERS, "recorder"):
            pass


@pytest.mark.parametrize("name", [EXCHANGE, READINGS])
async def test_an_exchange_that_differs_is_named(
    broker: Broker, channel: aio_pika.abc.AbstractChannel, name: str
) -> None:
    await channel.declare_exchange(name, aio_pika.ExchangeType.FANOUT, durable=True)
    with pytest.raises(TopologyError, match=rf"exchange {name} differs .* type is 'fanout', must be 'topic'"):
        async with open_amqp(broker.amqp_url, client="test", wait_s=30):
            pass


async def test_after_an_outage_a_queue_that_differs_ends_who_reads_and_who_publishes(
    broker: Broker, channel: aio_pika.abc.AbstractChannel
) -> None:
    """Not a closed channel, nor an endless retry: whoever set the broker up anew must decide."""
    port = broker.ports["amqp"]
    async with (
        proxy_to(port) as proxy,
        open_amqp(broker.amqp_url.replace(f":{port}/", f":{proxy.port}/"), client="test", wait_s=0) as cut,
        cut.subscribe(FILTERS, "recorder") as kept,
    ):
        proxy.cut(reopen=False)
        await channel.queue_delete(QUEUE)
        await channel.declare_queue(QUEUE, durable=True)
        proxy.reopen()
        async with asyncio.timeout(15):
            with pytest.raises(TopologyError, match=f"queue {QUEUE} differs"):
                await anext(kept)
        with pytest.raises(TopologyError, match=f"queue {QUEUE} differs"):
            await cut.publish(Outgoing(ADDRESS.name, b"1", DeliveryClass.READING))


def test_other_refusals_are_no_topology() -> None:
    assert what_differs("PRECONDITION_FAILED - unknown delivery tag 7") is None


# --- dead letters ---------------------------------------------------------------


async def test_what_is_delivered_too_often_ends_in_quarantine_with_the_reason(
    transport: AmqpTransport,
    channel: aio_pika.abc.AbstractChannel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(topology.DURABLE, "x-delivery-limit", 5)
    bus = bus_over(transport, tmp_path / "quarantine")
    await bus.declare(topics.METER_READING, durable="recorder")
    await bus.publish(ADDRESS, reading(1))
    queue = await channel.get_queue(QUEUE)
    while message := await queue.get(timeout=5, fail=False):
        await message.nack(requeue=True)
    async with bus.subscribe(topics.METER_READING, durable="recorder") as deliveries:
        await bus.publish(ADDRESS, reading(2))
        async with asyncio.timeout(10):
            delivery = await anext(deliveries)
            waiting = asyncio.create_task(anext(deliveries))
            while bus.refused == 0:  # noqa: ASYNC110 - it is a count
                await asyncio.sleep(0.02)
        assert delivery.message == reading(2)
        await delivery.ack()
        waiting.cancel()
        await asyncio.wait([waiting])
    [file] = (tmp_path / "quarantine").glob("*.jsonl")
    [line] = file.read_text().splitlines()
    assert f"delivered from {QUEUE} " in line
    assert "never acknowledged" in line
    assert ADDRESS.name in line
    dead = await channel.declare_queue(DEAD, passive=True)
    assert dead.declaration_result.message_count == 0


async def test_a_dead_letter_that_cannot_be_put_aside_stays_with_the_broker(
    transport: AmqpTransport, channel: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    await transport.declare(FILTERS, "recorder")
    dead = await channel.get_exchange(DEAD)
    await dead.publish(aio_pika.Message(encode(reading(1))), topology.key_of(ADDRESS.name))
    (tmp_path / "file").write_text("no folder can be made here")
    bus = bus_over(transport, tmp_path / "file" / "quarantine")
    deliveries: Any
    async with bus.subscribe(topics.METER_READING, durable="recorder") as deliveries:
        waiting = asyncio.create_task(anext(deliveries))
        async with asyncio.timeout(10):
            while not deliveries._unkept:  # noqa: ASYNC110 - the port has no event for it
                await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert bus.refused == 0
    queue = await channel.get_queue(DEAD)
    async with asyncio.timeout(10):
        while (message := await queue.get(timeout=5, fail=False)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert message.body == encode(reading(1))
    await message.ack()
