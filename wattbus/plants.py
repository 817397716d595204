"""A site's test plant and its poller in this process; what goes between them is HTTP, through no socket."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx

from broker.outbox_file import OutboxFile
from broker.port import Bus
from plant.api import door_of, plant_api
from plant.boots import next_boot
from plant.polling import PollerService
from plant.service import PlantService
from plant.settings import PlantSettings, access_of
from plant.trust import Trust
from runtime.asking import Asker, open_client
from runtime.clock import Clock
from runtime.door import Doorman
from runtime.http import serving
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.settings import load, read_site

FAILURES = 5


def load_plant(path: Path, flags: list[str]) -> PlantSettings | None:
    """The plant of a site file; none if it has no `[plant]`.

    Raises:
        UsageError: an unknown key, or a wrong value.
    """
    return load("plant", PlantSettings, flags).base if "plant" in read_site(path) else None


class PolledPlant:
    """A test plant, and the poller that asks it.

    Args:
        settings: the plant's.
        state_dir: where the poller's starts are counted; None: nowhere.
        bus: where readings go.
        clock: the time.
        life: says when to stop.
        outbox: the file, by its source's name, that keeps what the broker does not have; None: memory does.
    """

    def __init__(
        self,
        settings: PlantSettings,
        state_dir: Path | None,
        bus: Bus,
        clock: Clock,
        life: Lifecycle,
        outbox: Callable[[str], OutboxFile | None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        access = access_of(settings)
        self._doorman = Doorman(door_of(access), settings.requests_per_s)
        self.plant_id = access.plant_id
        model = settings.model()
        self._server = PlantService(access.plant_id, 0, model, settings.interval, None, clock, life)
        self._app = plant_api(settings, access, model, self._server.latest)
        self._http = open_client(_through_no_socket(self._app))
        asker = Asker(
            "plant",
            "http://plant/data/latest",
            self._http,
            clock,
            token=access.token,
            leave_alone_s=0.0,
        )
        path = None if state_dir is None else state_dir / f"plant-poller-{access.plant_id}.json"
        self.poller = PollerService(
            access.plant_id,
            next_boot(path),
            asker,
            f"?plant_id={access.plant_id}",
            Trust(),
            settings.interval,
            FAILURES,
            bus,
            clock,
            life,
            outbox(f"plant-poller-{access.plant_id}"),
        )

    async def run(self) -> None:
        """Serve until stopped; in virtual time nobody else could ask."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._http)
            if not self._clock.is_virtual:
                own = self._settings
                served = serving(
                    self._app, own.host, own.port, get_log("plant"), self._doorman, port_is="port in [plant]"
                )
                await stack.enter_async_context(served)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._server.run())
                group.create_task(self.poller.run())


def _through_no_socket(app: Any) -> httpx.ASGITransport:  # noqa: ANN401 - litestar and httpx name one thing twice
    return httpx.ASGITransport(app)
