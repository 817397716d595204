"""`wattbus orchestrator`: settings, bus and service put together."""

import sys
from collections.abc import Sequence

from broker.connect import open_bus, presence_of
from contracts.topics import SITE
from orchestrator.service import Mark, OrchestratorService
from orchestrator.settings import OrchestratorSettings
from runtime.process import Context, launch
from runtime.settings import Layered
from runtime.store import Store


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
    """Run the service on the bus its settings name."""
    base = settings.base
    store = Store(base.mark_path, Mark, Mark())
    presence = presence_of(SITE, "orchestrator", base.issuer)
    async with open_bus(base, context.clock, client=f"orchestrator-{base.issuer}", presence=presence) as bus:
        await OrchestratorService(settings, bus, context.clock, context.life, store).run()


if __name__ == "__main__":
    sys.exit(main())
