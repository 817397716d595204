"""The diary: what was decided for each house and why, as it was said on the bus, a file a house and day."""

import asyncio
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import msgspec

from broker.port import Bus, Delivery
from contracts import topics
from contracts.archive import day_of
from contracts.codec import encode
from contracts.messages import Message
from energy.zones import zone_of
from recorder.batches import Batches
from recorder.pages import PAGE_BYTES_MAX, Line, compress_page, write_lines
from recorder.settings import RecorderSettings
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log

KEPT = (
    topics.SNAPSHOT,
    topics.DECISION,
    topics.DER_COMMAND,
    topics.DER_ACK,
    topics.SCHEDULE,
    topics.ORDERS,
    topics.OPERATOR_REQUEST,
)
LINES_MAX = 1000
WRITE_EVERY_S = 1.0

Heard = tuple[str, Line]


class DiaryService:
    """Writes what it hears within a second or so; what the live plane drops, it never hears.

    A page goes to the disk when the system writes it there: a power cut may take its last half minute.
    """

    def __init__(self, settings: RecorderSettings, bus: Bus, clock: Clock, life: Lifecycle) -> None:
        self._root = settings.data_dir
        self._zone = zone_of(settings.day_timezone)
        self._bus = bus
        self._clock = clock
        self._life = life
        self._log = get_log("recorder")
        window_s = max(settings.batch_s, WRITE_EVERY_S)
        self._batches: Batches[Heard] = Batches(clock, LINES_MAX, window_s)
        self._day: date | None = None
        self._full: set[str] = set()
        self._failing = ""
        self.lines_lost = 0
        """That the disk did not take, or for which a page had no room."""

    async def run(self) -> None:
        """Serve until stopped; what was heard until then is written."""
        async with self._bus.subscribe(*KEPT) as deliveries, asyncio.TaskGroup() as group:
            writing = group.create_task(self._write())
            async for delivery in self._life.each(deliveries):
                await self._batches.put(self._heard(delivery))
                await delivery.ack()
            self._batches.close()
            await writing

    def _heard(self, delivery: Delivery[Message]) -> Heard:
        line = Line(
            heard_at=self._clock.now(),
            topic=delivery.address.name,
            message=msgspec.Raw(encode(delivery.message)),
        )
        return delivery.address.ids["house"], line

    async def _write(self) -> None:
        while batch := await self._batches.take():
            job = asyncio.get_running_loop().run_in_executor(None, self._put_down, batch)
            await asyncio.shield(job)

    def _put_down(self, batch: Sequence[Heard]) -> None:
        """Write a batch, house by house and day by day; in a thread."""
        pages: dict[tuple[str, date], list[Line]] = {}
        for house, line in batch:
            pages.setdefault((house, day_of(line.heard_at, self._zone)), []).append(line)
        for (house, day), lines in pages.items():
            if self._day != day:
                self._turn_the_page(day)
            self._put_on_page(house, day, lines)

    def _put_on_page(self, house: str, day: date, lines: Sequence[Line]) -> None:
        failing = ""
        try:
            if not write_lines(self._root, house, day, lines):
                self.lines_lost += len(lines)
                self._tell_full(house)
        except OSError as error:
            self.lines_lost += len(lines)
            failing = error.strerror or str(error)
        if failing != self._failing:
            self._failing = failing
            if failing:
                self._log.error("decisions are not recorded", house=house, why=failing)
            else:
                self._log.info("decisions are recorded again", lines_lost=self.lines_lost)

    def _tell_full(self, house: str) -> None:
        if house not in self._full:
            self._full.add(house)
            self._log.error("no more decisions are recorded today", house=house, bytes_max=PAGE_BYTES_MAX)

    def _turn_the_page(self, day: date) -> None:
        """Compress what was written on the days before; also what a killed recorder left."""
        self._day = day
        self._full.clear()
        for page in sorted(self._root.glob("*/diary_*.jsonl")):
            if page.stem < f"diary_{day.isoformat()}":
                self._compress(page)

    def _compress(self, page: Path) -> None:
        try:
            compress_page(page)
        except OSError as error:
            self._log.warning("diary not compressed", file=str(page), why=error.strerror)
