"""An upgrade as docs/deploy.md has it: each part is stopped and started under load, the broker too; nothing is lost."""

import asyncio
import contextlib
import csv
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from broker.connect import open_spectator
from broker.port import Bus
from contracts import topics
from contracts.instant import Instant
from contracts.messages import CommandAck, DerTelemetry, MeterReading
from runtime.clock import SystemClock
from tests.brokers import Broker, Missing, give_up, running
from tests.fault.chain import Part

HOUSES = ("house-a", "house-b")
EVERY_S = 0.2
TTL_S = 30.0
"""How long a command holds."""
Identity = tuple[str, int, int]
"""Of a reading: house, boot and seq."""


class Witness:
    """What is seen on the live plane by one who only looks."""

    def __init__(self) -> None:
        self.readings: set[Identity] = set()
        self.accepted: dict[str, Instant] = {}
        """When each house's battery has last obeyed."""
        self.unbidden: list[DerTelemetry] = []
        """Batteries that followed a command which nobody had seen them accept, or which was over."""

    async def look(self, bus: Bus) -> None:
        seen = (topics.METER_READING, topics.DER_ACK, topics.DER_TELEMETRY)
        async with bus.subscribe(*seen) as deliveries:
            async for delivery in deliveries:
                self.take(delivery.message)
                await delivery.ack()

    def take(self, message: MeterReading | CommandAck | DerTelemetry) -> None:
        match message:
            case MeterReading():
                self.readings.add((message.house, message.boot, message.seq))
            case CommandAck(result="accepted"):
                self.accepted[message.house] = message.timestamp
            case DerTelemetry(following="command"):
                since = self.accepted.get(message.house)
                if since is None or message.timestamp.seconds_since(since) > TTL_S + 1:
                    self.unbidden.append(message)


class Site:
    """Every part as its own process, on one broker."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.parts: dict[str, Part] = {}
        common = ["--live-url", url]
        for name in ("recorder", "pvsim"):
            self._add(name, [name, *common])
        self._add("optimizer", ["optimizer", "--service-port", "0", *common])
        self._add("orchestrator", ["orchestrator", "--service-port", "0", "--interval-s", "2", *common])
        for house in HOUSES:
            own = ["--house", house, *common]
            self._add(f"meter {house}", ["meter", "--interval-s", str(EVERY_S), *own])
            self._add(f"der-controller {house}", ["der_controller", *own])

    def _add(self, name: str, module: list[str]) -> None:
        self.parts[name] = Part(name, [sys.executable, "-m", *module], self.folder / name.replace(" ", "-"))

    def rows(self) -> Iterator[Identity]:
        for path in (self.folder / "recorder" / "DATA").glob("*/main/main_*.csv"):
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    yield path.parts[-3], int(row["boot"]), int(row["seq"])

    def said(self) -> str:
        return "\n".join(f"--- {name}: {part.said[-1500:]}" for name, part in self.parts.items())

    async def until(self, holds: Callable[[], bool], within_s: float, what: str) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, f"{what}: not in {within_s:g} s\n{self.said()}"
            for part in self.parts.values():
                part.assert_alive()
            await asyncio.sleep(0.2)


@pytest.fixture
def own_rabbitmq() -> Iterator[Broker]:
    with contextlib.ExitStack() as stack:
        try:
            broker = stack.enter_context(running("rabbitmq"))
        except Missing as missing:
            give_up("rabbitmq", str(missing))
        yield broker


@contextlib.asynccontextmanager
async def at_work(url: str, folder: Path) -> AsyncIterator[tuple[Site, Witness]]:
    site, witness = Site(url, folder), Witness()
    async with open_spectator(url, SystemClock(), client="witness", wait_s=30) as bus:
        looking = asyncio.create_task(witness.look(bus))
        try:
            for part in site.parts.values():
                part.start()
            await site.until(lambda: len(witness.accepted) == len(HOUSES), 60, "a command is obeyed")
            yield site, witness
        finally:
            looking.cancel()
            await asyncio.wait([looking])
            for part in site.parts.values():
                await part.kill()


def missing_of(rows: list[Identity]) -> set[Identity]:
    """The numbers below the last of each life that no row has."""
    last: dict[tuple[str, int], int] = {}
    for house, boot, seq in rows:
        last[house, boot] = max(seq, last.get((house, boot), 0))
    return {(*life, seq) for life, end in last.items() for seq in range(1, end + 1)} - set(rows)


@pytest.mark.timeout(240)
async def test_a_rolling_restart_under_load_loses_nothing(own_rabbitmq: Broker, tmp_path: Path) -> None:
    assert own_rabbitmq.amqp_url is not None
    async with at_work(own_rabbitmq.amqp_url, tmp_path) as (site, witness):
        for name, part in site.parts.items():
            await part.stop(30)
            part.start()
            size = len(witness.readings)
            await site.until(lambda size=size: len(witness.readings) > size + 5, 30, f"readings after {name}")
        await asyncio.to_thread(own_rabbitmq.restart)
        obeyed = dict(witness.accepted)
        await site.until(
            lambda: all(witness.accepted[house] > obeyed[house] for house in HOUSES), 60, "commands again"
        )
        await site.until(lambda: len(witness.readings) > 100, 60, "a hundred readings")
        for name, part in site.parts.items():
            if name.startswith("meter"):
                await part.stop(30)
        shown = len(witness.readings)
        await site.until(lambda: witness.readings <= set(site.rows()), 30, "rows of all that was shown")
        for name in ("pvsim", "recorder"):
            await site.parts[name].stop(30)
        rows = list(site.rows())
        assert len(set(rows)) == len(rows)
        assert not missing_of(rows)
        assert {boot for _, boot, _ in rows} == {1, 2}
        assert not witness.unbidden, (witness.unbidden[:3], site.said())
        print(f"{len(rows)} rows, {shown} seen on the live plane, none lost, none twice")  # noqa: T201
