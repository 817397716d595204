"""`wattbus pvsim`: settings, bus and service put together."""

import sys
from collections.abc import Callable, Sequence

from broker.connect import open_bus, presence_of
from contracts.instant import Instant
from contracts.topics import SITE
from energy.rebase import to_present
from energy.series import read_series
from pvsim.model import Production, recorded, simulated
from pvsim.service import PvsimService
from pvsim.settings import PvsimSettings
from runtime.clock import Clock
from runtime.errors import UsageError
from runtime.logs import get_log
from runtime.monitor import monitored
from runtime.process import Context, launch
from runtime.settings import Layered


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; returns the exit code."""
    return launch(
        "pvsim",
        PvsimSettings,
        serve,
        argv,
        description="Answers each meter reading with the PV production at the same instant.",
        example="wattbus pvsim --latitude 34.09 --longitude -117.44 --live-url mqtt://127.0.0.1:1883",
    )


async def serve(settings: Layered[PvsimSettings], context: Context) -> None:
    """Run the service on the bus its settings name."""
    productions = build(settings, context.clock)
    presence = presence_of(SITE, "pvsim", "main")
    async with open_bus(settings.base, context.clock, client="pvsim", presence=presence) as bus:
        service = PvsimService(productions, bus, context.clock, context.life)
        metrics, log = [bus.metrics, service.metrics], get_log("pvsim")
        async with monitored(settings.base, metrics, lambda: bus.ailing, log):
            await service.run()


def build(settings: Layered[PvsimSettings], clock: Clock) -> Callable[[str], Production]:
    """How each house's production is found; what takes long, files and pvlib, is read now.

    Raises:
        UsageError: a csv source without a file, or pvlib is not installed.
        SeriesError: a file that can't be read.
    """
    named = {house: _production(own, house, clock) for house, own in settings.houses.items()}
    if not named:
        anybody = _production(settings.base, "", clock)  # now: pvlib is missing, or takes seconds to import
        if settings.base.source == "csv":
            named[""] = anybody

    def production_of(house: str) -> Production:
        return named.get(house) or named.get("") or _production(settings.base, house, clock)

    return production_of


def _production(settings: PvsimSettings, house: str, clock: Clock) -> Production:
    if settings.source == "csv":
        if settings.csv is None:
            raise UsageError("pvsim: --source csv needs --csv FILE: the recorded file to play")
        series = read_series(settings.csv, settings.csv_column)
        return recorded(to_present(series, clock.now()) if settings.csv_rebase else series)
    try:
        from energy.sun import Site, clear_sky_w
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'wattbus[pvsim]'") from error
    site = Site(
        latitude=settings.latitude,
        longitude=settings.longitude,
        tilt=settings.tilt_deg,
        azimuth=settings.azimuth_deg,
        peak_w=settings.peak_w,
    )

    def clear_w(at: Instant) -> float:
        return clear_sky_w(site, at)

    return simulated(clear_w, str(settings.seed), house, settings.cloudiness, settings.peak_w)


if __name__ == "__main__":
    sys.exit(main())
