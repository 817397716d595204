"""`wattbus reporter`: load and solar forecasts over HTTP, from recorded days moved to the present."""

import sys
from collections.abc import Sequence

from optimizer.counterparts.playback import CsvPath, LoadColumn, Port, SolarColumn, open_playback
from runtime.door import Doorman, ServedSettings, open_door
from runtime.logs import get_log
from runtime.needs import SERVER, complain, missing
from runtime.process import Context, launch
from runtime.settings import Layered


class ReporterSettings(ServedSettings, frozen=True, kw_only=True):
    """What it forecasts from, and where it listens."""

    csv: CsvPath = None
    load_column: LoadColumn = "meter_w"
    solar_column: SolarColumn = "pv_w"
    service_port: Port = 8000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the Reporter; returns the exit code."""
    if lacking := missing(SERVER):
        return complain(lacking, "server")
    return launch(
        "reporter",
        ReporterSettings,
        serve,
        argv,
        description="Forecasts load (hourly) and solar power (every 15 min) over HTTP, from recorded days.",
        example="wattbus reporter --csv examples/data/fr_house_30min.csv --solar-column pv_forecast_w",
    )


async def serve(settings: Layered[ReporterSettings], context: Context) -> None:
    """Serve until stopped."""
    # Imported here: --help does not wait for a web framework, and what is missing is said in one line.
    from optimizer.counterparts.reporter_api import reporter_api
    from runtime.http import serving

    base, door = settings.base, open_door(settings.base)
    playback = open_playback(base.csv, base.load_column, base.solar_column)
    app = reporter_api(playback, context.clock, door)
    doorman = Doorman(door, base.requests_per_s)
    async with serving(app, base.service_host, base.service_port, get_log("reporter"), doorman):
        await context.life.wait()
    get_log("reporter").info("reporter stopped")


if __name__ == "__main__":
    sys.exit(main())
