"""The flags of `wattbus backtest`, and devices and times as people write them."""

import argparse
import re
from collections.abc import Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

from msgspec import structs

from contracts.instant import Instant
from der_controller.devices import ChargingCar
from energy.battery import BatterySpec
from energy.errors import SpecError
from energy.ev import VOLTAGE_V, EvseSpec, EvSpec, TripPattern
from runtime.errors import UsageError
from runtime.flags import OneLineParser
from wattbus.backtest.case import Policy

USUAL_BATTERY = "10kWh:5kW"
ONE_PHASE_KW = 7.4
"""Up to here a charge point has one phase."""

_SIZE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(?:kWh)?(?::(\d{1,5}(?:\.\d{1,3})?)kW)?", re.ASCII)


class Options(NamedTuple):
    """What `wattbus backtest` was asked for."""

    paths: list[Path]
    site: Path | None
    battery: str | None
    evs: list[str]
    tariff: str | None
    timezone: str | None
    policies: list[Policy]
    sweep: list[str]
    jobs: int
    scheduler: str | None
    begin: str | None
    end: str | None
    tick_s: float
    out: Path | None
    report: Path | None


def parse_options(argv: Sequence[str] | None) -> Options:
    """Read the flags.

    Raises:
        UsageError: a policy that is none, or one twice.
    """
    given = _parser().parse_args(argv)
    known = get_args(Policy)
    policies = given.policy.split(",")
    for policy in policies:
        if policy not in known or policies.count(policy) > 1:
            fault = "no policy" if policy not in known else "there twice"
            raise UsageError(f"--policy: {policy!r} is {fault}: there are {', '.join(known)}")
    return Options(
        paths=given.paths,
        site=given.site,
        battery=given.battery,
        evs=given.ev,
        tariff=given.tariff,
        timezone=given.timezone,
        policies=[policy for policy in known if policy in policies],
        sweep=given.sweep,
        jobs=given.jobs,
        scheduler=given.scheduler,
        begin=given.begin,
        end=given.end,
        tick_s=float(given.tick),
        out=given.out,
        report=given.report,
    )


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="wattbus backtest",
        description="What the system would have cost on recorded days, beside no battery, a simple rule and "
        "perfect foresight.",
        epilog="example: wattbus backtest examples/data/fr_house_30min.csv --battery 10kWh:5kW "
        "--tariff costa_rica --timezone Europe/Paris --report report.html",
    )
    add = parser.add_argument
    add(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="the recorder's DATA folder, a house's or a meter's in it, or a CSV: timestamp, meter_w, pv_w",
    )
    add("--site", type=Path, metavar="SITE.toml", help="settings and devices of each house, by its name")
    add("--battery", metavar="10kWh:5kW", help="the house's battery, or none; by default the site's, "
        f"or {USUAL_BATTERY} where nothing is described")  # fmt: skip
    add("--ev", action="append", default=[], metavar="60kWh:11kW", help="a car; may be given again")
    add("--tariff", metavar="NAME", help="a built-in tariff, or a .toml file; by default the site's")
    add("--timezone", metavar="ZONE", help="on whose clocks the tariff's hours are; by default the site's, "
        "or the tariff's own")  # fmt: skip
    add("--policy", default=",".join(get_args(Policy)), metavar="A,B", help="[none,rule,mpc,perfect]")
    add("--sweep", action="append", default=[], metavar="KEY=A,B,C",
        help="runs all of battery=5,10,15kWh or tariff=A,B; given twice, each with each")  # fmt: skip
    add("--from", dest="begin", metavar="WHEN", help="2024-07-01, or 2024-07-01T06:00Z; what was recorded "
        "before is learnt from")  # fmt: skip
    add("--to", dest="end", metavar="WHEN", help="the first instant that is not run")
    add("--tick", choices=["900", "10"], default="900", help="seconds of the control loop [900]")
    add("--jobs", type=_jobs, default=1, metavar="N", help="processes [1]")
    add("--scheduler", metavar="ADDRESS", help="a Dask scheduler whose workers do it: tcp://host:8786")
    add("--out", type=Path, metavar="DIR", help="where results.json and results.csv go")
    add("--report", type=Path, metavar="FILE.html", help="a page with pictures that needs no internet")
    return parser


def _jobs(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1024:  # noqa: PLR2004 - of any machine
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is no number of processes: 1 to 1024")
    return int(text)


def battery_of(text: str, flag: str, like: BatterySpec | None = None) -> BatterySpec | None:
    """The battery of `10kWh:5kW`; None for `none`.

    Args:
        text: as written; without a power it has that of `like`.
        flag: in which it stands.
        like: the battery whose power and limits it takes.

    Raises:
        UsageError: anything else.
    """
    if text == "none":
        return None
    found = _SIZE.fullmatch(text)
    base = like or BatterySpec(capacity_kwh=10.0, max_charge_kw=5.0, max_discharge_kw=5.0)
    if found is None:
        raise UsageError(f"{flag} {text!r} is no battery: write 10kWh:5kW, or none")
    given = {"capacity_kwh": float(found[1])}
    if found[2] is not None:
        given |= dict.fromkeys(("max_charge_kw", "max_discharge_kw"), float(found[2]))
    try:
        return structs.replace(base, **given)
    except SpecError as error:
        raise UsageError(f"{flag} {text!r}: {error}") from error


def car_of(text: str, timezone: str) -> ChargingCar:
    """The car of `60kWh:11kW`, at a charge point of that power, with the usual trips on a place's clocks.

    Raises:
        UsageError: anything else.
    """
    found = _SIZE.fullmatch(text)
    if found is None or found[2] is None:
        raise UsageError(f"--ev {text!r} is no car: write 60kWh:11kW")
    power_kw = float(found[2])
    phases: Literal[1, 3] = 1 if power_kw <= ONE_PHASE_KW else 3
    try:
        return ChargingCar(
            car=EvSpec(capacity_kwh=float(found[1]), max_charge_kw=power_kw),
            evse=EvseSpec(max_current_a=round(power_kw * 1000 / (VOLTAGE_V * phases)), phases=phases),
            trips=TripPattern(timezone=timezone),
        )
    except SpecError as error:
        raise UsageError(f"--ev {text!r}: {error}") from error


def instant_of(text: str, flag: str, zone: ZoneInfo) -> Instant:
    """The instant of `2024-07-01T06:00Z`, or of a day's midnight on the clocks of `zone`.

    Raises:
        UsageError: anything else.
    """
    try:
        if len(text) == len("2024-07-01"):
            return Instant.of(datetime.combine(date.fromisoformat(text), time(), tzinfo=zone))
        return Instant.parse(text)
    except ValueError as error:
        raise UsageError(f"{flag} {text!r}: {error}; write 2024-07-01 or 2024-07-01T06:00Z") from error
