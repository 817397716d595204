"""What persons want of a house, and what of it is in force; base and units are `contracts.messages`' own."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from contracts.ids import Id
from contracts.instant import Instant
from contracts.messages import Message, Percent, PricePerKwh

REQUEST_LIFE_S = 300.0
"""A person's request that has waited for longer is not carried out any more."""


class ObjectivesChange(Message, frozen=True, kw_only=True):
    """What a house shall do otherwise than its settings say; null goes back to them, what is absent stays."""

    prefer_self_consumption: bool | UnsetType | None = UNSET
    """Store solar power before it is sold."""
    arbitrage_threshold: PricePerKwh | UnsetType | None = UNSET
    """Below this price electricity counts as cheap."""
    reserve_soc_percent: Percent | UnsetType | None = UNSET
    """Below this charge a battery fills up first."""
    max_battery_cycles_per_day: Annotated[float, Meta(ge=0, le=100)] | UnsetType | None = UNSET


class OperatorRequest(Message, frozen=True, kw_only=True):
    """What a person wants of a house; the orchestrator turns it into commands, or says why not.

    pause: no economic dispatch, until resume. safe: everything rests, until release. ev_plan: when a car
    leaves, and how full. objectives: others than the settings'. The same `request_id` again changes nothing.
    """

    house: Id
    user: Id
    request_id: Id
    issued_at: Instant
    action: Literal["pause", "resume", "safe", "release", "ev_plan", "objectives"]
    der_id: Id | None = None
    """One battery or car; absent: all of the house."""
    until: Instant | None = None
    """When it ends by itself; absent: not before it is taken back."""
    departure_at: Instant | None = None
    target_soc_percent: Percent | None = None
    objectives: ObjectivesChange | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""

    @property
    def valid_until(self) -> Instant:
        """When it is too late to carry it out."""
        return self.issued_at.after(REQUEST_LIFE_S)


class HeldDer(msgspec.Struct, frozen=True, kw_only=True):
    """What a person has stopped."""

    der_id: Id | None = None
    """None: all of the house."""
    mode: Literal["pause", "safe"]
    user: Id
    until: Instant | None = None


class CarPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a person has said of a car, in place of what its telemetry says."""

    der_id: Id | None = None
    """None: all cars of the house."""
    until: Instant
    departure_at: Instant | None = None
    target_soc_percent: Percent | None = None


class StandingOrders(Message, frozen=True, kw_only=True):
    """What persons have ordered of a house and is in force, as the orchestrator keeps it."""

    house: Id
    issued_at: Instant
    held: list[HeldDer] = msgspec.field(default_factory=list)
    car_plans: list[CarPlan] = msgspec.field(default_factory=list)

    def holds(self, der_id: str, now: Instant) -> bool:
        """Whether a DER is stopped at this instant."""
        return any(
            held.der_id in (None, der_id) and (held.until is None or now < held.until) for held in self.held
        )

    def car_plan(self, der_id: str, now: Instant) -> CarPlan | None:
        """What was said of a car; of it alone before what was said of all."""
        plans = [plan for plan in self.car_plans if plan.der_id in (None, der_id) and now < plan.until]
        return min(plans, key=lambda plan: plan.der_id is None, default=None)
