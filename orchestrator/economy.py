"""What a house's batteries together should do for the money's sake, if nothing stood in the way; pure.

Source: the power flow architecture document, economic objectives; signs as everywhere, + charging.
"""

import msgspec

from orchestrator.limits import EconomicObjectives

TRIFLE_KW = 0.005
"""A plan's powers carry a solver's rounding: less than this is nothing."""


class Scene(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The house as its batteries find it, the cars having theirs."""

    deficit_kw: float
    """Load and cars less PV; below zero: solar power is left over."""
    need_kw: float
    """The part of it that stored energy is for, 0 or more."""
    own_kw: float
    """What decides whether a plan still fits: load less PV, with the cars unless the house has priority."""
    most_kw: float
    """What the batteries charge with at most."""
    export_kw: float
    """What may flow into the grid: nothing while that costs money."""
    planned_kw: float | None
    """The batteries' part of the plan; None: there is no fresh one."""
    planned_grid_kw: float
    """What the plan has the grid give, less its cars if the house has priority."""


class Wish(msgspec.Struct, frozen=True, gc=False):
    """What should be done, and how that is said."""

    power_kw: float
    name: str
    does: str
    would: str
    """The same, with something in its way to follow."""
    discharges_on_purpose: bool = False
    """Into the grid."""


def wish_of(scene: Scene, objectives: EconomicObjectives, *, urgent: bool) -> Wish:
    """The car that hurries, the plan, or the rules; but no solar power is lost that could be stored."""
    if urgent:
        text = "The battery rests while the car must charge"
        wish = Wish(0.0, "urgent car", f"{text}.", text)
    elif scene.planned_kw is None:
        wish = _by_rule(scene, objectives)
    else:
        wish = _by_plan(scene, scene.planned_kw, objectives)
    lost_kw = -scene.deficit_kw - scene.export_kw
    if lost_kw > max(wish.power_kw, 0.0):
        would = f"{lost_kw:.2f} kW of solar power would be lost"
        return Wish(
            lost_kw,
            "no export",
            f"The battery stores {lost_kw:.2f} kW of solar power, lest it is lost.",
            would,
        )
    return wish


def export_limit_kw(limit_kw: float, objectives: EconomicObjectives) -> float:
    """What may flow into the grid: what is allowed, or nothing while it costs money [kW]."""
    return 0.0 if objectives.export_price is not None and objectives.export_price < 0 else limit_kw


def _price(objectives: EconomicObjectives) -> str:
    price, currency = objectives.import_price, objectives.currency
    return "" if price is None else f" at {price:g} {currency or 'money'}/kWh"


def _sells_first(objectives: EconomicObjectives) -> bool:
    """Whether solar power is worth more in the grid than in a battery."""
    if objectives.prefer_self_consumption:
        return False
    sale, threshold = objectives.export_price, objectives.arbitrage_threshold
    return sale is None or (sale >= threshold if threshold is not None else sale > 0)


def _store(surplus_kw: float) -> Wish:
    text = f"The battery stores {surplus_kw:.2f} kW of solar power."
    return Wish(surplus_kw, "solar surplus", text, f"{surplus_kw:.2f} kW of solar power is left over")


def _by_rule(scene: Scene, objectives: EconomicObjectives) -> Wish:
    """Without a plan: fill up when electricity is cheap, else store what the sun gives and use it."""
    price, threshold = objectives.import_price, objectives.arbitrage_threshold
    surplus_kw = -scene.deficit_kw
    if price is not None and price < 0:
        text = f"Using electricity is paid for{_price(objectives)}"
        return Wish(max(scene.most_kw, surplus_kw), "negative price", f"{text}: the battery charges.", text)
    # A battery filled up at a low price must not set a new peak that costs more.
    if price is not None and threshold is not None and price < threshold and not objectives.demand_priced:
        text = f"Electricity is cheap{_price(objectives)}"
        return Wish(max(scene.most_kw, surplus_kw), "cheap price", f"{text}: the battery charges.", text)
    if surplus_kw > 0:
        if not _sells_first(objectives):
            return _store(surplus_kw)
        return Wish(
            0.0, "export pays", "Solar power is sold first: the battery waits.", "Solar power is sold"
        )
    if scene.need_kw <= 0:
        text = "The house needs nothing from the battery now"
        return Wish(0.0, "house priority", f"{text}: what it holds is not for the car.", text)
    text = f"There is no fresh plan: the battery covers the house's {scene.need_kw:.2f} kW."
    would = f"There is no fresh plan and the house takes {scene.need_kw:.2f} kW"
    return Wish(-scene.need_kw, "self-consumption", text, would)


def _by_plan(scene: Scene, planned_kw: float, objectives: EconomicObjectives) -> Wish:
    """What the plan asks for, given that the house takes another power than it foresaw.

    What is above the plan's purchase is dear, or sets a new peak: what the forecast missed, the battery makes
    up. At a low price without a demand charge that would waste what is stored.
    """
    grid_kw, price = scene.planned_grid_kw, _price(objectives)
    exports = objectives.scheduled_grid_kw < 0
    surplus_kw = -scene.deficit_kw
    unforeseen = not exports and -TRIFLE_KW <= planned_kw < surplus_kw
    if surplus_kw > 0 and unforeseen and not _sells_first(objectives):
        return _store(surplus_kw)
    ceiling_kw = grid_kw - scene.own_kw
    if planned_kw < -TRIFLE_KW:
        wish_kw = planned_kw if exports else min(ceiling_kw, 0.0)
        text = f"The plan uses the battery now{price}."
        if wish_kw >= -TRIFLE_KW:
            text = "The house needs nothing from the battery now."
        return Wish(wish_kw, "schedule", text, f"The plan would use the battery{price}", exports)
    # Below a peak that is paid for anyway nothing is to be saved: what is stored may be needed above it.
    peak_kw = max(grid_kw, objectives.grid_ceiling_kw)
    below_kw = peak_kw - scene.own_kw
    if objectives.demand_priced and objectives.scheduled_grid_kw >= 0 and below_kw < planned_kw - TRIFLE_KW:
        text = f"The battery keeps the grid at {peak_kw:.2f} kW, for no new peak."
        return Wish(below_kw, "planned peak", text, f"The plan would take {peak_kw:.2f} kW from the grid")
    if planned_kw > TRIFLE_KW:
        text = f"The plan charges the battery now{price}."
        return Wish(planned_kw, "schedule", text, f"The plan would charge the battery{price}")
    text = f"The plan keeps the battery's energy for later{price}"
    return Wish(planned_kw, "schedule", f"{text}.", text)
