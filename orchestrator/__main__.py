"""`wattbus orchestrator`: settings, bus, HTTP and service put together."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec

from broker.bus import PlanesBus
from broker.connect import open_bus, presence_of
from contracts.topics import SITE
from orchestrator.audit import Audit
from orchestrator.service import Mark, OrchestratorService
from orchestrator.settings import OrchestratorSettings
from runtime.claim import claim
from runtime.door import Doorman, open_door
from runtime.logs import get_log
from runtime.process import Context, launch
from runtime.settings import Layered
from runtime.store import Store

SERVER = ("litestar", "mkdocs_swagger_ui_tag", "prometheus_client", "uvicorn")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; returns the exit code."""
    return launch(
        "orchestrator",
        OrchestratorSettings,
        serve,
        argv,
        description="Dispatches every house's batteries and cars, every 10 s, within all limits.",
        example="wattbus orchestrator --live-url mqtt://127.0.0.1:1883",
    )


async def serve(settings: Layered[OrchestratorSettings], context: Context) -> None:
    """Run the service on the bus its settings name, with its HTTP API."""
    base = settings.base
    presence = presence_of(SITE, "orchestrator", base.issuer)
    client = f"orchestrator-{base.issuer}"
    # Two of one name would take the broker's connection from each other, and share their epochs.
    with claim(base.mark_path.with_suffix(".lock"), f"orchestrator {base.issuer}"):
        store = Store(base.mark_path, Mark, Mark())
        async with open_bus(base, context.clock, client=client, presence=presence) as bus:
            audit = Audit(base.audit_path)
            service = OrchestratorService(settings, bus, context.clock, context.life, store, audit)
            async with _api(service, base, bus, context):
                await service.run()


@asynccontextmanager
async def _api(
    service: OrchestratorService, base: OrchestratorSettings, bus: PlanesBus, context: Context
) -> AsyncIterator[None]:
    """The HTTP API, if it is wanted and installed.

    Raises:
        UsageError: the address can't be bound, or a token can't be read.
    """
    log = get_log("orchestrator")
    door = open_door(base)
    if base.service_port == 0:
        yield
        return
    if lacking := [name for name in SERVER if find_spec(name) is None]:
        log.warning("no HTTP API", lacking=", ".join(lacking), install="pip install 'wattbus[server]'")
        yield
        return
    # Imported here: a web server takes half of the memory, and not everybody wants one.
    from orchestrator.api import orchestrator_api
    from runtime.http import serving
    from runtime.web import SourceCollector

    bus_counts = SourceCollector(bus.metrics)
    app = orchestrator_api(service, context.clock, door, lambda: bus.ailing, [bus_counts])
    doorman = Doorman(door, base.requests_per_s)
    async with serving(app, base.service_host, base.service_port, log, doorman):
        yield


if __name__ == "__main__":
    sys.exit(main())
