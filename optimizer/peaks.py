"""The billing month's peaks: what they are so far, and what the month will make of them anyway."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from contracts.instant import Instant
from contracts.messages import FlowKw
from energy.tariff import BillingMonth, Tariff
from optimizer.history import FloatArray, History
from optimizer.problem import SHARES, Battery

PIECE_S = 300.0
"""Steps of 5, 10, 15, 30 or 60 min and intervals of 15 or 30 are whole numbers of these."""
LEARN_DAYS = 28
KNOWN_DAYS = 7
"""With fewer days known, nothing is expected of the rest of the month."""
DAY_S = 86400.0

DemandKey = tuple[BillingMonth, str]
"""A billing month and a demand group of the tariff."""


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """The highest mean import of one demand group in one billing month."""

    year: int
    month: int
    group: str
    kw: FlowKw


class MonthPeaks:
    """The highest means over the tariff's measurement interval, of the billing month in hand.

    Args:
        tariff: says what is measured.
        kept: what was known before a restart.
    """

    def __init__(self, tariff: Tariff, kept: Iterable[Peak] = ()) -> None:
        self._tariff = tariff
        self._peaks: dict[DemandKey, float] = {((p.year, p.month), p.group): p.kw for p in kept}
        self._interval = Instant.at_ms(0)
        self._interval_kwh = 0.0

    def add(self, start: Instant, duration_s: float, grid_kw: float) -> None:
        """Count mean grid power of a step, the steps in rising order; export counts as nothing."""
        for i in range(round(duration_s / PIECE_S)):
            at = start.after(i * PIECE_S)
            interval = self._tariff.demand_interval_at(at)
            if interval != self._interval:
                self._interval, self._interval_kwh = interval, 0.0
            self._interval_kwh += max(0.0, grid_kw) * PIECE_S / 3600
            self._keep(interval, self._interval_kwh * 3600 / self._tariff.demand_interval_s)

    def resume(self, interval: Instant, kwh: float) -> None:
        """Go on after a restart: with what was imported before it in the interval that began then."""
        self._interval, self._interval_kwh = interval, kwh

    @property
    def running(self) -> tuple[Instant, float]:
        """The measurement interval in hand, and what has been imported in it so far [kWh]."""
        return self._interval, self._interval_kwh

    def kw(self, key: DemandKey) -> float:
        """The peak so far."""
        return self._peaks.get(key, 0.0)

    def passed_kwh(self, interval: Instant) -> float:
        """What has been imported so far in the measurement interval that began then."""
        return self._interval_kwh if interval == self._interval else 0.0

    @property
    def kept(self) -> list[Peak]:
        """What a restart must not forget."""
        return [Peak(year=y, month=m, group=group, kw=kw) for ((y, m), group), kw in self._peaks.items()]

    def _keep(self, at: Instant, kw: float) -> None:
        month = self._tariff.billing_month(at)
        key = (month, self._tariff.period_at(at).demand_group)
        if kw > self._peaks.get(key, 0.0):
            self._peaks = {known: peak for known, peak in self._peaks.items() if known[0] >= month}
            self._peaks[key] = kw


class UsualPeaks:
    """The lowest peak that each of the last days could have had with the battery, by demand group."""

    def __init__(self, tariff: Tariff, load: History, pv: History) -> None:
        self._tariff = tariff
        self._load = load
        self._pv = pv
        self._names = _names_of(tariff)
        self._reckoned: tuple[int, Battery] | None = None
        self._lowest: dict[str, list[float]] = {}

    def lowest_kw(self, now_slot: int, battery: Battery) -> Mapping[str, Sequence[float]]:
        """Of each group, the days' lowest possible peaks [kW], rising."""
        today = now_slot // self._load.slots_a_day
        full = msgspec.structs.replace(battery, soc_percent=battery.max_soc_percent)
        if self._reckoned != (today, full):
            self._reckoned = (today, full)
            step_h = self._load.step_s / 3600
            self._lowest = {}
            for group, net_kw in self._days_before(today):
                self._lowest.setdefault(group, []).append(lowest_peak(net_kw, full, step_h))
            for lowest in self._lowest.values():
                lowest.sort()
        return self._lowest

    def _days_before(self, today: int) -> Iterator[tuple[str, FloatArray]]:
        """The net load of the last days that are known throughout, group by group."""
        n, step_s = self._load.slots_a_day, self._load.step_s
        for day in range(today - LEARN_DAYS, today):
            net = self._load.window(day * n, n) - np.nan_to_num(self._pv.window(day * n, n))
            if not np.isnan(net).any():
                groups = _groups_of(self._tariff, self._load.start_of(day * n), step_s, n)
                for index in np.unique(groups):
                    yield self._names[index], net[groups == index]


@lru_cache(maxsize=4096)
def _groups_of(tariff: Tariff, start: Instant, step_s: float, n: int) -> npt.NDArray[np.int8]:
    """Each slot's demand group, as its place in the groups' alphabet; kept for all houses of a tariff."""
    names = _names_of(tariff)
    periods = (tariff.period_at(start.after(i * step_s)) for i in range(n))
    return np.array([names.index(period.demand_group) for period in periods], dtype=np.int8)


def _names_of(tariff: Tariff) -> list[str]:
    return sorted({period.demand_group for period in tariff.periods})


def lowest_peak(net_kw: FloatArray, battery: Battery, step_h: float) -> float:
    """The lowest level to which a full battery holds a day's net load, if it knew the day before [kW].

    Args:
        net_kw: load less PV of the steps, in any order.
        battery: as it is, full.
        step_h: length of a step [h].
    """
    falling = np.sort(np.maximum(net_kw, 0.0))[::-1]
    usable_kw = (battery.stored_kwh - battery.kwh(battery.min_soc_percent)) * battery.efficiency / step_h
    # Cut the k highest down to one level: it is their mean less what the battery gives each of them.
    counts = np.arange(1, len(falling) + 1)
    level = float(((np.cumsum(falling) - usable_kw) / counts).max())
    return max(0.0, level, float(falling[0]) - battery.max_discharge_kw)


def expected_kw(lowest_kw: Sequence[float], days_left: float) -> tuple[float, ...]:
    """Above these levels the rest of the month is likely not to go anyway: rising likelihood, rising levels.

    A kW more of the month's peak costs the demand price if no later day reaches it anyway, and nothing if
    one does. With `lowest_kw` for samples of a day's peak, and F their distribution, a level x is not passed
    on any of the days left with the probability F(x)^days_left. Level k of the answer is where that
    reaches (k + 1/2) / SHARES: above it the k-th share of the price is charged.

    Args:
        lowest_kw: what the last days could have had for a peak, rising.
        days_left: after the horizon, until the month ends.
    """
    if len(lowest_kw) < KNOWN_DAYS or days_left <= 0:
        return ()
    n = len(lowest_kw)
    stays = [((rank + 0.5) / n) ** days_left for rank in range(n)]
    return tuple(lowest_kw[min(bisect_left(stays, (k + 0.5) / SHARES), n - 1)] for k in range(SHARES))
