"""What a stretch of grid power costs: energy by its price, and the billing month's peaks by period."""

from collections import defaultdict

import msgspec

from contracts.instant import Instant
from energy.tariff import BillingMonth, Tariff


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """A bill's lines, in the tariff's currency; export is what it earned."""

    energy: float
    export: float
    demand: float
    import_kwh: float
    export_kwh: float
    peak_kw: float
    """The highest mean import over the tariff's measurement interval, whatever the period."""

    @property
    def total(self) -> float:
        """What is to be paid."""
        return self.energy + self.demand - self.export


class Bill:
    """Adds up grid power under a tariff; demand per period (or group) and billing month."""

    def __init__(self, tariff: Tariff) -> None:
        self._tariff = tariff
        self._energy = 0.0
        self._export = 0.0
        self._import_kwh = 0.0
        self._export_kwh = 0.0
        self._interval_kwh: dict[int, float] = defaultdict(float)

    def add(self, start: Instant, duration_s: float, grid_kw: float) -> None:
        """Count mean grid power over an interval within one hour, and one interval of the demand meter.

        Args:
            start: its beginning.
            duration_s: its length [s].
            grid_kw: + import / - export.
        """
        kwh = grid_kw * duration_s / 3600
        prices = self._tariff.series(start, duration_s, 1)
        if kwh >= 0:
            self._energy += kwh * prices.import_price[0]
            self._import_kwh += kwh
            self._interval_kwh[self._tariff.demand_interval_at(start).unix_ms] += kwh
        else:
            self._export += -kwh * prices.export_price[0]
            self._export_kwh -= kwh

    def costs(self) -> Costs:
        """The bill so far."""
        peaks: dict[tuple[str, BillingMonth], tuple[float, float]] = {}
        highest_kw = 0.0
        for at_ms, kwh in self._interval_kwh.items():
            at = Instant.at_ms(at_ms)
            mean_kw = kwh * 3600 / self._tariff.demand_interval_s
            highest_kw = max(highest_kw, mean_kw)
            period = self._tariff.period_at(at)
            key = (period.demand_group, self._tariff.billing_month(at))
            peaks[key] = max(peaks.get(key, (0.0, 0.0)), (mean_kw, period.demand_price))
        return Costs(
            energy=self._energy,
            export=self._export,
            demand=sum(peak_kw * price for peak_kw, price in peaks.values()),
            import_kwh=self._import_kwh,
            export_kwh=self._export_kwh,
            peak_kw=highest_kw,
        )
