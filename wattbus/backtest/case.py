"""What is run: a house's recorded days, its battery and cars, its tariff and limits. Pure."""

from typing import Literal, NamedTuple

import numpy as np

from contracts.instant import Instant
from der_controller.devices import ChargingCar
from energy.battery import BatterySpec
from energy.series import Series
from energy.tariff import Tariff
from optimizer.forecast import Recorded
from optimizer.history import KEEP_DAYS, FloatArray
from optimizer.settings import OptimizerSettings
from orchestrator.inputs import HouseLimits

DAY_S = 86400.0
W_PER_KW = 1000.0
START_SOC_PERCENT = 50.0


Policy = Literal["none", "rule", "mpc", "perfect"]
TITLES: dict[Policy, str] = {
    "none": "no battery",
    "rule": "simple rule",
    "mpc": "optimizer",
    "perfect": "foresight",
}


class Devices(NamedTuple):
    """What a house has to be controlled."""

    battery: BatterySpec | None
    cars: tuple[ChargingCar, ...] = ()


class Days(NamedTuple):
    """What a house has measured, as it is run."""

    start: Instant
    tick_s: float
    load_kw: FloatArray
    """Consumption without batteries and cars, the mean of each tick."""
    pv_kw: FloatArray
    has_pv: bool
    past: Recorded | None
    """What was measured before: the forecasts begin with it."""
    gap_h: float
    """How much of it was not measured: the last value stands for it."""


class Case(NamedTuple):
    """A house, its days and its devices under a tariff."""

    house: str
    variant: str
    """What a sweep has different, such as `battery=5kWh:5kW`; empty without a sweep."""
    days: Days
    devices: Devices
    tariff: Tariff
    settings: OptimizerSettings
    """How it is planned."""
    limits: HouseLimits
    """How it is controlled: the house's connection."""

    @property
    def name(self) -> str:
        """The house, and what a sweep has different."""
        return f"{self.house} {self.variant}".strip()

    @property
    def ticks(self) -> int:
        """How many there are."""
        return len(self.days.load_kw)

    @property
    def tick_h(self) -> float:
        """Length of a tick [h]."""
        return self.days.tick_s / 3600.0

    @property
    def end(self) -> Instant:
        """When the last tick ends."""
        return self.at(self.ticks)

    def at(self, tick: int) -> Instant:
        """When a tick begins."""
        return self.days.start.after(tick * self.days.tick_s)

    def car_seed(self, number: int) -> str:
        """What a car's trips are drawn from: the same for all policies."""
        return f"{self.settings.seed}/{self.house}/ev-{number + 1}"


class Flows(NamedTuple):
    """What a policy did: means of each tick [kW], and the battery's charge before each and at the end [%]."""

    battery_kw: FloatArray
    cars_kw: FloatArray
    """Shape (cars, ticks)."""
    curtailed_kw: FloatArray
    grid_kw: FloatArray
    soc_percent: FloatArray
    """One more than there are ticks; empty without a battery."""

    @property
    def car_kw(self) -> FloatArray:
        """All cars together."""
        together: FloatArray = self.cars_kw.sum(axis=0)
        return together


def days_of(load: Series, pv: Series | None, start: Instant, end: Instant, tick_s: float) -> Days:
    """The recorded means [W] as a house's days.

    Args:
        load: consumption.
        pv: production; None: the house has no PV.
        start: on the first tick.
        end: after the last one.
        tick_s: length of a tick [s].

    Raises:
        OutsideSeriesError: a tick that is not recorded.
    """
    n = int(end.seconds_since(start) // tick_s)
    load_kw = np.maximum(load.resample(start, tick_s, n), 0.0) / W_PER_KW
    pv_kw = np.zeros(n) if pv is None else np.maximum(pv.resample(start, tick_s, n), 0.0) / W_PER_KW
    past = None
    if load.start < start:
        past = Recorded(_until(load, start), None if pv is None else _until(pv, start))
    return Days(start, tick_s, load_kw, pv_kw, pv is not None, past, _gap_h(load, start, end))


def _until(series: Series, end: Instant) -> Series:
    """What a forecast may learn before the start: the days before, and nothing after."""
    from_ms, end_ms = end.after(-KEEP_DAYS * DAY_S).unix_ms, end.unix_ms
    times = np.asarray(series.times_ms)
    first = max(0, int(np.searchsorted(times, from_ms, "right")) - 1)
    last = int(np.searchsorted(times, end_ms, "left"))
    return Series(series.times_ms[first:last], series.values[first:last], min(series.end_ms, end_ms))


def _gap_h(series: Series, start: Instant, end: Instant) -> float:
    """What lies between two values further apart than two usual steps [h]; the usual one is the median."""
    steps = np.diff(np.append(series.times_ms, series.end_ms))
    usual_ms = float(np.median(steps))
    inside = (np.asarray(series.times_ms) >= start.unix_ms) & (np.asarray(series.times_ms) < end.unix_ms)
    gaps = np.where(inside & (steps > 2 * usual_ms), steps - usual_ms, 0.0)
    return float(gaps.sum() / 3.6e6)
