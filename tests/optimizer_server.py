"""An optimizer with its HTTP API on a free port of 127.0.0.1, in a thread of its own, for tests that call it."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

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
    ready: queue.Queue[Any] = queue.Queue()

    async def main() -> None:
        clock, life = SystemClock(), Lifecycle()
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
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            group.create_task(optimizer.run())
            group.create_task(report())
            async with serving(app, "127.0.0.1", 0, get_log("optimizer"), Doorman(Door(), 1e5)) as port:
                while len(optimizer.houses) < len(houses):
                    await clock.sleep(0.05)
                ready.put((port, optimizer, lambda: loop.call_soon_threadsafe(life.stop)))
                await life.wait()

    thread = threading.Thread(target=lambda: _run(main(), ready))
    thread.start()
    said = ready.get(timeout=20.0)
    if isinstance(said, BaseException):
        raise said
    port, optimizer, stop = said
    served = Served(f"http://127.0.0.1:{port}", optimizer)
    try:
        yield served
    finally:
        served.client.close()
        stop()
        thread.join(timeout=10.0)
        assert not thread.is_alive()


def _run(main: Any, ready: "queue.Queue[Any]") -> None:
    try:
        asyncio.run(main)
    except BaseException as error:
        ready.put(error)
        raise
