"""Messages through the bus in memory: encoded, routed, decoded and checked, as on a real one."""

import asyncio
import os

from benchmarks.measure import median_s, pin_to_one_core, report
from broker.bus import PlanesBus
from broker.memory import MemoryTransport
from broker.quarantine import Quarantine
from contracts import topics
from contracts.codec import decode, encode
from contracts.instant import Instant
from contracts.messages import MeterReading
from runtime.clock import SystemClock

N = 20_000
READING = MeterReading(
    house="house-a", meter="main", boot=1, seq=1, timestamp=Instant.at_ms(1_700_000_000_000), power_w=512.3
)
PAYLOAD = encode(READING)


async def _through() -> None:
    clock = SystemClock()
    transport = MemoryTransport()
    bus = PlanesBus(transport, transport, clock, client="bench", quarantine=Quarantine(None, clock))
    address = topics.METER_READING.at(house="house-a", meter="main")
    async with bus.subscribe(topics.METER_READING, durable="bench") as deliveries:
        for _ in range(N):
            await bus.publish(address, READING)
            delivery = await anext(deliveries)
            await delivery.ack()


def main() -> None:
    """Print microseconds a message, beside the codec alone."""
    allowed = os.sched_getaffinity(0)
    pin_to_one_core()

    def codec() -> None:
        for _ in range(N):
            decode(MeterReading, encode(READING))

    alone = median_s(codec) / N * 1e6
    through = median_s(lambda: asyncio.run(_through())) / N * 1e6
    report("a reading encoded and decoded", alone, "us")
    report(
        "a reading published, delivered and acknowledged",
        through,
        "us",
        f"{through / alone:.1f} x the codec alone",
    )
    os.sched_setaffinity(0, allowed)
