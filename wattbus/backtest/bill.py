"""What flows cost under a tariff, by month and period; the sums are those of `energy.bill`."""

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from contracts.instant import Instant
from energy.battery import BatterySpec
from optimizer.history import FloatArray
from wattbus.backtest.calendar import QUARTER_MS, QUARTER_S, CalendarTariff
from wattbus.backtest.case import Case

IntArray = npt.NDArray[np.int64]


class Group(NamedTuple):
    """What has one peak: a demand group of a billing month."""

    month: str
    name: str
    price: float
    """Currency per kW."""


class Prices(NamedTuple):
    """A tariff laid out over a case's ticks."""

    import_price: FloatArray
    """Currency per kWh, each tick."""
    export_price: FloatArray
    month: list[str]
    """The billing months, `YYYY-MM`, rising."""
    month_of: IntArray
    """Each tick's, by its place in `month`."""
    interval_of: IntArray
    """Each tick's measurement interval, by its place in `group_of`."""
    group: list[Group]
    group_of: IntArray
    """Each measurement interval's, by its place in `group`."""
    interval_h: float

    def means_kw(self, grid_kw: FloatArray, tick_h: float) -> FloatArray:
        """Mean import of each measurement interval."""
        imported_kwh = np.maximum(grid_kw, 0.0) * tick_h
        means: FloatArray = np.bincount(self.interval_of, imported_kwh, len(self.group_of)) / self.interval_h
        return means


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """The highest mean of one demand group in a month, and what it costs."""

    group: str
    kw: float
    cost: float


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """A billing month's lines, in the tariff's currency; export is what it earned."""

    month: str
    energy: float
    demand: float
    export: float
    degradation: float
    import_kwh: float
    export_kwh: float
    peaks: list[Peak]

    @property
    def total(self) -> float:
        """What is to be paid, wear included."""
        return self.energy + self.demand - self.export + self.degradation


def prices_of(case: Case) -> Prices:
    """The case's tariff, tick by tick; within a quarter of an hour nothing changes."""
    tariff, tick_s = CalendarTariff.of(case.tariff), case.days.tick_s
    at_ms = case.days.start.unix_ms + np.arange(case.ticks) * round(tick_s * 1000)
    quarters, of_quarter = np.unique(at_ms // QUARTER_MS, return_inverse=True)
    starts = [Instant.at_ms(int(quarter) * QUARTER_MS) for quarter in quarters]
    asked = [tariff.series(start, QUARTER_S, 1) for start in starts]
    months = ["{}-{:02}".format(*tariff.billing_month(start)) for start in starts]
    month = sorted(set(months))
    # A tick's interval, and an interval's group, as a bill has them: by where each begins.
    intervals = [tariff.demand_interval_at(start).unix_ms for start in starts]
    begins, interval_of = np.unique(intervals, return_inverse=True)
    groups = [_group_of(tariff, Instant.at_ms(int(begin))) for begin in begins]
    group = sorted(set(groups))
    return Prices(
        import_price=np.array([prices.import_price[0] for prices in asked])[of_quarter],
        export_price=np.array([prices.export_price[0] for prices in asked])[of_quarter],
        month=month,
        month_of=np.array([month.index(name) for name in months])[of_quarter],
        interval_of=interval_of[of_quarter],
        group=group,
        group_of=np.array([group.index(one) for one in groups]),
        interval_h=tariff.demand_interval_s / 3600.0,
    )


def _group_of(tariff: CalendarTariff, interval: Instant) -> Group:
    period = tariff.period_at(interval)
    month = "{}-{:02}".format(*tariff.billing_month(interval))
    return Group(month, period.demand_group, period.demand_price)


def stored_worth(prices: Prices, battery: BatterySpec) -> float:
    """What a kWh left in a battery is worth: the mean import price, less the loss of using it."""
    return max(0.0, float(prices.import_price.mean())) * battery.efficiency_oneway


def months_of(case: Case, prices: Prices, grid_kw: FloatArray, battery_kw: FloatArray) -> list[Month]:
    """A bill for each month the case meets.

    Args:
        case: the house.
        prices: its tariff, laid out.
        grid_kw: + import / - export, each tick.
        battery_kw: + charging / - discharging; what wears it.
    """

    def monthly(values: FloatArray) -> list[float]:
        sums: list[float] = np.bincount(prices.month_of, values, len(prices.month)).tolist()
        return sums

    import_kwh, export_kwh = np.maximum(grid_kw, 0.0) * case.tick_h, np.maximum(-grid_kw, 0.0) * case.tick_h
    wear = np.abs(battery_kw) * case.tick_h * case.settings.degradation_cost
    highest = np.zeros(len(prices.group))
    np.maximum.at(highest, prices.group_of, prices.means_kw(grid_kw, case.tick_h))
    peaks = [
        (group.month, Peak(group=group.name, kw=kw, cost=kw * group.price))
        for group, kw in zip(prices.group, highest.tolist(), strict=True)
    ]
    lines = (import_kwh * prices.import_price, export_kwh * prices.export_price, wear, import_kwh, export_kwh)
    return [
        Month(
            month=month,
            energy=energy,
            demand=sum(peak.cost for at, peak in peaks if at == month),
            export=export,
            degradation=worn,
            import_kwh=bought,
            export_kwh=sold,
            peaks=[peak for at, peak in peaks if at == month],
        )
        for month, energy, export, worn, bought, sold in zip(prices.month, *map(monthly, lines), strict=True)
    ]
