"""Tariffs: what energy and peak power cost at an instant, read from TOML."""

import calendar
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from contracts.ids import Id
from contracts.instant import Instant
from energy.errors import SpecError, TariffError
from energy.zones import zone_of

DEFAULT = "costa_rica"

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MONTHS = tuple(range(1, 13))

Price = Annotated[float, Meta(ge=-1e6, le=1e6)]
Hour = Annotated[int, Meta(ge=0, le=24)]
HourRange = tuple[Hour, Hour]


class Period(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One price level, and the wall-clock hours in which it holds.

    A range [17, 1] runs past midnight; every hour of it counts with its own weekday.
    """

    name: Id
    hours: tuple[HourRange, ...]
    weekdays: tuple[Weekday, ...] = WEEKDAYS
    months: tuple[Annotated[int, Meta(ge=1, le=12)], ...] = MONTHS
    import_price: Price
    """Currency per kWh."""
    demand_price: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """Currency per kW of the month's highest mean in this period."""
    export_price: Price | None = None
    """Currency per kWh; the tariff's own if absent."""

    def clock_hours(self) -> set[int]:
        """The hours of the day in which it holds, 0..23."""
        return {
            (start + i) % 24
            for start, end in self.hours
            for i in range(end - start if end > start else end + 24 - start)
        }


class TariffFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tariff as its TOML file says it."""

    name: Id
    currency: Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")]
    timezone: str
    export_price: Price = 0.0
    periods: tuple[Period, ...]


class Prices(msgspec.Struct, frozen=True):
    """Prices of consecutive steps: lists of one length."""

    import_price: list[float]
    export_price: list[float]
    demand_price: list[float]
    period: list[str]


class Tariff(msgspec.Struct, frozen=True):
    """A tariff whose periods cover every hour exactly once."""

    name: str
    currency: str
    zone: ZoneInfo
    periods: tuple[Period, ...]
    table: tuple[int, ...]
    """Index of the period, for every month, weekday and hour."""

    def period_at(self, instant: Instant) -> Period:
        """The period that holds at an instant; its export price is set."""
        local = instant.local(self.zone)
        return self.periods[self.table[_slot(local.month, local.weekday(), local.hour)]]

    def price_at(self, instant: Instant) -> float:
        """The import price at an instant, per kWh."""
        return self.period_at(instant).import_price

    def export_price(self, instant: Instant) -> float:
        """What a kWh fed in earns at an instant."""
        return _export(self.period_at(instant))

    def series(self, start: Instant, step_s: float, n: int) -> Prices:
        """The prices of `n` consecutive steps, each as at its start."""
        periods = [self.period_at(start.after(i * step_s)) for i in range(n)]
        return Prices(
            [period.import_price for period in periods],
            [_export(period) for period in periods],
            [period.demand_price for period in periods],
            [period.name for period in periods],
        )


def _export(period: Period) -> float:
    return period.export_price or 0.0


def _slot(month: int, weekday: int, hour: int) -> int:
    return ((month - 1) * 7 + weekday) * 24 + hour


def compile_tariff(file: TariffFile) -> Tariff:
    """Lay a tariff's periods out over the hours of the year.

    Raises:
        TariffError: an hour in no period or in two, a name used twice, an unknown timezone.
    """
    try:
        zone = zone_of(file.timezone)
    except SpecError as error:
        raise TariffError(f"timezone {error}") from error
    table: list[int | None] = [None] * (12 * 7 * 24)
    for index, period in enumerate(file.periods):
        if period.name in (earlier.name for earlier in file.periods[:index]):
            raise TariffError(f"two periods are named {period.name}: give each its own name")
        for slot in _slots(period):
            taken = table[slot]
            if taken is not None:
                other = file.periods[taken].name
                raise TariffError(f"{_spoken(slot)} is in two periods: {other} and {period.name}")
            table[slot] = index
    for slot, holder in enumerate(table):
        if holder is None:
            raise TariffError(f"{_spoken(slot)} is in no period: add it to the hours of one")
    periods = tuple(
        msgspec.structs.replace(period, export_price=file.export_price)
        if period.export_price is None
        else period
        for period in file.periods
    )
    covered = tuple(index for index in table if index is not None)
    return Tariff(file.name, file.currency, zone, periods, covered)


def _slots(period: Period) -> list[int]:
    return [
        _slot(month, WEEKDAYS.index(day), hour)
        for month in sorted(set(period.months))
        for day in sorted(set(period.weekdays), key=WEEKDAYS.index)
        for hour in sorted(period.clock_hours())
    ]


def _spoken(slot: int) -> str:
    days, hour = divmod(slot, 24)
    month, weekday = divmod(days, 7)
    return f"{WEEKDAYS[weekday].capitalize()} {hour:02}:00 in {calendar.month_name[month + 1]}"


def load_tariff(name_or_path: str = DEFAULT) -> Tariff:
    """Read a built-in tariff by its name, or a tariff file by its path (which ends in .toml).

    Raises:
        TariffError: no such tariff or file, not TOML, a wrong value; the file is named.
    """
    text = _text_of(name_or_path)
    try:
        return compile_tariff(msgspec.toml.decode(text, type=TariffFile))
    except (msgspec.DecodeError, TariffError) as error:
        raise TariffError(f"tariff {name_or_path}: {error}") from error


def builtin_tariffs() -> list[str]:
    """The names of the tariffs that come with the package."""
    files = resources.files("energy").joinpath("tariffs").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def _text_of(name_or_path: str) -> str:
    if name_or_path.endswith(".toml"):
        try:
            return Path(name_or_path).read_text(encoding="utf-8")
        except OSError as error:
            raise TariffError(f"tariff {name_or_path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise TariffError(f"tariff {name_or_path}: not a text file in UTF-8") from error
    if name_or_path not in builtin_tariffs():
        known = ", ".join(builtin_tariffs())
        raise TariffError(f"no tariff {name_or_path!r}: there are {known}; or give the path of a .toml file")
    return resources.files("energy").joinpath("tariffs", f"{name_or_path}.toml").read_text(encoding="utf-8")
