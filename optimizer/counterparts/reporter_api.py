"""The Reporter's HTTP API: `/api/forecasts/load` and `/api/forecasts/solar`."""

from collections.abc import Callable
from typing import Annotated

from litestar import Litestar, get
from litestar.params import Parameter

from contracts.instant import Instant
from optimizer.counterparts.playback import Playback
from optimizer.views import all_rounded, plain
from optimizer.wire import PowerForecast
from runtime.bearer import Guards
from runtime.clock import Clock
from runtime.door import Door
from runtime.logs import get_log
from runtime.refusals import refusals
from runtime.web import web_app

LOAD_STEP_MIN = 60
SOLAR_STEP_MIN = 15

Hours = Annotated[int, Parameter(ge=1, le=336, description="how far ahead")]
BAD = refusals(http_400="hours is no number from 1 to 336")


def reporter_api(playback: Playback, clock: Clock, door: Door | None = None) -> Litestar:
    """The application: forecasts that are what was recorded at that time of the year.

    Args:
        playback: what was recorded.
        clock: the service's.
        door: who may read; None: whoever is on this machine.
    """
    guards = Guards(door or Door(), "reporter")

    def forecast(mean_kw: Callable[[Instant, float], float], step_min: int, hours: int) -> PowerForecast:
        now, step_s = clock.now(), step_min * 60.0
        start = now.floor(step_s)
        starts = (start.after(i * step_s) for i in range(hours * 60 // step_min))
        return PowerForecast(
            timestamp=plain(now),
            start=plain(start),
            time_step_minutes=step_min,
            power_kw=all_rounded(mean_kw(at, step_s) for at in starts),
        )

    @get("/api/forecasts/load", sync_to_thread=False, **guards.reads_all(BAD))
    def load(hours: Hours = 48) -> PowerForecast:
        """Consumption, hourly, from the hour in hand on."""
        return forecast(playback.load_kw, LOAD_STEP_MIN, hours)

    @get("/api/forecasts/solar", sync_to_thread=False, **guards.reads_all(BAD))
    def solar(hours: Hours = 48) -> PowerForecast:
        """Production, every 15 min, from the quarter in hand on."""
        return forecast(playback.solar_kw, SOLAR_STEP_MIN, hours)

    return web_app(
        [load, solar],
        title="Reporter",
        description="Forecasts from recorded days.",
        log=get_log("reporter"),
        guards=guards,
    )
