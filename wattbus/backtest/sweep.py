"""All the cases there are to run: each house, and each of a sweep's variants of it."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import lcm
from typing import NamedTuple

from msgspec import structs

from contracts.instant import Instant
from energy.errors import SeriesError
from runtime.errors import UsageError
from wattbus.backtest.case import Case, Devices, days_of
from wattbus.backtest.errors import BacktestError
from wattbus.backtest.options import USUAL_BATTERY, Options, battery_of, car_of, instant_of
from wattbus.backtest.site import HouseSite, SiteFile
from wattbus.backtest.sources import Measured, Source, find, read

KEYS = ("battery", "tariff")
QUARTER_S = 900.0
WEEK_S = 7 * 86400.0
FINE_S = 10.0
TTL_MARGIN_S = 60.0


class Variant(NamedTuple):
    """What a sweep has different; None: as without it."""

    battery: str | None = None
    tariff: str | None = None


class Failure(NamedTuple):
    """What is not run, and why."""

    house: str
    """Empty: a file that is none's."""
    policy: str
    """Empty: all of them."""
    why: str


class Plan(NamedTuple):
    """What is to be run."""

    cases: list[Case]
    weeks: list[tuple[Case, Case]]
    """A week of a case, at a tick of a quarter of an hour and of 10 s."""
    failures: list[Failure]


def variants_of(sweep: Sequence[str]) -> list[Variant]:
    """Each of `battery=5,10,15kWh` with each of `tariff=a,b`; one that changes nothing without a sweep.

    Raises:
        UsageError: a key that can't be swept, twice the same, no value.
    """
    values: dict[str, list[str | None]] = {}
    for text in sweep:
        key, _, listed = text.partition("=")
        if key not in KEYS or key in values or not listed or not all(listed.split(",")):
            raise UsageError(f"--sweep {text!r}: write battery=5,10,15kWh or tariff=NAME,NAME, each once")
        values[key] = list(listed.split(","))
    return [Variant(*chosen) for chosen in product(*(values.get(key, [None]) for key in KEYS))]


def plan_of(options: Options) -> Plan:
    """Read the houses; those that can't be are failures, and the others run.

    Raises:
        UsageError: flags or a site file that can't be.
        EnergyError: no such tariff, or timezone.
    """
    site, variants = SiteFile(options.site), variants_of(options.sweep)
    faults = list[str]()
    sources = find(options.paths, faults)
    plan = Plan([], [], [Failure("", "", fault) for fault in faults])
    for source in sources:
        houses = [_house(site, source.house, variant, options) for variant in variants]
        try:
            measured = read(source)
            for variant, house in zip(variants, houses, strict=True):
                plan.cases.append(_case(source, measured, house, _name(variant, house.devices), options))
            if not options.sweep and options.tick_s > FINE_S and "mpc" in options.policies:
                plan.weeks.extend(_week(plan.cases[-1], measured, houses[-1]))
        except (SeriesError, BacktestError) as error:
            plan.failures.append(Failure(source.house, "", str(error)))
    return plan


def _name(variant: Variant, devices: Devices) -> str:
    told = []
    if variant.battery is not None and devices.battery is not None:
        told.append(f"battery={devices.battery.capacity_kwh:g}kWh:{devices.battery.max_charge_kw:g}kW")
    elif variant.battery is not None:
        told.append("battery=none")
    if variant.tariff is not None:
        told.append(f"tariff={variant.tariff}")
    return " ".join(told)


def _house(site: SiteFile, name: str, variant: Variant, options: Options) -> HouseSite:
    """A house with what the flags and a variant have different."""
    house = site.house(name, variant.tariff or options.tariff, options.timezone)
    battery, cars = house.devices
    if options.battery is not None:
        battery = battery_of(options.battery, "--battery", battery)
    elif battery is None and not cars and not options.evs:
        battery = battery_of(USUAL_BATTERY, "--battery")
    if variant.battery is not None:
        battery = battery_of(variant.battery, "--sweep", battery)
    if options.evs:
        cars = tuple(car_of(text, house.tariff.zone.key) for text in options.evs)
    if battery is None and not cars:
        raise UsageError("--battery none: then there is nothing to run but a car: add --ev 60kWh:11kW")
    return house._replace(devices=Devices(battery, cars))


def _case(source: Source, measured: Measured, house: HouseSite, variant: str, options: Options) -> Case:
    load, pv = measured
    known = [load] if pv is None else [load, pv]
    first = max(series.start for series in known)
    # On a step of the plans, and on a quarter of an hour: then what was planned and what came match.
    unit_s = float(lcm(round(house.settings.step_s), round(QUARTER_S)))
    start, end = _ceil(first, unit_s), min(series.end for series in known).floor(QUARTER_S)
    zone = house.tariff.zone
    if options.begin is not None:
        asked = _ceil(instant_of(options.begin, "--from", zone), unit_s)
        start = _within(asked, start, end, f"{source}: --from")
    if options.end is not None:
        last = instant_of(options.end, "--to", zone)
        if options.begin is not None and last <= instant_of(options.begin, "--from", zone):
            raise UsageError(f"--to {options.end}: is not after --from {options.begin}")
        end = _within(_ceil(last, QUARTER_S), start, end, f"{source}: --to")
    if end.seconds_since(start) < QUARTER_S:
        raise BacktestError(f"{source}: nothing is recorded from {start} to {end}: give other days")
    return _of(source.house, variant, measured, house, start, end, options.tick_s)


def _of(
    name: str, variant: str, measured: Measured, house: HouseSite, start: Instant, end: Instant, tick_s: float
) -> Case:
    """A case whose commands live through its ticks."""
    if house.settings.step_s % tick_s:
        raise UsageError(
            f"optimizer step_min {house.settings.step_min}: a tick of {tick_s:g} s does not fit into it"
        )
    limits = structs.replace(house.limits, ttl_s=max(house.limits.ttl_s, tick_s + TTL_MARGIN_S))
    days = days_of(*measured, start, end, tick_s)
    return Case(name, variant, days, house.devices, house.tariff, house.settings, limits)


def _within(at: Instant, start: Instant, end: Instant, what: str) -> Instant:
    if not start <= at <= end:
        raise BacktestError(f"{what} {at} is not within what was recorded: {start} to {end}")
    return at


def _ceil(at: Instant, unit_s: float) -> Instant:
    floor = at.floor(unit_s)
    return floor if floor == at else floor.after(unit_s)


def _week(case: Case, measured: Measured, house: HouseSite) -> Iterator[tuple[Case, Case]]:
    """The week in the middle, twice; nothing of what is shorter."""
    spare_s = case.end.seconds_since(case.days.start) - WEEK_S
    if spare_s < 0:
        return
    start = case.days.start.after(spare_s / 2).floor(86400.0)
    start = max(start, case.days.start)
    coarse, fine = (
        _of(case.house, case.variant, measured, house, start, start.after(WEEK_S), tick_s)
        for tick_s in (QUARTER_S, FINE_S)
    )
    yield coarse, fine
