"""When a house is planned again before its turn: something has come otherwise than the plan had it."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from contracts.instant import Instant
from contracts.messages import Schedule

Cause = Literal["device", "car", "soc", "power"]
"""A battery came or went; a car came, went, or has another target or departure; a state of charge, or the
mean net load, is not as planned."""


class CarState(NamedTuple):
    """What of a car a plan depends on, beside its charge."""

    connected: bool | None
    departure_at: Instant | None
    target_soc_percent: float | None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A house as it is measured."""

    batteries: frozenset[str]
    cars: Mapping[str, CarState]
    soc_percent: Mapping[str, float]
    recent_kw: tuple[float, float] | None
    """Load and PV, means of the last minutes; None if not known."""


class Tolerance(NamedTuple):
    """How far a house may depart from its plan."""

    soc_percent: float = 5.0
    power_kw: float = 2.0


def departure(
    plan: Sequence[Schedule], then: Seen, seen: Seen, tolerance: Tolerance, now: Instant
) -> Cause | None:
    """In what a house departs from its plan; None if in nothing that matters.

    Args:
        plan: the schedules of its batteries and cars, made together.
        then: the house when it was planned.
        seen: the house now.
        tolerance: what does not matter.
        now: of `seen`.
    """
    if seen.batteries != then.batteries:
        return "device"
    if seen.cars != then.cars:
        return "car"
    for schedule in plan:
        measured, planned = seen.soc_percent.get(schedule.der_id), soc_at(schedule, now)
        if measured is not None and planned is not None and abs(measured - planned) > tolerance.soc_percent:
            return "soc"
    if plan and seen.recent_kw is not None:
        load_kw, pv_kw = seen.recent_kw
        step = _step_at(plan[0], now)
        if step is not None and abs(load_kw - pv_kw - net_kw(plan[0], step)) > tolerance.power_kw:
            return "power"
    return None


def soc_at(schedule: Schedule, now: Instant) -> float | None:
    """The state of charge that a plan has for an instant [%]; None outside the plan."""
    step = _step_at(schedule, now)
    if step is None:
        return None
    # The first step was under way when it was planned.
    begin = max(schedule.issued_at, schedule.start) if step == 0 else _start_of(schedule, step)
    whole_s = _start_of(schedule, step + 1).seconds_since(begin)
    share = max(0.0, now.seconds_since(begin)) / whole_s if whole_s > 0 else 1.0
    before, after = schedule.soc_percent[step : step + 2]
    return before + (after - before) * share


def net_kw(schedule: Schedule, step: int) -> float:
    """Load less PV as a plan foresaw it."""
    return schedule.load_kw[step] - schedule.pv_kw[step]


def _step_at(schedule: Schedule, now: Instant) -> int | None:
    step = int(now.seconds_since(schedule.start) // schedule.step_s)
    return step if 0 <= step < len(schedule.load_kw) else None


def _start_of(schedule: Schedule, step: int) -> Instant:
    return schedule.start.after(step * schedule.step_s)
