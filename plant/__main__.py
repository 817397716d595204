"""`wattbus plant`: settings, bus, HTTP and service put together."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from broker.connect import presence_of
from broker.late import LateBus, open_late_bus
from broker.outbox_file import OutboxFile
from plant.boots import next_boot
from plant.settings import PlantSettings, access_of
from runtime.door import Doorman
from runtime.logs import configure, get_log
from runtime.needs import SERVER, complain, missing
from runtime.process import Context, launch
from runtime.settings import Layered


def main(argv: Sequence[str] | None = None) -> int:
    """Run the plant; returns the exit code."""
    if lacking := missing(SERVER):
        return complain(lacking, "server")
    return launch(
        "plant",
        PlantSettings,
        serve,
        argv,
        description="A test power plant over HTTP: generation and consumption drift between their bounds.",
        example="wattbus plant --gen-min 0.05 --gen-max 0.15 --cons-min 0.03 --cons-max 0.10",
    )


async def serve(settings: Layered[PlantSettings], context: Context) -> None:
    """Serve until stopped."""
    # Imported here: --help does not wait for a web framework, and what is missing is said in one line.
    from plant.api import door_of, plant_api
    from plant.service import PlantService
    from runtime.http import serving
    from runtime.web import SourceCollector

    own, (clock, life) = settings.base, context
    if own.debug:
        configure(("plant",), clock, "DEBUG", own.log_dir)
    log = get_log("plant")
    access = access_of(own)
    if access.is_new:
        sys.stdout.write(f"no token was set: this run's is {access.token}\n")
        sys.stdout.flush()
    boot = next_boot(own.state_dir / f"plant-{access.plant_id}.json")
    plant = own.model()
    async with _bus(own, access.plant_id, context) as bus:
        path = own.state_dir / f"outbox-plant-{access.plant_id}.sqlite"
        file = None if bus is None else OutboxFile(path)
        service = PlantService(access.plant_id, boot, plant, own.interval, bus, clock, life, file)
        counted = [service.metrics] if bus is None else [service.metrics, bus.metrics]
        counts = [SourceCollector(source) for source in counted]
        app = plant_api(own, access, plant, service.latest, counts)
        doorman = Doorman(door_of(access), own.requests_per_s)
        async with (
            serving(app, own.host, own.port, log, doorman, port_is="--port"),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(service.run())


@asynccontextmanager
async def _bus(own: PlantSettings, plant_id: str, context: Context) -> AsyncIterator[LateBus | None]:
    """The bus of the URLs; without any, none: the plant is asked over HTTP alone."""
    if not (own.readings_url or own.live_url):
        yield None
        return
    presence = presence_of(plant_id, "plant", "main")
    async with open_late_bus(own, context.clock, client=f"plant-{plant_id}", presence=presence) as bus:
        yield bus


if __name__ == "__main__":
    sys.exit(main())
