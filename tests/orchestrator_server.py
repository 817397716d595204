"""An orchestrator with its HTTP API on a free port of 127.0.0.1, in a thread of its own, for tests that call it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx

from contracts import topics
from contracts.messages import PriceForecast
from der_controller.__main__ import build
from der_controller.service import DerControllerService
from der_controller.settings import BatteryTable, CarTable, DerControllerSettings
from orchestrator.api import orchestrator_api
from orchestrator.audit import Audit
from orchestrator.service import Mark, OrchestratorService
from orchestrator.settings import OrchestratorSettings
from runtime.clock import SystemClock
from runtime.door import Door, Doorman
from runtime.http import serving
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.settings import Layered
from runtime.store import Store
from runtime.token import SITE, Tokens
from tests.conftest import memory_bus
from tests.in_a_thread import in_a_thread
from tests.unit.test_optimizer_model import meter

TOKEN = "a-token-of-the-tests"  # noqa: S105
HOUSE = "house-a"
MANY_PER_S = 1e5
"""No test of what is answered is to wait for the limit."""


class Served:
    """What a test sees of it."""

    def __init__(self, url: str, service: OrchestratorService) -> None:
        self.url = url
        self.service = service
        self.client = httpx.Client(base_url=url, trust_env=False, timeout=20.0)
        self.bearer = {"Authorization": f"Bearer {TOKEN}"}

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def ask(self, house: str = HOUSE, **body: Any) -> httpx.Response:
        """POST a request, with the token."""
        return self.client.post(
            f"/api/houses/{house}/requests", json={"user": "ana", **body}, headers=self.bearer
        )


@contextlib.contextmanager
def orchestrator_server(
    state: Path, *, token: str = TOKEN, ailing: str = "", ders: bool = True
) -> Iterator[Served]:
    """Serve a house whose meter, battery and car report every second."""

    @contextlib.asynccontextmanager
    async def serve(life: Lifecycle) -> AsyncIterator[Served]:
        clock = SystemClock()
        bus, _ = memory_bus(clock)
        settings = OrchestratorSettings(state_dir=state, interval_s=1.0, settle_s=0.0)
        door = Door(tokens=Tokens({token: SITE} if token else {}))
        store, audit = Store(settings.mark_path, Mark, Mark()), Audit(settings.audit_path)
        service = OrchestratorService(Layered(settings, {}), bus, clock, life, store, audit)
        app = orchestrator_api(service, clock, door, lambda: ailing)

        async def report() -> None:
            async for _ in life.each(clock.every(1.0)):
                reading = meter(clock.now(), 1500.0, house=HOUSE)
                await bus.publish(topics.METER_READING.at(house=HOUSE, meter="main"), reading)
                forecast = PriceForecast(
                    house=HOUSE, tariff="flat", issued_at=clock.now(), start=clock.now().floor(900), step_s=900,
                    currency="EUR", import_price=[0.3] * 96, export_price=[0.1] * 96, demand_price=[0.0] * 96,
                )  # fmt: skip
                await bus.publish(topics.PRICE.at(house=HOUSE, tariff="flat"), forecast)

        for topic in (topics.METER_READING, topics.ALERT):
            await bus.declare(topic, durable=topics.RECORDER)
        async with asyncio.TaskGroup() as group:
            group.create_task(service.run())
            group.create_task(report())
            if ders:
                devices = {"battery": BatteryTable(), "ev": CarTable()}
                own = DerControllerSettings(house=HOUSE, devices=devices)
                controller = DerControllerService(HOUSE, build(own, clock, None), 1.0, bus, clock, life)
                group.create_task(controller.run())
            async with serving(
                app,
                "127.0.0.1",
                0,
                get_log("orchestrator"),
                Doorman(door, MANY_PER_S),
            ) as port:
                while not _has_decided(service, ders=ders):
                    await clock.sleep(0.05)
                yield Served(f"http://127.0.0.1:{port}", service)

    with in_a_thread(serve) as served, served.client:
        yield served


def _has_decided(service: OrchestratorService, *, ders: bool) -> bool:
    house = service.houses.get(HOUSE)
    last = None if house is None else house.last
    if last is None or last.snapshot is None:
        return False
    return not ders or len(last.decisions) == 2
