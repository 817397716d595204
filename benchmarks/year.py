"""A year in closed loop: what each house pays without a battery, by a rule, with the optimizer, at best."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.closed_loop import (
    DATA,
    HOUSES,
    STEP_H,
    Case,
    House,
    Mpc,
    Run,
    case_of,
    perfect,
    rule,
    without,
)
from benchmarks.week import draw
from energy.battery import BatterySpec
from optimizer.solver import Solver

TARIFFS = ("costa_rica", "fontana_tou")
PLANNED_EVERY = 4
"""Steps between two plans: hourly. The service plans every step, which takes four times as long here."""
WEEK_STEPS = 7 * 96
WEEK_BEGINS = 26 * 7 * 96
"""In the middle of the year."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What one policy made of one house's days, in the tariff's currency."""

    house: str
    tariff: str
    days: int
    policy: str
    energy: float
    demand: float
    export: float
    total: float
    peak_kw: float
    cycles: float
    share_percent: float
    """Of what perfect foresight saves."""


class Policies(NamedTuple):
    """The same days, five times."""

    without: Run
    rule: Run
    days_only: Run
    optimizer: Run
    perfect: Run


NAMES = ("no battery", "simple rule", "optimizer, 48 h alone", "**optimizer**", "perfect foresight (a bound)")


def run(case: Case, every: int) -> Policies:
    """All policies on the same days, with the same charge at the start and the end."""
    solver = Solver()
    planned = Mpc(case, every, solver).run()
    has_peaks = any(period.demand_price for period in case.tariff.periods)
    days_only = Mpc(case, every, solver, peak_aware=False).run() if has_peaks else planned
    return Policies(without(case), rule(case), days_only, planned, perfect(case))


def lines_of(case: Case, done: Policies) -> list[Line]:
    """A table's lines."""
    worst, best = done.without.costs.total, done.perfect.costs.total
    return [
        Line(
            house=case.house.name,
            tariff=case.tariff.name,
            days=case.steps // 96,
            policy=name,
            energy=one.costs.energy,
            demand=one.costs.demand,
            export=one.costs.export,
            total=one.costs.total,
            peak_kw=one.costs.peak_kw,
            cycles=_cycles(case.house, one),
            share_percent=100.0 * (worst - one.costs.total) / (worst - best) if worst > best else 100.0,
        )
        for name, one in zip(NAMES, done, strict=True)
    ]


def _cycles(house: House, one: Run) -> float:
    through_kwh = sum(abs(kw) for kw in one.battery_kw) * STEP_H
    return through_kwh / 2 / house.battery.capacity_kwh


def table(lines: list[Line]) -> str:
    """The lines as Markdown, a house after the other."""
    head = (
        "| house | policy | energy | demand | export | total | peak kW | cycles "
        "| share of the possible saving |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|---:|\n"
    )
    rows = [
        f"| {line.house} | {line.policy} | {line.energy:,.0f} | {line.demand:,.0f} | {line.export:,.0f} "
        f"| {line.total:,.0f} | {line.peak_kw:.1f} | {line.cycles:.0f} | {line.share_percent:.0f} % |"
        for line in lines
    ]
    return head + "\n".join(rows) + "\n"


def main(argv: Sequence[str] = ()) -> None:
    """Run the policies and print the table, as each house is done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks year", description=__doc__)
    parser.add_argument("--house", choices=[house.name for house in HOUSES], help="one alone; default: all")
    parser.add_argument("--tariff", choices=TARIFFS, help="one alone; default: both")
    parser.add_argument("--days", type=int, help="so many from the first on; default: all there are")
    parser.add_argument(
        "--every", type=int, default=PLANNED_EVERY, help="quarters of an hour between two plans"
    )
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    parser.add_argument("--plot", type=Path, help="where a week of the first house goes, as SVG")
    told = parser.parse_args(list(argv))
    lines: list[Line] = []
    for tariff in [told.tariff] if told.tariff else TARIFFS:
        houses = [house for house in HOUSES if told.house in (None, house.name)]
        print(f"\n{tariff}, from {DATA.name}\n", flush=True)
        for house in houses:
            case = case_of(house, tariff, days=told.days)
            done = run(case, told.every)
            fresh = lines_of(case, done)
            print(table(fresh), flush=True)
            lines += fresh
            if told.plot and house is houses[0] and tariff == (told.tariff or TARIFFS[0]):
                first = WEEK_BEGINS if case.steps >= WEEK_BEGINS + WEEK_STEPS else 0
                told.plot.write_text(_week(case, done.optimizer, first))
    if told.json:
        told.json.write_bytes(msgspec.json.format(msgspec.json.encode(lines), indent=1) + b"\n")


def _week(case: Case, done: Run, first: int) -> str:
    steps = slice(first, first + WEEK_STEPS)
    start = case.at(first)
    prices = case.tariff.series(start, 900.0, WEEK_STEPS)
    spec = case.house.battery
    return draw(
        title=f"A week of {case.house.name} under {case.tariff.name}",
        start=start.local(case.tariff.zone),
        load_kw=case.load_kw[steps],
        pv_kw=case.pv_kw[steps],
        grid_kw=done.grid_kw[steps],
        soc_percent=_soc(spec, done.battery_kw)[steps],
        price=prices.import_price,
        currency=case.tariff.currency,
    )


def _soc(spec: BatterySpec, battery_kw: list[float]) -> list[float]:
    soc, told = 50.0, []
    for kw in battery_kw:
        told.append(soc)
        into_kw = kw * spec.efficiency_oneway if kw > 0 else kw / spec.efficiency_oneway
        soc += 100 * into_kw * STEP_H / spec.capacity_kwh
    return told
