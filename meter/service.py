"""Publishes a reading at each aligned beat, until the broker has it."""

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
        self.published = 0
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
        async for tick in self._life.each(self._clock.every(self._settings.interval_s)):
            if tick.skipped:
                self.late_ticks += tick.skipped
                self._log.warning("meter late", skipped=tick.skipped, at=str(tick.at))
            await self._publish(self._model.read(tick.at))

    async def _publish(self, reading: MeterReading) -> None:
        """Publish until the broker has it; a reading is not dropped because a broker is away."""
        attempts = 0
        while True:
            try:
                await self._bus.publish(self._address, reading)
            except (BusUnavailableError, NotRoutedError) as error:
                attempts += 1
                if attempts == 1:
                    self._log.warning("reading waits for the broker", seq=reading.seq, why=str(error))
                if self._life.stopping:
                    self._log.error("stopped with a reading unpublished", seq=reading.seq)
                    return
                await self._clock.sleep(RETRY_S)
                continue
            self.published += 1
            if attempts:
                self._log.info("broker is back", seq=reading.seq, attempts=attempts)
            return
