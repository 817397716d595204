"""Answers each meter reading; acknowledges it once its own answer is confirmed."""

from collections.abc import Callable

from broker.errors import BusUnavailableError, NotRoutedError
from broker.port import Bus
from contracts import topics
from contracts.messages import MeterReading, PvReading
from pvsim.model import Production, answer
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log

RETRY_S = 1.0


class PvsimService:
    """The PV simulator of any number of houses, away from them."""

    def __init__(
        self, production_of: Callable[[str], Production], bus: Bus, clock: Clock, life: Lifecycle
    ) -> None:
        self._production_of = production_of
        self._productions: dict[str, Production] = {}
        self._bus = bus
        self._clock = clock
        self._life = life
        self._log = get_log("pvsim")
        self.answered = 0

    async def run(self) -> None:
        """Serve until stopped."""
        await self._bus.declare(topics.PV_READING, durable=topics.RECORDER)
        async with self._bus.subscribe(topics.METER_READING, durable=topics.PVSIM) as deliveries:
            self._log.info("pv simulator started")
            async for delivery in self._life.each(deliveries):
                reading: MeterReading = delivery.message
                if reading.historical or not reading.has_pv:
                    await delivery.ack()
                    continue
                reply = answer(reading, self._production(reading.house))
                if reply.pv_w is None:
                    self._log.warning("no PV value is known", house=reply.house, at=str(reply.timestamp))
                if await self._publish(reply):
                    await delivery.ack()

    def _production(self, house: str) -> Production:
        production = self._productions.get(house)
        if production is None:
            production = self._productions[house] = self._production_of(house)
        return production

    async def _publish(self, reply: PvReading) -> bool:
        """Publish until the broker has it; False if stopped before: the reading then comes again."""
        address = topics.PV_READING.at(house=reply.house, meter=reply.meter)
        while not self._life.stopping:
            try:
                await self._bus.publish(address, reply)
            except (BusUnavailableError, NotRoutedError) as error:
                self._log.warning(
                    "answer waits for the broker", house=reply.house, seq=reply.seq, why=str(error)
                )
                await self._clock.sleep(RETRY_S)
                continue
            self.answered += 1
            return True
        return False
