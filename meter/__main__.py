"""`wattbus meter`: settings, bus and service put together."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from broker.connect import open_bus, presence_of
from broker.late import LateBus
from broker.outbox_file import OutboxFile
from contracts.instant import Instant
from energy.load import HouseProfile
from energy.rebase import to_present
from energy.series import read_series
from meter.model import MeterModel, RecordedSource, SimulatedSource, Source
from meter.service import MeterService
from meter.settings import MeterSettings
from runtime.errors import UsageError
from runtime.logs import get_log
from runtime.monitor import monitored
from runtime.process import Context, launch
from runtime.settings import Layered
from runtime.store import Store

HEAD_START_S = 2.0
"""What the connection gets before the first reading: a wrong URL or password is then all that is said."""


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
    own = settings.base
    model = build(own, context.clock.now(), own.state_dir / f"meter-{own.house}-{own.meter}.json")
    file = OutboxFile(own.state_dir / f"outbox-meter-{own.house}-{own.meter}.sqlite")
    bus = LateBus()
    async with asyncio.TaskGroup() as group:
        connecting = group.create_task(_connect(own, context, bus))
        await bus.wait(HEAD_START_S)
        service = MeterService(own, model, bus, context.clock, context.life, file)
        async with monitored(own, [bus.metrics, service.metrics], lambda: bus.ailing, get_log("meter")):
            await service.run()
        connecting.cancel()


async def _connect(own: MeterSettings, context: Context, late: LateBus) -> None:
    presence = presence_of(own.house, "meter", own.meter)
    client = f"meter-{own.house}-{own.meter}"
    async with open_bus(own, context.clock, client=client, presence=presence) as bus:
        late.arrive(bus)
        await asyncio.Event().wait()  # until cancelled: then it takes its leave


def build(settings: MeterSettings, now: Instant, boots: Path | None) -> MeterModel:
    """The meter its settings describe, its boot counter raised and stored.

    Raises:
        UsageError: a csv source without a file.
        SeriesError: a file that can't be read, or does not cover `now`.
        StoreError: the boot counter can't be stored.
    """
    store = Store(boots, Boots, Boots(settings.boot_floor))
    # Stored before its first use: two lives of a meter never share an identity.
    boot = max(store.load().boot, settings.boot_floor) + 1
    source = _source(settings, now)
    store.save(Boots(boot))
    return MeterModel(
        house=settings.house,
        meter=settings.meter,
        boot=boot,
        measures=settings.measures,
        has_pv=settings.pv,
        source=source,
    )


def _source(settings: MeterSettings, now: Instant) -> Source:
    seed = f"{settings.seed}/{settings.house}/{settings.meter}"
    if settings.source == "simulated":
        return SimulatedSource(HouseProfile(timezone=settings.timezone, max_w=settings.max_w), seed)
    if settings.csv is None:
        raise UsageError("meter: --source csv needs --csv FILE: the recorded file to play")
    series = read_series(settings.csv, settings.csv_column)
    if settings.csv_rebase:
        series = to_present(series, now)
    series.at(now)  # a recording of another time is found out now, not at the first beat
    return RecordedSource(series, settings.interval_s, seed)


if __name__ == "__main__":
    sys.exit(main())
