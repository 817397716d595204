"""A plant over HTTP, its poller, its loads and an orchestrator on a bus in memory, in virtual time."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import httpx

from broker.bus import PlanesBus
from broker.memory import MemoryTransport
from broker.quarantine import Quarantine
from contracts import topics
from contracts.instant import Instant
from contracts.messages import Alert, Decision, DerTelemetry, DispatchCommand, PlantReading, Status
from der_controller.__main__ import build
from der_controller.service import DerControllerService
from der_controller.settings import DerControllerSettings, LoadTable, Table
from energy.flexible import MINER_PRESETS_KW
from orchestrator.service import Mark, OrchestratorService
from orchestrator.settings import OrchestratorSettings
from plant.api import plant_api
from plant.polling import PollerService
from plant.service import PlantService
from plant.settings import PLANT, Access, PlantSettings
from plant.trust import Trust
from runtime.asking import Asker, open_client
from runtime.clock import VirtualClock, VirtualLoop
from runtime.lifecycle import Lifecycle
from runtime.settings import Layered
from runtime.store import Store

LOADS = 20
CAPACITY_KW = LOADS * MINER_PRESETS_KW[-1]
TOKEN = "sesame-open-yourself"  # noqa: S105 - of a plant that lives as long as the run
START = Instant.parse("2025-11-12T15:00:00Z")
HEARD = (
    topics.DER_TELEMETRY,
    topics.DER_COMMAND,
    topics.DECISION,
    topics.PLANT_READING,
    topics.ALERT,
    topics.STATUS,
)
NOISE_KW = 0.01

Through = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]


class Sample(NamedTuple):
    """One second."""

    at: Instant
    available_kw: float
    power_kw: float


class Site:
    """Everything said on it is kept, and every second its power.

    Args:
        clock: the run's.
        plant: how the plant drifts.
        devices: its loads; by default twenty miners.
        through: what stands between the poller and the plant's API.
        poller: whether the plant is polled.
        settings: the orchestrator's.
    """

    def __init__(
        self,
        clock: VirtualClock,
        plant: PlantSettings,
        devices: Mapping[str, Table] | None = None,
        through: Through = lambda transport: transport,
        **settings: Any,  # noqa: ANN401 - of several types
    ) -> None:
        self.clock = clock
        self.life, self._watching = Lifecycle(), Lifecycle()
        self.said: list[Any] = []
        self.samples: list[Sample] = []
        self.model = plant.model()
        memory = MemoryTransport()
        quarantine = Quarantine(None, clock)
        self.bus = bus = PlanesBus(memory, memory, clock, client="site", quarantine=quarantine)
        server = PlantService(PLANT, 1, self.model, plant.interval, None, clock, self.life)
        app = plant_api(plant, Access(PLANT, TOKEN, is_new=False), self.model, server.latest)
        self._http = open_client(through(httpx.ASGITransport(app)))
        endpoint = "http://plant/data/latest"
        asker = Asker("plant", endpoint, self._http, clock, token=TOKEN, leave_alone_s=0.0)
        query = f"?plant_id={PLANT}"
        self.poller = PollerService(PLANT, 1, asker, query, Trust(), 10.0, 5, bus, clock, self.life)
        own = DerControllerSettings(house=PLANT, devices=dict(devices or {"miner": LoadTable(count=LOADS)}))
        controller = DerControllerService(
            PLANT, build(own, clock, None), own.interval_s, bus, clock, self.life
        )
        base = OrchestratorSettings(**settings)
        store = Store(None, Mark, Mark())
        self.orchestrator = OrchestratorService(Layered(base, {}), bus, clock, self.life, store)
        self._services = (server, self.poller, controller, self.orchestrator)
        self._tasks: list[asyncio.Task[None]] = []
        self._output_kw: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        await self.bus.declare(topics.PLANT_READING, topics.ALERT, durable=topics.RECORDER)
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._sample())]
        await self.clock.sleep(0.01)
        self._tasks += [asyncio.create_task(service.run()) for service in self._services]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.life.stop()
        await asyncio.gather(*self._tasks[2:])
        self._watching.stop()
        await asyncio.gather(*self._tasks[:2])
        await self._http.aclose()

    async def _listen(self) -> None:
        async with self.bus.subscribe(*HEARD) as deliveries:
            async for delivery in self._watching.each(deliveries):
                message: Any = delivery.message
                if isinstance(message, DerTelemetry):
                    self._output_kw[message.der_id] = message.current_output
                self.said.append(message)

    async def _sample(self) -> None:
        async for tick in self._watching.each(self.clock.every(1.0)):
            await self.clock.sleep(0.1)
            self.samples.append(Sample(tick.at, self.model.available_w / 1000, self.power_kw))

    @property
    def power_kw(self) -> float:
        """What all loads draw."""
        return sum(self._output_kw.values())

    def heard(self, kind: type) -> list[Any]:
        """Everything of a kind so far."""
        return [message for message in self.said if isinstance(message, kind)]

    @property
    def alerts(self) -> list[Alert]:
        """So far."""
        return self.heard(Alert)

    @property
    def readings(self) -> list[PlantReading]:
        """So far."""
        return self.heard(PlantReading)

    @property
    def commands(self) -> list[DispatchCommand]:
        """So far."""
        return self.heard(DispatchCommand)

    @property
    def decisions(self) -> list[Decision]:
        """So far."""
        return self.heard(Decision)

    @property
    def states(self) -> list[bool]:
        """Whether the plant was said to be there, each time."""
        return [state.online for state in self.heard(Status) if state.device == "main"]


class Numbers(NamedTuple):
    """What became of the power."""

    available_kw: float
    """The mean of what the loads could have had."""
    power_kw: float
    """The mean of what they drew."""
    unused_kw: float
    """The mean of what they could have drawn and did not."""
    overdraw_s_per_hour: float
    overdraw_kw: float
    """The mean, over all time."""
    changes_per_load_per_hour: float


class Scenario(NamedTuple):
    """One of the plant API document's, under "Testing Scenarios"."""

    name: str
    plant: PlantSettings
    safe_kw: float = 0.0
    """What the loads do before they are told anything."""


SCENARIOS = (
    Scenario("excess", PlantSettings(gen_min=0.15, gen_max=0.20, cons_min=0.02, cons_max=0.05, seed=1)),
    Scenario(
        "deficit",
        PlantSettings(gen_min=0.05, gen_max=0.10, cons_min=0.08, cons_max=0.12, seed=1),
        MINER_PRESETS_KW[9],
    ),
    Scenario("balanced", PlantSettings(gen_min=0.10, gen_max=0.20, cons_min=0.08, cons_max=0.18, seed=1)),
    Scenario(
        "rapid",
        PlantSettings(
            gen_min=0.05, gen_max=0.15, cons_min=0.03, cons_max=0.10, step=0.02, interval=5, seed=1
        ),
    ),
)


def numbers_of(site: Site) -> Numbers:
    """The numbers of a run."""
    samples, n = site.samples, len(site.samples)
    could_kw = [min(max(sample.available_kw, 0.0), CAPACITY_KW) for sample in samples]
    over_kw = [max(sample.power_kw - max(sample.available_kw, 0.0), 0.0) for sample in samples]
    unused_kw = [max(kw - sample.power_kw, 0.0) for kw, sample in zip(could_kw, samples, strict=True)]
    presets: dict[str, float] = {}
    changes = 0
    for command in site.commands:
        kw = command.setpoint_kw or 0.0
        changes += presets.get(command.der_id, kw) != kw
        presets[command.der_id] = kw
    return Numbers(
        available_kw=sum(could_kw) / n,
        power_kw=sum(sample.power_kw for sample in samples) / n,
        unused_kw=sum(unused_kw) / n,
        overdraw_s_per_hour=sum(kw > NOISE_KW for kw in over_kw) / n * 3600,
        overdraw_kw=sum(over_kw) / n,
        changes_per_load_per_hour=changes / LOADS / n * 3600,
    )


def run_scenario(scenario: Scenario, hours: float, **settings: Any) -> Site:  # noqa: ANN401 - the orchestrator's
    """Run one to its end; everything that was said is in what comes back."""

    async def main() -> Site:
        clock = VirtualClock(START)
        devices = {"miner": LoadTable(count=LOADS, safe_power_kw=scenario.safe_kw)}
        async with Site(clock, scenario.plant, devices, **settings) as site:
            await clock.sleep(hours * 3600)
        return site

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())
