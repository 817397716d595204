"""What each battery shall do: the house's wish shared among them, within the limits of each; pure."""

import msgspec

from contracts.messages import FlowKw
from orchestrator.connection import Connection
from orchestrator.economy import TRIFLE_KW, Scene, Wish, wish_of
from orchestrator.limits import (
    POWER_KW_MAX,
    BatteryState,
    Constraints,
    EconomicObjectives,
    Tier,
    Verdict,
)

RESERVE_BAND_PERCENT = 1.0
"""Above its reserve a battery rests so far, lest it charges and discharges by turns."""

Reason = tuple[Tier, str]


class Bounds(msgspec.Struct, frozen=True, gc=False):
    """What one battery may do, each bound with what sets it."""

    battery: BatteryState
    planned_kw: float | None
    protect_kw: float
    """How far it may discharge for the fuse's sake, 0 or less."""
    least_kw: float
    """How far for the money's sake."""
    least: Reason
    reserve_kw: float
    """What it charges with at least, to come back to its reserve."""
    most_kw: float
    most: Reason
    rated_kw: float
    """What it charges with when nothing stands in the way."""


def bounds_of(battery: BatteryState, constraints: Constraints, objectives: EconomicObjectives) -> Bounds:
    """Physical, then safety: each only narrows what the one before left."""
    physical, safety = constraints.physical, constraints.safety
    rated_kw = _first(battery.max_charge_kw, physical.max_battery_charge_kw)
    least_kw = -_first(battery.max_discharge_kw, physical.max_battery_discharge_kw)
    planned_kw = objectives.scheduled_kw.get(battery.der_id)
    soc_percent = battery.soc_percent
    reason = _unsafe(battery, constraints)
    if soc_percent is None or reason is not None:
        reason = reason or ("safety", "its charge is not known")
        return Bounds(battery, planned_kw, 0.0, 0.0, reason, 0.0, 0.0, reason, rated_kw)
    most_kw, reserve_kw = rated_kw, 0.0
    least: Reason = ("physical", "it can't discharge faster")
    most: Reason = ("physical", "it can't charge faster")
    low_percent = _first(battery.min_soc_percent, safety.battery_min_soc_percent)
    high_percent = _first(battery.max_soc_percent, safety.battery_max_soc_percent)
    if soc_percent <= low_percent:
        least_kw, least = 0.0, ("safety", f"{low_percent:.0f} % is the least it may hold")
    if soc_percent >= high_percent:
        most_kw, most = 0.0, ("safety", f"{high_percent:.0f} % is the most it may hold")
    protect_kw = least_kw
    if (idle := _idle(battery, constraints)) is not None:
        least_kw = most_kw = 0.0
        least = most = idle
    elif 0 < safety.reserve_soc_percent > soc_percent - RESERVE_BAND_PERCENT:
        least_kw, least = 0.0, ("safety", f"{safety.reserve_soc_percent:.0f} % is its reserve")
        if soc_percent < safety.reserve_soc_percent:
            reserve_kw = min(safety.reserve_charge_kw, most_kw)
    return Bounds(battery, planned_kw, protect_kw, least_kw, least, reserve_kw, most_kw, most, rated_kw)


def _unsafe(battery: BatteryState, constraints: Constraints) -> Reason | None:
    safety = constraints.safety
    if battery.age_s > safety.stale_after_s:
        return "safety", "it has not been heard of lately"
    if battery.temperature_c is not None and battery.temperature_c > safety.max_battery_temp_c:
        return "safety", f"it is warmer than {safety.max_battery_temp_c:.0f} °C"
    return None


def _idle(battery: BatteryState, constraints: Constraints) -> Reason | None:
    """Why it does nothing for the money's sake."""
    cycles = constraints.safety.max_battery_cycles_per_day
    if battery.cycles_today >= cycles:
        return "safety", f"it has had its {cycles:g} cycles of the day"
    return ("economic", battery.paused) if battery.paused else None


def _first(own: FlowKw | None, house: FlowKw | None) -> float:
    if own is not None:
        return own
    return 0.0 if house is None else house


class _Share(msgspec.Struct, gc=False):
    """One battery's part while it is worked out."""

    bounds: Bounds
    asked_kw: float
    given_kw: float
    why: Reason


def command(
    batteries: list[Bounds],
    scene: Scene,
    connection: Connection,
    constraints: Constraints,
    objectives: EconomicObjectives,
    *,
    urgent: bool,
) -> list[Verdict]:
    """Share the wish among the batteries, and give each what the connection carries, in their order."""
    wish = wish_of(scene, objectives, urgent=urgent)
    total_kw, why = _within_house(wish, scene, connection, constraints)
    shares = _shares(batteries, wish.power_kw, total_kw, why)
    if not urgent:
        _fill(shares, constraints)
    for share in shares:
        _take(share, connection)
    if connection.overdrawn:
        _protect(shares, connection, scene, constraints)
    several = len(shares) > 1
    return [_verdict(share, wish, scene, objectives.import_price, several=several) for share in shares]


def together_kw(batteries: list[Bounds], constraints: Constraints) -> float:
    """What all batteries can discharge with for the fuse's sake [kW]."""
    return min(
        -sum(bounds.protect_kw for bounds in batteries), _limit(constraints.physical.max_battery_discharge_kw)
    )


def _limit(kw: float | None) -> float:
    return POWER_KW_MAX if kw is None else kw


def _within_house(
    wish: Wish, scene: Scene, connection: Connection, constraints: Constraints
) -> tuple[float, Reason]:
    """The wish within the limits of all batteries together, and the last of these that bound."""
    physical = constraints.physical
    total_kw = wish.power_kw
    why: Reason = ("economic", wish.name)
    # What the house does not need would flow into the grid: allowed if the plan means it.
    spill_kw = scene.export_kw if wish.discharges_on_purpose else 0.0
    if total_kw < (floor_kw := min(-scene.deficit_kw - spill_kw, 0.0)):
        total_kw, why = floor_kw, ("economic", "the house needs no more")
    if total_kw > connection.room_kw:
        # Below zero the batteries must discharge to keep the fuse.
        total_kw, why = connection.room_kw, ("physical", "the main fuse carries no more")
    if total_kw > (most_kw := _limit(physical.max_battery_charge_kw)):
        total_kw, why = most_kw, ("physical", "the batteries together can't charge faster")
    if total_kw < (least_kw := -_limit(physical.max_battery_discharge_kw)):
        total_kw, why = least_kw, ("physical", "the batteries together can't discharge faster")
    return total_kw, why


def _shares(batteries: list[Bounds], wish_kw: float, total_kw: float, why: Reason) -> list[_Share]:
    """Each its part of the plan, and of the rest as much as it has room: never one against another."""
    discharging = total_kw < -TRIFLE_KW and any(bounds.least_kw < 0 for bounds in batteries)
    ranges = [(bounds.least_kw, 0.0) if discharging else (0.0, bounds.most_kw) for bounds in batteries]
    asked, given = [wish_kw], [total_kw]
    if len(batteries) > 1:
        asked, given = _spread(wish_kw, batteries, ranges), _spread(total_kw, batteries, ranges)
    found = []
    for bounds, asked_kw, given_kw, (low, high) in zip(batteries, asked, given, ranges, strict=True):
        if given_kw > high:
            found.append(_Share(bounds, asked_kw, high, bounds.most))
        elif given_kw < low:
            found.append(_Share(bounds, asked_kw, low, bounds.least))
        else:
            found.append(_Share(bounds, asked_kw, given_kw, why))
    return found


def _spread(total_kw: float, batteries: list[Bounds], ranges: list[tuple[float, float]]) -> list[float]:
    """Begin with the plan; add what is missing by the room of each, and evenly what no room holds."""
    begun = [
        min(max(bounds.planned_kw or 0.0, low), high)
        for bounds, (low, high) in zip(batteries, ranges, strict=True)
    ]
    missing_kw = total_kw - sum(begun)
    rooms = [(high if missing_kw > 0 else low) - kw for kw, (low, high) in zip(begun, ranges, strict=True)]
    if (room_kw := sum(rooms)) == 0:
        return [kw + missing_kw / len(begun) for kw in begun]
    return [kw + missing_kw * (room / room_kw) for kw, room in zip(begun, rooms, strict=True)]


def _fill(shares: list[_Share], constraints: Constraints) -> None:
    """Charge what is below its reserve; not from another battery: it waits while one covers the house."""
    left_kw = _limit(constraints.physical.max_battery_charge_kw)
    for share in shares:
        left_kw -= share.given_kw
        if share.given_kw < 0:
            return
    for share in shares:
        more_kw = min(share.bounds.reserve_kw - share.given_kw, left_kw)
        if more_kw > 0:
            share.given_kw += more_kw
            share.why = share.bounds.least
            left_kw -= more_kw


def _take(share: _Share, connection: Connection) -> None:
    """Give a battery its part, cut down to what its phase carries."""
    phase = share.bounds.battery.phase
    if share.given_kw > 0:
        if share.given_kw > (room_kw := max(connection.room_for_kw(phase), 0.0)):
            share.given_kw, share.why = (
                room_kw,
                ("physical", f"the {connection.tightest(phase)} carries no more"),
            )
    elif -share.given_kw > (feed_kw := connection.feed_for_kw(phase)):
        share.given_kw, share.why = -feed_kw, ("physical", "the fuse of its phase carries no more")
    connection.take(share.given_kw, phase)


def _protect(shares: list[_Share], connection: Connection, scene: Scene, constraints: Constraints) -> None:
    """Discharge on where a fuse still carries too much, but never past the export limit."""
    left_kw = min(
        max(scene.deficit_kw + scene.export_kw, 0.0), _limit(constraints.physical.max_battery_discharge_kw)
    ) + sum([min(share.given_kw, 0.0) for share in shares])
    for share in shares:
        phase = share.bounds.battery.phase
        able_kw = min(share.given_kw - share.bounds.protect_kw, connection.feed_for_kw(phase), left_kw)
        more_kw = min(-connection.room_for_kw(phase), able_kw)
        if more_kw > 0:
            share.given_kw -= more_kw
            share.why = ("physical", f"the {connection.tightest(phase)} carries no more")
            left_kw -= more_kw
            connection.take(-more_kw, phase)


def _verdict(share: _Share, wish: Wish, scene: Scene, price: float | None, *, several: bool) -> Verdict:
    battery, given_kw = share.bounds.battery, share.given_kw
    tier: Tier = "economic"
    limit, does = wish.name, _does(given_kw)
    blocked = _blocked(share, wish)
    if battery.paused and share.given_kw == 0:
        limit, text = battery.paused, f"{battery.paused[0].upper()}{battery.paused[1:]}: the battery rests."
    elif blocked is not None or abs(given_kw - share.asked_kw) > TRIFLE_KW:
        tier, limit = blocked or share.why
        text = f"{wish.would}, but {limit}: the battery {does}."
    elif several:
        text = f"This battery {does}: {wish.would[0].lower()}{wish.would[1:]}."
    else:
        text = wish.does
    return Verdict(
        der_id=battery.der_id,
        asked_kw=max(-POWER_KW_MAX, min(share.asked_kw, POWER_KW_MAX)),
        given_kw=given_kw,
        given_a=None,
        tier=tier,
        limit=limit,
        sentence=text,
        alternative=_alternative(share, scene),
        import_price=price,
    )


def _blocked(share: _Share, wish: Wish) -> Reason | None:
    """What keeps a battery from taking any part at all."""
    bounds = share.bounds
    if share.given_kw == 0 and wish.power_kw > TRIFLE_KW and bounds.most_kw == 0:
        return bounds.most
    if share.given_kw == 0 and wish.power_kw < -TRIFLE_KW and bounds.least_kw == 0:
        return bounds.least
    return None


def _alternative(share: _Share, scene: Scene) -> str:
    """The next best: to rest, or to cover the house."""
    deficit_kw = scene.deficit_kw - share.given_kw
    if abs(share.given_kw) > TRIFLE_KW:
        return f"rest, and {_grid(scene.deficit_kw)}"
    if deficit_kw > TRIFLE_KW and share.bounds.least_kw < 0:
        return f"cover the house's {min(deficit_kw, -share.bounds.least_kw):.2f} kW"
    return ""


def _grid(deficit_kw: float) -> str:
    if deficit_kw >= 0:
        return f"take {deficit_kw:.2f} kW from the grid"
    return f"leave {-deficit_kw:.2f} kW of solar power over"


def _does(power_kw: float) -> str:
    if abs(power_kw) <= TRIFLE_KW:
        return "rests"
    return f"{'charges' if power_kw > 0 else 'discharges'} with {abs(power_kw):.2f} kW"
