"""Subscribes to the live plane, keeps the fleet up to date, and shows it twice a second."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from broker.port import Bus, Delivery
from contracts import topics
from dashboard.hub import Hub
from dashboard.model import Fleet
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log

HEARD = (
    topics.METER_READING,
    topics.PV_READING,
    topics.PLANT_READING,
    topics.DER_TELEMETRY,
    topics.DER_COMMAND,
    topics.DER_ACK,
    topics.SCHEDULE,
    topics.SNAPSHOT,
    topics.DECISION,
    topics.ORDERS,
    topics.STATUS,
    topics.PRICE,
    topics.ALERT,
)
BEAT_S = 0.5
"""Real seconds: what is said is seen within one, whenever in between it was said."""


class DashboardService:
    """Keeps what the page shows.

    Args:
        fleet: what is known.
        hub: who looks.
        bus: where the houses are heard.
        connected: whether the brokers are there right now.
        clock: its time.
        life: says when to stop.
    """

    def __init__(
        self, fleet: Fleet, hub: Hub, bus: Bus, connected: Callable[[], bool], clock: Clock, life: Lifecycle
    ) -> None:
        self._fleet = fleet
        self._hub = hub
        self._bus = bus
        self._connected = connected
        self._clock = clock
        self._life = life
        self._log = get_log("dashboard")

    async def run(self) -> None:
        """Serve until stopped."""
        try:
            async with self._bus.subscribe(*HEARD) as deliveries, asyncio.TaskGroup() as group:
                group.create_task(self._hear(deliveries))
                group.create_task(self._show())
        finally:
            self._hub.close()
        self._log.info("dashboard stopped", houses=len(self._fleet.houses))

    async def _hear(self, deliveries: AsyncIterator[Delivery[Any]]) -> None:
        async for delivery in self._life.each(deliveries):
            self._fleet.hear(delivery.address.ids, delivery.message, self._clock.now())
            await delivery.ack()

    async def _show(self) -> None:
        was_connected = True
        async for _ in self._life.each(self._clock.every(BEAT_S * self._clock.speed)):
            connected = self._connected()
            if connected != was_connected:
                self._log.warning("a broker is back" if connected else "a broker is away")
                was_connected = connected
            self._hub.beat(self._clock.now(), connected=connected)
