"""`wattbus top`: the fleet in this terminal, from the live plane."""

import argparse
import asyncio
import secrets
import sys
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from broker.connect import NO_BROKER, open_spectator
from broker.port import Bus
from runtime.clock import Clock, SystemClock
from runtime.errors import RuntimeFaultError, UsageError
from runtime.flags import OneLineParser, port
from runtime.lifecycle import Lifecycle
from runtime.logs import configure
from runtime.process import Context, run_process
from runtime.settings import CommonSettings, load

LISTEN_S = 11.0
"""How long `--once` listens before it prints: a meter speaks every 10 s."""
REFRESH_S = 1.0
PLAIN_WIDTH = 160


def main(argv: Sequence[str] | None = None) -> int:
    """Show the fleet until stopped; returns the exit code."""
    parser = OneLineParser(
        prog="wattbus top",
        description="Every house in a row, from the live broker: WATTBUS_LIVE_URL, or a run's window.",
        epilog="example: wattbus top --window",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--live-url", metavar="URL", help="the broker to look at [WATTBUS_LIVE_URL]")
    where.add_argument(
        "--window", action="store_true", help="look at `wattbus run` or `wattbus broker` on this machine"
    )
    parser.add_argument("--window-port", type=port, default=1883, metavar="PORT", help="its port [1883]")
    parser.add_argument("--once", action="store_true", help="print one table and end")
    parser.add_argument(
        "--listen-s",
        type=_seconds,
        default=LISTEN_S,
        metavar="S",
        help=f"how long --once listens first [{LISTEN_S:g}]",
    )
    given = parser.parse_args(argv)
    try:
        url = f"mqtt://127.0.0.1:{given.window_port}" if given.window else given.live_url or _live_url()
        clock = SystemClock()
        configure((), clock, "WARNING", None)

        async def body(context: Context) -> None:
            async with open_spectator(url, clock, client=f"top-{secrets.token_hex(4)}", wait_s=0.0) as bus:
                await watch(bus, clock, context.life, given.listen_s if given.once else None)

        return run_process(body, clock)
    except RuntimeFaultError as error:
        sys.stderr.write(f"wattbus: {error}\n")
        return error.exit_code
    except ModuleNotFoundError as error:
        sys.stderr.write(f"wattbus: {error.name} is not installed: pip install 'wattbus[server]'\n")
        return UsageError.exit_code


def _live_url() -> str:
    settings = load("top", CommonSettings, []).base
    if not (url := settings.live_url or settings.readings_url):
        raise UsageError(f"{NO_BROKER}; or look at a run's window: wattbus top --window")
    return url


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:  # noqa: PLR2004 - nobody waits for longer than an hour
        raise argparse.ArgumentTypeError(f"{text[:20]!r}: seconds, 0 to 3600")
    return seconds


async def watch(bus: Bus, clock: Clock, life: Lifecycle, once_after_s: float | None) -> None:
    """Show what is heard: again and again until stopped, or once after so long."""
    # Here, so that what is missing from a small install is said in one line.
    from rich.console import Console, Group
    from rich.live import Live

    from dashboard.model import Fleet
    from dashboard.service import HEARD
    from dashboard.views import row_of
    from wattbus.fleet import fleet_table

    fleet = Fleet(ZoneInfo("UTC"), lambda _: 0.0)
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)

    def table() -> Group:
        now = clock.now()
        return fleet_table([row_of(house, now) for house in fleet.houses.values()], now, console.width)

    async with bus.subscribe(*HEARD) as deliveries:

        async def hear() -> None:
            async for delivery in life.each(deliveries):
                fleet.hear(delivery.address.ids, delivery.message, clock.now())
                await delivery.ack()

        hearing = asyncio.create_task(hear())
        try:
            if once_after_s is not None:
                await clock.sleep(once_after_s)
                console.print(table())
                return
            with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
                async for _ in life.each(clock.every(REFRESH_S)):
                    live.update(table(), refresh=True)
        finally:
            hearing.cancel()
            await asyncio.wait([hearing])


if __name__ == "__main__":
    sys.exit(main())
