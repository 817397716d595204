"""`compute_flows`: what a house's controllable power shall be, within the limits; pure.

Source: the power flow architecture document (three tiers; house first, then EV, then battery, then
export). Where its sample code leaves the balance or a limit, the balance and the limits win.
"""

from math import floor
from typing import NamedTuple

from contracts.instant import Instant
from contracts.messages import PowerSnapshot
from energy.ev import VOLTAGE_V
from orchestrator.errors import InputRangeError, PowerBalanceError
from orchestrator.limits import (
    BatteryState,
    Constraints,
    EconomicObjectives,
    EvState,
    PhysicalConstraints,
    PowerFlowInputs,
    Tier,
    Verdict,
)

URGENT = 0.8
"""Above this a car charges at full power and the battery pauses for it."""
CHEAP_SHARE = 0.8
"""Of the charging point's power, when electricity is cheap and there is no hurry."""
POWER_KW_MAX = 1e5
"""Up to here the balance holds to its tolerance."""
_TRIFLE_KW = 0.005
EMPTY_PERCENT = 0.5


class Flows(NamedTuple):
    """The snapshot, and why each DER got what it got."""

    snapshot: PowerSnapshot
    verdicts: list[Verdict]


def compute_flows(inputs: PowerFlowInputs, constraints: Constraints, objectives: EconomicObjectives) -> Flows:
    """Give the house its load, then the EV, then the battery theirs, then export or curtail the rest.

    Raises:
        InputRangeError: a load or a production no house has.
        PowerBalanceError: sources and sinks differ; the snapshot is in it.
    """
    for what, kw in (("load", inputs.house_load_kw), ("PV", inputs.pv_kw)):
        if not 0 <= kw <= POWER_KW_MAX:
            raise InputRangeError(f"{inputs.house}: a {what} of {kw:g} kW can't be: 0 to {POWER_KW_MAX:g} kW")
    verdicts: list[Verdict] = []
    ev_kw, urgency = 0.0, 0.0
    if inputs.ev is not None:
        verdict = _ev(inputs.ev, inputs, constraints.physical, objectives)
        verdicts.append(verdict)
        ev_kw, urgency = verdict.given_kw, verdict.urgency or 0.0
    battery_kw = 0.0
    if inputs.battery is not None:
        verdict = _battery(inputs.battery, inputs, ev_kw, urgency, constraints, objectives)
        verdicts.append(verdict)
        battery_kw = verdict.given_kw
    net_kw = inputs.house_load_kw + ev_kw + battery_kw - inputs.pv_kw
    surplus_kw = max(0.0, -net_kw)
    export_kw = min(surplus_kw, constraints.physical.max_grid_export_kw)
    snapshot = PowerSnapshot(
        house=inputs.house,
        timestamp=inputs.timestamp,
        pv_kw=inputs.pv_kw,
        house_load_kw=inputs.house_load_kw,
        battery_power_kw=battery_kw,
        ev_power_kw=ev_kw,
        grid_import_kw=max(0.0, net_kw),
        grid_export_kw=export_kw,
        curtailed_kw=surplus_kw - export_kw,
    )
    if not snapshot.verify_power_balance():
        raise PowerBalanceError(snapshot)
    return Flows(snapshot, verdicts)


def urgency_of(ev: EvState, now: Instant, max_charge_kw: float) -> float:
    """How pressed a car is, 0 (no rush) to 1 (must charge now).

    Source: power flow document, "EV Charging Logic": the rate needed over the rate possible.
    """
    if ev.departure_at is None or ev.soc_percent >= ev.target_soc_percent:
        return 0.0
    hours = ev.departure_at.seconds_since(now) / 3600
    if hours <= 0:
        return 1.0
    needed_kwh = (ev.target_soc_percent - ev.soc_percent) / 100 * ev.capacity_kwh
    return min(needed_kwh / hours / max_charge_kw, 1.0) if max_charge_kw > 0 else 1.0


def _ev(
    ev: EvState, inputs: PowerFlowInputs, physical: PhysicalConstraints, objectives: EconomicObjectives
) -> Verdict:
    most_kw = physical.evse_kw(physical.evse_max_current_a)
    urgency = urgency_of(ev, inputs.timestamp, most_kw)
    if not ev.connected:
        return _ev_verdict(
            ev, 0.0, 0.0, physical, "physical", "unplugged", urgency, "The car is not plugged in."
        )
    if ev.soc_percent >= ev.target_soc_percent:
        text = f"The car has its {ev.target_soc_percent:.0f} %."
        return _ev_verdict(ev, 0.0, 0.0, physical, "economic", "target reached", urgency, text)
    if urgency > URGENT:
        wish_kw, limit, text = most_kw, "departure", "The car leaves soon: it charges at full power."
    elif objectives.import_price is None or objectives.arbitrage_threshold is None:
        wish_kw, limit = physical.evse_kw(physical.evse_min_current_a), "no price"
        text = "No price is known and there is no hurry: the car charges at the least current."
    elif objectives.import_price < objectives.arbitrage_threshold:
        wish_kw, limit, text = most_kw * CHEAP_SHARE, "cheap price", "Electricity is cheap: the car charges."
    else:
        wish_kw, limit = physical.evse_kw(physical.evse_min_current_a), "dear price"
        text = "Electricity is dear and there is no hurry: the car charges at the least current."
    room_kw = max(physical.max_grid_import_kw + inputs.pv_kw - inputs.house_load_kw, 0.0)
    amps = whole_amps(min(wish_kw, room_kw), physical)
    wish_a = whole_amps(wish_kw, physical)
    if amps < wish_a:
        text = f"The main fuse leaves {room_kw:.1f} kW: the car gets {amps:.0f} A instead of {wish_a:.0f} A."
        return _ev_verdict(ev, wish_kw, amps, physical, "physical", "main fuse", urgency, text)
    return _ev_verdict(ev, wish_kw, amps, physical, "economic", limit, urgency, text)


def whole_amps(power_kw: float, physical: PhysicalConstraints) -> float:
    """The whole current a phase that draws at most `power_kw`: 0, or from the least to the most [A]."""
    amps = min(
        floor(power_kw * 1000 / (VOLTAGE_V * physical.phases) + 1e-9), floor(physical.evse_max_current_a)
    )
    return 0.0 if amps < physical.evse_min_current_a else float(amps)


def _ev_verdict(
    ev: EvState,
    asked_kw: float,
    amps: float,
    physical: PhysicalConstraints,
    tier: Tier,
    limit: str,
    urgency: float,
    sentence: str,
) -> Verdict:
    return Verdict(
        der_id=ev.der_id,
        asked_kw=asked_kw,
        given_kw=physical.evse_kw(amps),
        given_a=amps,
        tier=tier,
        limit=limit,
        sentence=sentence,
        alternative="" if amps == 0 else "pause the car",
        urgency=urgency,
    )


class _Bounds(NamedTuple):
    """What the battery may do, each bound with the name of what sets it."""

    least_kw: float
    least: tuple[Tier, str]
    most_kw: float
    most: tuple[Tier, str]


def _battery(
    battery: BatteryState,
    inputs: PowerFlowInputs,
    ev_kw: float,
    urgency: float,
    constraints: Constraints,
    objectives: EconomicObjectives,
) -> Verdict:
    deficit_kw = inputs.house_load_kw + ev_kw - inputs.pv_kw
    wish = _battery_wish(battery, deficit_kw, urgency, objectives)
    bounds = _battery_bounds(battery, deficit_kw, constraints, objectives)
    given_kw = min(max(wish.power_kw, bounds.least_kw), bounds.most_kw)
    tier: Tier = "economic"
    limit, text = wish.name, wish.does
    least_percent = constraints.safety.battery_min_soc_percent
    if abs(wish.power_kw) <= _TRIFLE_KW and battery.soc_percent <= least_percent + EMPTY_PERCENT:
        text = f"The battery is at its least, {least_percent:.0f} %: it waits for a better hour to charge."
    if abs(given_kw - wish.power_kw) > _TRIFLE_KW:
        tier, limit = bounds.least if given_kw > wish.power_kw else bounds.most
        text = f"{wish.would}, but {limit}: the battery {_does(given_kw)}."
    return Verdict(
        der_id=battery.der_id,
        asked_kw=wish.power_kw,
        given_kw=given_kw,
        given_a=None,
        tier=tier,
        limit=limit,
        sentence=text,
        alternative=f"rest, and take {max(deficit_kw, 0.0):.2f} kW from the grid"
        if abs(given_kw) > _TRIFLE_KW
        else "",
    )


class _Wish(NamedTuple):
    """What the battery should do if nothing stood in the way, and how that is said."""

    power_kw: float
    name: str
    does: str
    would: str


def _battery_wish(
    battery: BatteryState, deficit_kw: float, urgency: float, objectives: EconomicObjectives
) -> _Wish:
    if urgency > URGENT:
        text = "The battery rests while the car must charge"
        return _Wish(0.0, "urgent car", f"{text}.", text)
    planned_kw = objectives.scheduled_battery_kw
    surplus_kw = -deficit_kw
    price = (
        ""
        if objectives.import_price is None
        else f" at {objectives.import_price:g} {objectives.currency}/kWh"
    )
    exports = planned_kw is not None and objectives.scheduled_grid_kw < 0
    if surplus_kw > 0 and not exports and (planned_kw is None or -_TRIFLE_KW <= planned_kw < surplus_kw):
        would = f"{surplus_kw:.2f} kW of solar power is left over"
        return _Wish(
            surplus_kw, "solar surplus", f"The battery stores {surplus_kw:.2f} kW of solar power.", would
        )
    if planned_kw is None:
        text = f"There is no fresh plan: the battery covers the house's {deficit_kw:.2f} kW."
        would = f"There is no fresh plan and the house takes {deficit_kw:.2f} kW"
        return _Wish(-deficit_kw, "self-consumption", text, would)
    return _scheduled_wish(battery, deficit_kw, planned_kw, price, objectives)


def _scheduled_wish(
    battery: BatteryState, deficit_kw: float, planned_kw: float, price: str, objectives: EconomicObjectives
) -> _Wish:
    """What the plan asks for, given that the house takes another power than it foresaw.

    What is above the plan's purchase is dear, or sets a new peak: what the forecast missed, the battery makes
    up. At a low price without a demand charge that would waste what is stored.
    """
    grid_kw = objectives.scheduled_grid_kw
    ceiling_kw = grid_kw - deficit_kw
    if planned_kw < -_TRIFLE_KW:
        wish_kw = planned_kw if grid_kw < 0 else min(ceiling_kw, 0.0)
        text = f"The plan uses the battery now{price} ({battery.soc_percent:.0f} % full)."
        if wish_kw >= -_TRIFLE_KW:
            text = f"The house needs nothing from the battery now ({battery.soc_percent:.0f} % full)."
        return _Wish(wish_kw, "schedule", text, f"The plan would use the battery{price}")
    if objectives.demand_priced and grid_kw >= 0 and ceiling_kw < planned_kw - _TRIFLE_KW:
        text = f"The battery keeps the grid at the planned {grid_kw:.2f} kW, for no new peak."
        return _Wish(ceiling_kw, "planned peak", text, f"The plan would take {grid_kw:.2f} kW from the grid")
    if planned_kw > _TRIFLE_KW:
        text = f"The plan charges the battery now{price}."
        return _Wish(planned_kw, "schedule", text, f"The plan would charge the battery{price}")
    text = f"The plan keeps the battery's energy for later{price}"
    return _Wish(planned_kw, "schedule", f"{text}.", text)


def _battery_bounds(
    battery: BatteryState, deficit_kw: float, constraints: Constraints, objectives: EconomicObjectives
) -> _Bounds:
    """Physical, then safety, then economic: each only narrows what the ones before left."""
    physical, safety = constraints.physical, constraints.safety
    least_kw, most_kw = -physical.max_battery_discharge_kw, physical.max_battery_charge_kw
    least: tuple[Tier, str] = ("physical", "it can't discharge faster")
    most: tuple[Tier, str] = ("physical", "it can't charge faster")
    if (fuse_kw := physical.max_grid_import_kw - deficit_kw) < most_kw:
        # Below zero the battery must discharge to keep the fuse: as much as it can.
        most_kw, most = max(fuse_kw, least_kw), ("physical", "the main fuse carries no more")
    if battery.soc_percent <= safety.battery_min_soc_percent and least_kw < 0:
        least_kw, least = 0.0, ("safety", f"{safety.battery_min_soc_percent:.0f} % is the least it may hold")
        most_kw = max(most_kw, 0.0)
    if battery.soc_percent >= safety.battery_max_soc_percent and most_kw > 0:
        most_kw, most = 0.0, ("safety", f"{safety.battery_max_soc_percent:.0f} % is the most it may hold")
        least_kw = min(least_kw, 0.0)
    # What the house does not need would flow into the grid: allowed if the plan means it.
    spill_kw = physical.max_grid_export_kw if objectives.scheduled_grid_kw < 0 else 0.0
    floor_kw = min(-deficit_kw - spill_kw, 0.0)
    if floor_kw > least_kw:
        least_kw, least = min(floor_kw, most_kw), ("economic", "the house needs no more")
    return _Bounds(least_kw, least, most_kw, most)


def _does(power_kw: float) -> str:
    if abs(power_kw) <= _TRIFLE_KW:
        return "rests"
    return f"{'charges' if power_kw > 0 else 'discharges'} with {abs(power_kw):.2f} kW"
