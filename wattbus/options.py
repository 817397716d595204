"""The flags of `wattbus run`, and times as people write them."""

import argparse
import re
from collections.abc import Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from contracts.codec import FIRST_YEAR, LAST_YEAR
from contracts.instant import Instant
from runtime.errors import UsageError
from runtime.flags import OneLineParser, port, speed

DEFAULT_SITE = Path(__file__).with_name("sites") / "simulated.toml"

LONGEST_S = 3660 * 86400

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Options(NamedTuple):
    """What `wattbus run` was asked for."""

    site: Path
    duration_s: float | None
    speed: float | None
    """None: as fast as it goes, on the virtual clock."""
    start: str | None
    out: Path | None
    seed: int | None
    window: bool
    window_port: int
    window_ws_port: int
    dashboard_port: int | None
    """None: no dashboard."""
    log_level: str
    faults: tuple[str, ...] = ()


def parse_options(argv: Sequence[str] | None) -> Options:
    """Read the flags.

    Raises:
        UsageError: a duration or a speed that is none.
    """
    parser = OneLineParser(
        prog="wattbus run",
        description="A whole neighbourhood in one process: meters, PV, batteries, cars, plans and commands.",
        epilog="example: wattbus run --for 24h --speed max --out out",
    )
    parser.add_argument(
        "site",
        nargs="?",
        type=Path,
        default=DEFAULT_SITE,
        help="a site file; by default three simulated houses",
    )
    parser.add_argument(
        "--for",
        dest="duration",
        metavar="24h",
        help="how long, in the run's own time; by default until Ctrl-C",
    )
    parser.add_argument(
        "--speed", default="1", metavar="60|max", help="times real time; max: as fast as it goes [1]"
    )
    parser.add_argument(
        "--start",
        metavar="WHEN",
        help="when the run's time starts: 2024-07-01T06:00Z, or today@15:00 at the site",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="keeps DATA/, log/, state/ and summary.json there"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="seeds everything that is random [0]")
    parser.add_argument(
        "--window", action=argparse.BooleanOptionalAction, default=True, help="let MQTT clients look in [yes]"
    )
    parser.add_argument(
        "--window-port", type=port, default=1883, metavar="PORT", help="MQTT port on 127.0.0.1 [1883]"
    )
    parser.add_argument(
        "--window-ws-port", type=port, default=8083, metavar="PORT", help="MQTT over WebSocket [8083]"
    )
    parser.add_argument(
        "--dashboard", action=argparse.BooleanOptionalAction, default=True, help="serve the live page [yes]"
    )
    parser.add_argument(
        "--dashboard-port", type=port, default=8080, metavar="PORT", help="the page's, on 127.0.0.1 [8080]"
    )
    parser.add_argument(
        "--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"], help="[INFO]"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND:HOUSE[/DER]@AFTER[+DURATION]",
        help="makes a part misbehave; may be given again: der-silent, der-deaf, der-lies, der-reconnect, "
        "price-silent, optimizer-silent, orchestrator-silent; e.g. der-silent:house-b@10m+5m",
    )
    given = parser.parse_args(argv)
    return Options(
        site=given.site,
        duration_s=None if given.duration is None else duration_s(given.duration),
        speed=speed(given.speed),
        start=given.start,
        out=given.out,
        seed=given.seed,
        window=given.window,
        window_port=given.window_port,
        window_ws_port=given.window_ws_port,
        dashboard_port=given.dashboard_port if given.dashboard else None,
        log_level=given.log_level,
        faults=tuple(given.fault),
    )


def duration_s(text: str, flag: str = "--for") -> float:
    """Seconds of `90s`, `10m`, `24h` or `7d`.

    Raises:
        UsageError: anything else, with the flag it stands in.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])", text, re.ASCII)
    seconds = float(found[1]) * _UNITS_S[found[2]] if found else 0.0
    if not 0 < seconds <= LONGEST_S:
        raise UsageError(f"{flag} {text!r} is no duration: write 90s, 10m, 24h or 7d, up to 3660d")
    return seconds


def start_instant(text: str | None, now: Instant, zone: ZoneInfo) -> Instant | None:
    """The instant of `2024-07-01T06:00Z`, or of `today@15:00` on the site's own clocks.

    Raises:
        UsageError: anything else.
    """
    if text is None:
        return None
    try:
        if text.startswith("today@"):
            today: date = now.local(zone).date()
            return Instant.of(
                datetime.combine(today, time.fromisoformat(text.removeprefix("today@")), tzinfo=zone)
            )
        start = Instant.parse(text)
    except ValueError as error:
        raise UsageError(f"--start {text!r}: {error}; write 2024-07-01T06:00Z or today@15:00") from error
    if not FIRST_YEAR <= start.year < LAST_YEAR - 10:
        raise UsageError(f"--start {text!r}: a year from {FIRST_YEAR} to {LAST_YEAR - 11}")
    return start
