"""`wattbus meter`: settings, bus and service put together."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from broker.connect import presence_of
from broker.late import open_late_bus
from broker.outbox_file import OutboxDiskError, OutboxFile
from energy.errors import SeriesError
from meter.early import BELIEVED_FROM, measure_until
from meter.model import MeterModel
from meter.service import MeterService
from meter.settings import MeterSettings
from meter.source import Source
from meter.sources.choose import source_of
from runtime.clock import Clock
from runtime.errors import DiskFullError
from runtime.logs import Log, get_log
from runtime.monitor import monitored
from runtime.process import Context, launch
from runtime.settings import Layered
from runtime.store import Store


class Boots(msgspec.Struct, frozen=True):
    """How often this meter has started."""

    boot: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; returns the exit code."""
    return launch(
        "meter",
        MeterSettings,
        serve,
        argv,
        description="Publishes what a house's meter measures: simulated, or played from a recording.",
        example="wattbus meter --house house-a --source csv --csv DATA/house-a/main --csv-rebase",
    )


async def serve(settings: Layered[MeterSettings], context: Context) -> None:
    """Run the service on the bus its settings name; it measures before it is connected, too."""
    own, clock = settings.base, context.clock
    source = source_of(own, clock)
    presence = presence_of(own.house, "meter", own.meter)
    client = f"meter-{own.house}-{own.meter}"
    async with open_late_bus(own, clock, client=client, presence=presence) as bus:
        log = get_log("meter")
        ready = _Ready(own, clock, log)
        kept, early = await measure_until(ready, source, clock, context.life, own.interval_s, log)
        if kept is None:
            await source.close()
        else:
            service = MeterService(own, kept.model, source, bus, clock, context.life, kept.file, early)
            metrics = [bus.metrics, service.metrics]
            async with monitored(own, metrics, lambda: bus.ailing or service.ailing, log):
                await service.run()


class Kept(NamedTuple):
    """What a meter has on its disk: which life it is, and the readings the broker does not have."""

    model: MeterModel
    file: OutboxFile


class _Ready:
    """Gives a meter its place on the disk once the time is known and there is room; says once why not."""

    def __init__(self, settings: MeterSettings, clock: Clock, log: Log) -> None:
        self._settings = settings
        self._clock = clock
        self._log = log
        self._said = ""

    def __call__(self) -> Kept | None:
        own = self._settings
        why = f"the clock is not set: it shows a time before {BELIEVED_FROM}"
        if self._clock.now() >= BELIEVED_FROM:
            try:
                model = model_of(own, own.state_dir / f"meter-{own.house}-{own.meter}.json")
                return Kept(model, OutboxFile(own.state_dir / f"outbox-meter-{own.house}-{own.meter}.sqlite"))
            except (DiskFullError, OutboxDiskError) as error:
                why = str(error)
        if why != self._said:
            self._said = why
            self._log.warning("readings wait in memory", why=why)
        return None


class Meter(NamedTuple):
    """What a meter service is made of."""

    model: MeterModel
    source: Source


def build(settings: MeterSettings, clock: Clock, boots: Path | None) -> Meter:
    """The meter its settings describe, its boot counter raised and stored.

    Raises:
        UsageError: what its source needs is not given, or not installed.
        SeriesError: a file that can't be read, or does not cover now.
        StoreError: the boot counter can't be stored.
    """
    try:
        source = source_of(settings, clock)
    except SeriesError as error:
        raise type(error)(f"house.{settings.house}.meter: {error}") from error
    return Meter(model_of(settings, boots), source)


def model_of(settings: MeterSettings, boots: Path | None) -> MeterModel:
    """The meter's next life: its boot counter is raised, and stored before its first use.

    Raises:
        StoreError: the boot counter can't be stored.
    """
    store = Store(boots, Boots, Boots(settings.boot_floor))
    boot = max(store.load().boot, settings.boot_floor) + 1
    store.save(Boots(boot))
    return MeterModel(
        house=settings.house,
        meter=settings.meter,
        boot=boot,
        measures=settings.measures,
        has_pv=settings.pv,
    )


if __name__ == "__main__":
    sys.exit(main())
