"""What a tick decides from: the flow's inputs, limits and objectives, from what is known and ordered."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import NamedTuple

import msgspec

from contracts.instant import Instant
from contracts.messages import DerTelemetry, MeterReading
from orchestrator.balance import Order
from orchestrator.known import BATTERY, EV, LOAD, PV, Known, step_of
from orchestrator.limits import (
    KW_PER_A,
    BatteryState,
    Constraints,
    EconomicObjectives,
    EvState,
    PhysicalConstraints,
    PowerFlowInputs,
    SafetyConstraints,
)
from orchestrator.requests import Orders
from orchestrator.switching import Switching


class HouseLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say of a house."""

    max_grid_import_kw: float
    max_grid_export_kw: float
    reading_fresh_s: float
    ttl_s: float
    fuse_a: float | None = None
    arbitrage_threshold: float | None = None
    prefer_self_consumption: bool = True
    house_priority: bool = True
    reserve_soc_percent: float = 0.0
    reserve_charge_kw: float = 1.0
    max_battery_cycles_per_day: float = 2.0
    max_battery_temp_c: float = 50.0
    ev_hold_s: float = 300.0
    balancer_interval_s: float = 60.0
    balancer_cooldown_s: float = 30.0
    balancer_reserve_kw: float = 2.0
    balancer_tolerance_kw: float = 2.0
    balancer_order: Order = "fair"
    plant_fresh_s: float = 120.0
    consumption_includes_loads: bool = False


class Controlled(NamedTuple):
    """The DERs that are dispatched at one tick, by id; those that nothing counts on are not among them."""

    batteries: list[DerTelemetry]
    cars: list[DerTelemetry]
    paused: Mapping[str, str]
    """Those without economic dispatch, and why, in words."""


def inputs_of(
    house: str,
    known: Known,
    orders: Orders,
    controlled: Controlled,
    switching: Switching,
    now: Instant,
    *,
    curtails: bool,
) -> PowerFlowInputs:
    """The house as its meters and DERs show it.

    Args:
        house: its name.
        known: what was heard.
        orders: what persons have said of cars.
        controlled: what is dispatched.
        switching: since when each car is on or off.
        now: the time.
        curtails: whether PV was told to give less at the last tick.
    """
    batteries, cars, paused = controlled
    readings, tells_load = known.readings(now)
    pv_kw = known.pv_kw(now)
    load_kw, phase_a = None, None
    if tells_load:
        load = _Load(known, readings, [*batteries, *cars], pv_kw, now, curtails=curtails)
        load_kw = load.kw()
        phase_a = load.phases()
    return PowerFlowInputs(
        house=house,
        timestamp=now,
        house_load_kw=load_kw,
        pv_kw=pv_kw,
        batteries=tuple(_battery_state(der, known, now, paused.get(der.der_id, "")) for der in batteries),
        cars=tuple(_ev_state(der, known, orders, switching, now, paused.get(der.der_id, "")) for der in cars),
        phase_a=phase_a,
    )


class _Load:
    """The house's own load, out of what its meters say."""

    def __init__(
        self,
        known: Known,
        readings: Sequence[MeterReading],
        controlled: Sequence[DerTelemetry],
        pv_kw: float,
        now: Instant,
        *,
        curtails: bool,
    ) -> None:
        self._readings = readings
        self._behind_meter = any(reading.measures == "grid" for reading in readings)
        fresh = [der for der in known.ders.values() if known.is_fresh(der.timestamp, now)]
        ours = {der.der_id for der in controlled}
        self._drawn = [der for der in fresh if der.der_id in ours or der.type == LOAD]
        # What a DER draws that does not obey is load like any other.
        self._stray = [der for der in fresh if der.der_id not in ours and der.type in (BATTERY, EV)]
        inverters = [der for der in fresh if der.type == PV]
        self._produced_kw = pv_kw
        if curtails and inverters:
            self._produced_kw = min(pv_kw, sum(der.current_output for der in inverters))

    def kw(self) -> float:
        """Never negative [kW]."""
        load_kw = sum(reading.power_w for reading in self._readings) / 1000
        if self._behind_meter:
            load_kw += self._produced_kw - sum(der.current_output for der in self._drawn)
        else:
            load_kw += sum(max(der.current_output, 0.0) for der in self._stray)
        return max(load_kw, 0.0)

    def phases(self) -> tuple[float, ...] | None:
        """On each phase, never negative [A]; None if a meter does not tell, or has neither 1 nor 3."""
        told = [reading.phase_a for reading in self._readings]
        first = told[0]
        if not isinstance(first, list) or len(first) not in (1, 3):
            return None
        n = len(first)
        amps = [0.0] * n
        for one in told:
            if not isinstance(one, list) or len(one) != n:
                return None
            amps = [total + value for total, value in zip(amps, one, strict=True)]
        if self._behind_meter:
            flows = [
                (self._produced_kw, None),
                *((-der.current_output, _phase_of(der)) for der in self._drawn),
            ]
        else:
            flows = [(max(der.current_output, 0.0), _phase_of(der)) for der in self._stray]
        for kw, phase in flows:
            for i in range(n):
                amps[i] += kw / KW_PER_A * _part(i, n, phase)
        return tuple(max(value, 0.0) for value in amps)


def _phase_of(der: DerTelemetry) -> int | None:
    """The one phase a DER is on; None: on all alike."""
    if isinstance(der.phase, int):
        return der.phase
    return 1 if der.type == EV and der.phases == 1 else None


def _part(i: int, n: int, phase: int | None) -> float:
    return 1 / n if phase is None or phase > n else float(phase == i + 1)


def _age_s(der: DerTelemetry, known: Known, now: Instant) -> float:
    return 0.0 if known.is_fresh(der.timestamp, now) else inf


def _battery_state(der: DerTelemetry, known: Known, now: Instant, paused: str) -> BatteryState:
    return BatteryState(
        der_id=der.der_id,
        soc_percent=der.current_soc,
        max_charge_kw=_or(der.max_charge_kw, der.nameplate_capacity),
        max_discharge_kw=_or(der.max_discharge_kw, der.nameplate_capacity),
        min_soc_percent=der.min_soc_percent,
        max_soc_percent=der.max_soc_percent,
        temperature_c=der.temperature_c,
        cycles_today=known.wear.cycles(der),
        phase=der.phase if isinstance(der.phase, int) else None,
        paused=paused,
        age_s=_age_s(der, known, now),
    )


def _ev_state(
    der: DerTelemetry, known: Known, orders: Orders, switching: Switching, now: Instant, paused: str
) -> EvState:
    plan = orders.ev_plan_of(der.der_id, now)
    departure_at, target_percent = der.departure_at, der.target_soc_percent
    if plan is not None:
        departure_at = plan.departure_at or departure_at
        target_percent = _or(plan.target_soc_percent, _or(target_percent, 100.0))
    charging, held_s = switching.of(der.der_id, now)
    return EvState(
        der_id=der.der_id,
        connected=bool(der.connected),
        soc_percent=der.current_soc,
        target_soc_percent=_or(target_percent, 100.0),
        capacity_kwh=_or(der.capacity_kwh, 0.0),
        departure_at=departure_at,
        max_charge_kw=der.max_charge_kw,
        min_current_a=der.min_current_a,
        max_current_a=der.max_current_a,
        phases=der.phases,
        phase=der.phase if isinstance(der.phase, int) else 1,
        charging=charging,
        held_s=held_s,
        paused=paused,
        age_s=_age_s(der, known, now),
    )


def constraints_of(limits: HouseLimits, orders: Orders) -> Constraints:
    """Physical and safety, as the settings and persons have them."""
    wishes = orders.wishes
    return Constraints(
        physical=PhysicalConstraints(
            max_grid_import_kw=limits.max_grid_import_kw,
            max_grid_export_kw=limits.max_grid_export_kw,
            fuse_a=limits.fuse_a,
        ),
        safety=SafetyConstraints(
            house_priority=limits.house_priority,
            max_battery_cycles_per_day=_or(
                wishes.max_battery_cycles_per_day, limits.max_battery_cycles_per_day
            ),
            max_battery_temp_c=limits.max_battery_temp_c,
            reserve_soc_percent=_or(wishes.reserve_soc_percent, limits.reserve_soc_percent),
            reserve_charge_kw=limits.reserve_charge_kw,
            stale_after_s=limits.reading_fresh_s,
            ev_hold_s=limits.ev_hold_s,
        ),
    )


def objectives_of(
    known: Known, orders: Orders, limits: HouseLimits, ders: Sequence[str], now: Instant
) -> EconomicObjectives:
    """Prices and plans that hold now, and what persons prefer."""
    wishes = orders.wishes
    threshold = (
        limits.arbitrage_threshold if wishes.arbitrage_threshold is None else wishes.arbitrage_threshold
    )
    price, sale, currency, demand_priced = None, None, None, False
    forecast = known.price
    if forecast is not None and (step := step_of(forecast, len(forecast.import_price), now)) is not None:
        price, currency = forecast.import_price[step], forecast.currency
        sale = forecast.export_price[step]
        demand_priced = forecast.demand_price[step] > 0
        if threshold is None:
            threshold = known.mean_price(forecast, step)
    planned_kw, grid_kw, ceiling_kw = {}, 0.0, 0.0
    for der_id in ders:
        if (found := known.schedule_of(der_id, now)) is not None:
            plan, step = found
            planned_kw[der_id] = plan.battery_power_kw[step]
            grid_kw = plan.grid_power_kw[step]
            ceiling_kw = plan.grid_ceiling_kw[step] if plan.grid_ceiling_kw else 0.0
    return EconomicObjectives(
        import_price=price,
        export_price=sale,
        arbitrage_threshold=threshold,
        currency=currency,
        prefer_self_consumption=(
            limits.prefer_self_consumption
            if wishes.prefer_self_consumption is None
            else wishes.prefer_self_consumption
        ),
        scheduled_kw=planned_kw,
        scheduled_grid_kw=grid_kw,
        grid_ceiling_kw=ceiling_kw,
        demand_priced=demand_priced,
    )


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
