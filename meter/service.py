"""Takes a reading at each aligned beat, and publishes each until the broker has it."""

import asyncio

from broker.errors import BusUnavailableError, NotRoutedError
from broker.port import Bus
from contracts import topics
from contracts.messages import MeterReading
from meter.model import MeterModel
from meter.settings import MeterSettings
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log

RETRY_S = 1.0
WAITING_MAX = 100_000
"""Readings kept in memory while the broker is away: eleven days at one every 10 s."""


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
        self._address = topics.METER_READING.at(house=settings.house, meter=settings.meter)
        self._waiting: asyncio.Queue[MeterReading | None] = asyncio.Queue()
        self.published = 0
        self.refused = 0
        self.late_ticks = 0

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
            publishing = group.create_task(self._publish_waiting())
            async for tick in self._life.each(self._clock.every(self._settings.interval_s)):
                if tick.skipped:
                    self.late_ticks += tick.skipped
                    self._log.warning("meter late", skipped=tick.skipped, at=str(tick.at))
                self._keep(self._model.read(tick.at))
            self._waiting.put_nowait(None)
            await publishing

    def _keep(self, reading: MeterReading) -> None:
        """Readings are taken on the beat, whether a broker is there or not."""
        if self._waiting.qsize() >= WAITING_MAX:
            self.refused += 1
            self._log.error(
                "reading refused: too many wait for the broker", seq=reading.seq, refused=self.refused
            )
            return
        self._waiting.put_nowait(reading)

    async def _publish_waiting(self) -> None:
        while (reading := await self._waiting.get()) is not None:
            if not await self._publish(reading):
                self._log.error("stopped with readings unpublished", count=self._waiting.qsize())
                return

    async def _publish(self, reading: MeterReading) -> bool:
        """Publish until the broker has it; False if the service is stopped before."""
        attempts = 0
        while True:
            try:
                await self._bus.publish(self._address, reading)
            except (BusUnavailableError, NotRoutedError) as error:
                attempts += 1
                if attempts == 1:
                    self._log.warning("readings wait for the broker", seq=reading.seq, why=str(error))
                if self._life.stopping:
                    return False
                await self._clock.sleep(RETRY_S)
                continue
            self.published += 1
            if attempts:
                self._log.info("broker is back", seq=reading.seq, waiting=self._waiting.qsize())
            return True
