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
from tests.conftest import START, memory_bus, run_virtual

METERS, INTERVAL_S = 100, 10
ROWS = METERS * 86_400 // INTERVAL_S
GROWTH_MAX_KIB = 20_000
RATE_MIN = 2_000
"""Rows a second that are drained afterwards, of all meters together."""
AT_ONCE = 60
"""Readings that are added together, each with its own time: a day has that many fewer commits."""


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


class HastyClock(VirtualClock):
    """A day is 24 minutes of the machine's time: who waits for the broker tries it so often, and no more."""

    speed = 60.0


class Broker(MemoryTransport):
    """Away until it is back; from then on it keeps each meter's last number alone, so that it takes no memory."""

    away = True

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, int] = {}
        self.disordered = 0

    async def publish(self, out: Outgoing) -> None:
        if self.away:
            raise BusUnavailableError("away")
        seq = decode(MeterReading, out.payload).seq
        self.disordered += seq != self.last.get(out.name, 0) + 1
        self.last[out.name] = seq


async def beat(box: Outbox, house: str, clock: VirtualClock) -> None:
    seq = 0
    async for tick in clock.every(AT_ONCE * INTERVAL_S):
        for number in range(AT_ONCE):
            seq += 1
            at = tick.at.after(number * INTERVAL_S)
            box.add(MeterReading(house=house, meter="main", boot=1, seq=seq, timestamp=at, power_w=1.0))


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_a_day_without_a_broker_takes_no_memory(tmp_path: Path) -> None:
    async def main(_: VirtualClock) -> str:
        clock = HastyClock(START)
        bus, _transport = memory_bus(clock)
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
        await clock.sleep(86_400 - 1800 - AT_ONCE * INTERVAL_S / 2)
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
        assert list(broker.last.values()) == [ROWS // METERS] * METERS
        assert broker.disordered == 0
        assert max(outage, drain) < GROWTH_MAX_KIB, f"{outage} KiB, {drain} KiB"
        assert rate > RATE_MIN
        return f"{ROWS} rows: {outage} KiB more in the outage, {drain} KiB after it; drained at {rate:.0f} rows/s"

    print(run_virtual(main))  # noqa: T201
