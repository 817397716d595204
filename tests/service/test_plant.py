"""The plant's readings on the bus: numbered, recorded like a meter's, and the same again from the same seed."""

import asyncio
import json
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

from broker.late import LateBus
from broker.outbox_file import OutboxFile
from contracts import archive, topics
from contracts.messages import PlantReading
from plant.service import PlantService
from plant.settings import PLANT, PlantSettings
from recorder.model import entry_of
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from tests.broker_life import free_ports
from tests.conftest import START, memory_bus, run_virtual
from tests.system.test_run import CLEAN, REPOSITORY


def readings_of(seed: int, seconds: float) -> list[PlantReading]:
    async def main(clock: VirtualClock) -> list[PlantReading]:
        bus, transport = memory_bus(clock)
        life = Lifecycle()
        settings = PlantSettings(gen_min=0.05, gen_max=0.15, cons_min=0.03, cons_max=0.10, seed=seed)
        service = PlantService(PLANT, 3, settings.model(), settings.interval, bus, clock, life)
        task = asyncio.create_task(service.run())
        await clock.sleep(seconds - 0.001)
        life.stop()
        await task
        async with bus.subscribe(topics.PLANT_READING, durable=topics.RECORDER) as deliveries:
            return [(await anext(deliveries)).message for _ in range(transport.backlog(topics.RECORDER))]

    return run_virtual(main)


def test_readings_are_aligned_and_numbered_in_watts() -> None:
    readings = readings_of(1, 60)
    assert [reading.timestamp.seconds_since(START) for reading in readings] == [10.0 * i for i in range(6)]
    assert [(reading.boot, reading.seq) for reading in readings] == [(3, i) for i in range(1, 7)]
    assert all(50e3 <= reading.generation_w <= 150e3 for reading in readings)
    assert all(30e3 <= reading.consumption_w <= 100e3 for reading in readings)


def test_the_same_seed_gives_the_same_readings() -> None:
    assert readings_of(4, 120) == readings_of(4, 120) != readings_of(5, 120)


def test_a_plant_is_recorded_like_a_meter() -> None:
    """Consumption as the meter's, generation as the PV's: so it replays like any other."""
    reading = readings_of(1, 20)[0]
    entry = entry_of(reading, UTC)
    assert str(entry.path) == f"{PLANT}/main/main_2024-07-01.csv"
    row = archive.parse_row(entry.line.decode())
    assert (row.timestamp, row.boot, row.seq) == (reading.timestamp, 3, 1)
    assert (row.meter_w, row.pv_w) == (reading.consumption_w, reading.generation_w)


def test_what_the_broker_does_not_take_is_kept_over_a_restart(tmp_path: Path) -> None:
    settings = PlantSettings(gen_min=0.05, gen_max=0.15, cons_min=0.03, cons_max=0.10)

    async def life(clock: VirtualClock, boot: int, *, there: bool) -> list[tuple[int, int]]:
        bus, transport = memory_bus(clock)
        late, life = LateBus(), Lifecycle()
        if there:
            late.arrive(bus)
        file = OutboxFile(tmp_path / "outbox.sqlite")
        service = PlantService(PLANT, boot, settings.model(), settings.interval, late, clock, life, file)
        task = asyncio.create_task(service.run())
        await clock.sleep(29.999)
        life.stop()
        await task
        if not there:
            return []
        async with bus.subscribe(topics.PLANT_READING, durable=topics.RECORDER) as deliveries:
            count = transport.backlog(topics.RECORDER)
            readings: list[PlantReading] = [(await anext(deliveries)).message for _ in range(count)]
        return [(reading.boot, reading.seq) for reading in readings]

    run_virtual(lambda clock: life(clock, 1, there=False))
    found = run_virtual(lambda clock: life(clock, 2, there=True), start=START.after(60))
    assert found == [(boot, seq) for boot in (1, 2) for seq in (1, 2, 3)]


@contextmanager
def process(cwd: Path, module: str, *arguments: str) -> Iterator[None]:
    """A service of its own; it must end by itself when it is told to."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=cwd, env={**CLEAN, "PYTHONPATH": str(REPOSITORY)}) as one:
        try:
            yield
        finally:
            one.terminate()
    assert one.returncode == 0


def asked(url: str) -> dict[str, Any]:
    """The answer, once somebody is there."""
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - on this machine
                told: dict[str, Any] = json.load(answer)
                return told
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        time.sleep(0.1)


def test_without_a_broker_a_plant_and_a_poller_begin_and_keep_what_they_read(tmp_path: Path) -> None:
    away, plant_port, own_port = free_ports(3)
    nowhere = ("--live-url", f"mqtt://127.0.0.1:{away}", "--state-dir", "state")
    bounds = ("--gen-min", "0.05", "--gen-max", "0.15", "--cons-min", "0.03", "--cons-max", "0.1")
    rhythm = ("--interval", "0.2", "--port", str(plant_port), "--token", "sesame-of-the-tests")
    asking = (
        "--api-endpoint",
        f"http://127.0.0.1:{plant_port}/data/latest",
        "--api-key",
        "sesame-of-the-tests",
    )
    with (
        process(tmp_path, "plant", *bounds, *rhythm, *nowhere),
        process(
            tmp_path,
            "plant.poller",
            *asking,
            "--interval-s",
            "0.2",
            "--service-port",
            str(own_port),
            *nowhere,
        ),
    ):
        while asked(f"http://127.0.0.1:{own_port}/health")["last"] is None:
            time.sleep(0.1)
    for name in ("plant", "plant-poller"):
        with closing(sqlite3.connect(tmp_path / "state" / f"outbox-{name}-{PLANT}.sqlite")) as outbox:
            (rows,) = outbox.execute("SELECT count(*) FROM waiting").fetchone()
        assert rows, name
