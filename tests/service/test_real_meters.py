"""Real meters as sources: a Modbus server, a P1 port on the network, an MQTT broker; silent ones, and clocks not set."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from broker.mqtt import open_mqtt
from broker.transport import Outgoing
from contracts import topics
from contracts.instant import Instant
from contracts.messages import Alert, MeterReading
from contracts.topics import DeliveryClass
from meter.__main__ import build
from meter.early import Early, measure_until
from meter.errors import MeterSilentError
from meter.model import MeterModel
from meter.service import MeterService
from meter.settings import MeterSettings
from meter.source import Measured, Played, Source
from meter.sources.choose import source_of
from runtime.clock import ScaledClock, SystemClock, VirtualClock
from runtime.errors import UsageError
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from tests.broker_life import free_ports
from tests.brokers import Broker
from tests.conftest import START, memory_bus, run_virtual
from tests.p1 import telegram
from tests.small_disk import small_disk

CLOCK = SystemClock()


def own(**more: Any) -> MeterSettings:
    return MeterSettings(house="house-a", **more)


async def soon(source: Source) -> Measured:
    """Its measurement, once it is the first to be heard."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await source.measure(CLOCK.now())
            except MeterSilentError:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def modbus(port: int, registers: dict[int, list[int]]) -> AsyncIterator[None]:
    device = SimDevice(
        1, [SimData(at, values=values, datatype=DataType.REGISTERS) for at, values in registers.items()]
    )
    server = ModbusTcpServer(device, address=("127.0.0.1", port))
    await server.listen()
    try:
        yield
    finally:
        await server.shutdown()


def chain(power_w: int) -> dict[int, list[int]]:
    """A SunSpec device: common model, an inverter's, then a meter's."""
    meter = [203, 105, *[0] * 105]
    meter[3:7] = [10, 20, 30, 0]
    meter[18], meter[22] = power_w & 0xFFFF, 0
    return {40000: [0x5375, 0x6E53, 1, 66, *[0] * 66, 103, 50, *[0] * 50, *meter, 0xFFFF, 0]}


async def test_a_sunspec_meter_is_found_and_read() -> None:
    (port,) = free_ports(1)
    source = source_of(own(source="sunspec", device=f"127.0.0.1:{port}"), CLOCK)
    with pytest.raises(MeterSilentError, match="can't be reached"):
        await source.measure(CLOCK.now())
    async with modbus(port, chain(-1500)):
        assert await soon(source) == Measured(-1500.0, (10.0, 20.0, 30.0))
    async with modbus(port, chain(700)):  # it was away, and is back
        assert (await soon(source)).power_w == 700.0
    await source.close()
    turned = source_of(own(source="sunspec", device=f"127.0.0.1:{port}", device_inverted=True), CLOCK)
    async with modbus(port, chain(700)):
        assert await soon(turned) == Measured(-700.0, (-10.0, -20.0, -30.0))
        await turned.close()


async def test_a_device_without_a_meter_is_one_clear_line() -> None:
    (port,) = free_ports(1)
    source = source_of(own(source="sunspec", device=f"127.0.0.1:{port}"), CLOCK)
    async with modbus(port, {40000: [0x5375, 0x6E53, 1, 66, *[0] * 66, 103, 50, *[0] * 50, 0xFFFF, 0]}):
        with pytest.raises(MeterSilentError, match=r"no meter among its SunSpec models \(1, 103\)"):
            await source.measure(CLOCK.now())
        await source.close()
    async with modbus(port, {40000: [1, 2, 3]}):
        with pytest.raises(MeterSilentError, match="no SunSpec device"):
            await source.measure(CLOCK.now())
        await source.close()


async def test_a_p1_port_on_the_network_is_heard_again_after_it_was_lost() -> None:
    said, said_all = [telegram(0.5, 0.0), telegram(0.0, 1.25)], asyncio.Event()

    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said.pop(0))
        if not said:
            said_all.set()
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    source = source_of(own(source="dsmr", device=f"127.0.0.1:{port}"), CLOCK)
    async with server:
        assert (await soon(source)).power_w == 500.0
        await asyncio.wait_for(said_all.wait(), 20)
        while (await soon(source)).power_w != -1250.0:  # noqa: ASYNC110 - the source has no such event
            await asyncio.sleep(0.01)
    await source.close()


async def test_a_p1_port_that_says_nothing_is_opened_anew() -> None:
    """As of a network that was cut: nobody has closed the connection, and nothing will come."""
    clock, visits = ScaledClock(600.0, CLOCK.now()), 0
    gone = asyncio.Event()

    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        if visits > 1:
            writer.write(telegram(0.5, 0.0))
        await gone.wait()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    source = source_of(own(source="dsmr", device=f"127.0.0.1:{port}", device_age_max_s=3600.0), clock)
    async with server:
        assert (await soon(source)).power_w == 500.0
        assert visits == 2
        await source.close()
        gone.set()


async def test_a_file_of_telegrams_is_played(tmp_path: Path) -> None:
    path = tmp_path / "telegrams.txt"
    path.write_bytes(telegram(0.5, 0.0) + telegram(0.0, 1.25))
    source = source_of(own(source="dsmr", device=str(path)), CLOCK)
    assert [(await source.measure(CLOCK.now())).power_w for _ in range(3)] == [500.0, -1250.0, 500.0]
    await source.close()


@pytest.mark.parametrize(
    ("kind", "topic", "payload", "power_w"),
    [
        ("shelly", "shellies/em3/emeter/0/power", b"321.5", 321.5),
        ("shelly", "shellies/em3/status/em:0", {"a_act_power": 1, "b_act_power": 2, "c_act_power": 3}, 6.0),
        ("tasmota", "tele/shellies/em3/SENSOR", {"ENERGY": {"Power": 77}}, 77.0),
    ],
)
async def test_a_meter_that_speaks_mqtt_is_heard(
    mosquitto: Broker, kind: str, topic: str, payload: Any, power_w: float
) -> None:
    url = str(mosquitto.mqtt_url)
    source = source_of(own(source=kind, device=f"{url}/shellies/em3"), CLOCK)
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()

    async def speak() -> None:
        async with open_mqtt(url, client="the-meter", wait_s=10, will=None) as meter:
            while True:
                await meter.publish(Outgoing(topic, content, DeliveryClass.LIVE))
                await asyncio.sleep(0.1)

    speaking = asyncio.create_task(speak())
    assert (await soon(source)).power_w == power_w
    speaking.cancel()
    await asyncio.wait([speaking])
    await source.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"source": "sunspec"}, "needs --device host or host:port"),
        ({"source": "sunspec", "device": "host:port"}, "not 'host:port'"),
        ({"source": "dsmr", "device": "somewhere"}, "needs --device host:port"),
        ({"source": "dsmr", "device": "./not-there.txt"}, "needs --device host:port"),
        ({"source": "shelly", "device": "mqtt://127.0.0.1"}, "needs --device mqtt://host:port/TOPIC"),
        ({"source": "tasmota", "device": "mqtt://127.0.0.1/a/#"}, "the meter's topic"),
    ],
)
def test_a_device_that_is_not_named_rightly_is_one_clear_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        source_of(own(**settings), CLOCK)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


class Flaky(Played):
    """Silent for a while."""

    def __init__(self, silent: set[int]) -> None:
        self._silent = silent
        self._count = 0

    def power_w(self, _at: Instant) -> float:
        self._count += 1
        if self._count in self._silent:
            raise MeterSilentError("nobody is there")
        return float(self._count)


class Settable(VirtualClock):
    """A wall clock that is wrong until somebody sets it."""

    off_s = 0.0

    def now(self) -> Instant:
        return super().now().after(self.off_s)


def all_of(
    source: Source, seconds: float, early: Sequence[Early] = ()
) -> tuple[list[MeterReading], list[Alert]]:
    async def main(clock: VirtualClock) -> tuple[list[MeterReading], list[Alert]]:
        bus, transport = memory_bus(clock)
        life = Lifecycle()
        settings = own(pv=False)
        model: MeterModel = build(settings, clock, None).model
        service = MeterService(settings, model, source, bus, clock, life, early=early)
        running = asyncio.create_task(service.run())
        await clock.sleep(seconds - 0.001)
        life.stop()
        await running
        wanted = (topics.METER_READING, topics.ALERT)
        async with bus.subscribe(*wanted, durable=topics.RECORDER) as deliveries:
            found = [(await anext(deliveries)).message for _ in range(transport.backlog(topics.RECORDER))]
        return [m for m in found if isinstance(m, MeterReading)], [m for m in found if isinstance(m, Alert)]

    return run_virtual(main)


def test_a_silent_meter_leaves_no_gap_in_the_numbers_and_is_alarmed_once() -> None:
    readings, alerts = all_of(Flaky(set(range(4, 10))), 200)
    assert [r.seq for r in readings] == list(range(1, 15))
    assert [r.power_w for r in readings] == [1, 2, 3, *range(10, 21)]
    assert [(a.name, a.severity) for a in alerts] == [("meter-silent", "warning"), ("meter-heard", "info")]
    assert "nobody is there" in alerts[0].text


def test_a_meter_that_misses_one_answer_alarms_nobody() -> None:
    assert all_of(Flaky({4}), 200)[1] == []


def test_early_readings_get_their_true_times_and_go_first() -> None:
    early = [Early(-30.0, Measured(1.0)), Early(-20.0, Measured(2.0))]
    readings, _ = all_of(Flaky(set()), 20, early)
    assert [(r.seq, r.power_w) for r in readings] == [(1, 1.0), (2, 2.0), (3, 1.0), (4, 2.0)]
    assert [r.timestamp.seconds_since(START) for r in readings] == [-30.0, -20.0, 0.0, 10.0]


def test_readings_wait_until_the_clock_is_set_and_the_disk_has_room() -> None:
    asked = 0

    async def main(clock: VirtualClock) -> tuple[int | None, list[Early]]:
        wrong = Settable(Instant.parse("1970-01-01T00:05:00Z"))

        def ready() -> int | None:
            nonlocal asked
            asked += 1
            if asked == 5:
                wrong.off_s = START.seconds_since(wrong.now())
            return asked if asked > 7 else None

        return await measure_until(ready, Flaky({2}), wrong, Lifecycle(), 10.0, get_log("meter"))

    found, early = run_virtual(main)
    assert found == 8
    assert [one.measured.power_w for one in early] == [1.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert [one.at_s for one in early] == sorted(one.at_s for one in early)
    assert early[0].at_s - early[-1].at_s == pytest.approx(-60, abs=10)  # whatever the wall clock did


def test_a_meter_starts_on_a_full_disk_and_keeps_what_it_measured(tmp_path: Path) -> None:
    """The real process, on a file system that is full when it starts."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk):
        (disk / "state").mkdir()
        fill = disk / "fill"
        with suppress(OSError):
            fill.write_bytes(bytes(1 << 21))
        command = [sys.executable, "-m", "meter", "--house", "house-a", "--no-pv", "--interval-s", "0.5",
                   "--state-dir", str(disk / "state"), "--log-dir", str(tmp_path / "log"),
                   "--readings-url", "mqtt://127.0.0.1:9", "--live-url", "mqtt://127.0.0.1:9"]  # fmt: skip
        meter = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
        assert meter.stderr is not None
        try:
            said = ""
            while "readings wait in memory" not in said:
                said = meter.stderr.readline()
                assert said, "it has ended"
            assert "No space left on device" in said
            fill.unlink()
            while "meter started" not in said:
                said = meter.stderr.readline()
                assert said, "it has ended"
            time.sleep(2)  # a commit, and more
        finally:
            meter.terminate()
            meter.wait(10)
            meter.stderr.close()
        with closing(sqlite3.connect(disk / "state" / "outbox-meter-house-a-main.sqlite")) as outbox:
            (rows,) = outbox.execute("SELECT count(*) FROM waiting").fetchone()
    assert rows
