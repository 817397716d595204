"""What the optimizer knows of one house (means, battery, the month's peaks), and the problem it poses."""

from collections.abc import Sequence
from statistics import fmean
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
    Schedule,
)
from energy.tariff import Tariff
from optimizer.forecast import Outlook, Recorded
from optimizer.peaks import DAY_S, DemandKey, MonthPeaks, Peak, UsualPeaks, expected_kw
from optimizer.problem import Battery, DemandPeriod, Plan, Problem

FRESH_S = 30.0
"""Older than this, telemetry and readings say nothing about now."""
VALID_S = 1800.0
DEVICES_MAX = 1000
"""Of each kind in a house; more are not heard."""
BLANK_LOAD_KW = 0.5
W_PER_KW = 1000.0
WEAR_SHARE = 1e-3
"""What a kWh through the battery costs, as a share of the mean price: next to nothing, but no tie."""
WEAR_MIN = 1e-6


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """How a house is planned."""

    tariff: Tariff
    step_s: float
    steps: int
    max_grid_import_kw: float
    max_grid_export_kw: float


class PlanInputs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a plan is made from, as it stood at one instant."""

    load: Forecast
    pv: Forecast
    prices: PriceForecast
    case: "BatteryCase | None"
    """None: the house has no battery to plan."""


class BatteryCase(msgspec.Struct, frozen=True):
    """A battery, and the problem of planning it."""

    der_id: str
    problem: Problem


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

    def battery(self, now: Instant) -> DerTelemetry | None:
        """The battery to plan: of those whose telemetry is fresh and complete, the first by its id.

        A second battery in a house is not planned yet.
        """
        ids = sorted(der_id for der_id, der in self._batteries.items() if _is_fresh(der, now))
        complete = (self._batteries[der_id] for der_id in ids)
        return next((der for der in complete if der.capacity_kwh and der.current_soc is not None), None)

    def plan_inputs(self, now: Instant) -> PlanInputs:
        """The forecasts from the step in hand on and, if there is a battery, its problem.

        Off the grid of steps the first one counts as whole: it began before `now`, and a plan made there is
        soon replaced by an aligned one.
        """
        history = self._load.history
        self._move_to(history.slot_of(now))
        start, setup = history.start_of(self._slot.number), self._setup
        prices = setup.tariff.series(start, setup.step_s, setup.steps)
        load, pv = self._forecast("load", self._load, now), self._forecast("pv", self._pv, now)
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
        der = self.battery(now)
        return PlanInputs(
            load=load,
            pv=pv,
            prices=price,
            case=BatteryCase(der.der_id, self._problem(der, load, pv, price)) if der else None,
        )

    def _problem(self, der: DerTelemetry, load: Forecast, pv: Forecast, prices: PriceForecast) -> Problem:
        setup, battery = self._setup, _battery(der)
        demand, demand_of_step = self._demand(prices.start, battery)
        mean_price = fmean(prices.import_price)
        return Problem(
            step_h=setup.step_s / 3600.0,
            load_kw=load.power_kw,
            pv_kw=pv.power_kw,
            import_price=prices.import_price,
            export_price=prices.export_price,
            battery=battery,
            demand=demand,
            demand_of_step=demand_of_step,
            max_grid_import_kw=setup.max_grid_import_kw,
            max_grid_export_kw=setup.max_grid_export_kw,
            # What is left will save an import at the mean price. Less the loss of the whole round trip, not
            # of discharging alone: at one price all day, energy must be worth more in use than kept.
            end_value_per_kwh=max(0.0, mean_price) * battery.efficiency_roundtrip,
            wear_per_kwh=max(WEAR_MIN, WEAR_SHARE * abs(mean_price)),
        )

    def _demand(self, start: Instant, battery: Battery) -> tuple[list[DemandPeriod], list[int]]:
        """The demand periods the horizon meets, and each step's; none where peaks cost nothing."""
        setup = self._setup
        met: dict[DemandKey, tuple[int, float, Instant]] = {}
        of_step: list[int] = []
        for at in (start.after(i * setup.step_s) for i in range(setup.steps)):
            period = setup.tariff.period_at(at)
            key = (setup.tariff.billing_month(at), period.demand_group)
            met.setdefault(key, (len(met), period.demand_price, at))
            of_step.append(met[key][0])
        if not any(price for _, price, _ in met.values()):
            return [], []
        usual = self._usual.lowest_kw(self._slot.number, battery)
        end = start.after(setup.steps * setup.step_s)
        periods = []
        for key, (_, price, at) in met.items():
            (year, month), group = key
            days_left = setup.tariff.billing_month_end(at).seconds_since(end) / DAY_S
            periods.append(
                DemandPeriod(
                    name=f"{year}-{month:02} {group}",
                    price_per_kw=price,
                    floor_kw=self._peaks.kw(key),
                    expected_kw=expected_kw(usual.get(group, ()), days_left),
                )
            )
        return periods, of_step

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


def schedule_of(
    inputs: PlanInputs, case: BatteryCase, plan: Plan, solver: str, solve_time_s: float | None
) -> Schedule:
    """The message that carries a plan for the battery of `inputs`."""
    now = inputs.load.issued_at
    return Schedule(
        house=inputs.load.house,
        der_id=case.der_id,
        issued_at=now,
        valid_until=now.after(VALID_S),
        start=inputs.load.start,
        step_s=inputs.load.step_s,
        status=plan.status,
        reason=plan.reason,
        battery_power_kw=plan.battery_kw,
        grid_power_kw=plan.grid_kw,
        curtailed_kw=plan.curtailed_kw,
        soc_percent=_soc_percent(plan.stored_kwh, case.problem.battery),
        load_kw=inputs.load.power_kw,
        pv_kw=inputs.pv.power_kw,
        import_price=inputs.prices.import_price,
        currency=inputs.prices.currency,
        energy_cost=plan.energy_cost,
        demand_cost=plan.demand_cost,
        total_cost=plan.energy_cost + plan.demand_cost,
        peak_kw=plan.peak_kw,
        solver=solver,
        solve_time_s=solve_time_s,
    )


def _soc_percent(stored_kwh: Sequence[float], battery: Battery) -> list[float]:
    return [min(100.0, max(0.0, 100.0 * kwh / battery.capacity_kwh)) for kwh in stored_kwh]


def _battery(der: DerTelemetry) -> Battery:
    """A battery as its telemetry has it; what it does not say is as the reference has it."""
    return Battery(
        capacity_kwh=der.capacity_kwh or 0.0,
        max_charge_kw=_or(der.max_charge_kw, der.nameplate_capacity),
        max_discharge_kw=_or(der.max_discharge_kw, der.nameplate_capacity),
        efficiency_roundtrip=_or(der.efficiency_roundtrip, 0.9),
        min_soc_percent=_or(der.min_soc_percent, 10.0),
        max_soc_percent=_or(der.max_soc_percent, 90.0),
        soc_percent=_or(der.current_soc, 0.0),
    )


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _is_fresh(der: DerTelemetry, now: Instant) -> bool:
    return der.is_online and abs(now.seconds_since(der.timestamp)) <= FRESH_S


def _mean_of(means: dict[str, _Mean], meter: str) -> _Mean | None:
    """The mean of one meter; None if the house already has all the meters that are heard."""
    mean = means.get(meter)
    if mean is None and len(means) < DEVICES_MAX:
        mean = means[meter] = _Mean()
    return mean
