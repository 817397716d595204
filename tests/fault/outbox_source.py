"""A source of readings as a process of its own, to be killed: `python -m tests.fault.outbox_source ...`.

It says on stdout what it does: `a BOOT SEQ` a reading was made, `k BOOT SEQ` it is safe (on the disk, or
confirmed by the broker), `c BOOT SEQ S` confirmed, at that monotonic second. After SIGTERM it makes no more,
waits until all are confirmed, and ends.
"""

import argparse
import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from broker.amqp import open_amqp
from broker.bus import PlanesBus
from broker.errors import BusUnavailableError
from broker.late import LateBus
from broker.mqtt import open_mqtt
from broker.outbox import Outbox
from broker.outbox_file import OutboxFile, Row
from broker.quarantine import Quarantine
from contracts import topics
from contracts.codec import decode, encode
from contracts.instant import Instant
from contracts.messages import MeterReading
from runtime.lifecycle import Lifecycle
from runtime.logs import configure, get_log
from tests.fault.jumping import JumpingClock
from tests.fault.naive import open_naive

DRAIN_S = 240.0
BEAT_S = 0.01
BOOT_S = 86_400.0
"""A life whose readings have their own times begins so much after the one before."""
SHUFFLED = 50

Take = Callable[[MeterReading], None]


def say(kind: str, boot: int, seq: int) -> None:
    os.write(1, f"{kind} {boot} {seq}\n".encode())


def say_confirmed(boot: int, seq: int, at_s: float) -> None:
    os.write(1, f"k {boot} {seq}\nc {boot} {seq} {at_s:.3f}\n".encode())


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
        say_confirmed(message.boot, message.seq, asyncio.get_running_loop().time())


class Maker:
    """Makes readings at a rate, with the time of now or times of their own."""

    def __init__(self, own: argparse.Namespace, clock: JumpingClock, stop: asyncio.Event) -> None:
        self.own, self.clock, self.stop = own, clock, stop
        self.start = Instant.parse(own.start).after((own.boot - 1) * BOOT_S) if own.start else None
        self.address = topics.METER_READING.at(house=own.house, meter="main")

    async def make(self, take: Take, waiting: Callable[[], int]) -> None:
        """Until stopped, or `--count` are made; pauses while more than `--window` wait for the broker."""
        made, due = 0, 0.0
        while not self.stop.is_set() and (self.own.count is None or made < self.own.count):
            await asyncio.sleep(BEAT_S)
            due = min(due + self.own.rate * BEAT_S, self.own.window - waiting(), 10_000)
            if self.own.count is not None:
                due = min(due, self.own.count - made)
            for _ in range(int(due)):
                made += 1
                say("a", self.own.boot, made)
                take(self._reading(made))
            due = max(0.0, due - int(due))

    def _reading(self, seq: int) -> MeterReading:
        own = self.own
        at = self.clock.now() if self.start is None else self.start.after(seq * own.step_s)
        return MeterReading(
            house=own.house,
            meter="main",
            boot=own.boot,
            seq=seq,
            timestamp=at,
            power_w=power_of(own.boot, seq),
            has_pv=own.pv,
        )


@asynccontextmanager
async def transport_of(url: str, client: str) -> AsyncIterator[Any]:
    if url.startswith("amqp"):
        async with open_amqp(url, client=client, wait_s=DRAIN_S) as amqp:
            yield amqp
    else:
        async with open_mqtt(url, client=client, wait_s=DRAIN_S, will=None) as mqtt:
            yield mqtt


@asynccontextmanager
async def connected(maker: Maker) -> AsyncIterator[TellingBus]:
    """The bus of a source, which is there as soon as the broker is."""
    client, clock, bus = f"meter-{maker.own.house}", maker.clock, TellingBus()

    async def connect() -> None:
        async with transport_of(maker.own.url, client) as transport:
            planes = PlanesBus(transport, transport, clock, client=client, quarantine=Quarantine(None, clock))
            bus.arrive(planes)
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        connecting = group.create_task(connect())
        yield bus
        connecting.cancel()


async def outbox(maker: Maker) -> None:
    """As `python -m meter` publishes."""
    own = maker.own
    async with connected(maker) as bus, asyncio.TaskGroup() as group:
        box = Outbox(
            maker.address, bus, maker.clock, Lifecycle(), get_log("meter"),
            file=TellingFile(own.folder / f"outbox-meter-{own.house}-main.sqlite"),
            prepare=lambda: declare(bus, own.house),
        )  # fmt: skip
        publishing = group.create_task(box.publish())
        await maker.make(box.add, lambda: box.waiting)  # type: ignore[arg-type]
        async with asyncio.timeout(DRAIN_S):
            while box.waiting:  # noqa: ASYNC110 - only to know when it may end
                await asyncio.sleep(0.05)
        box.close()
        await publishing


async def declare(bus: LateBus, house: str) -> None:
    """As the meter's service does."""
    mine = topics.METER_READING.of(house=house, meter="main")
    for durable in (topics.RECORDER, topics.PVSIM):
        await bus.declare(mine, durable=durable)


async def shuffled(maker: Maker) -> None:
    """What a bad network could do at its worst: every reading comes twice, and in any order."""
    hand: list[MeterReading] = []
    chance = random.Random(maker.own.house)

    async def deliver(reading: MeterReading) -> None:
        while True:
            try:
                await bus.publish(maker.address, reading)
            except BusUnavailableError:
                await asyncio.sleep(0.1)
            else:
                return

    async def deal(readings: list[MeterReading]) -> None:
        twice = readings * 2
        chance.shuffle(twice)
        await asyncio.gather(*(deliver(reading) for reading in twice))

    async with connected(maker) as bus, asyncio.TaskGroup() as group:
        await bus.wait(DRAIN_S)
        await declare(bus, maker.own.house)

        def take(reading: MeterReading) -> None:
            nonlocal hand
            hand.append(reading)
            if len(hand) == SHUFFLED:
                group.create_task(deal(hand))
                hand = []

        await maker.make(take, lambda: 0)
        await deal(hand)


async def naive(maker: Maker) -> None:
    topic = maker.own.topic or maker.address.name
    async with open_naive(maker.own.url) as send:

        def take(reading: MeterReading) -> None:
            send(topic, encode(reading))
            say("k", reading.boot, reading.seq)

        await maker.make(take, lambda: 0)


async def naive_shuffled(maker: Maker) -> None:
    """The control of `shuffled`."""
    topic = maker.own.topic or maker.address.name
    async with open_naive(maker.own.url) as send:

        def take(reading: MeterReading) -> None:
            for _ in range(2):
                send(topic, encode(reading))
            say("k", reading.boot, reading.seq)

        await maker.make(take, lambda: 0)


CLIENTS = {"outbox": outbox, "shuffled": shuffled, "naive": naive, "naive-shuffled": naive_shuffled}


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--house", required=True)
    parser.add_argument("--topic", help="where a naive client sends, if not where a reading belongs")
    parser.add_argument("--boot", type=int, default=1)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--count", type=int)
    parser.add_argument("--window", type=int, default=1_000_000)
    parser.add_argument(
        "--start", help="the first reading's time; else each has the time at which it is made"
    )
    parser.add_argument("--step-s", type=float, default=1.0)
    parser.add_argument("--pv", action="store_true")
    parser.add_argument("--folder", type=Path, required=True)
    own = parser.parse_args()
    clock, stop = JumpingClock(), asyncio.Event()
    configure(("meter",), clock, "INFO", None)
    clock.listen()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await CLIENTS[own.client](Maker(own, clock, stop))


if __name__ == "__main__":
    asyncio.run(main())
