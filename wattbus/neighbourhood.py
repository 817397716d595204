"""A site's services in one process: built from one site file, started and stopped in order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import der_controller.__main__ as der_controller_main
import meter.__main__ as meter_main
import pvsim.__main__ as pvsim_main
from broker.bus import PlanesBus
from broker.connect import announce, open_bus, presence_of
from broker.memory import MemoryTransport
from broker.outbox_file import OutboxFile
from broker.port import Bus
from broker.quarantine import Quarantine
from contracts import topics
from contracts.instant import Instant
from contracts.messages import Status
from contracts.topics import SITE, Address
from der_controller.service import DerControllerService
from der_controller.settings import DerControllerSettings
from energy.rebase import to_present
from energy.series import Series, read_series
from meter.service import MeterService
from meter.settings import MeterSettings
from optimizer.forecast import Recorded
from optimizer.memory import FILE as MEMORY
from optimizer.memory import open_memory
from optimizer.service import OptimizerService
from optimizer.settings import OptimizerSettings
from orchestrator.audit import Audit
from orchestrator.service import Mark, OrchestratorService
from orchestrator.settings import OrchestratorSettings
from plant.settings import PlantSettings
from pvsim.service import PvsimService
from pvsim.settings import PvsimSettings
from recorder.diary import DiaryService
from recorder.service import RecorderService
from recorder.settings import RecorderSettings
from runtime.clock import Clock
from runtime.errors import StoreError, UsageError
from runtime.lifecycle import Lifecycle
from runtime.settings import CommonSettings, Layered, houses_in, load, read_site
from runtime.store import Store
from wattbus.faults import Faults
from wattbus.plants import PolledPlant, load_plant

BATCH_VIRTUAL_S = 300.0
"""Of the recorder on the virtual clock: nobody waits for its rows, and each batch costs an fsync a file."""
DRAIN_S = 1.0
"""How long what is under way may take to arrive, where the bus can't tell."""


class Site(NamedTuple):
    """Every service's settings, read from one site file, the environment and the flags."""

    common: CommonSettings
    meters: list[MeterSettings]
    controllers: list[DerControllerSettings]
    pvsim: Layered[PvsimSettings]
    optimizer: Layered[OptimizerSettings]
    orchestrator: Layered[OrchestratorSettings]
    recorder: RecorderSettings
    houses: list[str]
    plant: PlantSettings | None = None


def load_site(path: Path, flags: list[str], out: Path, *, repeatable: bool) -> Site:
    """Read a site file; a house runs a meter or a controller where it has a table for it.

    Raises:
        UsageError: an unknown key, a wrong value, or no house at all.
    """
    document = read_site(path)
    houses = houses_in(document)
    if not houses:
        raise UsageError(f"{path}: no house: write a table such as [house.house-a.meter]")
    common = ["--config", str(path), "--state-dir", str(out / "state"), *flags]

    def of(service: str) -> list[str]:
        return [house for house in houses if service in document["house"][house]]

    meters = [load("meter", MeterSettings, [*common, "--house", house]).base for house in of("meter")]
    controllers = [
        load("der_controller", DerControllerSettings, [*common, "--house", house]).base
        for house in of("der_controller")
    ]
    batch = ["--batch-s", str(BATCH_VIRTUAL_S)] if repeatable else []
    orchestrator = load("orchestrator", OrchestratorSettings, common)
    return Site(
        common=orchestrator.base,
        meters=meters,
        controllers=controllers,
        pvsim=load("pvsim", PvsimSettings, common),
        optimizer=load("optimizer", OptimizerSettings, common),
        orchestrator=orchestrator,
        recorder=load("recorder", RecorderSettings, [*common, "--data-dir", str(out / "DATA"), *batch]).base,
        houses=houses,
        plant=load_plant(path, common),
    )


@asynccontextmanager
async def open_site_bus(site: Site, clock: Clock) -> AsyncIterator[tuple[PlanesBus, MemoryTransport | None]]:
    """The bus of the site's URLs; without any, the in-memory one, which is returned too.

    Raises:
        UsageError: URLs on the virtual clock, which real brokers can't follow.
        BusError: a broker that can't be reached.
    """
    if site.common.readings_url or site.common.live_url:
        if clock.is_virtual:
            raise UsageError("--speed max runs in one process alone: take WATTBUS_*_URL away, or --speed 60")
        async with open_bus(
            site.common, clock, client="neighbourhood", presence=presence_of(SITE, "run", "main")
        ) as bus:
            yield bus, None
        return
    transport = MemoryTransport()
    quarantine = Quarantine(site.common.state_dir / "quarantine", clock)
    yield PlanesBus(transport, transport, clock, client="neighbourhood", quarantine=quarantine), transport


class Neighbourhood:
    """The site's services on one bus; `run` returns once all have stopped, nothing left unwritten."""

    def __init__(
        self,
        site: Site,
        bus: PlanesBus,
        transport: MemoryTransport | None,
        clock: Clock,
        faults: Faults | None = None,
    ) -> None:
        self._bus = bus
        faults = faults or Faults((), clock.now(), clock)
        self._transport = transport
        self._clock = clock
        self._sources, self._middle, self._sink = Lifecycle(), Lifecycle(), Lifecycle()
        # On the virtual clock a run is its own world: only the readings' identity outlives it.
        keep = None if clock.is_virtual else site.common.state_dir
        now = clock.now()

        def outbox(source: str) -> OutboxFile | None:
            """As the source has it when it runs by itself; the bus in memory is never away from it."""
            path = site.common.state_dir / f"outbox-{source}.sqlite"
            return OutboxFile(path) if transport is None else None

        self.meters = [
            MeterService(
                own,
                *meter_main.build(own, clock, own.state_dir / f"meter-{own.house}-{own.meter}.json"),
                bus,
                clock,
                self._sources,
                outbox(f"meter-{own.house}-{own.meter}"),
            )
            for own in site.meters
        ]
        self.controllers = {
            own.house: DerControllerService(
                own.house,
                der_controller_main.build(own, clock, keep),
                own.interval_s,
                faults.bus(bus, "der_controller", own.house),
                clock,
                self._middle,
            )
            for own in site.controllers
        }
        self.pvsim = PvsimService(pvsim_main.build(site.pvsim, clock), bus, clock, self._middle)
        history = {own.house: past for own in site.meters if (past := _history(site, own, now)) is not None}
        memory = None if keep is None else open_memory(keep / MEMORY)
        self.optimizer = OptimizerService(
            site.optimizer, faults.bus(bus, "optimizer"), clock, self._middle, history, memory=memory
        )
        mark = Store(None if keep is None else site.orchestrator.base.mark_path, Mark, Mark())
        self.orchestrator = OrchestratorService(
            site.orchestrator,
            faults.bus(bus, "orchestrator"),
            clock,
            self._middle,
            mark,
            None if keep is None else Audit(site.orchestrator.base.audit_path),
        )
        self.plants = (
            [] if site.plant is None else [PolledPlant(site.plant, keep, bus, clock, self._sources, outbox)]
        )
        self.recorder = RecorderService(site.recorder, bus, clock, self._sink)
        self.diary = DiaryService(site.recorder, bus, clock, self._sink) if site.recorder.diary else None
        self._presences: list[tuple[Bus, Address[Status]]] = [
            (bus, presence_of(own.house, "meter", own.meter)) for own in site.meters
        ]
        self._presences += [
            (faults.bus(bus, "der_controller", own.house), presence_of(own.house, "der", der_id))
            for own in site.controllers
            for der_id in own.tables()
        ]
        self._presences += [
            (bus, presence_of(SITE, name, "main"))
            for name in ("pvsim", "optimizer", "orchestrator", "recorder")
        ]
        self._presences += [(bus, presence_of(plant.plant_id, "plant", "poller")) for plant in self.plants]

    async def run(self, until: Callable[[], Awaitable[None]]) -> None:
        """Run until `until()` returns; then stop from the meters to the recorder, each emptied in turn."""
        async with AsyncExitStack() as stack:
            for bus, presence in self._presences:
                await stack.enter_async_context(announce(bus, self._clock, presence))
            async with asyncio.TaskGroup() as group:
                sink = [group.create_task(self.recorder.run())]
                if self.diary is not None:
                    sink.append(group.create_task(self.diary.run()))
                services = [self.pvsim.run(), self.optimizer.run(), self.orchestrator.run()]
                services += [controller.run() for controller in self.controllers.values()]
                middle = [group.create_task(service) for service in services]
                sources = [group.create_task(service.run()) for service in self.meters]
                sources += [group.create_task(plant.run()) for plant in self.plants]
                await until()
                await self._stop(self._sources, sources)
                await self._drained(topics.PVSIM)
                await self._stop(self._middle, middle)
                await self._drained(topics.RECORDER)
                await self._stop(self._sink, sink)

    async def _stop(self, life: Lifecycle, tasks: Sequence[asyncio.Task[None]]) -> None:
        life.stop()
        if tasks:  # a site may have DERs and no meter
            await asyncio.wait(tasks)

    async def _drained(self, durable: str) -> None:
        """Wait until a durable queue is empty; what a real broker keeps is safe there anyway."""
        if self._transport is None:
            await self._clock.sleep(DRAIN_S * self._clock.speed)
            return
        while self._transport.backlog(durable):
            if self.recorder.failing:
                raise StoreError(f"readings are not written: {self.recorder.failing}")
            await self._clock.sleep(0.1 * self._clock.speed)


def _history(site: Site, meter: MeterSettings, now: Instant) -> Recorded | None:
    """What a house that plays a recording had recorded before now: the forecasters' past."""
    if meter.source != "csv" or meter.csv is None or meter.measures != "load":
        return None
    load = _series(meter.csv, meter.csv_column, now, rebase=meter.csv_rebase)
    pvsim = site.pvsim.of(meter.house)
    pv = None
    if pvsim.source == "csv" and pvsim.csv is not None:
        pv = _series(pvsim.csv, pvsim.csv_column, now, rebase=pvsim.csv_rebase)
    return Recorded(load, pv)


def _series(path: Path, column: str, now: Instant, *, rebase: bool) -> Series:
    series = read_series(path, column)
    return to_present(series, now) if rebase else series
