"""What the optimizer knows of one house (means, DERs, the month's peaks), and the problem it poses."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from contracts.instant import Instant
from contracts.messages import (
    DerTelemetry,
    Forecast,
    Message,
    MeterReading,
    PriceForecast,
    PvReading,
)
from optimizer.forecast import Outlook, Recorded
from optimizer.peaks import MonthPeaks, Peak, UsualPeaks
from optimizer.posing import Ahead, Setup, as_one, battery_of, car_of, demand_of, pose
from optimizer.problem import Problem

FRESH_S = 30.0
"""Older than this, telemetry and readings say nothing about now."""
DEVICES_MAX = 1000
"""Of each kind in a house; more are not heard."""
BLANK_LOAD_KW = 0.5
W_PER_KW = 1000.0


class PlanInputs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a plan is made from, as it stood at one instant."""

    load: Forecast
    pv: Forecast
    prices: PriceForecast
    problem: Problem | None
    """None: the house has nothing to plan."""


class _Mean:
    """A mean that is still being measured."""

    __slots__ = ("count", "total")

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    @property
    def value(self) -> float:
        return self.total / self.count


class _Slot:
    """What has been measured in the step in hand; the meters of a house add up."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.load: dict[str, _Mean] = {}
        self.pv: dict[str, _Mean] = {}
        self.ders = _Mean()

    @property
    def load_kw(self) -> float | None:
        return sum(mean.value for mean in self.load.values()) if self.load else None

    @property
    def pv_kw(self) -> float | None:
        return sum(mean.value for mean in self.pv.values()) if self.pv else None


class PlannerModel:
    """One house: hears its readings and telemetry, says what to plan."""

    def __init__(
        self,
        house: str,
        setup: Setup,
        recorded: Recorded | None,
        now: Instant,
        peaks: Sequence[Peak] = (),
    ) -> None:
        self.house = house
        self._setup = setup
        self._load = Outlook.of_load(setup.step_s, BLANK_LOAD_KW)
        self._pv = Outlook.of_pv(setup.step_s)
        self._slot = _Slot(self._load.history.slot_of(now))
        self._batteries: dict[str, DerTelemetry] = {}
        self._cars: dict[str, DerTelemetry] = {}
        self._known = {"battery_storage": self._batteries, "electric_vehicle": self._cars}
        self._peaks = MonthPeaks(setup.tariff, peaks)
        self._usual = UsualPeaks(setup.tariff, self._load.history, self._pv.history)
        self.heard_reading = False
        """Whether the house's consumption was ever measured."""
        if recorded is not None:
            self._load.seed(recorded.load, now)
            if recorded.pv is not None:
                self._pv.seed(recorded.pv, now)

    def hear(self, message: Message, now: Instant) -> None:
        """Take in one message; what was not measured about now is left out."""
        match message:
            case DerTelemetry():
                self._hear_der(message, now)
            case MeterReading() if self._is_news(message, now):
                # A grid meter beside PV says the load only together with the PV: that is in the PvReading.
                if message.measures == "load" or not message.has_pv:
                    self._hear_meter(message, message.power_w, 0.0, now)
            case PvReading(pv_w=float() | int() as pv_w) if self._is_news(message, now):
                if message.measures == "grid":
                    self._hear_meter(message, message.meter_w, pv_w, now)
                if mean := _mean_of(self._slot.pv, message.meter):
                    mean.add(pv_w / W_PER_KW)
            case _:
                pass

    @property
    def peaks(self) -> list[Peak]:
        """The billing month's peaks, which a restart must not forget."""
        return self._peaks.kept

    def has_ders(self, now: Instant) -> bool:
        """Whether there is a battery or a car to plan now."""
        return bool(self._fresh_batteries(now)) or any(_is_fresh(der, now) for der in self._cars.values())

    def plan_inputs(self, now: Instant) -> PlanInputs:
        """The forecasts from the step in hand on and, if there is a battery or a car, the problem."""
        history = self._load.history
        self._move_to(history.slot_of(now))
        start, setup = history.start_of(self._slot.number), self._setup
        prices = setup.tariff.series(start, setup.step_s, setup.steps)
        price = PriceForecast(
            house=self.house,
            tariff=setup.tariff.name,
            issued_at=now,
            start=start,
            step_s=setup.step_s,
            currency=setup.tariff.currency,
            import_price=prices.import_price,
            export_price=prices.export_price,
            demand_price=prices.demand_price,
        )
        load, pv = self._forecast("load", self._load, now), self._forecast("pv", self._pv, now)
        ahead = Ahead(load, pv, price)
        return PlanInputs(load=load, pv=pv, prices=price, problem=self._problem(ahead, now))

    def _problem(self, ahead: Ahead, now: Instant) -> Problem | None:
        setup, start = self._setup, ahead.load.start
        batteries = [
            battery_of(der, ahead.prices.import_price, setup.degradation_cost)
            for der in self._fresh_batteries(now)
        ]
        fresh_cars = sorted(der_id for der_id, der in self._cars.items() if _is_fresh(der, now))
        cars = [car for der_id in fresh_cars if (car := car_of(self._cars[der_id], setup, start))]
        if not (batteries or cars):
            return None
        whole = as_one(batteries) if batteries else None
        demand = demand_of(setup, start, self._peaks, self._usual, self._slot.number, whole)
        return pose(setup, ahead, batteries, cars, demand)

    def _fresh_batteries(self, now: Instant) -> list[DerTelemetry]:
        """The batteries to plan, by their ids: those whose telemetry is fresh and complete."""
        fresh = (der for _, der in sorted(self._batteries.items()) if _is_fresh(der, now))
        return [der for der in fresh if der.capacity_kwh and der.current_soc is not None]

    def _forecast(self, kind: Literal["load", "pv"], outlook: Outlook, now: Instant) -> Forecast:
        running_kw = self._slot.load_kw if kind == "load" else self._slot.pv_kw
        return Forecast(
            house=self.house,
            kind=kind,
            name=outlook.forecaster.name,
            issued_at=now,
            start=outlook.history.start_of(self._slot.number),
            step_s=self._setup.step_s,
            power_kw=outlook.issue(self._slot.number, self._setup.steps, running_kw),
            error_kw=outlook.error_kw,
        )

    def _hear_der(self, der: DerTelemetry, now: Instant) -> None:
        known = self._known.get(der.type)
        if known is None:
            return
        last = known.get(der.der_id)
        if last is None:
            if len(known) < DEVICES_MAX:
                known[der.der_id] = der
        # Newest wins; but one that came from the future, from a clock since put right, holds nobody up.
        elif der.timestamp >= last.timestamp or last.timestamp > now:
            known[der.der_id] = der

    def _is_news(self, reading: MeterReading | PvReading, now: Instant) -> bool:
        """Whether a reading is about now; opens its slot if it is."""
        if reading.historical or abs(now.seconds_since(reading.timestamp)) > FRESH_S:
            return False
        slot = self._load.history.slot_of(reading.timestamp)
        if slot > self._slot.number:
            self._move_to(slot)
        return slot == self._slot.number

    def _hear_meter(
        self, reading: MeterReading | PvReading, power_w: float, pv_w: float, now: Instant
    ) -> None:
        mean = _mean_of(self._slot.load, reading.meter)
        if mean is None:
            return
        self.heard_reading = True
        ders_kw = self._ders_kw(now)
        kw = power_w / W_PER_KW
        mean.add(max(0.0, kw + pv_w / W_PER_KW - ders_kw if reading.measures == "grid" else kw))
        self._slot.ders.add(ders_kw)

    def _ders_kw(self, now: Instant) -> float:
        """What batteries and cars take from the house right now [kW]; negative while a battery gives."""
        ders = (*self._batteries.values(), *self._cars.values())
        return sum(der.current_output for der in ders if _is_fresh(der, now))

    def _move_to(self, slot: int) -> None:
        """Close the step in hand, if it is over: learn its means, keep its peak."""
        if slot <= self._slot.number:
            return
        done, self._slot = self._slot, _Slot(slot)
        load_kw, pv_kw = done.load_kw, done.pv_kw
        if pv_kw is not None:
            self._pv.learn(done.number, pv_kw)
        if load_kw is not None:
            self._load.learn(done.number, load_kw)
            grid_kw = load_kw + done.ders.value - (pv_kw or 0.0)
            self._peaks.add(self._load.history.start_of(done.number), self._setup.step_s, grid_kw)


def _is_fresh(der: DerTelemetry, now: Instant) -> bool:
    return der.is_online and abs(now.seconds_since(der.timestamp)) <= FRESH_S


def _mean_of(means: dict[str, _Mean], meter: str) -> _Mean | None:
    """The mean of one meter; None if the house already has all the meters that are heard."""
    mean = means.get(meter)
    if mean is None and len(means) < DEVICES_MAX:
        mean = means[meter] = _Mean()
    return mean
