"""Real meters as sources: a Modbus server, a P1 port on the network, an MQTT broker; silent ones, and clocks not set."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from broker.errors import BusUrlError
from broker.mqtt import open_mqtt
from broker.transport import Outgoing
from contracts import topics
from contracts.codec import decode_at, encode
from contracts.errors import ContractError
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
from meter.sources.believable import POWER_MAX_W, Believable
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
from tests.tcp_proxy import proxy_to

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


async def test_what_no_reading_can_carry_is_not_believed() -> None:
    """Else it would be refused only by those who hear it."""
    powers = iter((POWER_MAX_W, -2 * POWER_MAX_W, float("nan"), float("inf")))

    class Wild(Played):
        def power_w(self, _at: Instant) -> float:
            return next(powers)

    source, model = Believable(Wild()), build(own(), CLOCK, None).model
    reading = model.reading(START, await source.measure(START))
    assert decode_at(topics.METER_READING.at(house="house-a", meter="main"), encode(reading)) == reading
    for words in ("says -2e\\+08 W", "says nan W", "says inf W"):
        with pytest.raises(MeterSilentError, match=words):
            await source.measure(START)
    wild = model.reading(START, Measured(-2 * POWER_MAX_W))
    with pytest.raises(ContractError):
        decode_at(topics.METER_READING.at(house="house-a", meter="main"), encode(wild))


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


async def why_silent(source: Source, words: str) -> str:
    """Why it says nothing, once that is known to be so."""
    async with asyncio.timeout(30):
        while True:
            try:
                await source.measure(CLOCK.now())
            except MeterSilentError as error:
                if words in str(error):
                    return str(error)
            await asyncio.sleep(0.05)


async def test_why_a_meter_is_not_heard_over_mqtt_is_one_clear_line(rabbitmq: Broker) -> None:
    (nobody,) = free_ports(1)
    wrong = str(rabbitmq.mqtt_url).replace(rabbitmq.password, "guessed-it")
    for url, words in (
        (f"mqtt://127.0.0.1:{nobody}", "can't be reached: Connection refused"),
        (wrong, "check the user and password in its URL"),
    ):
        source = source_of(own(source="shelly", device=f"{url}/shellies/em3"), CLOCK)
        said = await why_silent(source, words)
        assert said.startswith(
            "nothing is heard from the meter on shellies/em3/events/rpc: broker at 127.0.0.1:"
        )
        assert "guessed-it" not in said
        assert "\n" not in said
        await source.close()


async def test_what_a_broker_has_kept_is_no_measurement_of_now(mosquitto: Broker) -> None:
    url = str(mosquitto.mqtt_url)
    async with open_mqtt(url, client="meter-5", wait_s=10, will=None) as meter:
        kept = Outgoing("tele/em5/SENSOR", b'{"ENERGY": {"Power": 12}}', DeliveryClass.STATE)
        await meter.publish(kept)
        source = source_of(own(source="tasmota", device=f"{url}/em5"), CLOCK)
        with pytest.raises(MeterSilentError, match="nothing is heard from the meter on tele/em5/SENSOR"):
            await source.measure(CLOCK.now())
        while True:
            await meter.publish(kept._replace(payload=b'{"ENERGY": {"Power": 13}}'))
            with suppress(MeterSilentError):
                assert (await source.measure(CLOCK.now())).power_w == 13.0
                break
        await source.close()


async def test_a_meter_is_heard_again_over_mqtt_after_its_broker_was_away_or_refused_it(
    mosquitto: Broker,
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A broker at which the password was changed."""
        await reader.read(1)
        writer.write(b"\x20\x03\x00\x86\x00")  # MQTT 5: bad user name or password
        writer.close()

    refusing = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with refusing, proxy_to(mosquitto.ports["mqtt"]) as proxy:
        device = f"mqtt://127.0.0.1:{proxy.port}/em4"
        source = source_of(own(source="tasmota", device=device, device_age_max_s=1.0), CLOCK)
        async with open_mqtt(str(mosquitto.mqtt_url), client="meter-4", wait_s=10, will=None) as meter:

            async def speak() -> None:
                while True:
                    out = Outgoing("tele/em4/SENSOR", b'{"ENERGY": {"Power": 12}}', DeliveryClass.LIVE)
                    await meter.publish(out)
                    await asyncio.sleep(0.1)

            speaking = asyncio.create_task(speak())
            assert (await soon(source)).power_w == 12.0
            proxy.cut(reopen=False)
            await why_silent(source, f"broker at 127.0.0.1:{proxy.port}")
            proxy.lead_to(refusing.sockets[0].getsockname()[1])
            proxy.reopen()
            await why_silent(source, "check the user and password in its URL")
            proxy.lead_to(mosquitto.ports["mqtt"])
            assert (await soon(source)).power_w == 12.0
            speaking.cancel()
            await asyncio.wait([speaking])
        await source.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"source": "sunspec"}, "needs --device host or host:port"),
        ({"source": "sunspec", "device": "host:port"}, "not 'host:port'"),
        ({"source": "sunspec", "device": "mqtt://u:secret@host/t"}, "not 'host/t'"),
        ({"source": "dsmr", "device": "somewhere"}, "needs --device host:port"),
        ({"source": "dsmr", "device": "./not-there.txt"}, "needs --device host:port"),
        ({"source": "shelly", "device": "mqtt://127.0.0.1"}, "needs --device mqtt://host:port/TOPIC"),
        ({"source": "tasmota", "device": "mqtt://127.0.0.1/a/#"}, "the meter's topic"),
        ({"source": "tasmota", "device": "mqtt://u:p@127.0.0.1:x/a"}, "a broker's URL can't be read"),
        ({"source": "tasmota", "device": "mqtt://127.0.0.1/a?version=4"}, "?version= is 3 or 5"),
    ],
)
def test_a_device_that_is_not_named_rightly_is_one_clear_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises((UsageError, BusUrlError)) as caught:
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


def test_a_silent_meter_shows_in_health_and_metrics_and_little_in_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Three hours of silence, and a meter that comes and goes."""

    async def main(clock: VirtualClock) -> None:
        bus, _ = memory_bus(clock)
        life, settings = Lifecycle(), own(pv=False)
        silent = set(range(1, 1081)) | set(range(1082, 1200, 2))
        service = MeterService(settings, build(settings, clock, None).model, Flaky(silent), bus, clock, life)
        running = asyncio.create_task(service.run())
        await clock.sleep(25)
        assert service.ailing == ""
        await clock.sleep(3600)
        assert service.ailing == "no readings: nobody is there"
        assert 3590 < silent_s(service) < 3700
        await clock.sleep(2 * 3600)
        assert service.ailing == ""
        life.stop()
        await running

    def silent_s(service: MeterService) -> float:
        (value,) = (m.values[()] for m in service.metrics() if m.name == "wattbus_meter_silent_seconds")
        return value

    run_virtual(main)
    said = capsys.readouterr()
    assert 18 <= (said.out + said.err).count("no reading") <= 20


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


def test_a_meter_that_is_silent_before_the_clock_is_set_fills_no_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main(clock: VirtualClock) -> None:
        begin_s = clock.monotonic()

        def ready() -> bool | None:
            return True if clock.monotonic() - begin_s >= 3600 else None

        silent = Flaky(set(range(1000)))
        await measure_until(ready, silent, clock, Lifecycle(), 10.0, get_log("meter"))

    run_virtual(main)
    said = capsys.readouterr()
    assert 6 <= (said.out + said.err).count("no reading") <= 7


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
