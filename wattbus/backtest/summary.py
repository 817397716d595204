"""All that came of a backtest, as it is shown and written down: figures only, the same bytes each time."""

import csv
import io
from collections.abc import Sequence

import msgspec

from contracts.instant import Instant
from wattbus.backtest.case import Case
from wattbus.backtest.results import Figures
from wattbus.backtest.sweep import Failure


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A policy's figures beside the others' of the same case."""

    figures: Figures
    saved: float | None
    """Against no battery; None if that was not run."""
    share_percent: float | None
    """Of what perfect foresight saves; None if it was not run, or nothing can be saved."""


class FineWeek(msgspec.Struct, frozen=True, kw_only=True):
    """A week of the optimizer, at two beats of the control loop."""

    begin: str
    total: float
    fine_total: float
    """At 10 s."""
    violations: int
    """Of the finer one."""


class House(msgspec.Struct, frozen=True, kw_only=True):
    """A case and what came of it."""

    house: str
    variant: str
    begin: str
    end: str
    days: float
    tick_s: float
    tariff: str
    timezone: str
    currency: str
    battery: str
    cars: list[str]
    gap_h: float
    load_kwh: float
    pv_kwh: float
    lines: list[Line]
    week: FineWeek | None = None

    @property
    def name(self) -> str:
        """The house, and what a sweep has different."""
        return f"{self.house} {self.variant}".strip()

    @property
    def length(self) -> str:
        """Of what was run, for people."""
        return "1 day" if self.days == 1 else f"{self.days:.4g} days"


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """What `results.json` holds."""

    houses: list[House]
    failures: list[dict[str, str]]

    @property
    def violations(self) -> int:
        """Of all policies, and of the week at 10 s."""
        return sum(
            sum(line.figures.violations.values()) for house in self.houses for line in house.lines
        ) + sum(house.week.violations for house in self.houses if house.week is not None)


def house_of(case: Case, figures: Sequence[Figures], week: FineWeek | None) -> House:
    """A case beside what came of it."""
    spec, n = case.devices.battery, case.ticks
    return House(
        house=case.house,
        variant=case.variant,
        begin=local_text(case, case.days.start),
        end=local_text(case, case.end),
        days=n * case.days.tick_s / 86400.0,
        tick_s=case.days.tick_s,
        tariff=case.tariff.name,
        timezone=case.tariff.zone.key,
        currency=case.tariff.currency,
        battery="none" if spec is None else f"{spec.capacity_kwh:g}kWh:{spec.max_charge_kw:g}kW",
        cars=[f"{car.car.capacity_kwh:g}kWh:{car.car.max_charge_kw:g}kW" for car in case.devices.cars],
        gap_h=case.days.gap_h,
        load_kwh=float(case.days.load_kw.sum()) * case.tick_h,
        pv_kwh=float(case.days.pv_kw.sum()) * case.tick_h,
        lines=_lines(figures),
        week=week,
    )


def local_text(case: Case, at: Instant) -> str:
    """An instant on the clocks that the tariff's hours are on."""
    return at.local(case.tariff.zone).isoformat()


def _lines(figures: Sequence[Figures]) -> list[Line]:
    totals = {one.policy: one.total for one in figures}
    worst, best = totals.get("none"), totals.get("perfect")
    possible = worst - best if worst is not None and best is not None else 0.0
    lines = []
    for one in figures:
        saved = None if worst is None else worst - one.total
        share = 100.0 * saved / possible if saved is not None and possible > 0 else None
        lines.append(Line(figures=one, saved=saved, share_percent=share))
    return lines


def results_of(houses: list[House], failures: Sequence[Failure]) -> Results:
    """Everything together."""
    return Results(houses=houses, failures=[failure._asdict() for failure in failures])


def as_json(results: Results) -> bytes:
    """`results.json`."""
    return msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n"


COLUMNS = (
    "energy",
    "demand",
    "export",
    "degradation",
    "stored",
    "total",
    "import_kwh",
    "export_kwh",
    "curtailed_kwh",
    "battery_kwh",
    "car_kwh",
    "peak_kw",
    "cycles",
    "self_consumption_percent",
)


def as_csv(results: Results) -> str:
    """`results.csv`: a row for each case and policy."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        [
            "house",
            "battery",
            "tariff",
            "days",
            "currency",
            "policy",
            *COLUMNS,
            "saved",
            "share_percent",
            "violations",
        ]
    )
    for house in results.houses:
        for line in house.lines:
            figures = line.figures
            rows.writerow(
                [house.house, house.battery, house.tariff, house.days, house.currency, figures.policy]
                + [getattr(figures, column) for column in COLUMNS]
                + [line.saved, line.share_percent, sum(figures.violations.values())]
            )
    return text.getvalue()
