"""Takes a reading at each aligned beat, and publishes each until the broker has it."""

import asyncio

from broker.pending import PendingReadings
from broker.port import Bus
from contracts import topics
from meter.model import MeterModel
from meter.settings import MeterSettings
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log


class MeterService:
    """One meter of one house."""

    def __init__(
        self, settings: MeterSettings, model: MeterModel, bus: Bus, clock: Clock, life: Lifecycle
    ) -> None:
        self._settings = settings
        self._model = model
        self._bus = bus
        self._clock = clock
        self._life = life
        self._log = get_log("meter")
        address = topics.METER_READING.at(house=settings.house, meter=settings.meter)
        self._pending = PendingReadings(address, bus, clock, life, self._log)
        self.late_ticks = 0

    @property
    def published(self) -> int:
        """Readings the broker has."""
        return self._pending.published

    @property
    def refused(self) -> int:
        """Readings that could not be kept."""
        return self._pending.refused

    async def run(self) -> None:
        """Serve until stopped.

        Raises:
            OutsideSeriesError: a recording has come to its end.
        """
        mine = topics.METER_READING.of(house=self._settings.house, meter=self._settings.meter)
        # Whoever reads them later finds them: the queues exist before the first reading.
        await self._bus.declare(mine, durable=topics.RECORDER)
        if self._settings.pv:
            await self._bus.declare(mine, durable=topics.PVSIM)
        self._log.info("meter started", house=self._settings.house, source=self._settings.source)
        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(self._pending.publish())
            async for tick in self._life.each(self._clock.every(self._settings.interval_s)):
                if tick.skipped:
                    self.late_ticks += tick.skipped
                    self._log.warning("meter late", skipped=tick.skipped, at=str(tick.at))
                self._pending.add(self._model.read(tick.at))
            self._pending.close()
            await publishing
