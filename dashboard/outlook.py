"""What is planned for a house and what energy will cost: schedules and prices by instant. Pure."""

from collections.abc import Collection, Mapping

import msgspec

from contracts.instant import Instant
from contracts.messages import PriceForecast, Schedule
from dashboard.flows import PlanPoint


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of a house: a value a step, and one state of charge more."""

    issued_ms: int
    start_ms: int
    step_s: float
    status: str
    load: list[float]
    pv: list[float]
    grid: list[float]
    battery: list[float]
    soc: list[float] | None


class PriceView(msgspec.Struct, frozen=True, kw_only=True):
    """What energy costs, step by step."""

    start_ms: int
    step_s: float
    currency: str
    buy: list[float]
    sell: list[float]


def price_view(price: PriceForecast) -> PriceView:
    """Prices as the page draws them."""
    return PriceView(
        start_ms=price.start.unix_ms,
        step_s=price.step_s,
        currency=price.currency,
        buy=price.import_price,
        sell=price.export_price,
    )


def step_at(start: Instant, step_s: float, count: int, at: Instant) -> int | None:
    """Which step an instant falls into, or None: in none of them."""
    step = int(at.seconds_since(start) // step_s)
    return step if 0 <= step < count else None


def prices_at(price: PriceForecast | None, at: Instant) -> tuple[float, float] | None:
    """What a kWh imported and exported costs at an instant, if that is known."""
    if price is None:
        return None
    step = step_at(price.start, price.step_s, len(price.import_price), at)
    return None if step is None else (price.import_price[step], price.export_price[step])


def plan_view(schedules: Mapping[str, Schedule], batteries: Mapping[str, float]) -> PlanView | None:
    """The latest plan of a house.

    Args:
        schedules: the latest of each of its batteries and cars.
        batteries: the capacities of its batteries [kWh].
    """
    latest = max(schedules.values(), key=lambda schedule: schedule.issued_at, default=None)
    if latest is None:
        return None
    together = {
        der_id: schedule
        for der_id, schedule in schedules.items()
        if der_id in batteries
        and schedule.start == latest.start
        and len(schedule.load_kw) == len(latest.load_kw)
    }
    weights = [batteries[der_id] for der_id in together]
    return PlanView(
        issued_ms=latest.issued_at.unix_ms,
        start_ms=latest.start.unix_ms,
        step_s=latest.step_s,
        status=latest.status,
        load=_rounded(latest.load_kw),
        pv=_rounded(latest.pv_kw),
        grid=_rounded(latest.grid_power_kw),
        battery=_rounded(_sums([schedule.battery_power_kw for schedule in together.values()])),
        soc=_rounded(_means([schedule.soc_percent for schedule in together.values()], weights)) or None,
    )


def plan_point(plan: PlanView | None, at: Instant) -> PlanPoint | None:
    """What a plan says of an instant, if it goes so far."""
    if plan is None:
        return None
    step = step_at(Instant.at_ms(plan.start_ms), plan.step_s, len(plan.load), at)
    if step is None:
        return None
    soc = None if plan.soc is None else plan.soc[step]
    return PlanPoint(plan.pv[step], plan.load[step], plan.grid[step], soc)


def _sums(lists: Collection[list[float]]) -> list[float]:
    return [sum(values) for values in zip(*lists, strict=True)]


def _means(lists: Collection[list[float]], weights: list[float]) -> list[float]:
    total = sum(weights) or 1.0
    return [
        sum(value * weight for value, weight in zip(values, weights, strict=True)) / total
        for values in zip(*lists, strict=True)
    ]


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 3) for value in values]
