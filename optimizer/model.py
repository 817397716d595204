"""What the optimizer knows of one house (means, DERs, the month's peaks), and the problem it poses."""

from collections.abc import Collection
from typing import Literal

import msgspec
from msgspec.structs import replace

from contracts.instant import Instant
from contracts.messages import DerTelemetry, Forecast, Message, MeterReading, PriceForecast, PvReading
from contracts.orders import CarPlan, StandingOrders
from optimizer.forecast import Outlook, Recorded
from optimizer.peaks import MonthPeaks, Peak, UsualPeaks
from optimizer.posing import Ahead, Setup, as_one, battery_of, car_of, demand_of, pose
from optimizer.problem import Problem
from optimizer.slots import Running, Slot
from optimizer.watch import CarState, Seen

FRESH_S = 30.0
"""Older than this, telemetry and readings say nothing about now."""
DEVICES_MAX = 1000
"""Of each kind in a house; more are not heard."""
BLANK_LOAD_KW = 0.5
W_PER_KW = 1000.0
S_PER_H = 3600.0


class PlanInputs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a plan is made from, as it stood at one instant."""

    load: Forecast
    pv: Forecast
    prices: PriceForecast
    problem: Problem | None
    """None: the house has nothing to plan."""
    seen: Seen


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What a restart must not forget of a house."""

    at: Instant
    peaks: list[Peak]
    """Of the billing month."""
    interval: Running
    """The running measurement interval, up to the step in hand."""
    step: Running
    """The step in hand."""


class PlannerModel:
    """One house: hears its readings and telemetry, says what to plan."""

    def __init__(
        self,
        house: str,
        setup: Setup,
        recorded: Recorded | None,
        now: Instant,
        remembered: Remembered | None = None,
    ) -> None:
        self.house = house
        self._setup = setup
        self._load, self._pv = fresh_outlooks(setup.step_s)
        self._slot = Slot(setup.step_s, self._load.history.slot_of(now))
        self._batteries: dict[str, DerTelemetry] = {}
        self._cars: dict[str, DerTelemetry] = {}
        self._known = {"battery_storage": self._batteries, "electric_vehicle": self._cars}
        self._orders = StandingOrders(house=house, issued_at=now)
        self._peaks = MonthPeaks(setup.tariff, () if remembered is None else remembered.peaks)
        if remembered is not None:
            self._peaks.resume(remembered.interval.start, remembered.interval.kwh)
            self._slot.resume(remembered.step)
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
            case StandingOrders():
                self._orders = message
            case MeterReading() if self._is_news(message, now):
                self._slot.has_pv = self._slot.has_pv or message.has_pv
                # A grid meter beside PV says the load only together with the PV: that is in the PvReading.
                if message.measures == "load" or not message.has_pv:
                    self._hear_meter(message, message.power_w, 0.0, now)
            case PvReading(pv_w=float() | int() as pv_w) if self._is_news(message, now):
                if message.measures == "grid":
                    self._hear_meter(message, message.meter_w, pv_w, now)
                self._slot.hear_pv(message.meter, pv_w / W_PER_KW, message.timestamp)
            case _:
                pass

    @property
    def peaks(self) -> list[Peak]:
        """The billing month's peaks so far."""
        return self._peaks.kept

    @property
    def errors_kw(self) -> dict[str, float]:
        """Mean absolute error of the load's and the PV's forecasts [kW], by kind, as far as it is known."""
        errors = {"load": self._load.error_kw, "pv": self._pv.error_kw}
        return {kind: kw for kind, kw in errors.items() if kw is not None}

    @property
    def cars(self) -> Collection[str]:
        """The cars heard of, by their ids."""
        return self._cars.keys()

    @property
    def measures_grid(self) -> bool:
        """Whether the house is measured at its grid connection, with batteries and cars."""
        return self._slot.of_grid

    def remember(self, now: Instant) -> Remembered:
        """What a restart must not forget."""
        self._move_to(self._slot.number_of(now))
        self._slot.advance(now)
        interval, kwh = self._peaks.running
        return Remembered(
            at=now,
            peaks=self._peaks.kept,
            interval=Running(start=interval, kwh=kwh),
            step=self._slot.imported,
        )

    def adopt(self, load: Outlook, pv: Outlook) -> None:
        """Forecast with these, which have learnt recorded days; they learn what was heard here since."""
        for new, old in ((load, self._load), (pv, self._pv)):
            for slot, kw in old.history.known():
                if slot > new.history.newest:
                    new.learn(slot, kw)
        self._load, self._pv = load, pv
        self._usual = UsualPeaks(self._setup.tariff, load.history, pv.history)

    def seen(self, now: Instant) -> Seen:
        """The house as it is measured now."""
        self._slot.advance(now)
        batteries = {der.der_id: der for der in self._fresh_batteries(now)}
        cars = {der.der_id: der for der in self._fresh_cars(now)}
        return Seen(
            batteries=frozenset(batteries),
            cars={
                der_id: CarState(der.connected, der.departure_at, der.target_soc_percent)
                for der_id, der in cars.items()
            },
            soc_percent={
                der_id: der.current_soc
                for der_id, der in (*batteries.items(), *cars.items())
                if der.current_soc is not None
            },
            recent_kw=self._slot.recent_kw,
        )

    def has_ders(self, now: Instant) -> bool:
        """Whether there is a battery or a car to plan now."""
        return bool(self._fresh_batteries(now) or self._fresh_cars(now))

    def plan_inputs(self, now: Instant) -> PlanInputs:
        """The forecasts from the step in hand on and, if there is a battery or a car, the problem."""
        history = self._load.history
        self._move_to(history.slot_of(now))
        self._slot.advance(now)
        start, setup = self._slot.start, self._setup
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
        problem = self._problem(ahead, now)
        return PlanInputs(load=load, pv=pv, prices=price, problem=problem, seen=self.seen(now))

    def _problem(self, ahead: Ahead, now: Instant) -> Problem | None:
        setup, start = self._setup, ahead.load.start
        batteries = [
            battery_of(der, ahead.prices.import_price, setup.degradation_cost)
            for der in self._fresh_batteries(now)
        ]
        cars = [car for der in self._fresh_cars(now) if (car := car_of(der, setup, start))]
        if not (batteries or cars):
            return None
        whole = as_one(batteries) if batteries else None
        demand = demand_of(setup, start, self._peaks, self._usual, self._slot.number, whole)
        demand = demand._replace(passed_kwh=demand.passed_kwh + self._slot.passed_kwh(now))
        return pose(setup, ahead, batteries, cars, demand)

    def _fresh_batteries(self, now: Instant) -> list[DerTelemetry]:
        """The batteries to plan, by their ids: fresh and complete telemetry, and stopped by nobody."""
        fresh = (der for _, der in sorted(self._batteries.items()) if self._is_free(der, now))
        return [der for der in fresh if der.capacity_kwh and der.current_soc is not None]

    def _fresh_cars(self, now: Instant) -> list[DerTelemetry]:
        """The cars to plan, by their ids, with what persons have said of them."""
        return [
            _with_plan(der, self._orders.car_plan(der_id, now))
            for der_id, der in sorted(self._cars.items())
            if self._is_free(der, now)
        ]

    def _is_free(self, der: DerTelemetry, now: Instant) -> bool:
        return _is_fresh(der, now) and not self._orders.holds(der.der_id, now)

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
        self.heard_reading = True
        self._slot.of_grid = reading.measures == "grid"
        kw = (power_w + pv_w) / W_PER_KW
        kw = kw if self._slot.of_grid else max(0.0, kw)
        self._slot.hear_load(reading.meter, kw, self._ders_kw(now), reading.timestamp)

    def _ders_kw(self, now: Instant) -> float:
        """What batteries and cars take from the house right now [kW]; negative while a battery gives."""
        ders = (*self._batteries.values(), *self._cars.values())
        return sum(der.current_output for der in ders if _is_fresh(der, now))

    def _move_to(self, number: int) -> None:
        """Close the step in hand, if it is over: learn its means, keep its peak."""
        if number <= self._slot.number:
            return
        start, step_s = self._slot.start, self._setup.step_s
        done = self._slot.move_to(number)
        if done.pv_kw is not None:
            self._pv.learn(done.number, done.pv_kw)
        if done.load_kw is not None:
            self._load.learn(done.number, done.load_kw)
        if done.import_kwh > 0:
            self._peaks.add(start, step_s, done.import_kwh / (step_s / S_PER_H))


def fresh_outlooks(step_s: float) -> tuple[Outlook, Outlook]:
    """Of load and of PV, with nothing learnt."""
    return Outlook.of_load(step_s, BLANK_LOAD_KW), Outlook.of_pv(step_s)


def as_measured(inputs: PlanInputs, power_kw: float) -> PlanInputs:
    """The inputs with what is measured in place of what was foretold for the step in hand, if that is off.

    Args:
        inputs: with forecasts.
        power_kw: so far off it would be planned anew; that a new plan is not at once so again, a forecast
            stands only if it is off by less than half of it.
    """
    if inputs.seen.recent_kw is None:
        return inputs
    load_kw, pv_kw = inputs.seen.recent_kw
    if abs(load_kw - pv_kw - (inputs.load.power_kw[0] - inputs.pv.power_kw[0])) <= power_kw / 2:
        return inputs
    load = replace(inputs.load, power_kw=[load_kw, *inputs.load.power_kw[1:]])
    pv = replace(inputs.pv, power_kw=[pv_kw, *inputs.pv.power_kw[1:]])
    problem = inputs.problem
    if problem is not None:
        problem = replace(problem, load_kw=load.power_kw, pv_kw=pv.power_kw)
    return replace(inputs, load=load, pv=pv, problem=problem)


def _with_plan(der: DerTelemetry, plan: CarPlan | None) -> DerTelemetry:
    """A car as somebody wants it: its own departure and target stand where that says nothing."""
    if plan is None:
        return der
    return msgspec.structs.replace(
        der,
        departure_at=plan.departure_at or der.departure_at,
        target_soc_percent=der.target_soc_percent
        if plan.target_soc_percent is None
        else plan.target_soc_percent,
    )


def _is_fresh(der: DerTelemetry, now: Instant) -> bool:
    return der.is_online and abs(now.seconds_since(der.timestamp)) <= FRESH_S
