"""What the HTTP API says of a house: made from what the control loop knows."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from contracts.instant import Instant
from contracts.messages import Decision, DerTelemetry, PowerSnapshot
from orchestrator.alarms import Trouble
from orchestrator.devices import DerState, Link
from orchestrator.limits import PhysicalConstraints, SafetyConstraints
from orchestrator.model import HouseModel
from orchestrator.requests import EvPlan, Hold


class SnapshotView(msgspec.Struct, frozen=True, kw_only=True):
    """The house at its last tick; grid + pv - curtailed = load + ev + battery, as it was commanded."""

    house: str
    timestamp: datetime
    pv_kw: float
    house_load_kw: float
    battery_power_kw: Annotated[float, Meta(description="+ charging / - discharging")]
    ev_power_kw: float
    grid_import_kw: float
    grid_export_kw: float
    curtailed_kw: float


class DecisionView(msgspec.Struct, frozen=True, kw_only=True):
    """What one DER was told at the last tick, and why."""

    der_id: str
    timestamp: datetime
    tier: str
    limit: str
    asked_kw: float
    given_kw: float
    import_price: float | None
    currency: str | None
    urgency: float | None
    alternative: str
    sentence: str


class ConstraintsView(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that hold: physical, then safety."""

    physical: PhysicalConstraints
    safety: SafetyConstraints


class WishesView(msgspec.Struct, frozen=True, kw_only=True):
    """The objectives that persons have set."""

    prefer_self_consumption: bool | None
    arbitrage_threshold: float | None
    reserve_soc_percent: float | None
    max_battery_cycles_per_day: float | None
    until: datetime | None


class ObjectivesView(msgspec.Struct, frozen=True, kw_only=True):
    """What is worth doing now, and what persons have set."""

    import_price: float | None
    export_price: float | None
    currency: str | None
    prefer_self_consumption: bool
    arbitrage_threshold: float | None
    demand_priced: bool
    scheduled_kw: Annotated[dict[str, float], Meta(description="the fresh plans' wishes, by DER")]
    reserve_soc_percent: float
    max_battery_cycles_per_day: float
    set_by_persons: Annotated[WishesView, Meta(description="null: as in the settings")]


class HoldView(msgspec.Struct, frozen=True, kw_only=True):
    """What a person has stopped."""

    der_id: Annotated[str | None, Meta(description="null: the whole house")]
    mode: str
    user: str
    since: datetime
    until: datetime | None
    reason: str


class EvPlanView(msgspec.Struct, frozen=True, kw_only=True):
    """What a person has said of a car."""

    der_id: Annotated[str | None, Meta(description="null: all cars of the house")]
    user: str
    departure_at: datetime | None
    target_soc_percent: float | None
    until: datetime


class DerView(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with one DER."""

    der_id: str
    type: str
    state: DerState
    heard_at: datetime
    following: Annotated[str, Meta(description="command, or its own safe state")]
    power_kw: float
    soc_percent: float | None
    commanded_kw: float | None
    last_result: Annotated[str, Meta(description="accepted, rejected, expired, unanswered; empty: none yet")]
    last_reason: str
    answered_at: datetime | None
    misses: Annotated[int, Meta(description="commands in a row without an answer, or refused")]


class TroubleView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong, and was alerted."""

    name: str
    severity: str
    text: str
    since: datetime


class HouseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Counters, DERs, orders and troubles of a house."""

    house: str
    decided_at: datetime | None
    violations: int
    balance_errors: int
    ders: list[DerView]
    holds: list[HoldView]
    ev_plans: list[EvPlanView]
    troubles: list[TroubleView]


def plain(moment: Instant) -> datetime:
    """The same moment as a plain datetime, which msgspec writes without a hook."""
    return datetime.combine(moment.date(), moment.timetz())


def _at(moment: Instant | None) -> datetime | None:
    return None if moment is None else plain(moment)


def snapshot_view(snapshot: PowerSnapshot) -> SnapshotView:
    """A snapshot as the API shows it."""
    return msgspec.convert(_shown(snapshot), SnapshotView)


def decision_view(decision: Decision) -> DecisionView:
    """A decision as the API shows it."""
    return msgspec.convert(_shown(decision), DecisionView)


def _shown(message: PowerSnapshot | Decision) -> dict[str, object]:
    return {**msgspec.structs.asdict(message), "timestamp": plain(message.timestamp)}


def constraints_view(house: HouseModel) -> ConstraintsView:
    """The limits of a house, with what persons have set."""
    return ConstraintsView(physical=house.constraints.physical, safety=house.constraints.safety)


def objectives_view(house: HouseModel, now: Instant) -> ObjectivesView:
    """A house's objectives now."""
    objectives, safety, wishes = house.objectives(now), house.constraints.safety, house.orders.wishes
    return ObjectivesView(
        import_price=objectives.import_price,
        export_price=objectives.export_price,
        currency=objectives.currency,
        prefer_self_consumption=objectives.prefer_self_consumption,
        arbitrage_threshold=objectives.arbitrage_threshold,
        demand_priced=objectives.demand_priced,
        scheduled_kw=dict(objectives.scheduled_kw),
        reserve_soc_percent=safety.reserve_soc_percent,
        max_battery_cycles_per_day=safety.max_battery_cycles_per_day,
        set_by_persons=WishesView(
            prefer_self_consumption=wishes.prefer_self_consumption,
            arbitrage_threshold=wishes.arbitrage_threshold,
            reserve_soc_percent=wishes.reserve_soc_percent,
            max_battery_cycles_per_day=wishes.max_battery_cycles_per_day,
            until=_at(wishes.until),
        ),
    )


def house_status(house: HouseModel, troubles: list[tuple[Trouble, Instant]], now: Instant) -> HouseStatus:
    """How it stands with a house."""
    orders, last = house.orders, house.last
    given = {} if last is None else {decision.der_id: decision.given_kw for decision in last.decisions}
    return HouseStatus(
        house=house.house,
        decided_at=_at(house.decided_at),
        violations=house.violations,
        balance_errors=house.balance_errors,
        ders=[_der_view(house, der, given.get(der_id), now) for der_id, der in house.known.ders.items()],
        holds=[_hold_view(der_id, hold) for der_id, hold in orders.holds.items()],
        ev_plans=[_ev_plan_view(der_id, plan) for der_id, plan in orders.ev_plans.items()],
        troubles=[
            TroubleView(name=trouble.name, severity=trouble.severity, text=trouble.text, since=plain(since))
            for trouble, since in troubles
        ],
    )


def _der_view(house: HouseModel, der: DerTelemetry, given_kw: float | None, now: Instant) -> DerView:
    link = house.links.get(der.der_id) or Link()
    return DerView(
        der_id=der.der_id,
        type=der.type,
        state=house.state_of(der, now),
        heard_at=plain(der.timestamp),
        following=der.following,
        power_kw=der.current_output,
        soc_percent=der.current_soc,
        commanded_kw=given_kw,
        last_result=link.result,
        last_reason=link.why,
        answered_at=_at(link.answered_at),
        misses=link.misses,
    )


def _hold_view(der_id: str, hold: Hold) -> HoldView:
    return HoldView(
        der_id=der_id or None,
        mode=hold.mode,
        user=hold.user,
        since=plain(hold.since),
        until=_at(hold.until),
        reason=hold.reason,
    )


def _ev_plan_view(der_id: str, plan: EvPlan) -> EvPlanView:
    return EvPlanView(
        der_id=der_id or None,
        user=plan.user,
        departure_at=_at(plan.departure_at),
        target_soc_percent=plan.target_soc_percent,
        until=plain(plan.until),
    )
