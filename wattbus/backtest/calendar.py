"""A tariff that has been looked up: a year of plans asks for the same quarter-hours a thousand times."""

import msgspec

from contracts.instant import Instant
from energy.tariff import BillingMonth, Period, Prices, Tariff

QUARTER_S = 900.0
"""Zones differ from UTC by whole quarters of an hour: within one neither period nor month changes."""
QUARTER_MS = 900_000


class CalendarTariff(Tariff, frozen=True, kw_only=True, eq=False):
    """The same tariff, which remembers what it has answered."""

    known_periods: dict[int, Period] = msgspec.field(default_factory=dict)
    known_months: dict[int, BillingMonth] = msgspec.field(default_factory=dict)
    known_steps: dict[tuple[int, float], tuple[float, float, float, str]] = msgspec.field(
        default_factory=dict
    )

    @classmethod
    def of(cls, tariff: Tariff) -> "CalendarTariff":
        """A tariff that has answered nothing yet."""
        return cls(**msgspec.structs.asdict(tariff))

    def period_at(self, instant: Instant) -> Period:
        """The period that holds at an instant."""
        quarter = instant.unix_ms // QUARTER_MS
        if (period := self.known_periods.get(quarter)) is None:
            period = self.known_periods[quarter] = super().period_at(instant)
        return period

    def billing_month(self, instant: Instant) -> BillingMonth:
        """The billing month that holds an instant."""
        quarter = instant.unix_ms // QUARTER_MS
        if (month := self.known_months.get(quarter)) is None:
            month = self.known_months[quarter] = super().billing_month(instant)
        return month

    def series(self, start: Instant, step_s: float, n: int) -> Prices:
        """The prices of `n` consecutive steps."""
        first_ms, step_ms = start.unix_ms, round(step_s * 1000)
        known, rows = self.known_steps, []
        for at_ms in range(first_ms, first_ms + n * step_ms, step_ms):
            if (row := known.get((at_ms, step_s))) is None:
                (buy,), (sell,), (peak,), (name,) = msgspec.structs.astuple(
                    super().series(Instant.at_ms(at_ms), step_s, 1)
                )
                row = known[at_ms, step_s] = buy, sell, peak, name
            rows.append(row)
        buys, sells, peaks, names = zip(*rows, strict=True) if rows else ((), (), (), ())
        return Prices(list(buys), list(sells), list(peaks), list(names))
