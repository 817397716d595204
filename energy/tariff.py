"""Tariffs: what energy and peak power cost at an instant, read from TOML."""

import calendar
from datetime import date, datetime
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from contracts.ids import Id
from contracts.instant import Instant
from energy.errors import SeriesError, SpecError, TariffError
from energy.series import Series, read_series
from energy.zones import zone_of

DEFAULT = "costa_rica"

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")
HOLIDAY = DAYS.index("holiday")
MONTHS = tuple(range(1, 13))
EVERY_YEAR = 0

Price = Annotated[float, Meta(ge=-1e6, le=1e6)]
Hour = Annotated[int, Meta(ge=0, le=24)]
HourRange = tuple[Hour, Hour]
BillingMonth = tuple[int, int]
"""The year and month in which it begins."""
Holiday = tuple[int, int, int]
"""Year (0: every year), month, day."""


class Period(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One price level, and the wall-clock hours in which it holds.

    A range [17, 1] runs past midnight; every hour of it counts with its own weekday. A holiday is a
    weekday of its own, `holiday`.
    """

    name: Id
    hours: tuple[HourRange, ...]
    weekdays: tuple[Day, ...] = DAYS
    months: tuple[Annotated[int, Meta(ge=1, le=12)], ...] = MONTHS
    import_price: Price
    """Currency per kWh; where a dynamic price is known, that one holds instead."""
    demand_price: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """Currency per kW of the billing month's highest mean in this period."""
    demand_group: Id = ""
    """Periods of one group have their peak in common; alone with its own name if absent."""
    export_price: Price | None = None
    """Currency per kWh; the tariff's own if absent."""

    def clock_hours(self) -> set[int]:
        """The hours of the day in which it holds, 0..23."""
        return {
            (start + i) % 24
            for start, end in self.hours
            for i in range(end - start if end > start else end + 24 - start)
        }


class DynamicPrices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Import prices that change from hour to hour: a column of a CSV file, times factor, plus surcharge."""

    file: str
    """A relative path starts beside the TOML."""
    column: str
    factor: Price = 1.0
    """To currency per kWh, taxes included: 0.001 for prices per MWh."""
    surcharge: Price = 0.0
    """Currency per kWh: grid fees and the like."""


class TariffFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tariff as its TOML file says it."""

    name: Id
    currency: Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")]
    timezone: str
    export_price: Price = 0.0
    demand_interval_min: Literal[15, 30] = 15
    """A peak is the highest mean over so long, by the wall clock."""
    billing_day: Annotated[int, Meta(ge=1, le=28)] = 1
    """The day of the month on which a billing month begins, at local midnight."""
    holidays: tuple[str, ...] = ()
    """Dates, or MM-DD for every year."""
    dynamic: DynamicPrices | None = None
    periods: tuple[Period, ...]


class Prices(msgspec.Struct, frozen=True):
    """Prices of consecutive steps: lists of one length."""

    import_price: list[float]
    export_price: list[float]
    demand_price: list[float]
    period: list[str]


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """A tariff whose periods cover every hour exactly once."""

    name: str
    currency: str
    zone: ZoneInfo
    periods: tuple[Period, ...]
    """With their own export price and demand group set."""
    table: tuple[int | None, ...]
    """Index of the period, for every month, weekday (the holiday last) and hour; None if it can't occur."""
    demand_interval_s: float = 900.0
    billing_day: int = 1
    holidays: frozenset[Holiday] = frozenset()
    dynamic: Series | None = None
    """Import prices that hold as far as they reach."""

    def period_at(self, instant: Instant) -> Period:
        """The period that holds at an instant; its export price is set."""
        local = instant.local(self.zone)
        index = self.table[_slot(local.month, self._day_of(local), local.hour)]
        assert index is not None, "compile_tariff left an hour out"  # noqa: S101 - it refuses to
        return self.periods[index]

    def series(self, start: Instant, step_s: float, n: int) -> Prices:
        """The prices of `n` consecutive steps, each as at its start; a dynamic price is the step's mean."""
        starts = [start.after(i * step_s) for i in range(n)]
        periods = [self.period_at(at) for at in starts]
        return Prices(
            [self._import_price(at, step_s, period) for at, period in zip(starts, periods, strict=True)],
            [_export(period) for period in periods],
            [period.demand_price for period in periods],
            [period.name for period in periods],
        )

    def billing_month(self, instant: Instant) -> BillingMonth:
        """The billing month that holds an instant."""
        local = instant.local(self.zone)
        if local.day >= self.billing_day:
            return local.year, local.month
        return (local.year, local.month - 1) if local.month > 1 else (local.year - 1, MONTHS[-1])

    def billing_month_end(self, instant: Instant) -> Instant:
        """When the billing month that holds an instant ends, and the next one begins."""
        year, month = self.billing_month(instant)
        year, month = (year, month + 1) if month < MONTHS[-1] else (year + 1, MONTHS[0])
        return Instant.of(datetime(year, month, self.billing_day, tzinfo=self.zone))

    def demand_interval_at(self, instant: Instant) -> Instant:
        """The beginning of the measurement interval that holds an instant."""
        offset = instant.local(self.zone).utcoffset()
        offset_s = offset.total_seconds() if offset is not None else 0.0
        return instant.after(offset_s).floor(self.demand_interval_s).after(-offset_s)

    def _import_price(self, start: Instant, step_s: float, period: Period) -> float:
        if self.dynamic is not None and self.dynamic.covers(start, step_s):
            return self.dynamic.mean(start, step_s)
        return period.import_price

    def _day_of(self, local: datetime) -> int:
        if self.holidays:
            month_day = local.month, local.day
            if {(local.year, *month_day), (EVERY_YEAR, *month_day)} & self.holidays:
                return HOLIDAY
        return local.weekday()


def _export(period: Period) -> float:
    return period.export_price or 0.0


def _slot(month: int, day: int, hour: int) -> int:
    return ((month - 1) * len(DAYS) + day) * 24 + hour


def compile_tariff(file: TariffFile, dynamic: Series | None = None) -> Tariff:
    """Lay a tariff's periods out over the hours of the year.

    Args:
        file: what it says.
        dynamic: the prices its `dynamic` names, read and made currency per kWh.

    Raises:
        TariffError: an hour in no period or in two, a name used twice, an unknown timezone, a holiday that
            is no date, two demand prices in one group.
    """
    try:
        zone = zone_of(file.timezone)
    except SpecError as error:
        raise TariffError(f"timezone {error}") from error
    holidays = frozenset(_holiday(text) for text in file.holidays)
    table = _lay_out(file.periods)
    for slot, holder in enumerate(table):
        if holder is None and (holidays or slot // 24 % len(DAYS) != HOLIDAY):
            raise TariffError(f"{_spoken(slot)} is in no period: add it to the hours of one")
    return Tariff(
        name=file.name,
        currency=file.currency,
        zone=zone,
        periods=_completed(file),
        table=tuple(table),
        demand_interval_s=file.demand_interval_min * 60.0,
        billing_day=file.billing_day,
        holidays=holidays,
        dynamic=dynamic,
    )


def _lay_out(periods: tuple[Period, ...]) -> list[int | None]:
    table: list[int | None] = [None] * (len(MONTHS) * len(DAYS) * 24)
    for index, period in enumerate(periods):
        if period.name in (earlier.name for earlier in periods[:index]):
            raise TariffError(f"two periods are named {period.name}: give each its own name")
        for slot in _slots(period):
            taken = table[slot]
            if taken is not None:
                other = periods[taken].name
                raise TariffError(f"{_spoken(slot)} is in two periods: {other} and {period.name}")
            table[slot] = index
    return table


def _completed(file: TariffFile) -> tuple[Period, ...]:
    """The periods, with what they leave to the tariff."""
    price_of: dict[str, float] = {}
    periods = []
    for period in file.periods:
        group = period.demand_group or period.name
        if price_of.setdefault(group, period.demand_price) != period.demand_price:
            raise TariffError(
                f"demand group {group} costs {price_of[group]:g} and, in {period.name}, "
                f"{period.demand_price:g}: one peak has one price"
            )
        export = file.export_price if period.export_price is None else period.export_price
        periods.append(msgspec.structs.replace(period, demand_group=group, export_price=export))
    return tuple(periods)


def _holiday(text: str) -> Holiday:
    yearly = len(text) == len("MM-DD")
    try:
        # 2000 had a 29 February.
        day = date.fromisoformat(f"2000-{text}" if yearly else text)
    except ValueError as error:
        raise TariffError(
            f"holiday {text!r} is no date: write YYYY-MM-DD, or MM-DD for every year"
        ) from error
    return EVERY_YEAR if yearly else day.year, day.month, day.day


def _slots(period: Period) -> list[int]:
    return [
        _slot(month, DAYS.index(day), hour)
        for month in sorted(set(period.months))
        for day in sorted(set(period.weekdays), key=DAYS.index)
        for hour in sorted(period.clock_hours())
    ]


def _spoken(slot: int) -> str:
    days, hour = divmod(slot, 24)
    month, day = divmod(days, len(DAYS))
    return f"{DAYS[day].capitalize()} {hour:02}:00 in {calendar.month_name[month + 1]}"


def load_tariff(name_or_path: str = DEFAULT) -> Tariff:
    """Read a built-in tariff by its name, or a tariff file by its path (which ends in .toml).

    Raises:
        TariffError: no such tariff or file, not TOML, a wrong value; the file is named.
    """
    text = _text_of(name_or_path)
    try:
        file = msgspec.toml.decode(text, type=TariffFile)
        dynamic = None if file.dynamic is None else _read(file.dynamic, Path(name_or_path).parent)
        return compile_tariff(file, dynamic)
    except (msgspec.DecodeError, TariffError, SeriesError) as error:
        raise TariffError(f"tariff {name_or_path}: {error}") from error


def _read(dynamic: DynamicPrices, folder: Path) -> Series:
    recorded = read_series(folder / dynamic.file, dynamic.column)
    for earlier, later in pairwise(recorded.times_ms):
        if later - earlier > recorded.step_s * 1000:
            raise SeriesError(
                f"{folder / dynamic.file}: no price from {Instant.at_ms(earlier)} on for a while"
            )
    prices = tuple(value * dynamic.factor + dynamic.surcharge for value in recorded.values)
    return Series(recorded.times_ms, prices, recorded.end_ms)


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
