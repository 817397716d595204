"""Answers each meter reading; acknowledges it once its own answer is confirmed."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from broker.errors import BusError
from broker.pipe import Parcel, Pipe
from broker.port import Bus, Delivery
from contracts import topics
from contracts.messages import MeterReading
from pvsim.model import Production, answer
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.metrics import Metric, counter, gauge


class PvsimService:
    """The PV simulator of any number of houses, away from them.

    It keeps nothing itself: a reading whose answer is not confirmed stays with the broker, comes again,
    and gets the same answer.
    """

    def __init__(
        self, production_of: Callable[[str], Production], bus: Bus, clock: Clock, life: Lifecycle
    ) -> None:
        self._production_of = production_of
        self._productions: dict[str, Production] = {}
        self._bus = bus
        self._life = life
        self._log = get_log("pvsim")
        self._pipe = Pipe(bus, clock, life, self._log, self._acknowledge, self._declare)
        self._unanswered: dict[int, Delivery[Any]] = {}
        self._number = 0

    @property
    def answered(self) -> int:
        """Answers the broker has."""
        return self._pipe.published

    def metrics(self) -> Iterator[Metric]:
        """What it counts, for Prometheus."""
        yield counter("wattbus_confirmed", "Answers the broker has.", self.answered)
        waiting = "Answers the broker does not have yet."
        yield gauge("wattbus_outbox_messages", waiting, len(self._pipe))

    async def run(self) -> None:
        """Serve until stopped."""
        async with (
            self._bus.subscribe(topics.METER_READING, durable=topics.PVSIM) as deliveries,
            asyncio.TaskGroup() as group,
        ):
            publishing = group.create_task(self._pipe.run())
            self._log.info("pv simulator started")
            async for delivery in self._life.each(deliveries):
                reading: MeterReading = delivery.message
                if reading.historical or not reading.has_pv:
                    await self._settle(delivery)
                    continue
                self._answer(delivery)
                await self._pipe.room()
            self._pipe.close()
            await publishing
        self._log.info("pv simulator stopped", answered=self.answered, waiting=len(self._pipe))

    async def _declare(self) -> None:
        await self._bus.declare(topics.PV_READING, durable=topics.RECORDER)

    def _answer(self, delivery: Delivery[Any]) -> None:
        reading: MeterReading = delivery.message
        reply = answer(reading, self._production(reading.house))
        if reply.pv_w is None:
            self._log.warning("no PV value is known", house=reply.house, at=str(reply.timestamp))
        self._number += 1
        self._unanswered[self._number] = delivery
        address = topics.PV_READING.at(house=reply.house, meter=reply.meter)
        self._pipe.put(Parcel(self._number, address, reply))

    def _production(self, house: str) -> Production:
        production = self._productions.get(house)
        if production is None:
            production = self._productions[house] = self._production_of(house)
        return production

    async def _acknowledge(self, parcel: Parcel) -> None:
        await self._settle(self._unanswered.pop(parcel.number))

    async def _settle(self, delivery: Delivery[Any]) -> None:
        try:
            await delivery.ack()
        except BusError as error:
            self._log.debug("not acknowledged: it comes again", topic=delivery.address.name, why=str(error))
