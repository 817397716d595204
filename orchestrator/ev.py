"""What the cars shall get: the wish of each by urgency, plan and price, then what the fuse leaves; pure.

Source: the power flow architecture document, "EV Charging Logic"; IEC 61851-1 for the currents.
"""

from math import ceil, floor

import msgspec

from contracts.instant import Instant
from energy.ev import MIN_CURRENT_A
from orchestrator.connection import Connection
from orchestrator.limits import (
    KW_PER_A,
    Constraints,
    EconomicObjectives,
    EvState,
    PhysicalConstraints,
    Tier,
    Verdict,
)

URGENT = 0.8
"""Above this a car charges at full power and the batteries pause for it."""
CHEAP_SHARE = 0.8
"""Of the charging point's power, when electricity is cheap and there is no hurry."""
_ROUNDING = 1e-9


class ChargePoint(msgspec.Struct, frozen=True, gc=False):
    """What a charging point and the car at it can do, in whole amperes a phase."""

    least_a: int
    most_a: int
    """Below `least_a`: it can't charge at all."""
    offer_a: int
    """What the point alone gives."""
    most_kw: float
    """What really flows at most: the lower of the point's and the car's power."""
    phases: int
    phase: int | None

    def kw(self, amps: float) -> float:
        """Power at a current [kW]."""
        return amps * KW_PER_A * self.phases


def charge_point_of(ev: EvState, physical: PhysicalConstraints) -> ChargePoint:
    """What binds a car: its charging point, or what the house says of them, and its own charger."""
    phases = ev.phases or physical.phases
    phase_kw = KW_PER_A * phases
    low_a = physical.evse_min_current_a if ev.min_current_a is None else ev.min_current_a
    high_a = physical.evse_max_current_a if ev.max_current_a is None else ev.max_current_a
    least_a = max(MIN_CURRENT_A, ceil(low_a))
    most_a = offer_a = floor(high_a)
    most_kw = offer_a * phase_kw
    if ev.max_charge_kw is not None and ev.max_charge_kw < most_kw:
        # A car takes what it can of the current on offer: it is not offered more than that needs.
        most_kw = ev.max_charge_kw
        most_a = min(most_a, max(least_a, ceil(most_kw / phase_kw - _ROUNDING)))
    return ChargePoint(least_a, most_a, offer_a, most_kw, phases, ev.phase if phases == 1 else None)


def whole_amps(power_kw: float, point: ChargePoint) -> int:
    """The whole current a phase that draws at most `power_kw`: 0, or from the least to the most [A]."""
    amps = min(floor(power_kw / (KW_PER_A * point.phases) + _ROUNDING), point.most_a)
    return 0 if amps < point.least_a else amps


def urgency_of(ev: EvState, now: Instant, max_charge_kw: float) -> float:
    """How pressed a car is, 0 (no rush) to 1 (must charge now).

    Source: power flow document, `calculate_urgency`: the rate needed over the rate possible.
    """
    soc_percent = ev.soc_percent or 0.0
    if ev.departure_at is None or soc_percent >= ev.target_soc_percent:
        return 0.0
    hours = ev.departure_at.seconds_since(now) / 3600
    if hours <= 0:
        return 1.0
    needed_kwh = (ev.target_soc_percent - soc_percent) / 100 * ev.capacity_kwh
    return min(needed_kwh / hours / max_charge_kw, 1.0) if max_charge_kw > 0 else 1.0


class Demand(msgspec.Struct, frozen=True, gc=False):
    """What a car would get if the connection carried everything."""

    ev: EvState
    point: ChargePoint
    amps: int
    urgency: float
    tier: Tier
    limit: str
    sentence: str
    alternative: str

    @property
    def urgent(self) -> bool:
        """Whether batteries pause for it."""
        return self.urgency > URGENT and self.amps > 0

    @property
    def rank(self) -> tuple[float, bool, str]:
        """Its place in the queue; of two as urgent the one that charges goes on, lest they alternate."""
        return (-round(self.urgency, 1), not self.ev.charging, self.ev.der_id)


def demand_of(ev: EvState, now: Instant, constraints: Constraints, objectives: EconomicObjectives) -> Demand:
    """A car's wish, by what holds first: can it charge, is it done, does it hurry, the plan, the price."""
    point = charge_point_of(ev, constraints.physical)
    target_percent = (
        ev.target_soc_percent
        if objectives.ev_target_soc_percent is None
        else objectives.ev_target_soc_percent
    )
    if (off := _off(ev, point, target_percent, constraints)) is not None:
        return Demand(ev, point, 0, 0.0, *off, "")
    asked = ev
    if objectives.ev_departure_at is not None or objectives.ev_target_soc_percent is not None:
        asked = EvState(
            der_id=ev.der_id,
            connected=True,
            soc_percent=ev.soc_percent,
            target_soc_percent=target_percent,
            capacity_kwh=ev.capacity_kwh,
            departure_at=objectives.ev_departure_at or ev.departure_at,
        )
    urgency = urgency_of(asked, now, point.most_kw)
    amps, limit, sentence, alternative = _wish(ev, point, urgency, objectives)
    tier: Tier = "economic"
    if ev.held_s < constraints.safety.ev_hold_s and bool(amps) is not ev.charging:
        minutes = constraints.safety.ev_hold_s / 60
        tier, limit = "safety", "switching"
        alternative = "pause the car" if ev.charging else f"charge with {amps} A"
        does = "on" if ev.charging else "off"
        sentence = f"The car was switched {does} a moment ago: it stays {does} for {minutes:g} min."
        amps = point.least_a if ev.charging else 0
    return Demand(ev, point, amps, urgency, tier, limit, sentence, alternative)


def _off(
    ev: EvState, point: ChargePoint, target_percent: float, constraints: Constraints
) -> tuple[Tier, str, str] | None:
    """Why a car does not charge whatever the price; None: it may."""
    if ev.age_s > constraints.safety.stale_after_s:
        return "safety", "stale telemetry", "The car has not been heard of lately: it does not charge."
    if not ev.connected:
        return "physical", "unplugged", "The car is not plugged in."
    if point.most_a < point.least_a:
        text = f"The charging point carries less than the {point.least_a} A a car needs: it does not charge."
        return "physical", "charging point", text
    if ev.soc_percent is not None and ev.soc_percent >= target_percent:
        return "economic", "target reached", f"The car has its {target_percent:.0f} %."
    return None


def _wish(
    ev: EvState, point: ChargePoint, urgency: float, objectives: EconomicObjectives
) -> tuple[int, str, str, str]:
    """Amperes, what decided, the sentence, and the next best."""
    price, threshold = objectives.import_price, objectives.arbitrage_threshold
    planned_kw = objectives.scheduled_kw.get(ev.der_id)
    if ev.paused:
        text = f"{ev.paused[0].upper()}{ev.paused[1:]}: the car charges at the least current."
        return point.least_a, "paused", text, f"charge with {point.most_a} A"
    if urgency > URGENT:
        text = "The car leaves soon: it charges at full power."
        return point.most_a, "departure", text, "charge slower, and leave with less"
    if planned_kw is not None:
        amps = _nearest(planned_kw, point)
        if amps == 0:
            return 0, "schedule", "The plan charges the car later.", f"charge with {point.least_a} A"
        return amps, "schedule", f"The plan charges the car now with {amps} A.", "pause the car"
    if price is None or threshold is None:
        text = "No price is known and there is no hurry: the car charges at the least current."
        return point.least_a, "no price", text, "pause the car"
    if price < 0:
        text = "Using electricity is paid for: the car charges at full power."
        return point.most_a, "negative price", text, f"charge with {point.least_a} A"
    if price < threshold:
        amps = min(max(floor(point.offer_a * CHEAP_SHARE + _ROUNDING), point.least_a), point.most_a)
        return amps, "cheap price", "Electricity is cheap: the car charges.", f"charge with {point.least_a} A"
    text = "Electricity is dear and there is no hurry: the car charges at the least current."
    return point.least_a, "dear price", text, "pause the car"


def _nearest(planned_kw: float, point: ChargePoint) -> int:
    """The whole current next to a planned power: floor would fall behind the plan."""
    amps = round(planned_kw / (KW_PER_A * point.phases))
    if amps < point.least_a:
        return point.least_a if 2 * amps >= point.least_a else 0
    return min(amps, point.most_a)


def charge(demands: list[Demand], connection: Connection, price: float | None) -> list[Verdict]:
    """Give the cars what the connection carries, the most urgent first; in the order they came in."""
    if len(demands) == 1:
        return [_given(demands[0], connection, price)]
    queue = sorted(range(len(demands)), key=lambda i: demands[i].rank)
    given = {i: _given(demands[i], connection, price) for i in queue}
    return [given[i] for i in range(len(demands))]


def _given(demand: Demand, connection: Connection, price: float | None) -> Verdict:
    point, amps = demand.point, demand.amps
    tier, limit, sentence, alternative = demand.tier, demand.limit, demand.sentence, demand.alternative
    if amps:
        room_kw = connection.room_for_kw(point.phase)
        amps = min(amps, whole_amps(room_kw, point))
        if amps < demand.amps:
            tier, limit = "physical", connection.tightest(point.phase)
            sentence = (
                f"The {limit} leaves {max(room_kw, 0.0):.1f} kW: "
                f"the car gets {amps} A instead of {demand.amps} A."
            )
            alternative = f"charge with {demand.amps} A once the house takes less"
        connection.take(point.kw(amps), point.phase)
    return Verdict(
        der_id=demand.ev.der_id,
        asked_kw=point.kw(demand.amps),
        given_kw=point.kw(amps),
        given_a=float(amps),
        tier=tier,
        limit=limit,
        sentence=sentence,
        alternative=alternative,
        import_price=price,
        urgency=demand.urgency,
    )
