"""Who may say and hear what, on real brokers: every role, every topic, both ways; denied is denied."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from broker.topology import EXCHANGE, READINGS, key_of, name_of, publishes_to
from contracts import topics
from contracts.topics import TOPICS, Topic
from tests.access_probe import Probe, Refused, probe, until
from tests.access_site import PROBER, Guarded, accounts, client_of
from tests.broker_life import LOOPBACK, PASSWORD, USER
from wattbus.access.roles import Account

Matrix = set[tuple[str, str]]
"""An account's name, and an address."""

ACCOUNTS = accounts()
SLOTS = {"meter": "main", "der_id": "battery", "tariff": "flat", "kind": "load", "user": "ann"}
LAST = "wattbus/site/bus/the-last/get"


def addresses() -> list[str]:
    """Each topic in each house, with every device, source, user and client that some account may name."""
    narrowed = {topic.filter: topic for one in ACCOUNTS for topic in (*one.rights.publish, *one.rights.hear)}
    found: dict[str, None] = {}
    for topic in (*TOPICS, *narrowed.values()):
        for house in ("house-d", "house-e", "plant-p", "site"):
            open_slots = {slot: SLOTS.get(slot, "other") for slot in topic.slots if slot != "house"}
            ids = {**open_slots, **({"house": house} if "house" in topic.slots else {})}
            found[topic.at(**ids).name] = None
    return list(found)


ADDRESSES = addresses()


def allowed(which: str) -> Matrix:
    def rights(account: Account) -> tuple[Topic[Any], ...]:
        if which == "publish":
            return account.rights.publish
        return account.rights.subscribes if which == "subscribe" else account.rights.hear

    return {
        (account.name, name)
        for account in ACCOUNTS
        for name in ADDRESSES
        if any(topic.match(name) is not None for topic in rights(account))
    }


@pytest.fixture(params=["mosquitto", "hivemq"])
def mqtt(request: pytest.FixtureRequest, access_broker: Callable[[str], Guarded]) -> Guarded:
    return access_broker(request.param)


@pytest.fixture
def rabbitmq(access_broker: Callable[[str], Guarded]) -> Guarded:
    return access_broker("rabbitmq")


# --- MQTT ---------------------------------------------------------------------


def test_who_may_publish_what_over_mqtt(mqtt: Guarded) -> None:
    with probe(mqtt, PROBER, PROBER) as observer:
        observer.subscribe("#")
        for account in ACCOUNTS:
            with probe(mqtt, account.name, client_of(account)) as one:
                publish_everything(one, account.name)
        observer.publish(LAST, b"last")
        until(observer.heard, LAST, b"last")
    arrived = {(who.decode(), name) for name, payloads in observer.heard.items() for who in payloads}
    assert arrived - {("last", LAST)} == allowed("publish")


def publish_everything(one: Probe, who: str) -> None:
    for name in (*ADDRESSES, "wattbus/house-d", "$SYS/broker/x", "other/house-d/meter/main/reading"):
        with suppress(Refused):
            one.publish(name, who.encode())


def test_who_may_subscribe_to_what_over_mqtt(mqtt: Guarded) -> None:
    listeners = {account.name: Probe(mqtt, account.name, client_of(account)) for account in ACCOUNTS}
    try:
        for listener in listeners.values():
            subscribe_everything(listener)
        with probe(mqtt, PROBER, PROBER) as publisher:
            for name in ADDRESSES:
                publisher.publish(name, name.encode())
            publisher.publish(LAST, b"last")  # all of them hear this one
        for listener in listeners.values():
            until(listener.heard, LAST, b"last")
    finally:
        for listener in listeners.values():
            listener.close()
    arrived = {(who, name) for who, listener in listeners.items() for name in listener.heard}
    assert {(who, name) for who, name in arrived if name != LAST} == allowed("subscribe")


def subscribe_everything(one: Probe) -> None:
    greedy = (
        "#",
        "wattbus/#",
        "wattbus/+/+/+/+",
        "wattbus/+/der/+/command",
        "$share/all/wattbus/#",
        "$SYS/#",
    )
    for pattern in (*ADDRESSES, *greedy, LAST):
        with suppress(Refused):
            one.subscribe(pattern)


# --- RabbitMQ -----------------------------------------------------------------


async def connected(broker: Guarded, user: str) -> AbstractConnection:
    context = broker.site.context(user)
    where = f"{LOOPBACK}:{broker.port}"
    url = f"amqps://{USER}:{PASSWORD}@{where}/" if user == PROBER else f"amqps://{where}/?auth=external"
    return await aio_pika.connect(url, ssl_context=context)


class Heard:
    """What an exclusive queue has been sent."""

    def __init__(self) -> None:
        self.messages: set[tuple[str, str]] = set()
        self.last = asyncio.Event()

    async def take(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        name = name_of(message.routing_key or "")
        if name == LAST:
            self.last.set()
        else:
            self.messages.add((message.body.decode(), name))


@pytest.mark.parametrize("exchange", [EXCHANGE, READINGS])
async def test_who_may_publish_what_over_amqp(rabbitmq: Guarded, exchange: str) -> None:
    async with await connected(rabbitmq, PROBER) as prober:
        channel = await prober.channel()
        queue, heard = await channel.declare_queue(exclusive=True), Heard()
        await queue.bind(exchange, "#")
        await queue.consume(heard.take, no_ack=True)
        for account in ACCOUNTS:
            async with await connected(rabbitmq, account.name) as connection:
                for name in (*ADDRESSES, "wattbus/house-d"):
                    await try_publish(connection, publishes_to(exchange, account.owner), name, account.name)
                # Nobody may write to what is heard: there RabbitMQ asks for the exchange's name alone.
                await try_publish(
                    connection, exchange, ADDRESSES[0], f"{account.name}, past its own exchange"
                )
        await publish(channel, exchange, LAST, "last")
        await asyncio.wait_for(heard.last.wait(), 10)
    wanted = allowed("publish")
    if exchange == READINGS:
        wanted = {(who, name) for who, name in wanted if is_reading(name)}
    assert heard.messages == wanted


def is_reading(name: str) -> bool:
    address = topics.find(name)
    return address is not None and address.topic.delivery is topics.DeliveryClass.READING


async def publish(channel: aio_pika.abc.AbstractChannel, exchange: str, name: str, text: str) -> None:
    to = await channel.get_exchange(exchange, ensure=False)
    await to.publish(aio_pika.Message(text.encode()), key_of(name), mandatory=False)


async def try_publish(connection: AbstractConnection, exchange: str, name: str, text: str) -> None:
    # An account that publishes no readings has no exchange for them.
    with suppress(ChannelAccessRefused, ChannelNotFoundEntity):
        async with connection.channel() as channel:
            await publish(channel, exchange, name, text)


async def test_who_may_subscribe_to_what_over_amqp(rabbitmq: Guarded) -> None:
    heard = {account.name: Heard() for account in ACCOUNTS}
    connections = {name: await connected(rabbitmq, name) for name in heard}
    try:
        for name, connection in connections.items():
            channel = await connection.channel()
            queue = await channel.declare_queue(exclusive=True)
            await queue.consume(heard[name].take, no_ack=True)
            greedy = ("#", "wattbus.#", "*.*.*.*.*", "wattbus.*.der.#")
            for key in (*map(key_of, ADDRESSES), key_of(LAST), *greedy):
                await try_bind(connection, queue.name, EXCHANGE, key)
            for key in (*greedy, key_of(ADDRESSES[0])):  # nobody may read there, whatever the key
                await try_bind(connection, queue.name, READINGS, key)
        async with await connected(rabbitmq, PROBER) as prober:
            channel = await prober.channel()
            for name in ADDRESSES:
                for exchange in (EXCHANGE, READINGS):
                    await publish(channel, exchange, name, name)
            await publish(channel, EXCHANGE, LAST, "last")
        await asyncio.gather(*(asyncio.wait_for(one.last.wait(), 10) for one in heard.values()))
    finally:
        for connection in connections.values():
            await connection.close()
    arrived = {(who, name) for who, one in heard.items() for _, name in one.messages}
    assert arrived == {(who, name) for who, name in allowed("hear") if name != LAST}


async def try_bind(connection: AbstractConnection, queue: str, exchange: str, key: str) -> None:
    with suppress(ChannelAccessRefused):
        async with connection.channel() as channel:
            await (await channel.get_queue(queue, ensure=False)).bind(exchange, key)
