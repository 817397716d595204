"""What is MQTT's own: versions, last will, sessions over a restart, refusals, a stalled broker."""

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.errors import BusRefusedError, BusUnavailableError, BusUrlError, NotRoutedError
from broker.mqtt import MqttTransport, open_mqtt
from broker.transport import Filter, Incoming, Outgoing
from broker.unsent import UNSENT_MAX
from contracts.topics import DeliveryClass
from tests.broker_life import LOOPBACK, Process, free_ports
from tests.brokers import Broker, Missing, give_up, running, unique

READING, LIVE = DeliveryClass.READING, DeliveryClass.LIVE
STATE, COMMAND = DeliveryClass.STATE, DeliveryClass.COMMAND


@pytest.fixture(params=["hivemq", "mosquitto"])
def broker(request: pytest.FixtureRequest) -> Broker:
    found: Broker = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def house() -> str:
    return unique("house")


def mqtt(url: str | None, *, wait_s: float = 0, will: Outgoing | None = None):  # noqa: ANN201
    return open_mqtt(url or "", client=unique("client"), wait_s=wait_s, will=will)


def on(house: str, delivery: DeliveryClass) -> Filter:
    return Filter(f"wattbus/{house}/#", delivery)


async def take(incoming: AsyncIterator[Incoming], count: int, timeout_s: float = 10) -> list[Incoming]:
    async with asyncio.timeout(timeout_s):
        return [await anext(incoming) for _ in range(count)]


async def until_connected(transport: MqttTransport, *, wanted: bool = True, timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while transport.connected is not wanted:  # noqa: ASYNC110 - it is the property that is tested
            await asyncio.sleep(0.02)


# --- versions -----------------------------------------------------------------


async def test_the_newest_version_a_broker_speaks(broker: Broker) -> None:
    async with mqtt(broker.mqtt_url) as newest, mqtt(f"{broker.mqtt_url}?version=3") as older:
        assert (newest._version, older._version) == (5, 3)
        assert newest.keeps_state


async def test_rabbitmq_is_met_over_3_1_1(rabbitmq: Broker, house: str) -> None:
    async with mqtt(f"{rabbitmq.mqtt_url}?retained=ask") as transport:
        assert not transport.keeps_state
        if "3.10" in rabbitmq.what:  # it closes an MQTT 5 connection without a word; 3.13 and newer speak it
            assert transport._version == 3
        async with transport.subscribe((on(house, LIVE),), None) as heard:
            await transport.publish(Outgoing(f"wattbus/{house}/der/a/telemetry", b"live", LIVE))
            await transport.publish(Outgoing(f"wattbus/{house}/der/a/command", b"command", COMMAND, 5))
            assert sorted(m.payload for m in await take(heard, 2)) == [b"command", b"live"]


@pytest.mark.parametrize("version", [3, 5])
async def test_over_a_websocket(broker: Broker, house: str, version: int) -> None:
    async with (
        mqtt(f"{broker.ws_url}?version={version}") as transport,
        transport.subscribe((on(house, STATE),), None) as heard,
    ):
        payload = b"x" * 20_000  # Mosquitto takes a tenth of a second for each 4 kB
        await transport.publish(Outgoing(f"wattbus/{house}/forecast/load/issued", payload, STATE))
        assert (await take(heard, 1))[0].payload == payload


# --- what arrives -------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 5])
async def test_subscriptions_that_overlap_deliver_once(broker: Broker, house: str, version: int) -> None:
    state, reading = f"wattbus/{house}/orchestrator/main/snapshot", f"wattbus/{house}/meter/main/reading"
    wide = (on(house, STATE), Filter(f"wattbus/{house}/+/main/+", STATE), Filter(state, STATE))
    durable = (on(house, READING), Filter(f"wattbus/{house}/meter/+/reading", READING))
    async with mqtt(f"{broker.mqtt_url}?version={version}") as transport:
        await transport.publish(Outgoing(state, b"old", STATE))
        async with (
            transport.subscribe(wide, None) as first,
            transport.subscribe(durable, unique("reader")) as kept,
        ):
            assert [(m.payload, m.retained) for m in await take(first, 1)] == [(b"old", True)]
            async with transport.subscribe(wide[1:], None) as second:
                assert [(m.payload, m.retained) for m in await take(second, 1)] == [(b"old", True)]
                await transport.publish(Outgoing(state, b"new", STATE))
                await transport.publish(Outgoing(reading, b"last", READING))
                for heard in (first, second):
                    got = [(m.payload, m.retained) for m in await take(heard, 2)]
                    assert got == [(b"new", False), (b"last", False)]
            news: list[bytes] = []
            while len(news) < 2:
                [incoming] = await take(kept, 1)
                await incoming.ack()  # HiveMQ sends what is new only when it owes no acknowledgement
                if not incoming.retained:
                    news.append(incoming.payload)
            assert news == [b"new", b"last"]


async def test_a_reading_nobody_takes_is_told_where_the_broker_tells(broker: Broker, house: str) -> None:
    out = Outgoing(f"wattbus/{house}/meter/main/reading", b"reading", READING)
    async with mqtt(broker.mqtt_url) as transport:
        with pytest.raises(NotRoutedError, match="start the recorder once"):
            await transport.publish(out)
        reader = unique("reader")
        async with transport.subscribe((on(house, READING),), reader):
            pass
        await transport.publish(out)  # kept for the reader, who is away
        async with transport.subscribe((on(house, READING),), reader) as incoming:
            assert [m.payload for m in await take(incoming, 1)] == [b"reading"]


async def test_a_last_will_speaks_for_who_dies_and_for_nobody_else(broker: Broker, house: str) -> None:
    name = f"wattbus/{house}/meter/main/status"
    will = Outgoing(name, b"gone", STATE)
    async with mqtt(broker.mqtt_url) as other, other.subscribe((on(house, STATE),), None) as heard:
        async with mqtt(broker.mqtt_url, will=will) as leaving:
            await leaving.publish(Outgoing(name, b"left", STATE))
        async with mqtt(broker.mqtt_url, will=will) as dying:
            assert dying._main.link is not None
            dying._main.link._socket.shutdown(socket.SHUT_RDWR)
            assert [m.payload for m in await take(heard, 2)] == [b"left", b"gone"]
        async with other.subscribe((on(house, STATE),), None) as late:
            assert [(m.payload, m.retained) for m in await take(late, 1)] == [(b"gone", True)]


# --- a broker that goes away --------------------------------------------------


@pytest.fixture
def own() -> Iterator[Broker]:
    try:
        with running("mosquitto") as broker:
            yield broker
    except Missing as missing:
        give_up("mosquitto", str(missing))


async def test_a_restart_loses_no_subscriber_and_no_reading(own: Broker, house: str) -> None:
    reading, live = f"wattbus/{house}/meter/main/reading", f"wattbus/{house}/der/a/telemetry"
    async with (
        mqtt(own.mqtt_url) as transport,
        transport.subscribe((on(house, READING),), unique("reader")) as kept,
        transport.subscribe((Filter(live, LIVE),), None) as heard,
    ):
        for payload in (b"1", b"2", b"3"):
            await transport.publish(Outgoing(reading, payload, READING))
        first, second, _third = await take(kept, 3)
        await first.ack()
        await asyncio.to_thread(own.stop)
        await until_connected(transport, wanted=False)
        with pytest.raises(BusUnavailableError, match=r"127\.0\.0\.1:\d+ is not connected"):
            await transport.publish(Outgoing(reading, b"4", READING))
        await transport.publish(Outgoing(live, b"lost", LIVE))
        assert transport.dropped == 1
        await second.ack()  # of a connection that is no more: harmless, and the message comes again
        await asyncio.to_thread(own.start)
        await until_connected(transport)
        await transport.publish(Outgoing(reading, b"4", READING))
        await transport.publish(Outgoing(live, b"live", LIVE))
        assert [m.payload for m in await take(kept, 3)] == [b"2", b"3", b"4"]
        assert [m.payload for m in await take(heard, 1)] == [b"live"]


async def test_a_stalled_broker_costs_no_memory_and_is_noticed(
    own: Broker, house: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.mqtt_link.ANSWER_S", 2.0)
    async with mqtt(own.mqtt_url) as transport:
        await asyncio.to_thread(own.freeze)
        try:
            command = asyncio.create_task(
                transport.publish(Outgoing(f"wattbus/{house}/der/a/command", b"command", COMMAND, 5))
            )
            live = Outgoing(f"wattbus/{house}/der/a/telemetry", b"x" * 10_000, LIVE)
            for _ in range(UNSENT_MAX * 3):
                await transport.publish(live)
            assert transport.dropped > 0
            assert transport._main.link is not None
            assert len(transport._main.link._unsent) <= UNSENT_MAX
            with pytest.raises(BusUnavailableError, match="did not answer in 2 s"):
                await command
            await until_connected(transport, wanted=False, timeout_s=15)
        finally:
            await asyncio.to_thread(own.thaw)
        await until_connected(transport)


# --- refusals -----------------------------------------------------------------


@contextmanager
def guarded(home: Path) -> Iterator[str]:
    """A Mosquitto that lets `meter` in, with a password, and grants it its own house only."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    plugin = next(iter(sorted(Path("/usr/lib").glob("**/mosquitto_dynamic_security.so"))), None)
    if program is None or plugin is None or shutil.which("mosquitto_ctrl") is None:
        give_up(
            "mosquitto", "this machine has no Mosquitto with its tools (apt install mosquitto{,-clients})"
        )
    [port] = free_ports(1)
    rights = home / "rights.json"
    subprocess.run(["mosquitto_ctrl", "dynsec", "init", rights, "admin", "secret"], check=True, timeout=20)
    wanted = json.loads(rights.read_text())
    everything = {"acltype": "publishClientSend", "topic": "#", "priority": 0, "allow": True}
    own_house = {"acltype": "subscribePattern", "topic": "wattbus/house-a/#", "priority": 0, "allow": True}
    wanted["roles"].append({"rolename": "house", "acls": [everything, own_house]})
    wanted["clients"].append(
        wanted["clients"][0] | {"username": "meter", "textname": "", "roles": [{"rolename": "house"}]}
    )
    wanted["defaultACLAccess"] |= {"subscribe": False, "publishClientReceive": True}
    rights.write_text(json.dumps(wanted))
    config = home / "mosquitto.conf"
    config.write_text(
        f"user root\nlistener {port} {LOOPBACK}\nallow_anonymous false\n"
        f"plugin {plugin}\nplugin_opt_config_file {rights}\n"
    )
    process = Process([program, "-c", str(config)], home)
    try:
        yield f"{LOOPBACK}:{port}"
    finally:
        process.kill()


@pytest.mark.parametrize("version", [3, 5])
async def test_a_refusal_is_one_line_without_the_password(tmp_path: Path, version: int) -> None:
    with guarded(tmp_path) as where:
        for login in ("meter:hunter2@", ""):
            with pytest.raises(BusRefusedError) as refused:
                async with mqtt(f"mqtt://{login}{where}?version={version}", wait_s=10):
                    pass
            assert str(refused.value).startswith(f"broker at {where} refused the connection: ")
            assert str(refused.value).endswith("check the user and password in its URL")
            assert "hunter2" not in str(refused.value)
            assert refused.value.exit_code == 2
        async with mqtt(f"mqtt://meter:secret@{where}?version={version}", wait_s=10) as transport:
            for durable in (None, "reader"):
                with pytest.raises(BusRefusedError, match="refused the subscription to wattbus/house-b/#"):
                    async with transport.subscribe((on("house-b", LIVE),), durable):
                        pass
                async with transport.subscribe((on("house-a", LIVE),), durable):
                    pass


async def test_no_broker_is_one_line_at_once() -> None:
    [port] = free_ports(1)
    with pytest.raises(BusUnavailableError, match=rf"^broker at {LOOPBACK}:{port} can't be reached: "):
        async with mqtt(f"mqtt://meter:hunter2@{LOOPBACK}:{port}"):
            pass


async def test_what_is_no_mqtt_at_all() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-none\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hang_up, LOOPBACK, 0) as server:
        port = server.sockets[0].getsockname()[1]
        for scheme in ("mqtt", "ws", "mqtts"):
            with pytest.raises(BusUnavailableError, match=rf"^broker at {LOOPBACK}:{port} "):
                async with mqtt(f"{scheme}://{LOOPBACK}:{port}"):
                    pass


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("mqtt://h?version=4", r"h:1883: \?version= is 3 or 5"),
        ("mqtt://u:hunter2@h?retaned=ask", r"h:1883: \?retaned= is none of version, retained, ca, cert, key"),
        ("mqtts://h?ca=/none.pem", r"h:8883: \?ca=.* can't be used: No such file or directory"),
        ("mqtt://u:hunter2@", "can't be read"),
    ],
)
async def test_a_url_that_cannot_be_used_is_one_line(url: str, line: str) -> None:
    with pytest.raises(BusUrlError, match=line) as caught:
        async with mqtt(url):
            pass
    assert "hunter2" not in str(caught.value)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    about = ["-days", "2", "-subj", "/CN=broker", "-addext", f"subjectAltName=IP:{LOOPBACK}"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *about, "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )
    return cert, key


async def test_a_certificate_nobody_vouches_for(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        give_up("mosquitto", "this machine has no Mosquitto (apt install mosquitto)")
    [port] = free_ports(1)
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"user root\nlistener {port} {LOOPBACK}\nallow_anonymous true\ncertfile {cert}\nkeyfile {key}\n"
    )
    process = Process([program, "-c", str(config)], tmp_path)
    try:
        with pytest.raises(BusRefusedError, match=r"certificate is not trusted .* give \?ca=FILE"):
            async with mqtt(f"mqtts://{LOOPBACK}:{port}", wait_s=10):
                pass
        async with (
            mqtt(f"mqtts://{LOOPBACK}:{port}?ca={cert}", wait_s=10) as transport,
            transport.subscribe((on("house-a", STATE),), None) as heard,
        ):
            payload = b"x" * 100_000
            await transport.publish(Outgoing("wattbus/house-a/forecast/load/issued", payload, STATE))
            assert (await take(heard, 1))[0].payload == payload
    finally:
        process.kill()
