"""Writes readings and alerts to the daily files; acknowledges them once they are on the disk."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from broker.errors import BusError
from broker.port import Bus, Delivery
from contracts import topics
from contracts.errors import ContractError
from contracts.messages import Alert, PlantReading, PvReading
from energy.zones import zone_of
from recorder.batches import Batches
from recorder.files import AppendFile, Opener
from recorder.folder import DataFolder, open_data_folder
from recorder.model import Entry, Outcome, Verdict, entry_of, is_covered
from recorder.settings import RecorderSettings
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log

RETRY_FIRST_S = 0.25
RETRY_MAX_S = 5.0
UNANSWERED_S = 60.0
"""A house with PV whose readings nobody has answered for so long gets a warning, again and again."""
SAY_EVERY = 12
"""Of so many tries one is told."""


class RecorderService:
    """Batch, append, synchronise, acknowledge.

    Args:
        opener: how a file is opened.
    """

    def __init__(
        self,
        settings: RecorderSettings,
        bus: Bus,
        clock: Clock,
        life: Lifecycle,
        opener: Opener = AppendFile,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._life = life
        self._opener = opener
        self._zone = zone_of(settings.day_timezone)
        self._log = get_log("recorder")
        self._batches: Batches[Delivery[Any]] = Batches(clock, settings.batch_max, settings.batch_s)
        self.rows_written = 0
        self.duplicates = 0
        self.quarantined = 0
        self._unanswered: dict[tuple[str, str], float] = {}
        self.failing = ""
        """Why the disk does not take what is waiting; empty when it does."""
        self._tries = 0
        self.rows: Counter[tuple[str, str]] = Counter()
        """Rows written for each (house, meter)."""

    async def run(self) -> None:
        """Serve until stopped; what is in hand then is written and acknowledged.

        Raises:
            UsageError: the data folder's days are of another timezone, or another recorder writes to it.
            StoreError: the data folder can't be made or written.
        """
        own = self._settings
        wanted = (topics.METER_READING, topics.PV_READING, topics.PLANT_READING, topics.ALERT)
        with open_data_folder(own.data_dir, own.day_timezone, own.open_files_max, self._opener) as folder:
            async with (
                self._bus.subscribe(*wanted, durable=topics.RECORDER) as deliveries,
                asyncio.TaskGroup() as group,
            ):
                self._log.info("recorder started", data_dir=str(own.data_dir), days_of=own.day_timezone)
                writing = group.create_task(self._write_batches(folder))
                async for delivery in self._life.each(deliveries):
                    self._watch_pv(delivery.message)
                    if is_covered(delivery.message):
                        await self._acknowledge(delivery)
                    else:
                        await self._batches.put(delivery)
                self._batches.close()
                await writing
        self._log.info("recorder stopped", rows=self.rows_written, duplicates=self.duplicates)

    def _watch_pv(self, message: Any) -> None:  # noqa: ANN401 - a reading or an alert
        """Say so if a house's readings wait for a PV simulator that does not answer."""
        if isinstance(message, PvReading):
            self._unanswered.pop((message.house, message.meter), None)
        elif is_covered(message):
            now_s = self._clock.monotonic()
            since_s = self._unanswered.setdefault((message.house, message.meter), now_s)
            if now_s - since_s >= UNANSWERED_S:
                self._unanswered[message.house, message.meter] = now_s
                text = "no rows: readings wait for a PV simulator. Start pvsim, or the meter with --no-pv"
                self._log.warning(text, house=message.house, meter=message.meter)

    async def _write_batches(self, folder: DataFolder) -> None:
        while batch := await self._batches.take():
            last_try = self._life.stopping
            left = await self._settle(folder, batch)
            if not left:
                continue
            if last_try:
                self._log.error("stopped with readings unwritten: they stay with the broker", count=len(left))
                break
            self._batches.give_back(left)
            with suppress(TimeoutError):
                async with self._clock.timeout(
                    min(RETRY_FIRST_S * 2 ** min(self._tries - 1, 10), RETRY_MAX_S)
                ):
                    await self._life.wait()
        self._batches.close()

    async def _settle(self, folder: DataFolder, batch: Sequence[Delivery[Any]]) -> list[Delivery[Any]]:
        """Write a batch and acknowledge what is safe; returns what must be tried again, in its order."""
        left: list[Delivery[Any]] = []
        why = ""
        for delivery, outcome in zip(batch, await self._write(folder, batch), strict=True):
            match outcome.verdict:
                case Verdict.WRITTEN:
                    self._count(delivery.message)
                    await self._acknowledge(delivery)
                case Verdict.DUPLICATE:
                    self.duplicates += 1
                    await self._acknowledge(delivery)
                case Verdict.REFUSED:
                    if failed := await self._refuse(delivery, outcome.why):
                        left.append(delivery)
                        why = failed
                case Verdict.FAILED:
                    left.append(delivery)
                    why = outcome.why
        self._tell(why, len(left))
        return left

    def _tell(self, why: str, waiting: int) -> None:
        """Say that the disk fails, now and then while it does, and when it is well again."""
        if why:
            if self._tries % SAY_EVERY == 0:
                self._log.error("not written: readings wait, none is lost", waiting=waiting, why=why)
            self._tries += 1
        elif self.failing:
            self._log.info("written again", tries=self._tries)
            self._tries = 0
        self.failing = why

    async def _write(self, folder: DataFolder, batch: Sequence[Delivery[Any]]) -> list[Outcome]:
        outcomes: list[Outcome | None] = []
        entries: list[Entry] = []
        for delivery in batch:
            try:
                entries.append(entry_of(delivery.message, self._zone))
            except ContractError as error:
                outcomes.append(Outcome(Verdict.REFUSED, str(error)))
            else:
                outcomes.append(None)
        job = asyncio.get_running_loop().run_in_executor(None, folder.write, entries)
        try:
            written = iter(await asyncio.shield(job))
        except asyncio.CancelledError:
            await asyncio.wait([job])  # the files must not be closed under the thread that writes them
            raise
        return [outcome or next(written) for outcome in outcomes]

    def _count(self, message: Any) -> None:  # noqa: ANN401 - a reading or an alert
        if isinstance(message, Alert):
            log = self._log.info if message.severity == "info" else self._log.warning
            log("alert", house=message.house, source=message.source, name=message.name, text=message.text)
            return
        self.rows_written += 1
        self.rows[message.house, "main" if isinstance(message, PlantReading) else message.meter] += 1

    async def _acknowledge(self, delivery: Delivery[Any]) -> None:
        try:
            await delivery.ack()
        except BusError as error:
            self._log.debug("not acknowledged: it comes again", topic=delivery.address.name, why=str(error))

    async def _refuse(self, delivery: Delivery[Any], why: str) -> str:
        """Put a message into quarantine; returns why the disk does not take it there either, or nothing."""
        try:
            await delivery.reject(why)
        except OSError as error:
            return f"quarantine: {error.strerror}"
        except BusError as error:
            self._log.debug("not acknowledged: it comes again", topic=delivery.address.name, why=str(error))
        self.quarantined += 1
        self._log.error("reading quarantined", topic=delivery.address.name, why=why)
        return ""
