"""`wattbus validator`: a battery simulator in place of a BMS, with its account of power and cost."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from energy.tariff import DEFAULT, load_tariff
from optimizer.counterparts.playback import CsvPath, LoadColumn, Port, SolarColumn, open_playback
from optimizer.counterparts.simulator import Simulator
from optimizer.settings import BatterySettings, TariffName
from runtime.door import Doorman, open_door
from runtime.logs import get_log
from runtime.needs import SERVER, complain, missing
from runtime.process import Context, launch
from runtime.settings import Layered

ADVANCE_EVERY_S = 60.0


class ValidatorSettings(BatterySettings, frozen=True, kw_only=True):
    """The battery, the house around it, and where it listens."""

    csv: CsvPath = None
    load_column: LoadColumn = "meter_w"
    solar_column: SolarColumn = "pv_w"
    battery_soc: Annotated[float, Meta(ge=0, le=1, description="state of charge at the start, 0..1")] = 0.5
    tariff: TariffName = DEFAULT
    max_grid_export_kw: Annotated[
        float, Meta(ge=0, le=1e5, description="what may flow into the grid; 0: no export, PV is curtailed")
    ] = 0.0
    service_port: Port = 8002


def main(argv: Sequence[str] | None = None) -> int:
    """Run the validator; returns the exit code."""
    if lacking := missing(SERVER):
        return complain(lacking, "server")
    return launch(
        "validator",
        ValidatorSettings,
        serve,
        argv,
        description="Simulates a battery that obeys commands over HTTP, in a house whose days were recorded.",
        example="wattbus validator --csv examples/data/fr_house_30min.csv --battery-capacity-kwh 10 "
        "--battery-power-max-kw 5",
    )


async def serve(settings: Layered[ValidatorSettings], context: Context) -> None:
    """Serve until stopped."""
    # Imported here: --help does not wait for a web framework, and what is missing is said in one line.
    from optimizer.counterparts.validator_api import validator_api
    from runtime.http import serving

    base, clock, door = settings.base, context.clock, open_door(settings.base)
    simulator = Simulator(
        base.battery(),
        100.0 * base.battery_soc,
        open_playback(base.csv, base.load_column, base.solar_column),
        load_tariff(base.tariff),
        base.max_grid_export_kw,
        clock.now(),
    )

    async def advance() -> None:
        async for tick in context.life.each(clock.every(ADVANCE_EVERY_S)):
            simulator.advance(tick.at)

    app = validator_api(simulator, base.tariff, clock, door)
    doorman = Doorman(door, base.requests_per_s)
    web = serving(app, base.service_host, base.service_port, get_log("validator"), doorman)
    async with web, asyncio.TaskGroup() as group:
        group.create_task(advance())
        await context.life.wait()
    get_log("validator").info("validator stopped")


if __name__ == "__main__":
    sys.exit(main())
