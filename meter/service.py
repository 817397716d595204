"""Takes a reading at each aligned beat, and publishes each until the broker has it."""

import asyncio
from collections.abc import Iterator

from broker.outbox import Limits, Outbox
from broker.outbox_file import OutboxFile
from broker.port import Bus
from contracts import topics
from contracts.messages import Alert
from meter.model import MeterModel
from meter.settings import MeterSettings
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.metrics import Metric, counter, gauge

DAY_S = 86400.0


class MeterService:
    """One meter of one house.

    Args:
        file: keeps the readings the broker does not have over a restart; None keeps them in memory.
    """

    def __init__(
        self,
        settings: MeterSettings,
        model: MeterModel,
        bus: Bus,
        clock: Clock,
        life: Lifecycle,
        file: OutboxFile | None = None,
    ) -> None:
        self._settings = settings
        self._model = model
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
        self.late_ticks = 0

    @property
    def published(self) -> int:
        """Readings and alerts the broker has."""
        return self._outbox.published

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
        waiting = "Readings and alerts the broker does not have yet."
        yield gauge("wattbus_outbox_messages", waiting, self.waiting)
        yield counter("wattbus_confirmed", "Readings and alerts the broker has.", self.published)
        lost = "Readings that could not be kept: their numbers are missing for good."
        yield counter("wattbus_refused", lost, self.refused)
        late = "Beats skipped, because the one before took too long."
        yield counter("wattbus_late_ticks", late, self.late_ticks)

    async def run(self) -> None:
        """Serve until stopped.

        Raises:
            OutsideSeriesError: a recording has come to its end.
        """
        self._log.info("meter started", house=self._settings.house, source=self._settings.source)
        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(self._outbox.publish())
            async for tick in self._life.each(self._clock.every(self._settings.interval_s)):
                if tick.skipped:
                    self.late_ticks += tick.skipped
                    self._log.warning("meter late", skipped=tick.skipped, at=str(tick.at))
                # One that is refused keeps its number: whoever reads them sees the gap.
                self._outbox.add(self._model.read(tick.at))
            self._outbox.close()
            await publishing

    async def _declare(self) -> None:
        """Whoever reads them later finds them: the queues exist before the first reading."""
        mine = topics.METER_READING.of(house=self._settings.house, meter=self._settings.meter)
        await self._bus.declare(mine, durable=topics.RECORDER)
        if self._settings.pv:
            await self._bus.declare(mine, durable=topics.PVSIM)

    def _alert(self, name: str, text: str) -> None:
        """Tell whoever reads the alerts; it waits its turn in the outbox."""
        self._alerts += 1
        source = f"meter-{self._settings.meter}"[:64]
        alert = Alert(
            house=self._settings.house,
            source=source,
            boot=self._model.boot,
            seq=self._alerts,
            timestamp=self._clock.now(),
            severity="critical",
            name=name,
            text=text[:2000],
        )
        self._outbox.post(topics.ALERT.at(house=self._settings.house, source=source), alert)
