"""Writes readings and alerts to the daily files; acknowledges them once they are on the disk."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import Any, NamedTuple, cast

from broker.errors import BusError
from broker.port import Bus, Delivery
from contracts import topics
from contracts.errors import ContractError
from contracts.messages import Alert, PvReading
from energy.zones import zone_of
from recorder.alarms import Alarms
from recorder.batches import Batches
from recorder.disk import AppendFile, Opener
from recorder.folder import DataFolder, open_data_folder
from recorder.gaps import METERS_MAX, Gaps, Past
from recorder.model import (
    Entry,
    Meter,
    Outcome,
    Verdict,
    entry_of,
    is_covered,
    is_numbered,
    meter_of,
)
from recorder.settings import RecorderSettings
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.limit import Limit
from runtime.logs import get_log
from runtime.metrics import Metric, counter, gauge

RETRY_FIRST_S = 0.25
RETRY_MAX_S = 5.0
UNANSWERED_S = 60.0
"""A house with PV whose readings nobody has answered for so long gets a warning, again and again."""
SAY_EVERY = 12
"""Of so many tries one is told."""
FLOOD_IN_HAND_S = 86400.0
"""What a house has kept over an outage it sends at once: so long it may be out without an alert."""
GAPS_EVERY_S = 5.0
"""So often it is looked for readings that are missing for too long."""


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
        self.gaps = 0
        """How often an alert told of missing readings."""
        self._gaps = Gaps(settings.gap_patience_s)
        self._unanswered: dict[tuple[str, str], float] = {}
        self.failing = ""
        """Why the disk does not take what is waiting; empty when it does."""
        self._tries = 0
        self.rows: Counter[str] = Counter()
        """Rows written for each house, of so many houses at most as meters are followed."""

    def metrics(self) -> Iterator[Metric]:
        """What it counts, for Prometheus."""
        yield counter("wattbus_rows", "Rows written to the daily files.", self.rows_written)
        yield counter("wattbus_duplicates", "Readings that had come before.", self.duplicates)
        yield counter("wattbus_quarantined", "Readings that can't be used, put aside.", self.quarantined)
        yield counter("wattbus_gaps", "Alerts that told of missing readings.", self.gaps)
        missing = "Readings that are missing now, of those that an alert told of."
        yield gauge("wattbus_missing", missing, self._gaps.missing)
        failing = "1: the disk does not take what is waiting."
        yield gauge("wattbus_disk_failing", failing, bool(self.failing))

    async def run(self) -> None:
        """Open the data folder, and record into it until stopped.

        Raises:
            UsageError: the data folder's days are of another timezone, or another recorder writes to it.
            StoreError: the data folder can't be made, read or written.
        """
        own = self._settings
        with open_data_folder(own.data_dir, own.day_timezone, self._opener) as folder:
            await self.record(folder)

    async def record(self, folder: DataFolder) -> None:
        """Serve until stopped; what is in hand then is written and acknowledged."""
        own = self._settings
        wanted = (topics.METER_READING, topics.PV_READING, topics.PLANT_READING, topics.ALERT)
        alarms = Alarms(self._bus, self._clock, self._life, self._log, folder.boot)
        sent = Limit(own.flood_per_s, FLOOD_IN_HAND_S, self._clock, METERS_MAX)
        async with (
            self._bus.subscribe(*wanted, durable=topics.RECORDER) as deliveries,
            asyncio.TaskGroup() as group,
        ):
            self._log.info("recorder started", data_dir=str(own.data_dir), days_of=own.day_timezone)
            group.create_task(alarms.run())
            group.create_task(self._watch_gaps(alarms))
            writing = group.create_task(self._write_batches(folder, alarms))
            async for delivery in self._life.each(deliveries):
                message = delivery.message
                self._watch_pv(message)
                covered = is_covered(message)
                if is_numbered(message) and not covered and sent.take(message.house) > 0:
                    alarms.flood(message.house, own.flood_per_s)
                if covered:
                    await self._acknowledge(delivery)
                else:
                    await self._batches.put(delivery)
            self._batches.close()
            await writing
            alarms.close()
        self._log.info("recorder stopped", rows=self.rows_written, duplicates=self.duplicates)

    def _watch_pv(self, message: Any) -> None:  # noqa: ANN401 - a reading or an alert
        """Say so if a house's readings wait for a PV simulator that does not answer."""
        if isinstance(message, PvReading):
            self._unanswered.pop((message.house, message.meter), None)
        elif is_covered(message):
            now_s = self._clock.monotonic()
            if len(self._unanswered) >= METERS_MAX:
                self._unanswered.clear()
            since_s = self._unanswered.setdefault((message.house, message.meter), now_s)
            if now_s - since_s >= UNANSWERED_S:
                self._unanswered[message.house, message.meter] = now_s
                text = "no rows: readings wait for a PV simulator. Start pvsim, or the meter with --no-pv"
                self._log.warning(text, house=message.house, meter=message.meter)

    async def _watch_gaps(self, alarms: Alarms) -> None:
        """Tell of numbers that are missing, and of those that have come after all."""
        async for _ in self._life.each(self._clock.every(GAPS_EVERY_S)):
            for finding in self._gaps.findings(self._clock.monotonic()):
                self.gaps += not finding.is_filled
                alarms.gap(finding)

    async def _write_batches(self, folder: DataFolder, alarms: Alarms) -> None:
        while batch := await self._batches.take():
            last_try = self._life.stopping
            left = await self._settle(folder, alarms, batch)
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

    async def _settle(
        self, folder: DataFolder, alarms: Alarms, batch: Sequence[Delivery[Any]]
    ) -> list[Delivery[Any]]:
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
                    elif outcome.is_conflict and not isinstance(delivery.message, Alert):
                        alarms.conflict(meter_of(delivery.message), outcome.why)
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
        unknown: dict[Meter, PurePath] = {}
        for delivery in batch:
            message = delivery.message
            try:
                entry = entry_of(message, self._zone)
            except ContractError as error:
                outcomes.append(Outcome(Verdict.REFUSED, str(error)))
                continue
            entries.append(entry)
            outcomes.append(None)
            if is_numbered(message) and not self._gaps.knows(meter := meter_of(message)):
                unknown[meter] = min(entry.path, unknown.get(meter, entry.path))
        now_s = self._clock.monotonic()
        job = asyncio.get_running_loop().run_in_executor(None, _store, folder, entries, unknown, now_s)
        try:
            stored = await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job])  # the files must not be closed under the thread that writes them
            raise
        for meter, past in stored.pasts.items():
            self._gaps.begin(meter, past, now_s)
        written = iter(stored.outcomes)
        return [outcome or next(written) for outcome in outcomes]

    def _count(self, message: Any) -> None:  # noqa: ANN401 - a reading or an alert
        if isinstance(message, Alert):
            log = self._log.info if message.severity == "info" else self._log.warning
            log("alert", house=message.house, source=message.source, name=message.name, text=message.text)
            return
        meter = meter_of(message)
        self.rows_written += 1
        if meter.house in self.rows or len(self.rows) < METERS_MAX:
            self.rows[meter.house] += 1
        if is_numbered(message):
            self._gaps.add(meter, message.boot, message.seq, self._clock.monotonic())

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


class _Stored(NamedTuple):
    """What a batch has become."""

    outcomes: list[Outcome]
    pasts: dict[Meter, Past]
    """Of the meters that were not known: the numbers of each boot that are recorded."""


def _store(
    folder: DataFolder, entries: Sequence[Entry], unknown: Mapping[Meter, PurePath], now_s: float
) -> _Stored:
    """Write a batch, in a thread."""
    outcomes = folder.write(entries)
    folder.follow(now_s)
    pasts: dict[Meter, Past] = {}
    for meter, path in unknown.items():
        try:
            pasts[meter] = [
                (cast(int, boot), numbers.runs) for boot, numbers in folder.recorded(path).items()
            ]
        except OSError as error:
            get_log("recorder").warning("past not read", house=meter.house, meter=meter.meter, why=str(error))
    return _Stored(outcomes, pasts)
