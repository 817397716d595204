"""An outbox with a broker that fails as it is told, and the service around them."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from broker.errors import BusUnavailableError
from broker.memory import MemoryTransport
from broker.outbox import Limits, Outbox
from broker.outbox_file import OutboxFile, Row
from broker.transport import Outgoing
from contracts import topics
from contracts.codec import decode, encode
from contracts.messages import MeterReading
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from tests.conftest import START, memory_bus

ADDRESS = topics.METER_READING.at(house="house-a", meter="main")


def reading(seq: int, boot: int = 1) -> MeterReading:
    return MeterReading(
        house="house-a", meter="main", boot=boot, seq=seq, timestamp=START.after(seq), power_w=float(seq)
    )


def row(number: int, payload: bytes = b"") -> Row:
    return Row(number, ADDRESS.name, payload or encode(reading(number)))


class Broker(MemoryTransport):
    """A broker that is away, loses confirms, or refuses, as it is told; it answers after a while."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock = clock
        self.error: Exception | None = None
        self.random: random.Random | None = None
        self.got: list[int] = []
        self.at_once = self.at_once_max = 0

    async def publish(self, out: Outgoing) -> None:
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        luck = 1.0 if self.random is None else self.random.random()
        try:
            if self.error is None and luck >= 0.1:
                self.got.append(decode(MeterReading, out.payload).seq)
            error = self.error
            await self.clock.sleep(0.01)
            if error is not None:
                raise error
            if luck < 0.2:
                raise BusUnavailableError("not taken" if luck < 0.1 else "taken, but the confirm was lost")
        finally:
            self.at_once -= 1


class House:
    """An outbox, its broker, and the service around it."""

    def __init__(
        self, clock: VirtualClock, file: OutboxFile | None, limits: Limits | None = None, **_: object
    ) -> None:
        self.clock, self.life = clock, Lifecycle()
        bus, _transport = memory_bus(clock)
        self.broker = Broker(clock)
        bus._readings = bus._live = self.broker
        self.alarms: list[tuple[str, str]] = []
        self.outbox = Outbox(
            ADDRESS, bus, clock, self.life, get_log("meter"), file=file, limits=limits,
            alarm=lambda name, text: self.alarms.append((name, text)),
        )  # fmt: skip

    def away(self) -> None:
        self.broker.error = BusUnavailableError("away")

    def back(self) -> None:
        self.broker.error = None

    def add(self, seqs: Iterable[int]) -> list[bool]:
        return [self.outbox.add(reading(seq)) for seq in seqs]

    async def drained(self) -> None:
        while self.outbox.waiting:
            await self.clock.sleep(0.05)


@asynccontextmanager
async def house(
    clock: VirtualClock, path: Path | None, limits: Limits | None = None, file: type[OutboxFile] = OutboxFile
) -> AsyncIterator[House]:
    """A house from its start to its stop."""
    one = House(clock, None if path is None else file(path), limits)
    task = asyncio.create_task(one.outbox.publish())
    yield one
    one.life.stop()
    one.outbox.close()
    await task


def kept(path: Path) -> list[int]:
    """What is on the disk after a stop."""
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT payload FROM waiting ORDER BY number").fetchall()
    database.close()
    return [decode(MeterReading, payload).seq for (payload,) in rows]
