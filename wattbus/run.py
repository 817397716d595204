"""`wattbus run`: the neighbourhood in this terminal."""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from broker.memory import MemoryTransport
from broker.port import Bus
from contracts import topics
from contracts.instant import Instant
from energy.errors import EnergyError
from energy.tariff import load_tariff
from energy.zones import zone_of
from runtime.clock import Clock, ScaledClock, SystemClock, VirtualClock
from runtime.errors import RuntimeFaultError, UsageError
from runtime.lifecycle import Lifecycle
from runtime.logs import configure
from runtime.process import Context, run_process
from runtime.settings import SERVICES
from wattbus.news import News
from wattbus.options import Options, parse_options, start_instant
from wattbus.scoreboard import HouseBoard

HEARD = (
    topics.METER_READING,
    topics.PV_READING,
    topics.DER_TELEMETRY,
    topics.DER_COMMAND,
    topics.DER_ACK,
    topics.SNAPSHOT,
    topics.DECISION,
    topics.PRICE,
    topics.ALERT,
)
START_UP_S = 2.0
REPEATABLE_START = datetime(2024, 7, 1)  # noqa: DTZ001 - on the clocks of whatever site
"""Where a run on the virtual clock begins, on the site's own clocks, unless told otherwise."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the neighbourhood; returns the exit code."""
    try:
        options = parse_options(argv)
        with tempfile.TemporaryDirectory(prefix="wattbus-") as scratch:
            return _run(options, options.out or Path(scratch))
    except (RuntimeFaultError, EnergyError) as error:
        sys.stderr.write(f"wattbus: {error}\n")
        return error.exit_code if isinstance(error, RuntimeFaultError) else UsageError.exit_code
    except ModuleNotFoundError as error:
        sys.stderr.write(f"wattbus: {error.name} is not installed: pip install 'wattbus[all]'\n")
        return UsageError.exit_code


def _run(options: Options, out: Path) -> int:
    # Here, so that what is missing from a small install is said in one line.
    from wattbus.faults import Faults, parse_fault, resolve
    from wattbus.live_page import load_dashboard, open_page
    from wattbus.neighbourhood import Neighbourhood, load_site, open_site_bus
    from wattbus.show import Show

    ordered = [parse_fault(text) for text in options.faults]

    flags = [] if options.seed is None else ["--seed", str(options.seed)]
    site = load_site(options.site, flags, out, repeatable=options.speed is None)
    ders = {own.house: list(own.tables()) for own in site.controllers}
    ordered = resolve(ordered, {house: ders.get(house, []) for house in site.houses}, options.duration_s)
    zone = zone_of(site.common.timezone)
    clock = _clock(options, zone)
    dashboard = None  # on the virtual clock there is nobody to look at it
    if options.dashboard_port is not None and not clock.is_virtual:
        dashboard = load_dashboard(options.site, options.dashboard_port, out / "DATA")
    configure(
        (*SERVICES, "dashboard") if site.plant is None else (*SERVICES, "dashboard", "plant", "plant_poller"),
        clock,
        options.log_level,
        out / "log" if options.out else None,
        console=bool(site.common.readings_url or site.common.live_url),
    )
    boards = {
        house: HouseBoard(
            house,
            load_tariff(site.optimizer.of(house).tariff),
            site.orchestrator.of(house).max_grid_export_kw,
        )
        for house in site.houses
    }

    async def body(context: Context) -> None:
        begin = max(clock.now(), clock.opens_at or clock.now())
        end = None if options.duration_s is None else begin.after(options.duration_s)
        async with AsyncExitStack() as stack:
            bus, transport = await stack.enter_async_context(open_site_bus(site, clock))
            window = await _open_window(options, transport, clock, stack)
            page = ""
            if dashboard is not None:
                page = await stack.enter_async_context(open_page(dashboard, site, bus, clock))
            show = Show(boards, clock, begin, end, zone)
            show.begin(window, site.common.live_url, page)
            faults = Faults(ordered, begin, clock)
            neighbourhood = Neighbourhood(site, bus, transport, clock, faults)
            watching = Lifecycle()
            async with asyncio.TaskGroup() as group:
                group.create_task(watch(bus, boards, watching, show.say))
                group.create_task(show.run(watching))
                playing = group.create_task(faults.play(bus, show.say))
                await neighbourhood.run(lambda: _until(context.life, clock, end))
                playing.cancel()
                watching.stop()
        show.summary(neighbourhood.recorder.rows, options.out)

    return run_process(body, clock)


def _clock(options: Options, zone: ZoneInfo) -> Clock:
    now = SystemClock().now()
    start = start_instant(options.start, now, zone)
    if options.speed is None:
        return VirtualClock(start or Instant.of(REPEATABLE_START.replace(tzinfo=zone)))
    if options.speed == 1.0 and start is None:
        return SystemClock()
    # What must start first does so before the run's time begins.
    return ScaledClock(options.speed, start or now, anchor=now.after(START_UP_S))


async def _open_window(
    options: Options, transport: MemoryTransport | None, clock: Clock, stack: AsyncExitStack
) -> tuple[int, int] | None:
    """Let MQTT clients look at the in-memory bus; real brokers need no window, virtual time has none."""
    if not options.window or transport is None or clock.is_virtual:
        return None
    from broker.window import open_window

    window = open_window(transport, clock, port=options.window_port, ws_port=options.window_ws_port)
    await stack.enter_async_context(window)
    return options.window_port, options.window_ws_port


async def watch(
    bus: Bus, boards: Mapping[str, HouseBoard], watching: Lifecycle, say: Callable[[str], None]
) -> None:
    """Keep the boards up to date with what is on the bus, and tell the news, until told to stop."""
    news = News()
    async with bus.subscribe(*HEARD) as deliveries:
        async for delivery in watching.each(deliveries):
            message: Any = delivery.message
            if (board := boards.get(message.house)) is not None:
                board.hear(message)
            if (line := news.of(message)) is not None:
                say(line)
            await delivery.ack()


async def _until(life: Lifecycle, clock: Clock, end: Instant | None) -> None:
    """Until the user stops it, or just before the beat at which it ends."""
    waits: list[Awaitable[None]] = [life.wait()]
    if end is not None:
        waits.append(clock.sleep_until(end.after(-0.001)))
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


if __name__ == "__main__":
    sys.exit(main())
