"""The plant's readings on the bus: numbered, recorded like a meter's, and the same again from the same seed."""

import asyncio
from datetime import UTC

from contracts import archive, topics
from contracts.messages import PlantReading
from plant.service import PlantService
from plant.settings import PLANT, PlantSettings
from recorder.model import entry_of
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from tests.conftest import START, memory_bus, run_virtual


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
