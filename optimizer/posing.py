"""The problem that a house poses: its devices, prices and peaks, as the optimizer's mathematics has them."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

import msgspec
import numpy as np

from contracts.instant import Instant
from contracts.messages import DerTelemetry, Forecast, PriceForecast
from energy.ev import MIN_CURRENT_A, VOLTAGE_V, EvSpec
from energy.tariff import Tariff
from optimizer.peaks import DAY_S, DemandKey, MonthPeaks, UsualPeaks, expected_kw
from optimizer.problem import Battery, Car, DemandPeriod, Problem

WEAR_SHARE = 1e-3
"""What a kWh through the battery costs, as a share of the mean price: next to nothing, but no tie."""
WEAR_MIN = 1e-6
W_PER_KW = 1000.0
S_PER_H = 3600.0
RESERVE_SHARE = 1.0
RESERVE_FADE_H = 12.0
"""After so long a kWh in store is worth 1/e of what it is worth at once."""
LEAST_S = 1.0


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """How a house is planned."""

    tariff: Tariff
    step_s: float
    steps: int
    max_grid_import_kw: float
    max_grid_export_kw: float
    degradation_cost: float = 0.0
    """What a kWh through a battery's terminals wears of it, in the tariff's currency."""


class Ahead(NamedTuple):
    """What is foreseen."""

    load: Forecast
    pv: Forecast
    prices: PriceForecast


class Demand(NamedTuple):
    """What the demand charge makes of the horizon; the fields are the problem's."""

    demand: list[DemandPeriod]
    demand_of_interval: list[int]
    interval_steps: int
    passed_steps: int
    passed_kwh: float


NO_DEMAND = Demand([], [], 1, 0, 0.0)


def pose(
    setup: Setup,
    ahead: Ahead,
    batteries: Iterable[Battery],
    cars: Iterable[Car],
    demand: Demand,
) -> Problem:
    """The problem as it stands when the forecasts were issued: of the step in hand, what is left of it."""
    start = ahead.load.start
    # Of a step that is all but over, something is left to be commanded.
    passed_s = max(0.0, min(setup.step_s - LEAST_S, ahead.load.issued_at.seconds_since(start)))
    return Problem(
        step_h=setup.step_s / S_PER_H,
        first_step_h=(setup.step_s - passed_s) / S_PER_H,
        load_kw=ahead.load.power_kw,
        pv_kw=ahead.pv.power_kw,
        import_price=ahead.prices.import_price,
        export_price=ahead.prices.export_price,
        batteries=_with_reserve(batteries, demand, setup),
        cars=list(cars),
        max_grid_import_kw=setup.max_grid_import_kw,
        max_grid_export_kw=setup.max_grid_export_kw,
        **demand._asdict(),
    )


def _with_reserve(batteries: Iterable[Battery], demand: Demand, setup: Setup) -> list[Battery]:
    """What is in store is worth something where a forecast that is off would raise the month's peak.

    A share of the demand price for each kWh that is there, over the next hours: the best that was found in
    closed loop over a year of four houses (docs/year.md).
    """
    hours = np.arange(setup.steps) * setup.step_s / S_PER_H
    weight = np.exp(-hours / RESERVE_FADE_H)
    prices = np.array([period.price_per_kw for period in demand.demand])
    intervals = (np.arange(setup.steps) + demand.passed_steps) // demand.interval_steps
    if not prices.any():
        return list(batteries)
    price = prices[np.asarray(demand.demand_of_interval)[intervals]]
    value: list[float] = (RESERVE_SHARE * weight / weight.sum() * price).tolist()
    return [msgspec.structs.replace(battery, reserve_value=value) for battery in batteries]


def battery_of(der: DerTelemetry, import_price: Sequence[float], degradation_cost: float) -> Battery:
    """A battery as its telemetry has it; what it does not say is as the reference has it."""
    mean_price = fmean(import_price)
    efficiency = _or(der.efficiency_roundtrip, 0.9)
    return Battery(
        der_id=der.der_id,
        capacity_kwh=_or(der.capacity_kwh, 0.0),
        max_charge_kw=_or(der.max_charge_kw, der.nameplate_capacity),
        max_discharge_kw=_or(der.max_discharge_kw, der.nameplate_capacity),
        efficiency_roundtrip=efficiency,
        min_soc_percent=_or(der.min_soc_percent, 10.0),
        max_soc_percent=_or(der.max_soc_percent, 90.0),
        soc_percent=_or(der.current_soc, 0.0),
        # What is left will save an import at the mean price. Less the loss of the whole round trip, not
        # of discharging alone: at one price all day, energy must be worth more in use than kept.
        end_value_per_kwh=max(0.0, mean_price) * efficiency,
        wear_per_kwh=max(WEAR_MIN, WEAR_SHARE * abs(mean_price), degradation_cost),
    )


def car_of(der: DerTelemetry, setup: Setup, start: Instant) -> Car | None:
    """A plugged-in car that lacks charge, as its telemetry has it; None if there is nothing to plan."""
    if not (der.connected and der.capacity_kwh and der.current_soc is not None):
        return None
    car = EvSpec()
    target = _or(der.target_soc_percent, car.target_soc_percent)
    if der.current_soc >= target:
        return None
    departure_step = setup.steps
    if der.departure_at is not None:
        # The step in which it leaves is not counted on; but one that should be gone by now is still there.
        whole = int(der.departure_at.seconds_since(start) // setup.step_s)
        departure_step = min(setup.steps, max(1, whole))
    max_kw = _or(der.max_charge_kw, der.nameplate_capacity)
    min_kw = _or(der.min_current_a, float(MIN_CURRENT_A)) * VOLTAGE_V * (der.phases or 1) / W_PER_KW
    return Car(
        der_id=der.der_id,
        capacity_kwh=der.capacity_kwh,
        soc_percent=der.current_soc,
        target_soc_percent=target,
        min_charge_kw=min(min_kw, max_kw),
        max_charge_kw=max_kw,
        efficiency=car.efficiency_charging,
        departure_step=departure_step,
    )


def demand_of(
    setup: Setup, start: Instant, peaks: MonthPeaks, usual: UsualPeaks, slot: int, whole: Battery | None
) -> Demand:
    """The demand periods that the horizon meets, and each interval's; none where peaks cost nothing.

    Args:
        setup: the tariff, and the steps.
        start: of the first step.
        peaks: the month's so far.
        usual: what the last days could have had.
        slot: the number of the first step.
        whole: the batteries that could have had it, as one; None: there are none.
    """
    tariff = setup.tariff
    interval_s = tariff.demand_interval_s
    if interval_s % setup.step_s:
        # A step that meets two intervals has one mean, which is what is known of both.
        interval_s = setup.step_s
    first = start if interval_s == setup.step_s else tariff.demand_interval_at(start)
    end = start.after(setup.steps * setup.step_s)
    met: dict[DemandKey, tuple[int, float, Instant]] = {}
    of_interval: list[int] = []
    at = first
    while at < end:
        period = tariff.period_at(at)
        key = (tariff.billing_month(at), period.demand_group)
        met.setdefault(key, (len(met), period.demand_price, at))
        of_interval.append(met[key][0])
        at = at.after(interval_s)
    if not any(price for _, price, _ in met.values()):
        return NO_DEMAND
    usually = {} if whole is None else usual.lowest_kw(slot, whole)
    periods = []
    for ((year, month), group), (_, price, met_at) in met.items():
        days_left = tariff.billing_month_end(met_at).seconds_since(end) / DAY_S
        periods.append(
            DemandPeriod(
                name=f"{year}-{month:02} {group}",
                price_per_kw=price,
                floor_kw=peaks.kw(((year, month), group)),
                expected_kw=expected_kw(usually.get(group, ()), days_left),
            )
        )
    return Demand(
        demand=periods,
        demand_of_interval=of_interval,
        interval_steps=round(interval_s / setup.step_s),
        passed_steps=round(start.seconds_since(first) / setup.step_s),
        passed_kwh=peaks.passed_kwh(first),
    )


def as_one(batteries: Sequence[Battery]) -> Battery:
    """One battery that can do what these can together, as if their charge were shared.

    Raises:
        ValueError: there are none.
    """
    if len(batteries) == 1:
        return msgspec.structs.replace(batteries[0], end_value_per_kwh=0.0, wear_per_kwh=0.0)
    capacity_kwh = sum(battery.capacity_kwh for battery in batteries)

    def mean(field: str) -> float:
        return fmean(
            [getattr(battery, field) for battery in batteries],
            [battery.capacity_kwh for battery in batteries],
        )

    if not capacity_kwh > 0:
        raise ValueError("no batteries, or none that holds anything")
    return Battery(
        capacity_kwh=capacity_kwh,
        max_charge_kw=sum(battery.max_charge_kw for battery in batteries),
        max_discharge_kw=sum(battery.max_discharge_kw for battery in batteries),
        efficiency_roundtrip=mean("efficiency_roundtrip"),
        min_soc_percent=mean("min_soc_percent"),
        max_soc_percent=mean("max_soc_percent"),
        soc_percent=mean("soc_percent"),
        wear_per_kwh=0.0,
    )


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
