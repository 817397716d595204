"""Draws docs/demo.svg: the live table of `make demo` at a moment of its afternoon.

Run it from the repository's root: `.venv/bin/python docs/picture.py`.
"""

import asyncio
import re
import tempfile
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console

from contracts.instant import Instant
from energy.tariff import load_tariff
from runtime.clock import VirtualClock
from runtime.logs import configure
from runtime.process import Context, run_process
from runtime.settings import SERVICES
from wattbus.neighbourhood import Neighbourhood, load_site, open_site_bus
from wattbus.options import start_instant
from wattbus.run import watch
from wattbus.scoreboard import HouseBoard
from wattbus.table import live_table

SITE = Path("examples/neighbourhood.toml")
SHOWN = Path("docs/demo.svg")
AFTER_S = 4.2 * 3600
DAY = "2024-04-18T14:00"


def main() -> None:
    """Run until the picture's moment, then draw."""
    with tempfile.TemporaryDirectory() as scratch:
        site = load_site(SITE, [], Path(scratch), repeatable=True)
        zone = ZoneInfo(site.common.timezone)
        start = start_instant(f"{DAY}-07:00", Instant.at_ms(0), zone)
        assert start is not None
        clock = VirtualClock(start)
        configure(SERVICES, clock, "ERROR", None)
        boards = {
            house: HouseBoard(house, load_tariff(site.optimizer.of(house).tariff), 10.0)
            for house in site.houses
        }

        async def body(context: Context) -> None:
            async with open_site_bus(site, clock) as (bus, transport), asyncio.TaskGroup() as group:
                group.create_task(watch(bus, boards, context.life))
                await Neighbourhood(site, bus, transport, clock).run(lambda: clock.sleep(AFTER_S))
                context.life.stop()

        run_process(body, clock)
    console = Console(record=True, width=170, file=Path("/dev/null").open("w"))  # noqa: SIM115 - closed with the process
    console.print(
        live_table(
            boards.values(),
            start.after(AFTER_S).local(zone),
            "Subscribe: mosquitto_sub -h 127.0.0.1 -p 1883 -t 'wattbus/#' -v",
        )
    )
    drawing = console.export_svg(title="make demo")
    SHOWN.write_text(re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.DOTALL))


if __name__ == "__main__":
    main()
