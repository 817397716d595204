"""Readings on one broker, all else on another: either may be away without the other."""

import asyncio
from pathlib import Path
from typing import Self

from broker.bus import PlanesBus
from broker.errors import BusUnavailableError
from broker.memory import MemoryTransport
from broker.outbox import Outbox
from broker.outbox_file import OutboxFile
from broker.pipe import UNSHOWN_MAX
from broker.quarantine import Quarantine
from broker.transport import Filter, Outgoing
from contracts import topics
from contracts.messages import Alert, MeterReading
from contracts.topics import DeliveryClass
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from tests.conftest import run_virtual

ADDRESS = topics.METER_READING.at(house="house-a", meter="main")
ALERTS = topics.ALERT.at(house="house-a", source="meter")


class Plane(MemoryTransport):
    """A broker that may be away, and knows what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.got: list[bytes] = []

    async def publish(self, out: Outgoing) -> None:
        if self.away:
            raise BusUnavailableError("away")
        self.got.append(out.payload)
        await super().publish(out)


class House:
    """One source over two planes, and what those who only look have seen of it."""

    def __init__(self, clock: VirtualClock, path: Path | None) -> None:
        self.clock = clock
        self.readings, self.live, self.life = Plane(), Plane(), Lifecycle()
        self.bus = PlanesBus(
            self.readings, self.live, clock, client="test", quarantine=Quarantine(None, clock)
        )
        file = None if path is None else OutboxFile(path)
        self.outbox = Outbox(ADDRESS, self.bus, clock, self.life, get_log("meter"), file=file)
        self.seq = 0

    def add(self, age_s: float = 0.0) -> None:
        self.seq += 1
        at = self.clock.now().after(-age_s)
        self.outbox.add(
            MeterReading(house="house-a", meter="main", boot=1, seq=self.seq, timestamp=at, power_w=1)
        )

    def seen(self) -> list[int]:
        """What was shown, in its order."""
        return [int(payload.split(b'"seq":')[1].split(b",")[0]) for payload in self.live.got]

    async def __aenter__(self) -> Self:
        await self.readings.declare((Filter("wattbus/#", DeliveryClass.READING),), "recorder")
        self.publishing = asyncio.create_task(self.outbox.publish())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.outbox.close()
        await self.publishing


def test_new_readings_are_shown_while_the_readings_plane_is_away(tmp_path: Path) -> None:
    """Once each, in their order, and not again when all that waited is published."""

    async def main(clock: VirtualClock) -> None:
        async with House(clock, tmp_path / "outbox.sqlite") as house:
            for _ in range(3):
                house.add()
                await clock.sleep(10)
            house.readings.away = True
            for _ in range(400):  # more than the pipe holds: the last of them wait on the disk
                house.add()
                await clock.sleep(10)
                assert house.seen()[-1] == house.seq, "it is shown at once"
            house.readings.away = False
            for _ in range(20):
                house.add()
                await clock.sleep(10)
        assert house.seen() == list(range(1, 424))
        assert house.readings.backlog("recorder") == 423

    run_virtual(main)


def test_what_is_old_is_not_shown(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, tmp_path / "outbox.sqlite") as house:
            house.readings.away = True
            for age_s in (3600, 31, 2, 5, 0):
                house.add(age_s)
                await clock.sleep(0.5)
            house.readings.away = False
            await clock.sleep(10)
            assert house.seen() == [3, 5]

    run_virtual(main)


def test_an_alert_is_shown_once_however_often_it_is_tried() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, None) as house:
            house.readings.away = True
            for seq in (1, 2):
                alert = Alert(
                    house="house-a", source="meter", boot=1, seq=seq, timestamp=clock.now(),
                    severity="critical", name="outbox-full", text="refused",
                )  # fmt: skip
                house.outbox.post(ALERTS, alert)
            await clock.sleep(600)
            house.readings.away = False
            await clock.sleep(5)
            assert house.seen() == [1, 2]

    run_virtual(main)


def test_a_live_plane_that_is_away_keeps_no_reading_from_its_queue() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, None) as house:
            house.live.away = True
            for _ in range(5):
                house.add()
                await clock.sleep(1)
            assert house.readings.backlog("recorder") == 5
            assert house.bus.not_shown == 5
            house.live.away = False
            house.add()
            await clock.sleep(1)
            assert house.seen() == [6]

    run_virtual(main)


def test_what_waits_to_be_shown_takes_no_more_memory_than_its_limit() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, None) as house:
            house.readings.away = True
            house.add()
            await clock.sleep(1)
            for _ in range(5 * UNSHOWN_MAX):
                house.add()
            assert len(house.outbox._pipe._unshown) == UNSHOWN_MAX
            house.readings.away = False

    run_virtual(main)
