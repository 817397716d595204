"""How each service is put together for one life, from what its disk has; nothing in it is altered."""

from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import meter.__main__ as meter_main
import pvsim.__main__ as pvsim_main
from broker.bus import PlanesBus
from broker.outbox_file import OutboxFile, Row
from broker.outbox_keeper import IN_MEMORY_MAX
from broker.pipe import IN_FLIGHT_MAX
from broker.quarantine import Quarantine
from contracts import topics
from contracts.instant import Instant
from contracts.messages import MeterReading
from der_controller.__main__ import build as build_ders
from der_controller.service import DerControllerService
from der_controller.settings import DerControllerSettings
from meter.model import MeterModel
from meter.service import MeterService
from meter.settings import MeterSettings
from meter.source import Measured
from orchestrator.audit import Audit
from orchestrator.service import Mark, OrchestratorService
from orchestrator.settings import OrchestratorSettings
from pvsim.service import PvsimService
from pvsim.settings import PvsimSettings
from recorder.disk import AppendFile
from recorder.service import RecorderService
from recorder.settings import RecorderSettings
from runtime.clock import Clock
from runtime.settings import Layered
from runtime.store import Store
from tests.fault.simulation.ledger import HOUSE, METER, Ledger, reading_of
from tests.fault.simulation.life import Life
from tests.fault.simulation.link import Link
from tests.fault.simulation.plan import Plan
from tests.fault.simulation.watch import BATTERY, DER, ISSUER, TELEMETRY_S

READ_S, CONTROL_S = 30.0, 20.0
"""Of the readings and of the control loop: slower than usual, for twice as many seeds."""
READING = topics.METER_READING.at(house=HOUSE, meter=METER).name


class Site(NamedTuple):
    """What all lives of all services have in common."""

    plan: Plan
    ledger: Ledger
    true_s: Callable[[], float]


class Service(Protocol):
    """Something that runs until its life-cycle ends."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Serve until stopped."""


class Running(NamedTuple):
    """A service of one life."""

    service: Service
    waits_for_broker: bool = True
    """Whether its process begins only once it is connected."""
    waiting: Callable[[], int] = lambda: 0
    """What it has still to give to the broker."""
    sizes: Callable[[], dict[str, tuple[int, int]]] = dict
    """What it holds in memory, and the most that it may."""


Builder = Callable[[Site, Life, Link, Clock], Running]


def bus_of(life: Life, link: Link, clock: Clock) -> PlanesBus:
    quarantine = Quarantine(life.disk / "quarantine", clock)
    return PlanesBus(link, link, clock, client=f"{life.name}-{life.number}", quarantine=quarantine)


class TellingFile(OutboxFile):
    """The outbox's file; the ledger is told of what is on the disk."""

    def __init__(self, path: Path, ledger: Ledger, life: Life) -> None:
        super().__init__(path)
        self._ledger = ledger
        self._life = life

    def write(self, rows: Iterable[Row], gone_to: int) -> None:
        rows = list(rows)
        super().write(rows, gone_to)
        if not self._life.dead:
            self._ledger.keep(reading_of(row.payload) for row in rows if row.topic == READING)


class TellingModel:
    """The meter's model; the ledger is told of each reading, but not of one made at the instant of death."""

    def __init__(self, model: MeterModel, site: Site, life: Life) -> None:
        self._model = model
        self._site = site
        self._life = life
        self.boot = model.boot

    def reading(self, at: Instant, measured: Measured) -> MeterReading:
        reading = self._model.reading(at, measured)
        if not self._life.dead:
            self._site.ledger.make(reading, self._site.true_s())
        return reading


def meter_settings(plan: Plan) -> MeterSettings:
    return MeterSettings(house=HOUSE, meter=METER, pv=plan.has_pv, seed=plan.seed, interval_s=READ_S)


def build_meter(site: Site, life: Life, link: Link, clock: Clock) -> Running:
    own = meter_settings(site.plan)
    made = meter_main.build(own, clock, life.disk / "meter.json")
    model: Any = TellingModel(made.model, site, life)
    file = TellingFile(life.disk / "outbox.sqlite", site.ledger, life)
    life.at_crash.append(file.close)
    service = MeterService(own, model, made.source, bus_of(life, link, clock), clock, life.lifecycle, file)
    outbox = service._outbox
    keeper = outbox._keeper
    assert keeper is not None

    def sizes() -> dict[str, tuple[int, int]]:
        return {
            "the meter's pipe": (len(outbox._pipe), IN_MEMORY_MAX),
            "readings that wait for the disk": (len(keeper.unkept), 2),
            "readings refused": (service.refused, 0),
        }

    return Running(service, waits_for_broker=False, waiting=lambda: service.waiting, sizes=sizes)


def build_pvsim(site: Site, life: Life, link: Link, clock: Clock) -> Running:
    place = site.plan.place
    own = PvsimSettings(latitude=34.0, longitude=place.longitude, seed=site.plan.seed)
    production_of = pvsim_main.build(Layered(own, {}), clock)
    service = PvsimService(production_of, bus_of(life, link, clock), clock, life.lifecycle)

    def sizes() -> dict[str, tuple[int, int]]:
        return {
            "pvsim's pipe": (len(service._pipe), IN_FLIGHT_MAX),
            "readings not answered": (len(service._unanswered), IN_FLIGHT_MAX),
        }

    return Running(service, sizes=sizes)


class SyncedFile(AppendFile):
    """A file of the recorder's; its life knows how much of it a power cut would leave."""

    def __init__(self, path: Path, life: Life) -> None:
        super().__init__(path)
        self._life = life
        self._synced = life.synced
        stamp = self.stamp()
        self._synced[stamp.inode] = min(self._synced.get(stamp.inode, stamp.size), stamp.size)

    def write(self, content: bytes) -> None:
        part = self._life.part_written(len(content))
        if part is None:
            super().write(content)
            return
        super().write(content[:part])
        assert self._life.tearing is not None
        self._life.crash(self._life.tearing)
        raise OSError("the power has failed")

    def cut(self, size: int) -> None:
        super().cut(size)
        inode = self.stamp().inode
        self._synced[inode] = min(self._synced[inode], size)

    def sync(self) -> None:
        super().sync()
        stamp = self.stamp()
        self._synced[stamp.inode] = stamp.size


def build_recorder(site: Site, life: Life, link: Link, clock: Clock) -> Running:
    own = RecorderSettings(data_dir=life.disk / "DATA", day_timezone=site.plan.place.day_timezone)
    bus = bus_of(life, link, clock)
    service = RecorderService(own, bus, clock, life.lifecycle, lambda path: SyncedFile(path, life))
    return Running(service, sizes=lambda: {"rows not written": (len(service._batches._items), own.batch_max)})


def build_der(site: Site, life: Life, link: Link, clock: Clock) -> Running:
    own = DerControllerSettings(
        house=HOUSE, devices={DER: BATTERY}, issuers=[ISSUER], interval_s=TELEMETRY_S, seed=site.plan.seed
    )
    ders = build_ders(own, clock, life.disk)
    bus = bus_of(life, link, clock)
    gate = ders[DER].model._gate
    service = DerControllerService(HOUSE, ders, own.interval_s, bus, clock, life.lifecycle)
    return Running(service, sizes=lambda: {"answers kept": (len(gate._answers), 64)})


def build_orchestrator(site: Site, life: Life, link: Link, clock: Clock) -> Running:
    zone = site.plan.place.day_timezone
    own = OrchestratorSettings(
        issuer=ISSUER, state_dir=life.disk, timezone=zone, interval_s=CONTROL_S, reading_fresh_s=2 * READ_S
    )
    store, audit = Store(own.mark_path, Mark, Mark()), Audit(own.audit_path)
    bus = bus_of(life, link, clock)
    service = OrchestratorService(Layered(own, {}), bus, clock, life.lifecycle, store, audit)
    sender, post = service.sender, service.alerting._post

    def sizes() -> dict[str, tuple[int, int]]:
        return {
            "postings on their way": (len(sender._tasks) + len(sender._waiting), 8),
            "alerts not published": (len(post._queue), 100),
            "houses": (len(service.houses), 2),
        }

    return Running(service, sizes=sizes)


def build_optimizer(site: Site, life: Life, link: Link, clock: Clock) -> Running:
    from optimizer.memory import FILE, open_memory
    from optimizer.service import OptimizerService
    from optimizer.settings import OptimizerSettings

    own = OptimizerSettings(state_dir=life.disk, timezone=site.plan.place.day_timezone, step_min=30)
    memory = open_memory(life.disk / FILE)
    bus = bus_of(life, link, clock)
    return Running(OptimizerService(Layered(own, {}), bus, clock, life.lifecycle, memory=memory))


BUILDERS: dict[str, Builder] = {
    "meter": build_meter,
    "pvsim": build_pvsim,
    "recorder": build_recorder,
    "der": build_der,
    "orchestrator": build_orchestrator,
    "optimizer": build_optimizer,
}
