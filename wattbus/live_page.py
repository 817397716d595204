"""The dashboard of a run: the same page as `wattbus dashboard`, on the run's own bus and clock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from broker.bus import PlanesBus
from dashboard.__main__ import page
from dashboard.settings import DashboardSettings
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.settings import load
from wattbus.neighbourhood import Site


def load_dashboard(path: Path, port: int, data_dir: Path) -> DashboardSettings:
    """The settings of a run's dashboard.

    Raises:
        UsageError: an unknown key, or a wrong value.
    """
    flags = ["--config", str(path), "--service-port", str(port), "--data-dir", str(data_dir)]
    return load("dashboard", DashboardSettings, flags).base


@asynccontextmanager
async def open_page(
    settings: DashboardSettings, site: Site, bus: PlanesBus, clock: Clock
) -> AsyncIterator[str]:
    """Serve the page as long as the context lasts; gives its address.

    Raises:
        UsageError: the address can't be bound.
    """

    def max_export_kw(house: str) -> float:
        return site.orchestrator.of(house).max_grid_export_kw

    async with page(
        settings, bus, lambda: bus.connected, clock, Lifecycle(), max_export_kw, port_is="--dashboard-port"
    ) as port:
        yield f"http://{settings.service_host}:{port}"
