"""Readings on their way: taken on the beat, published in order, each until the broker has it."""

import asyncio
from typing import Any

from broker.errors import BusUnavailableError, NotRoutedError
from broker.port import Bus
from contracts.messages import MeterReading, PlantReading
from contracts.topics import Address
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import Log

RETRY_S = 1.0
WAITING_MAX = 100_000
"""Readings kept in memory while the broker is away: eleven days at one every 10 s."""

Reading = MeterReading | PlantReading


class PendingReadings:
    """The readings of one source that the broker does not have yet.

    Args:
        address: where they go.
        bus: through which.
        clock: waits between two attempts.
        life: a service that is stopped waits for no broker.
        log: says when the broker is away, and when it is back.
    """

    def __init__(self, address: Address[Any], bus: Bus, clock: Clock, life: Lifecycle, log: Log) -> None:
        self._address = address
        self._bus = bus
        self._clock = clock
        self._life = life
        self._log = log
        self._waiting: asyncio.Queue[Reading | None] = asyncio.Queue()
        self.published = 0
        self.refused = 0

    def add(self, reading: Reading) -> None:
        """Take a reading, whether a broker is there or not."""
        if self._waiting.qsize() >= WAITING_MAX:
            self.refused += 1
            self._log.error(
                "reading refused: too many wait for the broker", seq=reading.seq, refused=self.refused
            )
            return
        self._waiting.put_nowait(reading)

    def close(self) -> None:
        """No more will come: `publish` ends with the last one."""
        self._waiting.put_nowait(None)

    async def publish(self) -> None:
        """Publish them one by one, to the last or until stopped without a broker."""
        while (reading := await self._waiting.get()) is not None:
            if not await self._publish(reading):
                self._log.error("stopped with readings unpublished", count=self._waiting.qsize())
                return

    async def _publish(self, reading: Reading) -> bool:
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
