"""What persons have ordered of a house: requests judged, and what of them is in force. Pure."""

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET

from contracts.ids import Id
from contracts.instant import Instant
from contracts.orders import CarPlan, HeldDer, ObjectivesChange, OperatorRequest, StandingOrders

CLOCK_SKEW_S = 30.0
"""A request from further in the future means that a clock is wrong, or somebody."""
SEEN_MAX = 1000
"""So many requests of a house are known again."""
USERS_MAX = 100
PAST_DEPARTURE_S = 3600.0
"""A car that is still there after its departure goes on hurrying for so long."""
WITHOUT_DEPARTURE_S = 86400.0
HOUSE = ""
"""Stands for all DERs of a house, where a DER's id stands otherwise."""


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """What a person has stopped."""

    mode: Literal["pause", "safe"]
    user: Id
    since: Instant
    until: Instant | None = None
    reason: str = ""


class EvPlan(msgspec.Struct, frozen=True, kw_only=True):
    """When a car leaves and how full, as a person has said."""

    user: Id
    since: Instant
    until: Instant
    """From then on the car's own telemetry counts again."""
    departure_at: Instant | None = None
    target_soc_percent: float | None = None


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """The objectives a person has set; None: as the settings have it."""

    prefer_self_consumption: bool | None = None
    arbitrage_threshold: float | None = None
    reserve_soc_percent: float | None = None
    max_battery_cycles_per_day: float | None = None
    until: Instant | None = None


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """All that is in force in one house; kept across restarts."""

    holds: dict[str, Hold] = {}
    """By DER, or `HOUSE`."""
    ev_plans: dict[str, EvPlan] = {}
    wishes: Wishes = Wishes()
    seen: list[str] = []
    """The last requests carried out, so that none is carried out twice."""
    newest: dict[str, Instant] = {}
    """When each user's last one was issued: an older one that comes after it changes nothing."""

    def hold_on(self, der_id: str, now: Instant) -> Hold | None:
        """What stops a DER: the house's or its own hold, the stricter of the two."""
        found = [
            hold
            for key in (HOUSE, der_id)
            if (hold := self.holds.get(key)) is not None and not _is_over(hold.until, now)
        ]
        return max(found, key=lambda hold: hold.mode == "safe", default=None)

    def ev_plan_of(self, der_id: str, now: Instant) -> EvPlan | None:
        """What was said of a car, or of all of them."""
        plan = self.ev_plans.get(der_id) or self.ev_plans.get(HOUSE)
        return None if plan is None or _is_over(plan.until, now) else plan


def standing(house: str, orders: Orders, now: Instant) -> StandingOrders:
    """The message that tells the others what is in force."""
    return StandingOrders(
        house=house,
        issued_at=now,
        held=[
            HeldDer(der_id=key or None, mode=hold.mode, user=hold.user, until=hold.until)
            for key, hold in orders.holds.items()
        ],
        car_plans=[
            CarPlan(
                der_id=key or None,
                until=plan.until,
                departure_at=plan.departure_at,
                target_soc_percent=plan.target_soc_percent,
            )
            for key, plan in orders.ev_plans.items()
        ],
    )


class Done(NamedTuple):
    """A request that is carried out."""

    orders: Orders
    sentence: str


class Repeated(NamedTuple):
    """A request that was carried out before."""

    sentence: str


class Refused(NamedTuple):
    """A request that is not carried out, and why."""

    reason: str


Answer = Done | Repeated | Refused


def judge(
    orders: Orders, request: OperatorRequest, now: Instant, ders: Mapping[str, str], zone: ZoneInfo
) -> Answer:
    """What becomes of a request.

    Args:
        orders: what is in force.
        request: what is wanted.
        now: the time.
        ders: the DERs heard of and their types.
        zone: the place's clocks, for what people read.
    """
    key = f"{request.user}/{request.request_id}"
    if key in orders.seen:
        return Repeated(f"{request.house}: request {request.request_id} was carried out before")
    if (reason := _untimely(orders, request, now) or _senseless(request, now, ders)) is not None:
        return Refused(f"{request.house}: {request.action} by {request.user} is refused: {reason}")
    changed = _carried_out(orders, request, now)
    seen = [*orders.seen, key][-SEEN_MAX:]
    others = [(user, at) for user, at in orders.newest.items() if user != request.user]
    newest = dict([*others, (request.user, request.issued_at)][-USERS_MAX:])
    return Done(msgspec.structs.replace(changed, seen=seen, newest=newest), _sentence(request, zone))


def lapse(orders: Orders, now: Instant) -> tuple[Orders, list[str]]:
    """What is still in force, and what has ended, in words."""
    if not orders.seen:
        return orders, []
    over = [key for key, hold in orders.holds.items() if _is_over(hold.until, now)]
    plans = [key for key, plan in orders.ev_plans.items() if _is_over(plan.until, now)]
    wishes_over = _is_over(orders.wishes.until, now)
    if not (over or plans or wishes_over):
        return orders, []
    told = [f"the {orders.holds[key].mode} of {key or 'the house'} is over" for key in over]
    told += [f"what was said of {key or 'the cars'} is over" for key in plans]
    told += ["the objectives are those of the settings again"] if wishes_over else []
    return (
        msgspec.structs.replace(
            orders,
            holds={key: hold for key, hold in orders.holds.items() if key not in over},
            ev_plans={key: plan for key, plan in orders.ev_plans.items() if key not in plans},
            wishes=Wishes() if wishes_over else orders.wishes,
        ),
        told,
    )


def _is_over(until: Instant | None, now: Instant) -> bool:
    return until is not None and until <= now


def _untimely(orders: Orders, request: OperatorRequest, now: Instant) -> str | None:
    if request.issued_at.seconds_since(now) > CLOCK_SKEW_S:
        return f"it was issued at {request.issued_at}, and it is {now}: a clock is wrong"
    if request.valid_until <= now:
        return f"it was issued at {request.issued_at}, and it is {now}: too long ago"
    newest = orders.newest.get(request.user)
    if newest is not None and request.issued_at < newest and request.action != "safe":
        return f"a later one, of {newest}, has been carried out, and this one is of {request.issued_at}"
    if _is_over(request.until, now):
        return f"it ends at {request.until}, and it is {now}"
    return None


def _senseless(request: OperatorRequest, now: Instant, ders: Mapping[str, str]) -> str | None:
    der_id = request.der_id
    if der_id is not None and der_id not in ders:
        return f"{request.house} has no DER {der_id}: it has {', '.join(sorted(ders)) or 'none'}"
    match request.action:
        case "pause" | "safe":
            return None
        case "resume" | "release":
            return None if request.until is None else f"{request.action} has no end: leave until out"
        case "ev_plan":
            return _senseless_plan(request, now, ders)
        case "objectives":
            if der_id is not None:
                return "objectives are a house's: leave der_id out"
            return None if request.objectives is not None else "it says no objectives"


def _senseless_plan(request: OperatorRequest, now: Instant, ders: Mapping[str, str]) -> str | None:
    if request.departure_at is None and request.target_soc_percent is None:
        return "it says neither departure_at nor target_soc_percent"
    if _is_over(request.departure_at, now):
        return f"departure at {request.departure_at}, and it is {now}"
    if request.der_id is not None and ders[request.der_id] != "electric_vehicle":
        return f"{request.der_id} is no car"
    return None


def _carried_out(orders: Orders, request: OperatorRequest, now: Instant) -> Orders:
    key = request.der_id or HOUSE
    match request.action:
        case "pause" | "safe":
            hold = Hold(
                mode=request.action, user=request.user, since=now, until=request.until, reason=request.reason
            )
            return msgspec.structs.replace(orders, holds={**orders.holds, key: hold})
        case "resume" | "release":
            return msgspec.structs.replace(orders, holds=_released(orders.holds, key, request.action))
        case "ev_plan":
            plan = EvPlan(
                user=request.user,
                since=now,
                until=_plan_until(request, now),
                departure_at=request.departure_at,
                target_soc_percent=request.target_soc_percent,
            )
            # What is said of all cars takes the place of what was said of one.
            others = {} if key == HOUSE else orders.ev_plans
            return msgspec.structs.replace(orders, ev_plans={**others, key: plan})
        case "objectives":
            wishes = _changed(orders.wishes, request.objectives or ObjectivesChange())
            return msgspec.structs.replace(
                orders, wishes=msgspec.structs.replace(wishes, until=request.until)
            )


def _released(holds: Mapping[str, Hold], key: str, action: str) -> dict[str, Hold]:
    """The holds that are left; without a DER's name, all of the kind are taken back."""
    mode = "pause" if action == "resume" else "safe"
    return {k: hold for k, hold in holds.items() if hold.mode != mode or key not in (HOUSE, k)}


def _plan_until(request: OperatorRequest, now: Instant) -> Instant:
    if request.until is not None:
        return request.until
    if request.departure_at is not None:
        return request.departure_at.after(PAST_DEPARTURE_S)
    return now.after(WITHOUT_DEPARTURE_S)


def _changed(wishes: Wishes, change: ObjectivesChange) -> Wishes:
    told = {name: value for name in change.__struct_fields__ if (value := getattr(change, name)) is not UNSET}
    return msgspec.structs.replace(wishes, **told)


def _sentence(request: OperatorRequest, zone: ZoneInfo) -> str:
    what = f"{request.house}/{request.der_id}" if request.der_id else request.house
    until = f" until {_local(request.until, zone)}" if request.until is not None else ""
    why = f" ({request.reason})" if request.reason else ""
    done = {
        "pause": "paused",
        "resume": "resumed",
        "safe": "put into its safe state",
        "release": "released from its safe state",
        "ev_plan": f"told {_plan_words(request, zone)}",
        "objectives": f"given other objectives ({_change_words(request.objectives)})",
    }[request.action]
    return f"{what}: {done} by {request.user}{until}{why}"


def _plan_words(request: OperatorRequest, zone: ZoneInfo) -> str:
    leaves = "" if request.departure_at is None else f"a departure at {_local(request.departure_at, zone)}"
    full = "" if request.target_soc_percent is None else f"a target of {request.target_soc_percent:.0f} %"
    return " and ".join(filter(None, (leaves, full)))


def _change_words(change: ObjectivesChange | None) -> str:
    fields: Collection[str] = () if change is None else change.__struct_fields__
    told = {name: value for name in fields if (value := getattr(change, name)) is not UNSET}
    return ", ".join(
        f"{name} {'as in the settings' if value is None else value}" for name, value in told.items()
    )


def _local(moment: Instant, zone: ZoneInfo) -> str:
    return f"{moment.local(zone):%Y-%m-%d %H:%M %Z}"
