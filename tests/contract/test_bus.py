"""What every transport promises, through the bus and, for what the bus would not send, under it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from broker.errors import BusError, BusRefusedError, NotRoutedError
from broker.port import Delivery
from broker.transport import Filter, Outgoing
from contracts import topics
from contracts.codec import MAX_BYTES, encode
from contracts.instant import Instant
from contracts.messages import (
    Alert,
    DispatchCommand,
    Forecast,
    Message,
    MeterReading,
    PowerSnapshot,
    PvReading,
    Status,
)
from contracts.topics import Address, DeliveryClass
from runtime.clock import SystemClock
from tests.contract.conftest import PLACES, WINDOW, Client, Connect, Place

through_the_window_too = pytest.mark.parametrize("place", [*PLACES, *WINDOW], indirect=True)

NOW = Instant.parse("2026-06-21T12:00:00Z")


def meter(house: str) -> Address[MeterReading]:
    return topics.METER_READING.at(house=house, meter="main")


def reading(house: str, seq: int) -> MeterReading:
    return MeterReading(house=house, meter="main", boot=1, seq=seq, timestamp=NOW, power_w=500.5)


def snapshot(house: str, load_kw: float) -> PowerSnapshot:
    return PowerSnapshot(
        house=house,
        timestamp=NOW,
        pv_kw=0,
        house_load_kw=load_kw,
        battery_power_kw=0,
        ev_power_kw=0,
        grid_import_kw=load_kw,
        grid_export_kw=0,
    )


def command(house: str, seq: int, valid_s: float = 30) -> DispatchCommand:
    now = SystemClock().now()
    return DispatchCommand(
        command_id=f"c-{seq}",
        house=house,
        der_id="battery",
        issuer="orchestrator",
        epoch=1,
        seq=seq,
        issued_at=now,
        valid_until=now.after(valid_s),
        setpoint_kw=1.5,
    )


async def take(deliveries: AsyncIterator[Delivery[Message]], count: int) -> list[Delivery[Message]]:
    async with asyncio.timeout(20):
        return [await anext(deliveries) for _ in range(count)]


async def messages(deliveries: AsyncIterator[Delivery[Message]], count: int) -> list[Message]:
    """The next ones, each acknowledged: some brokers send no more before that (HiveMQ, RabbitMQ's MQTT)."""
    taken = []
    for _ in range(count):
        [delivery] = await take(deliveries, 1)
        taken.append(delivery.message)
        await delivery.ack()
    return taken


async def seqs(deliveries: AsyncIterator[Delivery[Message]], count: int) -> list[int]:
    """The `seq` of the next ones, each acknowledged."""
    return [message.seq for message in await messages(deliveries, count)]


# --- readings -----------------------------------------------------------------


async def test_a_reading_reaches_its_reader_who_is_bound_on_entering(
    one: Client, other: Client, house: str, queue: str
) -> None:
    async with other.bus.subscribe(topics.METER_READING.of(house=house), durable=queue) as deliveries:
        await one.bus.publish(meter(house), reading(house, 1))
        [delivery] = await take(deliveries, 1)
        await delivery.ack()
    assert delivery.message == reading(house, 1)
    assert delivery.address.name == f"wattbus/{house}/meter/main/reading"
    assert delivery.address.ids == {"house": house, "meter": "main"}
    assert not delivery.retained


async def test_what_was_not_acknowledged_comes_again_and_nothing_else(
    one: Client, connect: Connect, house: str, queue: str
) -> None:
    wanted = topics.METER_READING.of(house=house)
    async with connect("reader") as reader, reader.bus.subscribe(wanted, durable=queue):
        pass
    for seq in (1, 2, 3):
        await one.bus.publish(meter(house), reading(house, seq))
    async with connect("reader") as reader, reader.bus.subscribe(wanted, durable=queue) as deliveries:
        first, _second, third = await take(deliveries, 3)
        await first.ack()
        await third.ack()
    await one.bus.publish(meter(house), reading(house, 4))
    async with connect("reader") as reader, reader.bus.subscribe(wanted, durable=queue) as deliveries:
        assert await seqs(deliveries, 2) == [2, 4]
        await one.bus.publish(meter(house), reading(house, 5))
        assert await seqs(deliveries, 1) == [5]


async def test_a_reader_that_leaves_and_comes_back_on_its_connection_reads_on(
    one: Client, other: Client, house: str, queue: str
) -> None:
    wanted = topics.METER_READING.of(house=house)
    for seq in range(5):
        async with other.bus.subscribe(wanted, durable=queue) as deliveries:
            await one.bus.publish(meter(house), reading(house, seq))
            assert await seqs(deliveries, 1) == [seq]


async def test_a_declared_queue_keeps_before_its_reader_has_come(
    place: Place, one: Client, other: Client, house: str, queue: str
) -> None:
    wanted = topics.METER_READING.of(house=house)
    await one.bus.declare(wanted, durable=queue)
    if not place.declares:
        async with other.bus.subscribe(wanted, durable=queue):
            pass  # an MQTT reader must have been there once
    await one.bus.publish(meter(house), reading(house, 1))
    async with other.bus.subscribe(wanted, durable=queue) as deliveries:
        assert await seqs(deliveries, 1) == [1]


async def test_each_durable_reader_has_them_all(one: Client, other: Client, house: str, queue: str) -> None:
    wanted = topics.METER_READING.of(house=house)
    async with (
        other.bus.subscribe(wanted, durable=f"{queue}-a") as at_a,
        other.bus.subscribe(wanted, durable=f"{queue}-b") as at_b,
    ):
        for seq in range(3):
            await one.bus.publish(meter(house), reading(house, seq))
        assert await seqs(at_a, 3) == [0, 1, 2]
        assert await seqs(at_b, 3) == [0, 1, 2]


async def test_a_reading_that_nobody_keeps_is_not_published(
    place: Place, one: Client, other: Client, house: str
) -> None:
    if not place.notices_unrouted:
        return  # MQTT 3.1.1 has no word for it: the publisher can't know
    with pytest.raises(NotRoutedError, match=house):
        await one.bus.publish(meter(house), reading(house, 1))
    if place.declares:
        # One who only looks keeps nothing. (An MQTT broker can't tell him from one who keeps.)
        async with other.bus.subscribe(topics.METER_READING.of(house=house)):
            with pytest.raises(NotRoutedError, match=house):
                await one.bus.publish(meter(house), reading(house, 2))


async def test_a_reading_is_shown_to_those_who_only_look(
    one: Client, other: Client, house: str, queue: str
) -> None:
    wanted = topics.METER_READING.of(house=house)
    async with (
        other.bus.subscribe(wanted, durable=queue) as kept,
        other.bus.subscribe(wanted) as looked_at,
    ):
        now = SystemClock().now()
        for seq in (1, 2):
            await one.bus.publish(meter(house), replace(reading(house, seq), timestamp=now))
        assert await seqs(looked_at, 2) == [1, 2]
        assert await seqs(kept, 2) == [1, 2]


# On MQTT alone the topic that keeps is the one that shows: there who looks ignores what is older.
@pytest.mark.parametrize("place", ["memory", "amqp"], indirect=True)
async def test_a_backlog_is_kept_but_not_shown(one: Client, other: Client, house: str, queue: str) -> None:
    wanted = topics.METER_READING.of(house=house)
    now = SystemClock().now()
    async with (
        other.bus.subscribe(wanted, durable=queue) as kept,
        other.bus.subscribe(wanted) as looked_at,
    ):
        for seq, age_s in ((1, 3600), (2, 31), (3, 2), (4, 5), (5, 0)):
            await one.bus.publish(meter(house), replace(reading(house, seq), timestamp=now.after(-age_s)))
        assert await seqs(kept, 5) == [1, 2, 3, 4, 5]
        assert await seqs(looked_at, 2) == [3, 5]


async def test_order_is_kept(one: Client, other: Client, house: str, queue: str) -> None:
    async with other.bus.subscribe(topics.METER_READING.of(house=house), durable=queue) as deliveries:
        for seq in range(100):
            await one.bus.publish(meter(house), reading(house, seq))
        assert await seqs(deliveries, 100) == list(range(100))


async def test_a_thousand_at_once_are_confirmed_and_delivered_once(
    one: Client, other: Client, house: str, queue: str
) -> None:
    async with other.bus.subscribe(topics.METER_READING.of(house=house), durable=queue) as deliveries:
        reader = asyncio.create_task(seqs(deliveries, 1000))
        async with asyncio.TaskGroup() as tasks:
            for seq in range(1000):
                tasks.create_task(one.bus.publish(meter(house), reading(house, seq)))
        assert sorted(await reader) == list(range(1000))
        await one.bus.publish(meter(house), reading(house, 1000))
        assert await seqs(deliveries, 1) == [1000]


# --- which topics -------------------------------------------------------------


async def test_topics_may_be_several_and_narrowed(one: Client, other: Client, house: str, queue: str) -> None:
    neighbour = f"{house}-b"
    pv = topics.PV_READING.at(house=house, meter="main")
    produced = PvReading(
        house=house, meter="main", boot=1, seq=2, timestamp=NOW, meter_w=500, pv_w=1500, sum_w=2000
    )
    both = (topics.METER_READING.of(house=house), topics.PV_READING.of(house=house))
    async with (
        other.bus.subscribe(topics.METER_READING.of(house=neighbour), durable=f"{queue}-b") as at_neighbour,
        other.bus.subscribe(*both, durable=queue) as deliveries,
    ):
        await one.bus.publish(meter(neighbour), reading(neighbour, 9))
        await one.bus.publish(meter(house), reading(house, 1))
        await one.bus.publish(pv, produced)
        assert await messages(deliveries, 2) == [reading(house, 1), produced]
        assert await seqs(at_neighbour, 1) == [9]


@through_the_window_too
async def test_a_wildcard_hears_every_house(one: Client, other: Client, house: str) -> None:
    async with other.bus.subscribe(topics.DER_ACK, topics.DER_COMMAND) as deliveries:
        for name in (f"{house}-a", f"{house}-b"):
            address = topics.DER_COMMAND.at(house=name, der_id="battery")
            await one.bus.publish(address, command(name, 1))
        taken = await take(deliveries, 2)
    assert {delivery.address.ids["house"] for delivery in taken} == {f"{house}-a", f"{house}-b"}


# --- live, states, commands ---------------------------------------------------


@through_the_window_too
@pytest.mark.parametrize("wildcard", [False, True])
async def test_a_late_subscriber_has_the_newest_state(
    one: Client, other: Client, house: str, *, wildcard: bool
) -> None:
    address = topics.SNAPSHOT.at(house=house)
    for load_kw in (1.0, 2.0):
        await one.bus.publish(address, snapshot(house, load_kw))
    wanted = topics.SNAPSHOT if wildcard else topics.SNAPSHOT.of(house=house)
    async with other.bus.subscribe(wanted) as deliveries:
        old = await next_of(deliveries, house)
        assert old.message == snapshot(house, 2.0)
        assert old.retained or not other.transport.keeps_state
        await one.bus.publish(address, snapshot(house, 3.0))
        while (new := await next_of(deliveries, house)).message == old.message:
            pass  # retained, and answered for as well
    assert new.message == snapshot(house, 3.0)
    assert not new.retained


async def next_of(deliveries: AsyncIterator[Delivery[Message]], house: str) -> Delivery[Message]:
    """The next of this house: a shared broker retains the states of other tests too."""
    while True:
        [delivery] = await take(deliveries, 1)
        if delivery.address.ids["house"] == house:
            return delivery


@through_the_window_too
async def test_live_and_commands_are_for_those_who_are_there(one: Client, other: Client, house: str) -> None:
    der = {"house": house, "der_id": "battery"}
    await one.bus.publish(topics.DER_COMMAND.at(**der), command(house, 1))
    async with other.bus.subscribe(topics.DER_COMMAND.of(**der)) as early:
        await one.bus.publish(topics.DER_COMMAND.at(**der), command(house, 2))
        assert await seqs(early, 1) == [2]
        async with other.bus.subscribe(topics.DER_COMMAND.of(**der)) as late:
            await one.bus.publish(topics.DER_COMMAND.at(**der), command(house, 3))
            assert await seqs(late, 1) == [3]
        assert await seqs(early, 1) == [3]


@pytest.mark.parametrize("place", ["mqtt-hivemq", "mqtt-mosquitto"], indirect=True)
async def test_a_command_that_nobody_took_in_time_is_dropped(
    one: Client, other: Client, house: str, queue: str
) -> None:
    """As MQTT 5 has it, seen by a reader who was away; RabbitMQ's is in test_amqp.py."""
    name = topics.DER_COMMAND.at(house=house, der_id="battery").name
    wanted = (Filter(name, DeliveryClass.COMMAND),)
    async with other.transport.subscribe(wanted, queue):
        pass
    for payload, expires_s in ((b"short", 1.0), (b"long", 60.0)):
        await one.transport.publish(Outgoing(name, payload, DeliveryClass.COMMAND, expires_s))
    await asyncio.sleep(2.5)
    async with other.transport.subscribe(wanted, queue) as incoming, asyncio.timeout(10):
        assert (await anext(incoming)).payload == b"long"


@through_the_window_too
async def test_one_who_leaves_takes_nothing_from_those_who_stay(
    one: Client, other: Client, house: str
) -> None:
    address = topics.DER_COMMAND.at(house=house, der_id="battery")
    async with other.bus.subscribe(topics.DER_COMMAND.of(house=house)) as staying:
        async with other.bus.subscribe(topics.DER_COMMAND.of(house=house)) as leaving:
            await one.bus.publish(address, command(house, 1))
            assert await seqs(leaving, 1) == [1]
        await one.bus.publish(address, command(house, 2))
        assert await seqs(staying, 2) == [1, 2]


# --- bad input ----------------------------------------------------------------


async def test_what_cannot_be_decoded_is_kept_apart_with_its_reason(
    one: Client, other: Client, connect: Connect, house: str, queue: str
) -> None:
    wanted = topics.METER_READING.of(house=house)
    bad = {
        "malformed": b"{not json",
        "missing required field": b'{"house":"%b"}' % house.encode(),
        "another": encode(reading("another", 1)),
        "out of range": encode(reading(house, 1)).replace(b"500.5", b"1e999"),
        "bytes: more than": b" " * (MAX_BYTES + 1),
    }
    async with other.bus.subscribe(wanted, durable=queue) as deliveries:
        for payload in bad.values():
            await one.transport.publish(Outgoing(meter(house).name, payload, DeliveryClass.READING))
        await one.bus.publish(meter(house), reading(house, 2))
        assert await seqs(deliveries, 1) == [2]
    assert other.bus.refused == len(bad)
    for reason in bad:
        assert reason in other.reasons()
    async with connect("next") as after, after.bus.subscribe(wanted, durable=queue) as deliveries:
        await one.bus.publish(meter(house), reading(house, 3))
        assert await seqs(deliveries, 1) == [3]
        assert after.bus.refused == 0


async def test_what_is_rejected_is_kept_apart_and_does_not_come_again(
    one: Client, other: Client, connect: Connect, house: str, queue: str
) -> None:
    wanted = topics.METER_READING.of(house=house)
    async with other.bus.subscribe(wanted, durable=queue) as deliveries:
        await one.bus.publish(meter(house), reading(house, 1))
        [delivery] = await take(deliveries, 1)
        await delivery.reject("time runs backwards")
    assert "time runs backwards" in other.reasons()
    async with connect("next") as after, after.bus.subscribe(wanted, durable=queue) as deliveries:
        await one.bus.publish(meter(house), reading(house, 2))
        assert await seqs(deliveries, 1) == [2]


@through_the_window_too
async def test_a_megabyte_arrives_whole(one: Client, other: Client, house: str) -> None:
    powers = [round(1.5 + i % 7, 1) for i in range(MAX_BYTES // 4 - 100)]
    big = Forecast(
        house=house, kind="load", name="big", issued_at=NOW, start=NOW, step_s=900, power_kw=powers
    )
    assert MAX_BYTES * 0.99 < len(encode(big)) <= MAX_BYTES
    async with other.bus.subscribe(topics.FORECAST.of(house=house)) as deliveries:
        await one.bus.publish(topics.FORECAST.at(house=house, kind="load"), big)
        [delivery] = await take(deliveries, 1)
    assert delivery.message == big


async def test_every_letter_arrives(one: Client, other: Client, house: str, queue: str) -> None:
    alert = Alert(
        house=house,
        source="meter",
        boot=1,
        seq=1,
        timestamp=NOW,
        severity="critical",
        name="gap",
        text='Zähler ⚡ 電力 \u0001 "\\" \U0001f50b',
    )
    async with other.bus.subscribe(topics.ALERT.of(house=house), durable=queue) as deliveries:
        await one.bus.publish(topics.ALERT.at(house=house, source="meter"), alert)
        [delivery] = await take(deliveries, 1)
        await delivery.ack()
    assert delivery.message == alert


# --- the connection -----------------------------------------------------------


@through_the_window_too
async def test_after_leaving_nothing_is_published(place: Place, connect: Connect, house: str) -> None:
    async with connect("gone") as gone:
        assert gone.bus.connected
    if not place.closes:
        return  # memory is there as long as the process is
    status = Status(house=house, device="main", online=True, timestamp=NOW)
    with pytest.raises(BusError):
        await gone.bus.publish(topics.STATUS.at(house=house, device="main", **{"class": "meter"}), status)
    assert not gone.bus.connected


async def test_a_wrong_password_is_refused_and_not_told(place: Place) -> None:
    if not place.asks_password:
        return  # these let everybody in, as their images do by default
    wrong = place.url.replace("of-no-use-elsewhere", "secret-but-wrong")
    assert wrong != place.url
    with pytest.raises(BusRefusedError, match=r"127\.0\.0\.1:\d+.*refused.*user") as caught:
        await _open_and_close(wrong)
    assert "secret-but-wrong" not in str(caught.value)


async def _open_and_close(url: str) -> None:
    from broker.connect import _open

    async with _open(url, "intruder", 0, None):
        pass
