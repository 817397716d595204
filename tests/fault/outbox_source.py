"""A source of readings as a process of its own, to be killed: `python -m tests.fault.outbox_source ...`.

It says on stdout what it does: `a SEQ` a reading was made, `k SEQ` it is safe (on the disk, or confirmed by the
broker), `c SEQ` confirmed. After SIGTERM it makes no more, waits until all are confirmed, and ends.
"""

import argparse
import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from broker.amqp import open_amqp
from broker.bus import PlanesBus
from broker.late import LateBus
from broker.mqtt import open_mqtt
from broker.outbox import Outbox
from broker.outbox_file import OutboxFile, Row
from broker.quarantine import Quarantine
from contracts import topics
from contracts.codec import decode, encode
from contracts.instant import Instant
from contracts.messages import MeterReading
from runtime.clock import SystemClock
from runtime.lifecycle import Lifecycle
from runtime.logs import configure, get_log
from tests.fault.naive import open_naive

DRAIN_S = 60.0


def say(kind: str, boot: int, seq: int) -> None:
    os.write(1, f"{kind} {boot} {seq}\n".encode())


def power_of(boot: int, seq: int) -> float:
    """What a reading says: whoever receives it knows what it must be."""
    return float(boot * 1000 + seq % 997)


class TellingFile(OutboxFile):
    def write(self, rows: Iterable[Row], gone_to: int) -> None:
        rows = list(rows)
        super().write(rows, gone_to)
        for row in rows:
            reading = decode(MeterReading, row.payload)
            say("k", reading.boot, reading.seq)


class TellingBus(LateBus):
    async def publish(self, address: Any, message: Any) -> None:
        await super().publish(address, message)
        say("k", message.boot, message.seq)
        say("c", message.boot, message.seq)


@asynccontextmanager
async def transport_of(url: str, client: str) -> AsyncIterator[Any]:
    if url.startswith("amqp"):
        async with open_amqp(url, client=client, wait_s=DRAIN_S) as amqp:
            yield amqp
    else:
        async with open_mqtt(url, client=client, wait_s=DRAIN_S, will=None) as mqtt:
            yield mqtt


async def make(
    house: str, boot: int, rate: float, stop: asyncio.Event, take: Callable[[MeterReading], None]
) -> None:
    clock, seq = SystemClock(), 0
    begun = clock.monotonic()
    while not stop.is_set():
        seq += 1
        now: Instant = clock.now()
        say("a", boot, seq)
        take(
            MeterReading(
                house=house, meter="main", boot=boot, seq=seq, timestamp=now, power_w=power_of(boot, seq)
            )
        )
        await asyncio.sleep(max(0.0, begun + seq / rate - clock.monotonic()))


async def outbox(url: str, house: str, boot: int, rate: float, folder: Path, stop: asyncio.Event) -> None:
    clock, life, log = SystemClock(), Lifecycle(), get_log("meter")
    address = topics.METER_READING.at(house=house, meter="main")
    bus = TellingBus()
    box = Outbox(
        address, bus, clock, life, log, file=TellingFile(folder / f"outbox-meter-{house}-main.sqlite")
    )

    async def connect() -> None:
        async with transport_of(url, f"meter-{house}") as transport:
            planes = PlanesBus(transport, transport, clock, client=house, quarantine=Quarantine(None, clock))
            bus.arrive(planes)
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        connecting = group.create_task(connect())
        publishing = group.create_task(box.publish())
        await make(house, boot, rate, stop, box.add)  # type: ignore[arg-type]
        async with asyncio.timeout(DRAIN_S):
            while box.waiting:  # noqa: ASYNC110 - only to know when it may end
                await asyncio.sleep(0.05)
        box.close()
        await publishing
        connecting.cancel()


async def naive(url: str, house: str, boot: int, rate: float, folder: Path, stop: asyncio.Event) -> None:
    del folder
    address = topics.METER_READING.at(house=house, meter="main")
    async with open_naive(url) as send:

        def take(reading: MeterReading) -> None:
            send(address.name, encode(reading))
            say("k", reading.boot, reading.seq)

        await make(house, boot, rate, stop, take)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=("outbox", "naive"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--house", required=True)
    parser.add_argument("--boot", type=int, default=1)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--folder", type=Path, required=True)
    own = parser.parse_args()
    configure(("meter",), SystemClock(), "INFO", None)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    run = {"outbox": outbox, "naive": naive}[own.client]
    await run(own.url, own.house, own.boot, own.rate, own.folder, stop)


if __name__ == "__main__":
    asyncio.run(main())
