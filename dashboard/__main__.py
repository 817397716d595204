"""`wattbus dashboard`: settings, bus, page and service put together."""

import secrets
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from zoneinfo import ZoneInfo

from broker.connect import open_bus, presence_of
from broker.port import Bus
from contracts.topics import SITE
from dashboard.settings import DashboardSettings
from runtime.clock import Clock
from runtime.door import Doorman, open_door
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.needs import complain, missing
from runtime.process import Context, launch
from runtime.settings import Layered

NEEDS = ("litestar", "mkdocs_swagger_ui_tag", "prometheus_client", "uvicorn")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; returns the exit code."""
    if lacking := missing(NEEDS):
        return complain(lacking, "server")
    return launch(
        "dashboard",
        DashboardSettings,
        serve,
        argv,
        description="A live page of every house: what it does, why, and what is planned.",
        example="wattbus dashboard --live-url mqtt://127.0.0.1:1883 --data-dir DATA",
    )


async def serve(settings: Layered[DashboardSettings], context: Context) -> None:
    """Run the service on the bus its settings name."""
    base, clock = settings.base, context.clock
    open_door(base)  # what is wrong with it is said before the broker is disturbed
    presence = presence_of(SITE, "dashboard", "main")
    # Two dashboards of one name would take the broker's connection from each other.
    client = f"dashboard-{secrets.token_hex(4)}"
    async with open_bus(base, clock, client=client, presence=presence) as bus:

        def max_export_kw(house: str) -> float:
            return settings.of(house).max_grid_export_kw

        async with page(base, bus, lambda: bus.connected, clock, context.life, max_export_kw):
            await context.life.wait()


@asynccontextmanager
async def page(
    settings: DashboardSettings,
    bus: Bus,
    connected: Callable[[], bool],
    clock: Clock,
    life: Lifecycle,
    max_export_kw: Callable[[str], float],
    *,
    port_is: str = "--service-port",
) -> AsyncIterator[int]:
    """Serve the page as long as the context lasts, or until `life` stops; gives its port.

    Args:
        settings: its own.
        bus: where the houses are heard, and asked.
        connected: whether the brokers are there right now.
        clock: the service's.
        life: is stopped when the context is left.
        max_export_kw: what a house may feed in.
        port_is: where a person sets the port.

    Raises:
        UsageError: the address can't be bound, or a token can't be read.
    """
    # Imported here: a web server is not in every install, and --help does without.
    import asyncio

    from dashboard.api import dashboard_api
    from dashboard.hub import Hub
    from dashboard.model import Fleet
    from dashboard.recordings import Recordings
    from dashboard.service import DashboardService
    from dashboard.shield import Shield
    from runtime.http import serving

    door = open_door(settings)
    fleet = Fleet(ZoneInfo(settings.timezone), max_export_kw)
    hello = {
        "timezone": settings.timezone,
        "speed": clock.speed,
        # Faster than real time, a second's delay on the way is a minute of the run.
        "stale_s": max(settings.stale_s, 3.0 * clock.speed),
        "may_act": door.tokens.has_site,
    }
    hub = Hub(fleet, hello)
    service = DashboardService(fleet, hub, bus, connected, clock, life)
    app = dashboard_api(fleet, hub, Recordings(settings.data_dir), bus, connected, clock, door)
    log, doorman = get_log("dashboard"), Doorman(door, settings.requests_per_s)
    host, wanted = settings.service_host, settings.service_port
    served = serving(Shield(app), host, wanted, log, doorman, port_is=port_is)
    async with served as port, asyncio.TaskGroup() as group:
        group.create_task(service.run())
        yield port
        life.stop()


if __name__ == "__main__":
    sys.exit(main())
