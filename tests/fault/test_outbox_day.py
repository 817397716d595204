"""A day without a broker, in simulated time: nothing is lost, and memory does not grow."""

import asyncio
import time
from pathlib import Path

import pytest

from broker.errors import BusUnavailableError
from broker.memory import MemoryTransport
from broker.outbox import Outbox
from broker.outbox_file import OutboxFile
from broker.transport import Outgoing
from contracts import topics
from contracts.codec import decode
from contracts.messages import MeterReading
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from tests.conftest import memory_bus, run_virtual

METERS, INTERVAL_S = 10, 10
ROWS = METERS * 86_400 // INTERVAL_S
GROWTH_MAX_KIB = 5_000
"""Of ten meters; what a meter adds is bounded, whatever the outage."""


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


class Broker(MemoryTransport):
    """Away until it is back; from then on it keeps the number of each reading alone."""

    away = True

    def __init__(self) -> None:
        super().__init__()
        self.got: dict[str, list[int]] = {}

    async def publish(self, out: Outgoing) -> None:
        if self.away:
            raise BusUnavailableError("away")
        self.got.setdefault(out.name, []).append(decode(MeterReading, out.payload).seq)


async def beat(box: Outbox, house: str, clock: VirtualClock) -> None:
    seq = 0
    async for tick in clock.every(INTERVAL_S):
        seq += 1
        box.add(MeterReading(house=house, meter="main", boot=1, seq=seq, timestamp=tick.at, power_w=1.0))


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_a_day_without_a_broker_takes_no_memory(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> str:
        bus, _ = memory_bus(clock)
        bus._readings = bus._live = broker = Broker()
        houses = [f"house-{n}" for n in range(METERS)]
        life = Lifecycle()
        boxes = [
            Outbox(
                topics.METER_READING.at(house=house, meter="main"),
                bus, clock, life, get_log("meter"), file=OutboxFile(tmp_path / f"{house}.sqlite"),
            )
            for house in houses
        ]  # fmt: skip
        publishing = [asyncio.create_task(box.publish()) for box in boxes]
        beats = [
            asyncio.create_task(beat(box, house, clock)) for box, house in zip(boxes, houses, strict=True)
        ]
        await clock.sleep(1800)
        before = resident_kib()
        await clock.sleep(86_400 - 1801)
        for task in beats:
            task.cancel()
        await asyncio.wait(beats)
        outage = resident_kib() - before
        assert sum(box.waiting for box in boxes) == ROWS
        broker.away, begun = False, time.monotonic()
        while any(box.waiting for box in boxes):
            await clock.sleep(0.1)
        rate = ROWS / (time.monotonic() - begun)
        drain = resident_kib() - before
        life.stop()
        for box in boxes:
            box.close()
        await asyncio.gather(*publishing)
        assert list(broker.got.values()) == [list(range(1, ROWS // METERS + 1))] * METERS
        # What the test itself keeps of each reading is a number in a list.
        assert max(outage, drain - ROWS * 40 // 1024) < GROWTH_MAX_KIB, f"{outage} KiB, {drain} KiB"
        assert rate > 2000
        return f"{ROWS} rows: {outage} KiB more in the outage, {drain} KiB after it; drained at {rate:.0f} rows/s"

    print(run_virtual(main))  # noqa: T201
