"""The MQTT window, through plain paho clients as people use them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as paho
import pytest

from broker.memory import MemoryTransport
from broker.mqtt import open_mqtt
from broker.transport import Filter, Outgoing
from broker.window import Window, open_broker, open_window
from contracts.topics import DeliveryClass
from runtime.clock import SystemClock
from runtime.errors import UsageError
from tests.broker_life import LOOPBACK, free_ports

STATE = "wattbus/house-a/orchestrator/main/snapshot"
READING = "wattbus/house-a/meter/main/reading"
TELEMETRY = "wattbus/house-a/der/battery/telemetry"
COMMAND = "wattbus/house-a/der/battery/command"
ALL = (Filter("wattbus/#", DeliveryClass.LIVE),)


class Person:
    """Somebody with an MQTT 3.1.1 client, in a thread of its own."""

    def __init__(self, port: int, *, websocket: bool = False, protocol: int = paho.MQTTv311) -> None:
        self.got: list[tuple[str, bytes, bool, int]] = []
        self.reasons: list[int] = []
        self.subscribed = 0
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            protocol=paho.MQTTProtocolVersion(protocol),
            transport="websockets" if websocket else "tcp",
            reconnect_on_failure=False,
        )
        self.client.on_message = self._on_message
        self.client.on_subscribe = self._on_subscribe
        self.client.on_connect = self._on_connect
        self._port = port

    async def arrive(self, *patterns: str, qos: int = 0) -> None:
        await asyncio.to_thread(self.client.connect, LOOPBACK, self._port)
        self.client.loop_start()
        await until(lambda: bool(self.reasons))
        for pattern in patterns:
            self.client.subscribe(pattern, qos)
        await until(lambda: self.subscribed == len(patterns))

    def leave(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        self.got.append((message.topic, bytes(message.payload), message.retain, message.qos))

    def _on_subscribe(self, *_args: Any) -> None:
        self.subscribed += 1

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.reasons.append(reason.value)


async def until(true: Any, timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.01)


@contextmanager
def somebody(port: int, **options: Any) -> Iterator[Person]:
    person = Person(port, **options)
    try:
        yield person
    finally:
        person.leave()


@pytest.fixture
def bus() -> MemoryTransport:
    return MemoryTransport()


@pytest.fixture
def ports() -> list[int]:
    return free_ports(2)


@pytest.fixture
async def window(bus: MemoryTransport, ports: list[int]) -> AsyncIterator[Window]:
    async with open_window(bus, SystemClock(), port=ports[0], ws_port=ports[1]) as opened:
        yield opened


@pytest.mark.parametrize("websocket", [False, True], ids=["tcp", "websocket"])
@pytest.mark.parametrize("qos", [0, 1])
async def test_a_client_sees_what_is_on_the_bus(
    bus: MemoryTransport, window: Window, ports: list[int], *, websocket: bool, qos: int
) -> None:
    await bus.declare(ALL, "recorder")
    await bus.publish(Outgoing(STATE, b"old", DeliveryClass.STATE))
    await bus.publish(Outgoing(STATE, b"state", DeliveryClass.STATE))
    with somebody(ports[websocket], websocket=websocket) as person:
        # The two overlap: each message comes once all the same.
        await person.arrive("wattbus/+/meter/+/reading", "wattbus/house-a/#", qos=qos)
        await bus.publish(Outgoing(READING, b"reading", DeliveryClass.READING))
        await bus.publish(Outgoing(COMMAND, b"command", DeliveryClass.COMMAND))
        await until(lambda: len(person.got) == 3)
        assert person.got == [
            (STATE, b"state", True, qos),
            (READING, b"reading", False, qos),
            (COMMAND, b"command", False, qos),
        ]
    with somebody(ports[0]) as late:
        await late.arrive("wattbus/#")
        await until(lambda: bool(late.got))
        assert late.got == [(STATE, b"state", True, 0)]  # no reading and no command is retained


async def test_what_a_client_publishes_is_on_the_bus_once(
    bus: MemoryTransport, window: Window, ports: list[int]
) -> None:
    async with bus.subscribe(ALL, None) as heard:
        with somebody(ports[0]) as person:
            await person.arrive("wattbus/#", qos=1)
            person.client.publish(COMMAND, b"command", 1, retain=True)
            person.client.publish(STATE, b"state", 1)  # a state is one, whether the client says so or not
            person.client.publish(TELEMETRY, b"live", 0)
            await until(lambda: len(person.got) == 3)
            messages = [await anext(heard) for _ in range(3)]
            assert [(m.name, m.payload) for m in messages] == [
                (COMMAND, b"command"),
                (STATE, b"state"),
                (TELEMETRY, b"live"),
            ]
            await asyncio.sleep(0.1)
            assert len(person.got) == 3
    async with bus.subscribe(ALL, None) as late:
        incoming = await anext(late)
        assert (incoming.name, incoming.retained) == (STATE, True)
    assert window.refused == 0


async def test_what_is_none_of_ours_is_refused_and_counted(
    bus: MemoryTransport, window: Window, ports: list[int]
) -> None:
    names = [
        "wattbus",
        "other/topic",
        "wattbus/a b/der/x/telemetry",
        "wattbus/../der/x/telemetry",
        "wattbus/é/é",
    ]
    with somebody(ports[0]) as person:
        await person.arrive("#")
        for name in names:
            person.client.publish(name, b"garbage", 1, retain=True)
        person.client.publish(TELEMETRY, b"", 1)
        person.client.publish(READING, b"nobody keeps it", 1)
        await until(lambda: window.refused == len(names) + 2)
        person.client.publish(TELEMETRY, b"still here", 1)
        await until(lambda: len(person.got) == 1)
        assert person.got[0][:2] == (TELEMETRY, b"still here")


async def test_a_last_will_reaches_the_bus(bus: MemoryTransport, window: Window, ports: list[int]) -> None:
    person = Person(ports[0])
    person.client.will_set("wattbus/house-a/der/battery/status", b"gone", 1, retain=True)
    async with bus.subscribe(ALL, None) as heard:
        await person.arrive()
        sock = person.client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)
        async with asyncio.timeout(5):
            assert (await anext(heard)).payload == b"gone"
    person.leave()


async def test_noise_on_the_ports_harms_nobody(
    bus: MemoryTransport, window: Window, ports: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    noises = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\xff\xff\xff\xff\x01",
        b"\x10\x0c\x00\x04MQTT\x04\x02",
        b"\x00" * 50,
    ]
    for port in ports:
        for noise in noises:
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(noise)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
    _, silent = await asyncio.open_connection(LOOPBACK, ports[0])
    with somebody(ports[0]) as person:
        await person.arrive("wattbus/#")
        await bus.publish(Outgoing(TELEMETRY, b"live", DeliveryClass.LIVE))
        await until(lambda: len(person.got) == 1)
    silent.close()
    assert "Traceback" not in caplog.text


async def test_a_client_put_out_in_the_middle_of_its_welcome_leaves_no_traceback(
    window: Window, ports: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection((LOOPBACK, ports[0])):
        await until(lambda: window._connections)
        ((task, _),) = window._connections.values()
        task.cancel()
        await until(lambda: not window._connections)
    assert "Traceback" not in caplog.text


async def test_mqtt_5_is_refused_with_the_reason(window: Window, ports: list[int]) -> None:
    with somebody(ports[0], protocol=paho.MQTTv5) as person:
        await person.arrive()
        assert person.reasons == [0x84]  # unsupported protocol version


async def test_a_client_that_reads_nothing_slows_nobody(
    bus: MemoryTransport, window: Window, ports: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.window_client.OUTBOX_MAX", 1_000)
    with socket.create_connection((LOOPBACK, ports[0])) as dead, somebody(ports[0]) as person:
        dead.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04dead")
        dead.sendall(b"\x82\x0e\x00\x01\x00\x09wattbus/#\x00")
        await person.arrive("wattbus/#")
        for i in range(12_000):
            await bus.publish(Outgoing(TELEMETRY, b"%05d" % i * 200, DeliveryClass.LIVE))
            if i % 100 == 0:
                await asyncio.sleep(0.02)  # as on a bus that others use too
        await until(lambda: person.got and person.got[-1][1].startswith(b"11999"), 30)
    assert window.dropped > 1_000


async def test_a_taken_port_is_one_clear_line(bus: MemoryTransport, window: Window, ports: list[int]) -> None:
    free = free_ports(1)[0]
    for wanted in ((ports[0], free), (free, ports[1])):
        taken = next(port for port in wanted if port != free)
        with pytest.raises(UsageError, match=rf"^port {taken} is taken: .*--window-port.*$") as caught:
            async with open_window(MemoryTransport(), SystemClock(), port=wanted[0], ws_port=wanted[1]):
                pass
        assert caught.value.exit_code == 2
    # what was opened before the other failed is closed again
    async with open_window(MemoryTransport(), SystemClock(), port=free, ws_port=free_ports(1)[0]):
        pass


async def test_only_this_machine_can_connect(window: Window) -> None:
    hosts = {sock.getsockname()[0] for s in window._servers.values() for sock in s.instance.sockets}
    assert hosts == {LOOPBACK}


async def test_the_broker_alone_joins_two_services(ports: list[int]) -> None:
    async with open_broker(SystemClock(), port=ports[0], ws_port=ports[1]):
        one = open_mqtt(f"mqtt://{LOOPBACK}:{ports[0]}", client="one", wait_s=5, will=None)
        two = open_mqtt(f"ws://{LOOPBACK}:{ports[1]}/", client="two", wait_s=5, will=None)
        async with one as here, two as there, there.subscribe(ALL, None) as heard:
            await here.publish(Outgoing(READING, b"reading", DeliveryClass.READING))
            await here.publish(Outgoing(STATE, b"state", DeliveryClass.STATE))
            async with asyncio.timeout(5):
                assert [(await anext(heard)).payload for _ in range(2)] == [b"reading", b"state"]
            async with here.subscribe(ALL, None) as late, asyncio.timeout(5):
                assert (await anext(late)).retained
