"""`wattbus optimizer`: settings, bus and service put together."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from broker.connect import open_bus, presence_of
from contracts.topics import SITE
from optimizer.settings import OptimizerSettings
from runtime.process import Context, launch
from runtime.settings import Layered

NEEDED = ("cvxpy", "highspy", "numpy")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; returns the exit code."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"wattbus: {', '.join(missing)} not installed: pip install 'wattbus[optimizer]'\n")
        return 2
    return launch(
        "optimizer",
        OptimizerSettings,
        serve,
        argv,
        description="Plans every house's battery 48 h ahead, each quarter of an hour.",
        example="wattbus optimizer --live-url mqtt://127.0.0.1:1883",
    )


async def serve(settings: Layered[OptimizerSettings], context: Context) -> None:
    """Run the service on the bus its settings name."""
    # Imported here: without CVXPY there is one line to read, and --help does not wait for it.
    from optimizer.service import OptimizerService

    presence = presence_of(SITE, "optimizer", "main")
    async with open_bus(settings.base, context.clock, client="optimizer", presence=presence) as bus:
        await OptimizerService(settings, bus, context.clock, context.life).run()


if __name__ == "__main__":
    sys.exit(main())
