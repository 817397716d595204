"""Takes a reading at each aligned beat, and publishes each until the broker has it."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Literal

from broker.outbox import Limits, Outbox
from broker.outbox_file import OutboxFile
from broker.port import Bus
from contracts import topics
from contracts.instant import Instant
from contracts.messages import Alert
from meter.early import SAY_AGAIN_S, Early
from meter.errors import MeterSilentError
from meter.model import MeterModel
from meter.settings import MeterSettings
from meter.source import Measured, Source
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.metrics import Metric, counter, gauge

DAY_S = 86400.0
SILENT_S = 30.0
"""A meter that has not answered for so long is worth an alert."""
Severity = Literal["info", "warning", "critical"]


class MeterService:
    """One meter of one house.

    Args:
        file: keeps the readings the broker does not have over a restart; None keeps them in memory.
        early: readings from before this service, which go first.
    """

    def __init__(
        self,
        settings: MeterSettings,
        model: MeterModel,
        source: Source,
        bus: Bus,
        clock: Clock,
        life: Lifecycle,
        file: OutboxFile | None = None,
        early: Sequence[Early] = (),
    ) -> None:
        self._settings = settings
        self._model = model
        self._source = source
        self._bus = bus
        self._clock = clock
        self._life = life
        self._log = get_log("meter")
        days = settings.outbox_max_days
        limits = Limits(
            settings.outbox_max_rows, settings.outbox_max_mb << 20, None if days is None else days * DAY_S
        )
        self._outbox = Outbox(
            topics.METER_READING.at(house=settings.house, meter=settings.meter),
            bus,
            clock,
            life,
            self._log,
            file=file,
            limits=None if file is None else limits,
            alarm=self._alert,
            prepare=self._declare,
        )
        self._alerts = 0
        self._silent_since_s: float | None = None
        self._said_s: float | None = None
        self.ailing = ""
        """Why the meter has been silent for long; empty: it has not."""
        self._early = early
        self.late_ticks = 0

    @property
    def refused(self) -> int:
        """Readings that could not be kept."""
        return self._outbox.refused

    @property
    def waiting(self) -> int:
        """Readings and alerts the broker does not have yet."""
        return self._outbox.waiting

    def metrics(self) -> Iterator[Metric]:
        """What it counts, for Prometheus."""
        yield from self._outbox.metrics()
        late = "Beats skipped, because the one before took too long."
        yield counter("wattbus_late_ticks", late, self.late_ticks)
        silent = "Since the meter fell silent; 0: it is heard."
        yield gauge("wattbus_meter_silent_seconds", silent, self._silent_s)

    async def run(self) -> None:
        """Serve until stopped.

        Raises:
            OutsideSeriesError: a recording has come to its end.
        """
        self._log.info("meter started", house=self._settings.house, source=self._settings.source)
        try:
            async with asyncio.TaskGroup() as group:
                publishing = group.create_task(self._outbox.publish())
                self._add_early()
                await self._watch()
                self._outbox.close()
                await publishing
        finally:
            await self._source.close()
        self._log.info("meter stopped", confirmed=self._outbox.published, waiting=self.waiting)

    async def _watch(self) -> None:
        """Take readings until stopped."""
        async for tick in self._life.each(self._clock.every(self._settings.interval_s)):
            if tick.skipped:
                self.late_ticks += tick.skipped
                self._log.warning("meter late", skipped=tick.skipped, at=str(tick.at))
            measured = await self._measure(tick.at)
            if measured is not None:
                # One that is refused keeps its number: whoever reads them sees the gap.
                self._outbox.add(self._model.reading(tick.at, measured))

    async def _measure(self, at: Instant) -> Measured | None:
        """What the meter measures; None if it is silent, which is told as an alert in time."""
        try:
            measured = await self._source.measure(at)
        except MeterSilentError as error:
            self._silent(str(error))
            return None
        if self.ailing:
            self._alert("meter-heard", "the meter is heard again", "info")
            self._log.info("meter heard again", silent_s=round(self._silent_s))
            self.ailing = ""
        self._silent_since_s = None
        return measured

    @property
    def _silent_s(self) -> float:
        return 0.0 if self._silent_since_s is None else self._clock.monotonic() - self._silent_since_s

    def _silent(self, why: str) -> None:
        now_s = self._clock.monotonic()
        if self._silent_since_s is None:
            self._silent_since_s = now_s
        is_new = not self.ailing and self._silent_s >= SILENT_S
        if is_new:
            self._alert("meter-silent", f"no readings: {why}", "warning")
        if is_new or self.ailing:
            self.ailing = f"no readings: {why}"
        if is_new or self._said_s is None or now_s - self._said_s >= SAY_AGAIN_S:
            self._said_s = now_s
            self._log.warning("no reading", why=why, silent_s=round(self._silent_s))

    def _add_early(self) -> None:
        """Give the readings from before this service their numbers, and their times counted back from now."""
        now, now_s = self._clock.now(), self._clock.monotonic()
        for at_s, measured in self._early:
            self._outbox.add(self._model.reading(now.after(at_s - now_s), measured))
        self._early = ()

    async def _declare(self) -> None:
        """Whoever reads them later finds them: the queues exist before the first reading."""
        mine = topics.METER_READING.of(house=self._settings.house, meter=self._settings.meter)
        alerts = topics.ALERT.of(house=self._settings.house)
        await self._bus.declare(mine, alerts, durable=topics.RECORDER)
        if self._settings.pv:
            await self._bus.declare(mine, durable=topics.PVSIM)

    def _alert(self, name: str, text: str, severity: Severity = "critical") -> None:
        """Tell whoever reads the alerts; it waits its turn in the outbox."""
        self._alerts += 1
        source = f"meter-{self._settings.meter}"[:64]
        alert = Alert(
            house=self._settings.house,
            source=source,
            boot=self._model.boot,
            seq=self._alerts,
            timestamp=self._clock.now(),
            severity=severity,
            name=name,
            text=text[:2000],
        )
        self._outbox.post(topics.ALERT.at(house=self._settings.house, source=source), alert)
