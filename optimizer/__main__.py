"""`wattbus optimizer`: settings, bus, HTTP and service put together."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from broker.bus import PlanesBus
from broker.connect import open_bus, presence_of
from broker.memory import MemoryTransport
from broker.quarantine import Quarantine
from contracts.topics import SITE
from optimizer.settings import OptimizerSettings
from runtime.door import Door, Doorman, open_door
from runtime.errors import UsageError
from runtime.logs import get_log
from runtime.needs import SERVER, SOLVER, complain, missing
from runtime.process import Context, launch
from runtime.settings import Layered
from runtime.token import read_token

if TYPE_CHECKING:
    from optimizer.service import OptimizerService
    from optimizer.sources import BmsBridge, ReporterForecasts

HOUSE = "main"
"""The house behind a Reporter and a BMS, where no site file names any."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; returns the exit code."""
    if lacking := missing(SOLVER):
        return complain(lacking, "optimizer")
    return launch(
        "optimizer",
        OptimizerSettings,
        serve,
        argv,
        description="Plans every house's battery 48 h ahead, each quarter of an hour.",
        example="wattbus optimizer --live-url mqtt://127.0.0.1:1883",
    )


async def serve(settings: Layered[OptimizerSettings], context: Context) -> None:
    """Run the service on the bus its settings name, and with what they name over HTTP."""
    # Imported here: without CVXPY there is one line to read, and --help does not wait for it.
    from optimizer.memory import FILE, open_memory
    from optimizer.service import OptimizerService

    memory = open_memory(settings.base.state_dir / FILE)
    houses = settings.houses or {HOUSE: settings.base}
    # What is wrong with these is said before the broker is disturbed.
    door, tokens = open_door(settings.base), _tokens(houses)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(_bus(settings.base, houses, context))
        outside, bridges = await stack.enter_async_context(_outside(houses, tokens, bus, context))
        optimizer = OptimizerService(
            settings, bus, context.clock, context.life, outside=outside, memory=memory
        )

        def ailing() -> str:
            return "; ".join(filter(None, [bus.ailing, *(bridge.ailing for bridge in bridges)]))

        await stack.enter_async_context(_api(optimizer, settings.base, door, context, ailing, bus))
        async with asyncio.TaskGroup() as group:
            group.create_task(optimizer.run())
            for bridge in bridges:
                group.create_task(bridge.run())


@asynccontextmanager
async def _bus(
    base: OptimizerSettings, houses: Mapping[str, OptimizerSettings], context: Context
) -> AsyncIterator[PlanesBus]:
    """The bus of the URLs; one in memory where every house has all it needs over HTTP."""
    alone = all(house.reporter_base_url and house.bms_base_url for house in houses.values())
    if alone and not (base.readings_url or base.live_url):
        transport = MemoryTransport()
        quarantine = Quarantine(base.state_dir / "quarantine" / "optimizer", context.clock)
        bus = PlanesBus(transport, transport, context.clock, client="optimizer", quarantine=quarantine)
        try:
            yield bus
        finally:
            await bus.close()
        return
    presence = presence_of(SITE, "optimizer", "main")
    async with open_bus(base, context.clock, client="optimizer", presence=presence) as bus:
        yield bus


@asynccontextmanager
async def _outside(
    houses: Mapping[str, OptimizerSettings],
    tokens: Mapping[Path | None, str],
    bus: PlanesBus,
    context: Context,
) -> "AsyncIterator[tuple[ReporterForecasts | None, list[BmsBridge]]]":
    """The houses' Reporters, and their batteries behind a BMS.

    Raises:
        UsageError: some are named, but there is no HTTP client.
    """
    if not any(house.reporter_base_url or house.bms_base_url for house in houses.values()):
        yield None, []
        return
    if lacking := missing(SERVER):
        raise UsageError(
            f"reporter_base_url, bms_base_url: {', '.join(lacking)} not installed: "
            "pip install 'wattbus[server]'"
        )
    from optimizer.remote import Bms, Reporter
    from optimizer.sources import BmsBridge, RemoteBattery, ReporterForecasts
    from runtime.asking import open_client

    clock, life = context
    async with open_client() as http:
        # One for all houses that share it: when it is away, that is found out once.
        asked: dict[tuple[str, Path | None], Reporter] = {}
        reporters: dict[str, Reporter] = {}
        batteries: list[RemoteBattery] = []
        for name, house in houses.items():
            if url := house.reporter_base_url:
                who = url, house.reporter_token_file
                if who not in asked:
                    asked[who] = Reporter(url, http, clock, tokens[house.reporter_token_file])
                reporters[name] = asked[who]
            if url := house.bms_base_url:
                bms = Bms(url, http, clock, tokens[house.bms_token_file])
                batteries.append(RemoteBattery(name, house.battery(), bms))
        bridges = [BmsBridge(battery, bus, clock, life) for battery in batteries]
        yield ReporterForecasts(reporters), bridges


def _tokens(houses: Mapping[str, OptimizerSettings]) -> dict[Path | None, str]:
    """What Reporters and BMSs are shown, by the files it stands in; nothing where none is named.

    Raises:
        UsageError: one can't be read, or by others too.
    """
    tokens: dict[Path | None, str] = {None: ""}
    for house in houses.values():
        for setting in ("reporter_token_file", "bms_token_file"):
            if (file := getattr(house, setting)) is not None:
                tokens[file] = read_token(file, setting)
    return tokens


@asynccontextmanager
async def _api(
    optimizer: "OptimizerService",
    base: OptimizerSettings,
    door: Door,
    context: Context,
    ailing: Callable[[], str],
    bus: PlanesBus,
) -> AsyncIterator[None]:
    """The HTTP API, if it is wanted and installed."""
    log = get_log("optimizer")
    if base.service_port == 0:
        yield
        return
    if lacking := missing(SERVER):
        log.warning("no HTTP API", lacking=", ".join(lacking), install="pip install 'wattbus[server]'")
        yield
        return
    from optimizer.api import optimizer_api
    from runtime.http import serving
    from runtime.web import SourceCollector

    app = optimizer_api(optimizer, base, context.clock, ailing, [SourceCollector(bus.metrics)], door)
    doorman = Doorman(door, base.requests_per_s)
    async with serving(app, base.service_host, base.service_port, log, doorman):
        yield


if __name__ == "__main__":
    sys.exit(main())
