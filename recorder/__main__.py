"""`wattbus recorder`: settings, bus and service put together."""

import asyncio
import sys
from collections.abc import Sequence

from broker.connect import open_bus, presence_of
from contracts.topics import SITE
from recorder.diary import DiaryService
from recorder.folder import open_data_folder
from recorder.service import RecorderService
from recorder.settings import RecorderSettings
from runtime.logs import get_log
from runtime.monitor import monitored
from runtime.process import Context, launch
from runtime.settings import Layered


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; returns the exit code."""
    return launch(
        "recorder",
        RecorderSettings,
        serve,
        argv,
        description="Writes every reading to DATA/{house}/{meter}/{meter}_YYYY-MM-DD.csv, once.",
        example="wattbus recorder --data-dir DATA --day-timezone America/Costa_Rica "
        "--readings-url amqp://127.0.0.1",
    )


async def serve(settings: Layered[RecorderSettings], context: Context) -> None:
    """Run the service on the bus its settings name."""
    own = settings.base
    presence = presence_of(SITE, "recorder", "main")
    # First of all: what is wrong with it is said before the broker is disturbed.
    with open_data_folder(own.data_dir, own.day_timezone) as folder:
        async with open_bus(own, context.clock, client="recorder", presence=presence) as bus:
            service = RecorderService(own, bus, context.clock, context.life)
            metrics, log = [bus.metrics, service.metrics], get_log("recorder")
            async with (
                monitored(own, metrics, lambda: bus.ailing or service.failing, log),
                asyncio.TaskGroup() as group,
            ):
                group.create_task(service.record(folder))
                if own.diary:
                    group.create_task(DiaryService(own, bus, context.clock, context.life).run())


if __name__ == "__main__":
    sys.exit(main())
