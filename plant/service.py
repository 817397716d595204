"""Moves the plant on, and tells the bus of each reading."""

import asyncio
from collections.abc import Iterator

from broker.outbox import Outbox
from broker.outbox_file import OutboxFile
from broker.port import Bus
from contracts import topics
from contracts.instant import Instant
from contracts.messages import PlantReading
from plant.model import PlantModel
from plant.views import latest_of, mw
from plant.wire import Latest
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.metrics import Metric


class PlantService:
    """One plant.

    Args:
        plant_id: its id, on the bus the house's.
        boot: of its readings' identity, stored before its first use.
        plant: the model.
        interval_s: between two updates.
        bus: where readings go; None: HTTP alone.
        clock: its time.
        life: says when to stop.
        file: keeps what the broker does not have over a restart; None keeps it in memory.
    """

    def __init__(
        self,
        plant_id: str,
        boot: int,
        plant: PlantModel,
        interval_s: float,
        bus: Bus | None,
        clock: Clock,
        life: Lifecycle,
        file: OutboxFile | None = None,
    ) -> None:
        self._plant_id = plant_id
        self._boot = boot
        self._plant = plant
        self._interval_s = interval_s
        self._clock = clock
        self._life = life
        self._log = get_log("plant")
        self._seq = 0
        self._outbox = None if bus is None else self._outbox_to(bus, file)
        self._latest = latest_of(plant, clock.now())

    def latest(self) -> Latest:
        """The last reading."""
        return self._latest

    def metrics(self) -> Iterator[Metric]:
        """What it counts, for Prometheus; nothing without a bus."""
        return iter(()) if self._outbox is None else self._outbox.metrics()

    async def run(self) -> None:
        """Serve until stopped."""
        async with asyncio.TaskGroup() as group:
            if self._outbox is not None:
                group.create_task(self._outbox.publish())
            async for tick in self._life.each(self._clock.every(self._interval_s)):
                self._update(tick.at)
            if self._outbox is not None:
                self._outbox.close()
        self._log.info("plant stopped")

    def _outbox_to(self, bus: Bus, file: OutboxFile | None) -> Outbox:
        async def declare() -> None:
            """Whoever reads them later finds them: the queue exists before the first reading."""
            await bus.declare(topics.PLANT_READING.of(house=self._plant_id), durable=topics.RECORDER)

        address = topics.PLANT_READING.at(house=self._plant_id)
        return Outbox(address, bus, self._clock, self._life, self._log, file=file, prepare=declare)

    def _update(self, at: Instant) -> None:
        plant = self._plant
        plant.update()
        self._latest = latest_of(plant, at)
        generation, consumption = plant.generation.total_w, plant.consumption.total_w
        self._log.info(
            f"Updated: Generation={mw(generation):g} MW, Consumption={mw(consumption):g} MW, "
            f"Available={mw(plant.available_w):g} MW"
        )
        self._seq += 1
        if self._outbox is not None:
            self._outbox.add(
                PlantReading(
                    house=self._plant_id,
                    boot=self._boot,
                    seq=self._seq,
                    timestamp=at,
                    generation_w=float(generation),
                    consumption_w=float(consumption),
                )
            )
