"""What a stolen house may try, and what a bad certificate gets, on real brokers."""

import asyncio
import socket
import ssl
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broker.amqp import open_amqp
from broker.bus import PlanesBus
from broker.errors import BusError, BusRefusedError, BusUnavailableError
from broker.mqtt import open_mqtt
from broker.quarantine import Quarantine
from broker.topology import DEAD, EXCHANGE, READINGS, key_of, publishes_to, queue_of
from broker.transport import Filter, Outgoing, Transport
from contracts import topics
from contracts.codec import encode
from contracts.messages import MeterReading
from contracts.orders import OperatorRequest
from contracts.topics import DeliveryClass
from runtime.clock import SystemClock
from tests.access_probe import Probe, Refused, probe, until
from tests.access_site import A_DAY_S, DEVICES, PROBER, Guarded, client_of
from tests.broker_life import LOOPBACK, PASSWORD, USER, Container, Process
from wattbus.access.authority import new_authority, server_identity
from wattbus.access.identity import Identity
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
    client, clock = client_of(account), SystemClock()
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


def test_a_house_can_not_empty_the_recorders_session(mqtt: Guarded) -> None:
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
    finally:
        recorder.close()


@pytest.mark.parametrize("whose", ["service.recorder", "dashboard.wall"])
def test_a_house_can_not_take_anothers_session(mqtt: Guarded, whose: str) -> None:
    # A dashboard takes what id it likes; at Mosquitto it is its user's name.
    of_viewer = "phone-1" if mqtt.name == "hivemq" else whose
    session = "wattbus-recorder" if whose == "service.recorder" else of_viewer
    with probe(mqtt, whose, session) as one:
        steal(mqtt, session)
        time.sleep(0.5)
        assert not one.ended.is_set()


def test_a_free_client_id_leaves_no_session_at_hivemq(access_broker: Callable[[str], Guarded]) -> None:
    """Each would be a queue, and a dashboard may take as many ids as it likes."""
    hivemq = access_broker("hivemq")
    phone = Probe(hivemq, "dashboard.wall", "phone-2", durable=True)
    phone.subscribe(topics.METER_READING.filter)
    phone.close()
    try:
        with probe(hivemq, "house.house-e", "meter-house-e-main") as house:
            house.publish(ANOTHERS.name, b"missed")
            phone.connect(clean=False)
            phone.subscribe(topics.METER_READING.filter)
            house.publish(ANOTHERS.name, b"heard")
        until(phone.heard, ANOTHERS.name, b"heard")
        assert phone.heard == {ANOTHERS.name: {b"heard"}}
    finally:
        phone.close()


def test_hivemqs_extension_keeps_nothing_of_who_has_gone(access_broker: Callable[[str], Guarded]) -> None:
    """Nor would it have memory for ever, with clients who come by ever new ids."""
    hivemq = access_broker("hivemq")
    for number in range(10):
        with probe(hivemq, "dashboard.wall", f"page-{number}"):
            pass
    with probe(hivemq, "dashboard.wall", "page-who-stays"):
        wait_until_in(hivemq, 1)
    wait_until_in(hivemq, 0)


def wait_until_in(hivemq: Guarded, clients: int) -> None:
    """Until the extension says that so many are; it does whenever its file has changed."""
    guest = house_account("house-guest", DEVICES)
    deadline = time.monotonic() + REVOKED_WITHIN_S
    begun = len(log_of(hivemq))
    while f", {clients} clients are in" not in (told := log_of(hivemq)[begun:]):
        assert time.monotonic() < deadline, told
        for change in (lambda: hivemq.site.enroll(guest), lambda: hivemq.site.revoke(guest.name)):
            change()
            hivemq.reload()
            time.sleep(1.2)  # it looks each second


def log_of(broker: Guarded) -> str:
    if isinstance(broker.life, Container):
        return broker.life.container.logs().decode()
    assert isinstance(broker.life, Process)
    return broker.life.log.read_text()


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


def test_what_is_no_state_is_not_kept_by_hivemq(access_broker: Callable[[str], Guarded]) -> None:
    """Mosquitto's rules know no such thing: there the orchestrator refuses a request that was kept."""
    hivemq = access_broker("hivemq")
    request = topics.OPERATOR_REQUEST.at(house="house-d", user="ann").name
    for user, name in (("house.house-d", MINE.name), ("operator.ann", request)):
        with probe(hivemq, user, client_of(hivemq.site.users[user][0])) as one:
            with pytest.raises(Refused):
                one.publish(name, b"kept", retain=True)
            one.publish(name, b"not kept")


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
        for exchange in (EXCHANGE, READINGS):
            await refused(
                lambda c, e=exchange: c.basic_publish(b"x", exchange=e, routing_key=key_of(MINE.name))
            )
            await refused(lambda c, e=exchange: c.exchange_bind(e, EXCHANGE, "wattbus.site.bus.*.get"))
            # A queue of one's own, from which the broker buries messages under any key.
            arguments = {
                "x-dead-letter-exchange": exchange,
                "x-dead-letter-routing-key": key_of(ANOTHERS.name),
            }
            await refused(lambda c, a=arguments: c.queue_declare("", arguments=a))


async def test_a_house_can_not_have_the_broker_bury_for_another(rabbitmq: Guarded) -> None:
    """RabbitMQ looks at the key of what is published, not at the one that a dead letter gets."""
    own, key = publishes_to(EXCHANGE, "house.house-d"), key_of(ANOTHERS.name)
    mine, last = "wattbus.house-d.bus.check.get", "wattbus.site.bus.last.get"
    async with amqp(rabbitmq, "house.house-d") as thief, amqp(rabbitmq, PROBER) as observer:
        seen = await observer.declare_queue(exclusive=True)
        for exchange in (EXCHANGE, READINGS):
            await seen.bind(exchange, "#")
        to = await thief.get_exchange(own, ensure=False)
        arguments = {"x-dead-letter-exchange": own, "x-dead-letter-routing-key": key, "x-message-ttl": 0}
        buried = await thief.declare_queue(exclusive=True, arguments=arguments)
        await buried.bind(EXCHANGE, mine)
        await to.publish(aio_pika.Message(b"forged"), mine, mandatory=False)
        await asyncio.sleep(0.5)  # what is buried takes its own way
        through = await observer.get_exchange(EXCHANGE, ensure=False)
        await through.publish(aio_pika.Message(b"last"), last)
        keys: list[str] = []
        async with asyncio.timeout(10), seen.iterator(no_ack=True) as messages:
            async for message in messages:
                keys.append(message.routing_key or "")
                if keys[-1] == last:
                    break
    assert keys == [mine, last]


async def test_what_comes_by_a_header_is_counted_and_dropped(rabbitmq: Guarded) -> None:
    """RabbitMQ does not look at the keys there; what arrives still bears the sender's own."""
    commands = (Filter("wattbus/house-e/der/+/command", DeliveryClass.COMMAND),)
    own = publishes_to(EXCHANGE, "house.house-d")
    async with (
        open_amqp(rabbitmq.url("house.house-e"), client="der-controller-house-e", wait_s=0) as house,
        house.subscribe(commands, None) as heard,
        amqp(rabbitmq, "house.house-d") as thief,
        opened(rabbitmq.url("service.orchestrator"), "orchestrator-main") as orchestrator,
    ):
        to = await thief.get_exchange(own, ensure=False)
        headers = {"CC": ["wattbus.house-e.der.battery.command"]}
        message = aio_pika.Message(b"forged", headers=headers)
        await to.publish(message, "wattbus.house-d.der.battery.telemetry", mandatory=False)
        name = "wattbus/house-e/der/battery/command"
        async with asyncio.timeout(10):
            while not house.dropped:  # noqa: ASYNC110 - a transport has no event for it
                await asyncio.sleep(0.01)
            await orchestrator.publish(Outgoing(name, b"real", DeliveryClass.COMMAND))
            assert (await anext(heard)).payload == b"real"


@asynccontextmanager
async def amqp(broker: Guarded, user: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """A channel of a client that is not ours."""
    login, how = (f"{USER}:{PASSWORD}@", "") if user == PROBER else ("", "?auth=external")
    url = f"amqps://{login}{LOOPBACK}:{broker.port}/{how}"
    async with await aio_pika.connect(url, ssl_context=broker.site.context(user)) as connection:
        yield await connection.channel()


async def test_a_queue_that_is_left_alone_does_not_stay(rabbitmq: Guarded) -> None:
    asked = rabbitmq.asked
    context = rabbitmq.site.context("house.house-d")
    url = f"amqps://{LOOPBACK}:{rabbitmq.port}/?auth=external"
    async with await aio_pika.connect(url, ssl_context=context) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("", durable=True, exclusive=False, auto_delete=False)
    async with asyncio.timeout(30):  # the management tells what was a while ago
        while "operator_policy" not in (  # noqa: ASYNC110 - HTTP has no event for it
            told := await asyncio.to_thread(asked, f"queues/%2F/{queue.name}")
        ):
            await asyncio.sleep(0.5)
    assert told["effective_policy_definition"]["expires"] == 60_000
    (limits,) = await asyncio.to_thread(asked, "user-limits/house.house-d")
    assert limits["value"]["max-connections"] < 20


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


def test_who_took_his_own_session_over_is_shut_out_too(mqtt: Guarded) -> None:
    """What the broker keeps of the first connection's end must not make it forget the second."""
    account = house_account("house-s", DEVICES)
    mqtt.site.enroll(account)
    mqtt.reload()
    client = "meter-house-s-main"
    until_in(mqtt, account.name, client).close()
    with probe(mqtt, account.name, client) as first, probe(mqtt, account.name, client) as second:
        assert first.ended.wait(REVOKED_WITHIN_S)
        time.sleep(0.5)
        mqtt.site.revoke(account.name)
        mqtt.reload()
        assert second.ended.wait(REVOKED_WITHIN_S)


def until_in(mqtt: Guarded, user: str, client: str) -> Probe:
    deadline = time.monotonic() + REVOKED_WITHIN_S
    while True:
        try:
            return Probe(mqtt, user, client)
        except Refused:
            assert time.monotonic() < deadline
            time.sleep(0.1)


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


BAD_BROKERS = {
    "expired": "its certificate has expired",
    "self-signed": "its certificate is not trusted",
    "of old TLS": "it speaks no TLS that is 1.2 or newer",
}


@pytest.mark.parametrize("scheme", ["amqps", "mqtts", "wss"])
@pytest.mark.parametrize("what", BAD_BROKERS)
async def test_a_bad_broker_is_not_trusted(tmp_path: Path, scheme: str, what: str) -> None:
    now = SystemClock().now()
    authority = new_authority("test", now)
    ca, pem = tmp_path / "ca.crt", tmp_path / "broker.pem"
    ca.write_bytes(authority.certificate)
    made_at = now.after(-500 * A_DAY_S) if what == "expired" else now
    server = (
        self_signed(LOOPBACK) if what == "self-signed" else server_identity(authority, [LOOPBACK], made_at)
    )
    pem.write_bytes(server.pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    if what == "of old TLS":
        only_old(context)

    def greet(listener: socket.socket) -> None:
        line, _ = listener.accept()
        # Not asyncio's own server: it hangs up without the word that says why.
        with line, suppress(ssl.SSLError, ConnectionError):
            context.wrap_socket(line, server_side=True).close()

    with socket.create_server((LOOPBACK, 0)) as listener:
        greeting = asyncio.create_task(asyncio.to_thread(greet, listener))
        line = await why_not(f"{scheme}://{LOOPBACK}:{listener.getsockname()[1]}?ca={ca}")
        await greeting
    assert BAD_BROKERS[what] in line


def self_signed(name: str) -> Identity:
    """As anybody makes it, who knows a name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = SystemClock().now()
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.after(-A_DAY_S))
        .not_valid_after(now.after(A_DAY_S))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Identity(made.public_bytes(pem), private)


def only_old(context: ssl.SSLContext) -> None:
    """Nothing newer than TLS 1.1."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1


@pytest.mark.parametrize("what", ["expired", "of another authority", "self-signed", "none"])
async def test_a_bad_certificate_is_refused_in_one_line(broker: Guarded, what: str) -> None:
    site = broker.site
    url = broker.url("house.house-d", cert="bad")
    if what == "expired":
        site.identity("house.house-d", age_days=1000, at="bad")
    elif what == "self-signed":
        site.write("bad.pem", self_signed("house.house-d").pem)
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
    only_old(old)
    with (
        socket.create_connection((LOOPBACK, broker.port), timeout=5) as line,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        old.wrap_socket(line, server_hostname=LOOPBACK).close()
