"""Every HTTP server of ours on a free port of 127.0.0.1, two houses behind each, for tests that attack them."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from contracts import topics
from contracts.archive import HEADER
from dashboard.__main__ import page
from dashboard.settings import DashboardSettings
from energy.battery import BatterySpec
from energy.tariff import load_tariff
from optimizer.api import optimizer_api
from optimizer.counterparts.playback import open_playback
from optimizer.counterparts.reporter_api import reporter_api
from optimizer.counterparts.simulator import Simulator
from optimizer.counterparts.validator_api import validator_api
from optimizer.service import OptimizerService
from optimizer.settings import OptimizerSettings
from orchestrator.api import orchestrator_api
from orchestrator.audit import Audit
from orchestrator.service import Mark, OrchestratorService
from orchestrator.settings import OrchestratorSettings
from plant.api import door_of, plant_api
from plant.poller_api import poller_api
from plant.polling import Condition
from plant.service import PlantService
from plant.settings import PLANT, Access, PlantSettings
from runtime.clock import SystemClock
from runtime.door import Door, Doorman, open_door
from runtime.http import serving
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.monitor import monitored
from runtime.settings import Layered, MonitoredSettings
from runtime.store import Store
from tests.broker_life import free_ports
from tests.conftest import memory_bus
from tests.in_a_thread import in_a_thread
from tests.secret_files import write_secret
from tests.unit.test_optimizer_model import der, meter

HOUSES = ("house-a", "house-b")
SITE_TOKEN = "the-site-s-token-of-the-tests"  # noqa: S105
ANAS_TOKEN = "ana-s-own-token-of-the-tests"  # noqa: S105
EXAMPLE = Path(__file__).parents[1] / "examples" / "data" / "fr_house_30min.csv"
SPEC = BatterySpec(
    capacity_kwh=10.0,
    max_charge_kw=5.0,
    max_discharge_kw=5.0,
    efficiency_roundtrip=0.9,
    min_soc_percent=10.0,
    max_soc_percent=90.0,
)
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Made once: reading the machine's authorities takes longer than a request."""
MANY_PER_S = 1e5
"""No test of what is answered is to wait for the limit."""


def token_of(house: str) -> str:
    return f"the-token-of-{house}-of-the-tests"


@dataclass(frozen=True)
class Server:
    """One of them."""

    name: str
    url: str
    reads: str
    """A path that takes a token."""
    acts: tuple[str, dict[str, Any]] | None = None
    """A path and a body that change something; None: nothing does."""
    of_house: tuple[str, ...] = ()
    """Paths that tell of one house."""

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def ask(self, method: str, path: str, token: str = "", **more: Any) -> httpx.Response:
        """Ask, with a token of its own or none."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(base_url=self.url, trust_env=False, timeout=20.0, verify=NO_TLS) as client:
            return client.request(method, path, headers={**headers, **more.pop("headers", {})}, **more)


REQUEST = ("/api/houses/house-a/requests", {"action": "resume"})
RECORDED = "/api/recordings/{house}/main/2026-11-21"
KNOWN: dict[str, tuple[str, tuple[str, dict[str, Any]] | None, tuple[str, ...]]] = {
    "orchestrator": (
        "/api/houses",
        REQUEST,
        tuple(f"/api/houses/{{house}}/{of}" for of in ("status", "decisions", "constraints", "objectives")),
    ),
    "optimizer": (
        "/api/mpc/status",
        ("/api/mpc/trigger?house=house-a", {}),
        ("/api/mpc/current_dispatch?house={house}", "/api/mpc/full_schedule?house={house}"),
    ),
    "dashboard": ("/api/recordings", REQUEST, (RECORDED, f"{RECORDED}/csv")),
    "plant": (f"/data/latest?plant_id={PLANT}", None, ()),
    "plant_poller": ("/health", None, ()),
    "reporter": ("/api/forecasts/load?hours=1", None, ()),
    "validator": ("/api/battery/soc", ("/api/battery/dispatch", {"battery_power_kw": 1.0}), ()),
    "monitor": ("/metrics", None, ()),
}
"""By name: what reads, what acts, and what tells of one house."""


def write_tokens(folder: Path) -> dict[str, Path]:
    """The files that settings name."""
    told = {
        "token_file": folder / "token",
        "user_tokens": folder / "users",
        "house_tokens": folder / "houses",
    }
    files = {told["token_file"]: SITE_TOKEN, told["user_tokens"] / "ana": ANAS_TOKEN}
    files |= {told["house_tokens"] / house: token_of(house) for house in HOUSES}
    for path, token in files.items():
        write_secret(path, token)
    return told


@contextlib.contextmanager
def http_servers(
    folder: Path, requests_per_s: float = MANY_PER_S, *, guarded: bool = True
) -> Iterator[dict[str, Server]]:
    """Serve them all in a thread of its own, with tokens; or without, but the plant, which always has one."""
    with in_a_thread(lambda life: _all_served(folder, life, requests_per_s, guarded=guarded)) as ports:
        yield {name: Server(name, f"http://127.0.0.1:{port}", *KNOWN[name]) for name, port in ports.items()}


@contextlib.asynccontextmanager
async def _all_served(
    folder: Path, life: Lifecycle, requests_per_s: float, *, guarded: bool
) -> AsyncIterator[dict[str, int]]:
    clock, tokens = SystemClock(), write_tokens(folder) if guarded else dict[str, Path]()
    bus, _ = memory_bus(clock)
    for topic in (topics.METER_READING, topics.PV_READING, topics.ALERT):
        await bus.declare(topic, durable=topics.RECORDER)
    settings = OrchestratorSettings(state_dir=folder, interval_s=1.0, settle_s=0.0, **tokens)  # type: ignore[arg-type]
    door = open_door(settings)
    store, audit = Store(settings.mark_path, Mark, Mark()), Audit(settings.audit_path)
    orchestrator = OrchestratorService(Layered(settings, {}), bus, clock, life, store, audit)
    optimizer = OptimizerService(Layered(OptimizerSettings(), {}), bus, clock, life)
    access, plant = Access(PLANT, SITE_TOKEN, is_new=False), _plant()
    model = plant.model()
    playback = open_playback(EXAMPLE, "meter_w", "pv_forecast_w")
    simulator = Simulator(SPEC, 50.0, playback, load_tariff(), 0.0, clock.now())
    apps = {
        "orchestrator": orchestrator_api(orchestrator, clock, door, str),
        "optimizer": optimizer_api(optimizer, OptimizerSettings(), clock, str, door=door),
        "plant": plant_api(
            plant, access, model, PlantService(PLANT, 1, model, 1.0, None, clock, life).latest
        ),
        "plant_poller": poller_api(PLANT, Condition(5), clock, door=door),
        "reporter": reporter_api(playback, clock, door),
        "validator": validator_api(simulator, "costa_rica", clock, door),
    }
    doors: dict[str, Door] = {"plant": door_of(access)}

    async def report() -> None:
        async for _ in life.each(clock.every(1.0)):
            for house in HOUSES:
                await bus.publish(
                    topics.METER_READING.at(house=house, meter="main"),
                    meter(clock.now(), 1500.0, house=house),
                )
                await bus.publish(
                    topics.DER_TELEMETRY.at(house=house, der_id="battery"), der(clock.now(), house=house)
                )

    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for running in (orchestrator.run(), optimizer.run(), report()):
            group.create_task(running)
        ports = {
            name: await stack.enter_async_context(
                serving(app, "127.0.0.1", 0, get_log(name), Doorman(doors.get(name, door), requests_per_s))
            )
            for name, app in apps.items()
        }
        own, monitors = free_ports(2)
        shown = DashboardSettings(
            service_port=own,
            data_dir=_recorded(folder),
            requests_per_s=requests_per_s,
            **tokens,  # type: ignore[arg-type]
        )
        ports["dashboard"] = await stack.enter_async_context(
            page(shown, bus, lambda: True, clock, Lifecycle(), lambda _: 16.0)
        )
        watched = MonitoredSettings(metrics_port=monitors, requests_per_s=requests_per_s)
        await stack.enter_async_context(monitored(watched, [], str, get_log("meter")))
        ports["monitor"] = monitors
        while len(orchestrator.houses) < len(HOUSES) or len(optimizer.board.schedules) < len(HOUSES):
            for house in optimizer.houses:
                await optimizer.trigger(house)
            await clock.sleep(0.1)
        yield ports
        life.stop()


def _plant() -> PlantSettings:
    return PlantSettings(gen_min=0.05, gen_max=0.15, cons_min=0.03, cons_max=0.10)


def _recorded(folder: Path) -> Path:
    for house in HOUSES:
        path = folder / "DATA" / house / "main" / "main_2026-11-21.csv"
        path.parent.mkdir(parents=True)
        path.write_text(f"{HEADER}\n2026-11-21T10:00:00.000Z,1000.0,500.0,1500.0,1,1\n")
    return folder / "DATA"
