"""An optimizer with its HTTP API on a free port of 127.0.0.1, in a thread of its own, for tests that call it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

import httpx

from contracts import topics
from contracts.messages import Schedule
from optimizer.api import optimizer_api
from optimizer.service import OptimizerService
from optimizer.settings import OptimizerSettings
from runtime.clock import SystemClock
from runtime.door import Door, Doorman
from runtime.http import serving
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.settings import Layered
from tests.conftest import memory_bus
from tests.in_a_thread import in_a_thread
from tests.unit.test_optimizer_model import der, meter


class Served:
    """What a test sees of it."""

    def __init__(self, url: str, optimizer: OptimizerService) -> None:
        self.url = url
        self.optimizer = optimizer
        self.client = httpx.Client(base_url=url, trust_env=False, timeout=20.0)

    def get(self, path: str, **query: str) -> httpx.Response:
        return self.client.get(path, params=query)

    def note(self, schedule: Schedule) -> None:
        """Let a plan of the test's own be the last one."""
        self.optimizer.board.note([schedule])


@contextlib.contextmanager
def optimizer_server(
    houses: Sequence[str] = ("house-a",), *, ailing: str = "", battery: bool = True
) -> Iterator[Served]:
    """Serve houses whose meters and batteries report every second."""

    @contextlib.asynccontextmanager
    async def serve(life: Lifecycle) -> AsyncIterator[Served]:
        clock = SystemClock()
        bus, _ = memory_bus(clock)
        settings = OptimizerSettings()
        optimizer = OptimizerService(Layered(settings, {}), bus, clock, life)
        app = optimizer_api(optimizer, settings, clock, lambda: ailing)

        async def report() -> None:
            async for _ in life.each(clock.every(1.0)):
                for house in houses:
                    reading = meter(clock.now(), 1500.0, house=house)
                    await bus.publish(topics.METER_READING.at(house=house, meter="main"), reading)
                    if battery:
                        telemetry = der(clock.now(), house=house)
                        await bus.publish(topics.DER_TELEMETRY.at(house=house, der_id="battery"), telemetry)

        await bus.declare(topics.METER_READING, durable=topics.RECORDER)
        async with asyncio.TaskGroup() as group:
            group.create_task(optimizer.run())
            group.create_task(report())
            async with serving(app, "127.0.0.1", 0, get_log("optimizer"), Doorman(Door(), 1e5)) as port:
                while len(optimizer.houses) < len(houses):
                    await clock.sleep(0.05)
                yield Served(f"http://127.0.0.1:{port}", optimizer)

    with in_a_thread(serve) as served, served.client:
        yield served
