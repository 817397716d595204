"""What a stolen house may try, and what a bad certificate gets, on real brokers."""

import asyncio
import socket
import ssl
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused

from broker.amqp import open_amqp
from broker.bus import PlanesBus
from broker.errors import BusError, BusRefusedError, BusUnavailableError
from broker.mqtt import open_mqtt
from broker.quarantine import Quarantine
from broker.topology import DEAD, EXCHANGE, READINGS, queue_of
from broker.transport import Outgoing, Transport
from contracts import topics
from contracts.codec import encode
from contracts.messages import MeterReading, OperatorRequest
from contracts.topics import DeliveryClass
from runtime.clock import SystemClock
from tests.access_probe import Probe, Refused, probe, until
from tests.access_site import A_DAY_S, DEVICES, PROBER, Guarded
from tests.broker_life import LOOPBACK
from wattbus.access.authority import new_authority, server_identity
from wattbus.access.roles import house_account

REVOKED_WITHIN_S = 10.0
MINE = topics.METER_READING.at(house="house-d", meter="main")
ANOTHERS = topics.METER_READING.at(house="house-e", meter="main")


@pytest.fixture(params=["rabbitmq", "mosquitto", "hivemq"])
def broker(request: pytest.FixtureRequest, access_broker: Callable[[str], Guarded]) -> Guarded:
    return access_broker(request.param)


@pytest.fixture(params=["mosquitto", "hivemq"])
def mqtt(request: pytest.FixtureRequest, access_broker: Callable[[str], Guarded]) -> Guarded:
    return access_broker(request.param)


@pytest.fixture
def rabbitmq(access_broker: Callable[[str], Guarded]) -> Guarded:
    return access_broker("rabbitmq")


def opened(url: str, client: str) -> AbstractAsyncContextManager[Transport]:
    if url.startswith("amqp"):
        return open_amqp(url, client=client, wait_s=0)
    return open_mqtt(url, client=client, wait_s=0, will=None)


@asynccontextmanager
async def bus_of(broker: Guarded, user: str, folder: Path) -> AsyncIterator[PlanesBus]:
    account = broker.site.users[user][0]
    client, clock = account.clients[0], SystemClock()
    async with opened(broker.url(user), client) as transport:
        bus = PlanesBus(transport, transport, clock, client=client, quarantine=Quarantine(folder, clock))
        try:
            yield bus
        finally:
            await bus.close()


def reading(house: str, seq: int) -> MeterReading:
    now = SystemClock().now()
    return MeterReading(house=house, meter="main", boot=1, seq=seq, timestamp=now, power_w=1.0)


# --- what a house may do, and what it can't ------------------------------------------


async def test_a_reading_comes_to_the_recorder_and_nothing_in_another_name(
    broker: Guarded, tmp_path: Path
) -> None:
    kept = (topics.METER_READING, topics.PV_READING, topics.PLANT_READING, topics.ALERT)
    async with (
        bus_of(broker, "service.recorder", tmp_path) as recorder,
        recorder.subscribe(*kept, durable=topics.RECORDER) as deliveries,
        opened(broker.url("house.house-d"), "meter-house-d-main") as house,
    ):
        await house.declare((), topics.RECORDER)

        async def publish(name: str, message: MeterReading) -> None:
            await house.publish(Outgoing(name, encode(message), DeliveryClass.READING))

        # As itself, but with a payload that names another house.
        await publish(MINE.name, reading("house-e", 1))
        with pytest.raises(BusError):
            await publish(ANOTHERS.name, reading("house-e", 2))
        await insist(house, Outgoing(MINE.name, encode(reading("house-d", 3)), DeliveryClass.READING))
        async with asyncio.timeout(10):
            first = await anext(deliveries)
            await first.ack()
        assert (first.message.house, first.message.seq) == ("house-d", 3)
    refused = "".join(path.read_text() for path in tmp_path.glob("*.jsonl"))  # noqa: ASYNC240 - a line
    # What other tests left in the queue is there too, and is no reading at all.
    assert refused.count("is 'house-e' in the payload but 'house-d' in the topic") == 1
    assert "'house-d' in the payload" not in refused


def test_a_house_can_not_take_the_recorders_session(mqtt: Guarded) -> None:
    session = "wattbus-recorder"
    recorder = Probe(mqtt, "service.recorder", session, durable=True)
    recorder.subscribe(topics.METER_READING.filter)
    recorder.close()
    try:
        with probe(mqtt, "house.house-e", "meter-house-e-main") as house:
            house.publish(ANOTHERS.name, b"kept")
        steal(mqtt, session)
        recorder.connect(clean=False)
        until(recorder.heard, ANOTHERS.name, b"kept")
        steal(mqtt, session)
        time.sleep(0.5)
        assert not recorder.ended.is_set()
    finally:
        recorder.close()


def steal(broker: Guarded, session: str) -> None:
    """With every name that the house's password may open, and a clean start."""
    account, _ = broker.site.users["house.house-d"]
    for client in (session, account.name, *account.sessions):
        try:
            thief = Thief(broker, client, session)
        except Refused:
            continue
        thief.close()


class Thief(Probe):
    """Logs in as one of its own, with another's client id."""

    def __init__(self, broker: Guarded, own: str, session: str) -> None:
        self._own = own
        super().__init__(broker, "house.house-d", session)

    def login(self) -> tuple[str, str | None]:
        return self._own, self._broker.site.passwords["house.house-d"]


def test_a_will_on_anothers_topic_is_not_published(mqtt: Guarded) -> None:
    stolen = "wattbus/house-e/meter/main/status"
    with probe(mqtt, PROBER, PROBER) as observer:
        observer.subscribe("#")
        try:
            thief = Probe(mqtt, "house.house-d", "meter-house-d-main", will=stolen)
        except Refused:
            pass
        else:
            thief.cut()
        time.sleep(1.0)
        observer.publish("wattbus/last", b"last")
        until(observer.heard, "wattbus/last", b"last")
        assert stolen not in observer.heard


async def test_a_house_can_not_touch_queues_and_exchanges(rabbitmq: Guarded) -> None:
    context = rabbitmq.site.context("house.house-d")
    url = f"amqps://{LOOPBACK}:{rabbitmq.port}/?auth=external"
    async with await aio_pika.connect(url, ssl_context=context) as connection:

        async def refused(attempt: Callable[[Any], Awaitable[object]]) -> None:
            channel = await connection.channel()
            underlay = await channel.get_underlay_channel()
            with pytest.raises(ChannelAccessRefused):
                await attempt(underlay)

        for queue in (queue_of("recorder"), queue_of("pvsim"), DEAD):
            await refused(lambda c, q=queue: c.queue_delete(q))
            await refused(lambda c, q=queue: c.queue_purge(q))
            await refused(lambda c, q=queue: c.basic_get(q))
            await refused(lambda c, q=queue: c.queue_bind(q, EXCHANGE, "#"))
            # Past the exchanges, straight into a queue.
            await refused(lambda c, q=queue: c.basic_publish(b"x", routing_key=q))
        for exchange in (EXCHANGE, READINGS, DEAD):
            await refused(lambda c, e=exchange: c.exchange_delete(e))
        await refused(lambda c: c.queue_declare("meter-house-e-main"))
        await refused(lambda c: c.basic_publish(b"x", exchange="amq.topic", routing_key="a"))
        await refused(lambda c: c.basic_publish(b"x", exchange=DEAD, routing_key="a"))


async def test_an_operators_request_bears_the_name_that_the_broker_knows(
    broker: Guarded, tmp_path: Path
) -> None:
    """The orchestrator's audit keeps what it hears, and hears nobody in another's name."""
    async with (
        bus_of(broker, "service.orchestrator", tmp_path) as orchestrator,
        orchestrator.subscribe(topics.OPERATOR_REQUEST) as requests,
        opened(broker.url("operator.ann"), "operator-ann") as ann,
    ):
        for user, signed in (("bob", "bob"), ("ann", "bob"), ("ann", "ann")):
            address = topics.OPERATOR_REQUEST.at(house="house-d", user=user)
            request = OperatorRequest(
                house="house-d",
                user=signed,
                request_id=f"{user}-{signed}",
                issued_at=SystemClock().now(),
                action="pause",
            )
            await insist(ann, Outgoing(address.name, encode(request), DeliveryClass.COMMAND))
        async with asyncio.timeout(10):
            heard = await anext(requests)
        assert (heard.message.user, heard.message.request_id) == ("ann", "ann-ann")


async def insist(transport: Transport, out: Outgoing) -> None:
    """Publish what may be refused; some brokers have ended the connection for what came before."""
    for _ in range(100):
        try:
            return await transport.publish(out)
        except BusRefusedError:
            return None
        except BusUnavailableError:
            await asyncio.sleep(0.1)
    raise AssertionError(out.name)


# --- revocation ----------------------------------------------------------------------


async def test_what_is_revoked_is_shut_out_within_seconds(
    broker: Guarded,
) -> None:
    account = house_account("house-r", DEVICES)
    old, new = account, account._replace(name="house.house-r.2")
    for one in (old, new):
        broker.site.enroll(one)
    await asyncio.to_thread(broker.reload)
    await until_let_in(broker, new.name)  # both count side by side
    async with opened(broker.url(old.name), "meter-house-r-main") as transport:
        broker.site.revoke(old.name)
        await asyncio.to_thread(broker.reload)
        async with asyncio.timeout(REVOKED_WITHIN_S):
            while transport.connected:  # noqa: ASYNC110 - a transport has no event for it
                await asyncio.sleep(0.01)
        url = broker.url(old.name) if broker.name != "mosquitto" else url_of_gone(broker, old.name, new.name)
        with pytest.raises(BusRefusedError, match="refused") as refused:
            async with opened(url, "der-controller-house-r"):
                pass
        assert "\n" not in str(refused.value)
    await until_let_in(broker, new.name)


def url_of_gone(broker: Guarded, gone: str, still: str) -> str:
    site = broker.site
    site.users[gone] = site.users[still]
    try:
        return broker.url(gone).replace("{client}.2", "{client}")
    finally:
        site.revoke(gone)


async def until_let_in(broker: Guarded, user: str) -> None:
    async with asyncio.timeout(REVOKED_WITHIN_S):
        while True:
            try:
                async with opened(broker.url(user), "der-controller-house-r"):
                    return
            except BusRefusedError:
                await asyncio.sleep(0.1)


# --- TLS -----------------------------------------------------------------------------


async def why_not(url: str) -> str:
    with pytest.raises(BusError) as refused:
        async with opened(url, "meter-house-d-main"):
            pass
    line = str(refused.value)
    assert "\n" not in line
    return line


async def test_a_broker_of_another_authority_or_name_is_not_trusted(broker: Guarded) -> None:
    site = broker.site
    other = site.write("other-ca.crt", new_authority("other", site.now).certificate)
    assert "its certificate is not trusted" in await why_not(broker.url("house.house-d", ca=other))
    # The certificate is for 127.0.0.1 alone.
    assert "its certificate is another broker's" in await why_not(
        broker.url("house.house-d", host="localhost")
    )


@pytest.mark.parametrize("scheme", ["amqps", "mqtts"])
async def test_a_broker_whose_certificate_has_expired_is_not_trusted(tmp_path: Path, scheme: str) -> None:
    now = SystemClock().now()
    authority = new_authority("test", now)
    ca, old = tmp_path / "ca.crt", tmp_path / "old.pem"
    ca.write_bytes(authority.certificate)
    old.write_bytes(server_identity(authority, [LOOPBACK], now.after(-500 * A_DAY_S)).pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(old)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, LOOPBACK, 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        line = await why_not(f"{scheme}://{LOOPBACK}:{port}?ca={ca}")
    assert "its certificate has expired" in line


@pytest.mark.parametrize("what", ["expired", "of another authority", "none"])
async def test_a_bad_certificate_is_refused_in_one_line(broker: Guarded, what: str) -> None:
    site = broker.site
    url = broker.url("house.house-d", cert="bad")
    if what == "expired":
        site.identity("house.house-d", age_days=1000, at="bad")
    else:
        site.identity("house.house-d", authority=new_authority("other", site.now), at="bad")
    if what == "none":
        url = url.partition("&cert=")[0]
    line = await why_not(url)
    assert "certificate" in line, line


async def test_anothers_certificate_makes_nobody_of_it(broker: Guarded) -> None:
    """It may connect: as the other."""
    async with opened(broker.url("house.house-e"), "meter-house-e-main") as transport:
        with pytest.raises(BusError):
            await transport.publish(Outgoing(MINE.name, encode(reading("house-d", 9)), DeliveryClass.READING))


async def test_no_link_without_tls_or_with_an_old_one(broker: Guarded) -> None:
    scheme = "amqp" if broker.name == "rabbitmq" else "mqtt"
    assert "TLS" in await why_not(f"{scheme}://{LOOPBACK}:{broker.port}")
    old = broker.site.context("house.house-d")
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection((LOOPBACK, broker.port), timeout=5) as line,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        old.wrap_socket(line, server_hostname=LOOPBACK).close()
