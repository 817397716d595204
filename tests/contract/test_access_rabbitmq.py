"""What a stolen account may try at RabbitMQ beyond its rights, and what the operator's side asks of it."""

import asyncio
import http.server
import json
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import quote

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel as UnderlayChannel
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource, ChannelPreconditionFailed

from broker.amqp import AmqpTransport, open_amqp
from broker.topology import EXCHANGE, READINGS, key_of, publishes_to, queue_of
from broker.transport import Filter, Incoming, Outgoing
from contracts import topics
from contracts.topics import DeliveryClass
from runtime.errors import UsageError
from tests.access_site import DEVICES, Guarded
from tests.broker_life import LOOPBACK
from wattbus.access.rabbitmq import Management, ManagementError
from wattbus.access.roles import Devices, house_account

THIEF, VICTIM = "house.house-d", "house.house-e"
OWN, OWN_READINGS = publishes_to(EXCHANGE, THIEF), publishes_to(READINGS, THIEF)
COMMAND = topics.DER_COMMAND.at(house="house-e", der_id="battery").name
COMMANDS = (Filter("wattbus/house-e/der/+/command", DeliveryClass.COMMAND),)
READING = topics.METER_READING.at(house="house-e", meter="main").name
MINE = key_of(topics.DER_TELEMETRY.at(house="house-d", der_id="battery").name)
HEARD = "wattbus.house-d.bus.check.get"
"""What a house may both say and hear."""
ASKED = "wattbus.site.bus.*.get"
"""What every house hears."""


@pytest.fixture
def broker(access_broker: Callable[[str], Guarded]) -> Guarded:
    return access_broker("rabbitmq")


@asynccontextmanager
async def raw(broker: Guarded, user: str) -> AsyncIterator[AbstractConnection]:
    """As a thief would connect who has a house's certificate, and none of our code."""
    url = f"amqps://{LOOPBACK}:{broker.port}/?auth=external"
    async with await aio_pika.connect(url, ssl_context=broker.site.context(user)) as connection:
        yield connection


def opened(broker: Guarded, user: str) -> Any:
    return open_amqp(broker.url(user), client="test", wait_s=0)


async def channel_of(connection: AbstractConnection) -> UnderlayChannel:
    return await (await connection.channel()).get_underlay_channel()


async def payloads_until(incoming: AsyncIterator[Incoming], last: bytes) -> list[bytes]:
    """What comes, each acknowledged; of the recorder's queue with what other tests have left there."""
    found: list[bytes] = []
    async with asyncio.timeout(10):
        while last not in found:
            one = await anext(incoming)
            found.append(one.payload)
            await one.ack()
    return found


# --- speaking for another -----------------------------------------------------------


async def bury(connection: AbstractConnection, exchange: str, key: str) -> None:
    """Have a queue of one's own bury what it gets, under another's key."""
    channel = await connection.channel()
    arguments = {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": key, "x-message-ttl": 0}
    queue = await channel.declare_queue(exclusive=True, arguments=arguments)
    await queue.bind(EXCHANGE, HEARD)
    own = await channel.get_exchange(OWN, ensure=False)
    await own.publish(aio_pika.Message(b"forged"), HEARD)
    await asyncio.sleep(0.5)  # it takes a way of its own


async def test_no_dead_letter_commands_another_house(broker: Guarded) -> None:
    async with (
        opened(broker, VICTIM) as house,
        house.subscribe(COMMANDS, None) as commands,
        opened(broker, "service.orchestrator") as orchestrator,
        raw(broker, THIEF) as thief,
    ):
        await bury(thief, OWN, key_of(COMMAND))
        await orchestrator.publish(Outgoing(COMMAND, b"true", DeliveryClass.COMMAND))
        assert await payloads_until(commands, b"true") == [b"true"]


async def test_no_dead_letter_is_recorded_as_anothers_reading(broker: Guarded) -> None:
    kept = (Filter(topics.METER_READING.filter, DeliveryClass.READING),)
    async with (
        opened(broker, "service.recorder") as recorder,
        recorder.subscribe(kept, topics.RECORDER) as readings,
        opened(broker, VICTIM) as house,
        raw(broker, THIEF) as thief,
    ):
        await bury(thief, OWN_READINGS, key_of(READING))
        await house.publish(Outgoing(READING, b"true", DeliveryClass.READING))
        assert b"forged" not in await payloads_until(readings, b"true")


async def test_a_header_that_names_another_reaches_nobody(broker: Guarded) -> None:
    """RabbitMQ refuses it from 4.1 on; before, it delivers it under the sender's own key."""
    house: AmqpTransport
    async with (
        opened(broker, VICTIM) as house,
        house.subscribe(COMMANDS, None) as commands,
        opened(broker, "service.orchestrator") as orchestrator,
        raw(broker, THIEF) as thief,
    ):
        refused = 0
        for header in ("CC", "BCC"):
            own = await (await thief.channel()).get_exchange(OWN, ensure=False)
            message = aio_pika.Message(b"pushed", headers={header: [key_of(COMMAND)]})
            try:
                await own.publish(message, MINE, mandatory=False)
            except ChannelAccessRefused:
                refused += 1
        await orchestrator.publish(Outgoing(COMMAND, b"true", DeliveryClass.COMMAND))
        assert await payloads_until(commands, b"true") == [b"true"]
        assert house.dropped + refused == 2


async def test_a_queue_that_refuses_makes_no_command_fail(broker: Guarded) -> None:
    """Whoever may hear commands may bind a queue to them that takes none, and RabbitMQ blames the publisher."""
    arguments: dict[str, Any] = {"x-max-length": 0, "x-overflow": "reject-publish"}
    async with (
        opened(broker, VICTIM) as house,
        house.subscribe(COMMANDS, None) as commands,
        opened(broker, "service.orchestrator") as orchestrator,
        raw(broker, "dashboard.wall") as thief,
    ):
        queue = await (await thief.channel()).declare_queue(exclusive=True, arguments=arguments)
        await queue.bind(EXCHANGE, "wattbus.*.der.*.command")
        await orchestrator.publish(Outgoing(COMMAND, b"true", DeliveryClass.COMMAND))
        assert await payloads_until(commands, b"true") == [b"true"]


# --- others' queues and exchanges ----------------------------------------------------


async def test_anothers_live_queue_is_its_own(broker: Guarded) -> None:
    """Also for who knows its name, which the broker makes up."""
    async with raw(broker, VICTIM) as house, raw(broker, THIEF) as thief:
        theirs = await channel_of(house)
        queue = (await theirs.queue_declare(exclusive=True, auto_delete=True)).queue or ""
        await theirs.queue_bind(queue, EXCHANGE, ASKED)

        async def take(_: object) -> None:
            raise AssertionError

        attempts: list[Callable[[UnderlayChannel], Awaitable[object]]] = [
            lambda c: c.basic_consume(queue, take),
            lambda c: c.basic_get(queue),
            lambda c: c.queue_purge(queue),
            lambda c: c.queue_delete(queue),
            lambda c: c.queue_bind(queue, EXCHANGE, ASKED),
            lambda c: c.queue_unbind(queue, EXCHANGE, ASKED),
        ]
        for attempt in attempts:
            with pytest.raises(ChannelLockedResource):
                await attempt(await channel_of(thief))
        with pytest.raises(ChannelAccessRefused):
            await (await channel_of(thief)).basic_publish(b"x", routing_key=queue)


async def test_nothing_can_be_declared_but_a_short_lived_queue(broker: Guarded) -> None:
    async with raw(broker, THIEF) as thief:
        attempts: list[Callable[[UnderlayChannel], Awaitable[object]]] = [
            lambda c: c.queue_declare("amq.gen-mine"),
            lambda c: c.exchange_declare("amq.gen-mine", exchange_type="fanout"),
            lambda c: c.exchange_declare("mine", exchange_type="fanout"),
            lambda c: c.exchange_delete(OWN),
            lambda c: c.exchange_bind(EXCHANGE, OWN, "#"),
            lambda c: c.exchange_unbind(EXCHANGE, OWN, MINE),
            lambda c: c.exchange_bind(OWN, publishes_to(EXCHANGE, VICTIM), "#"),
            lambda c: c.exchange_bind(publishes_to(EXCHANGE, VICTIM), EXCHANGE, HEARD),
        ]
        for exchange in ("", EXCHANGE, READINGS, publishes_to(EXCHANGE, VICTIM)):
            arguments = {
                "x-dead-letter-exchange": exchange,
                "x-dead-letter-routing-key": queue_of("recorder"),
            }
            attempts.append(lambda c, given=arguments: c.queue_declare(arguments=given))  # type: ignore[misc]
        for attempt in attempts:
            with pytest.raises(ChannelAccessRefused):
                await attempt(await channel_of(thief))
        for kind in ("stream", "quorum"):  # which the policy for what is left over would not end
            with pytest.raises(ChannelPreconditionFailed):
                await (await channel_of(thief)).queue_declare(durable=True, arguments={"x-queue-type": kind})


async def declare_many(channel: UnderlayChannel) -> None:
    for _ in range(1000):
        await channel.queue_declare(exclusive=True)


async def test_the_number_of_queues_has_an_end(broker: Guarded) -> None:
    told = json.loads((broker.site.folder / "definitions.json").read_bytes())
    [limit] = [one for one in told["parameters"] if one["component"] == "vhost-limits"]
    assert limit["value"]["max-queues"] > 1000
    limit["value"]["max-queues"] = 5 + len(await asyncio.to_thread(broker.asked, "queues"))
    try:
        await asyncio.to_thread(broker.management.load, json.dumps(told).encode())
        async with raw(broker, THIEF) as thief:
            channel = await channel_of(thief)
            with pytest.raises(ChannelPreconditionFailed, match="queue limit"):
                await declare_many(channel)
    finally:
        await asyncio.to_thread(broker.reload)


async def test_what_the_definitions_do_not_name_leads_nowhere(broker: Guarded) -> None:
    """A way that a house has made, one of a device that it has no more, and those of a house that is gone."""
    name, site = "house.house-t", broker.site
    own = publishes_to(EXCHANGE, name)

    async def ways() -> set[tuple[str, str]]:
        told = await asyncio.to_thread(broker.asked, f"exchanges/%2F/{quote(own)}/bindings/source")
        told += await asyncio.to_thread(broker.asked, f"exchanges/%2F/{quote(own)}/bindings/destination")
        return {(way["source"], way["routing_key"]) for way in told}

    site.enroll(house_account("house-t", DEVICES))
    try:
        await asyncio.to_thread(broker.reload)
        battery, made = (own, "wattbus.house-t.der.battery.telemetry"), (EXCHANGE, ASKED)
        async with raw(broker, name) as house:
            channel = await channel_of(house)
            await channel.exchange_bind(own, *made)
            await channel.exchange_bind(own, EXCHANGE, made[1], arguments={"a": "b"})
        assert {battery, made} <= await ways()
        site.enroll(house_account("house-t", Devices(("main",))))
        await asyncio.to_thread(broker.reload)
        left = await ways()
        assert left.isdisjoint({battery, made})
        assert (own, "wattbus.house-t.meter.main.reading") in left
    finally:
        with suppress(KeyError):
            site.revoke(name)
        await asyncio.to_thread(broker.reload)
    there = await asyncio.to_thread(broker.asked, "exchanges/%2F")
    assert not any(name in exchange["name"] for exchange in there)
    assert any(exchange["name"] == OWN for exchange in there)


# --- the management, as the operator's side asks it -------------------------------------


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server of one answer: its URL, and what it was asked for with a password."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "Authorization" in self.headers:
                asked.append(self.path)
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    asked: list[str] = []
    with http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://user:secret@{LOOPBACK}:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@rabbit.example:15672",
        "http://user:secret@10.0.0.1:15672",
        "http://user:secret@localhost.example",
        "ftp://user:secret@127.0.0.1",
        "https://rabbit.example:15671",
        "https://rabbit.example",
        "https://user:secret@rabbit.example:port",
        "https://user:secret@rabbit.example:x",
        "https://user:secret@[::1",
        "https://user:secret@rabbit.example:99999",
    ],
)
def test_a_password_goes_over_no_open_line(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        Management(url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_this_machine_may_be_asked_without_tls(host: str) -> None:
    Management(f"http://user:secret@{host}:15672")


def test_a_password_goes_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(b"HTTP/1.0 200 OK\r\n\r\n[]") as (other, theirs):
        target = re.sub("user:secret@", "", other)
        moved = f"HTTP/1.0 302 Found\r\nLocation: {target}/users\r\n\r\n".encode()
        monkeypatch.setenv("http_proxy", target)
        with answering(moved) as (url, asked), pytest.raises(ManagementError, match="302"):
            Management(url).accounts()
    assert asked
    assert not theirs


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 90\r\n\r\n[",
        b"HTTP/1.0 200 OK\r\n\r\n<html>",
        b"HTTP/1.0 500 No\r\n\r\ntwo\nlines",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_a_management_that_breaks_off_is_told_in_one_line(answer: bytes) -> None:
    with answering(answer) as (url, _), pytest.raises(ManagementError) as failed:
        Management(url).accounts()
    assert "\n" not in str(failed.value)
    assert "secret" not in str(failed.value)
