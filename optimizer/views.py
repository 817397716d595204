"""What the HTTP API says of a plan: the MPC service's own JSON, made from a Schedule."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from contracts.instant import Instant
from contracts.messages import Schedule
from optimizer.plan import PlanStatus

DIGITS = 6


class Dispatch(msgspec.Struct, frozen=True, kw_only=True):
    """What a battery shall do now."""

    timestamp: Annotated[datetime, Meta(description="when it was planned; for a fallback, now")]
    battery_power_kw: Annotated[float, Meta(description="+ charge / - discharge")]
    status: PlanStatus


class FullSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A plan over its horizon: N powers, N + 1 states of charge."""

    timestamp: Annotated[datetime, Meta(description="when it was planned")]
    horizon_hours: float
    battery_power_schedule: Annotated[list[float], Meta(description="kW, + charge / - discharge")]
    grid_power_schedule: Annotated[list[float], Meta(description="kW, + import / - export")]
    soc_schedule: Annotated[list[float], Meta(description="0..1, before each step and after the last")]
    total_cost: float
    energy_cost: float
    demand_cost: float
    peak_demand: Annotated[float, Meta(description="the highest import planned, kW")]
    solver_status: PlanStatus
    solver_time: Annotated[float, Meta(description="s")]


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why one step is as it is."""

    start: datetime
    battery_power_kw: float
    import_price: Annotated[float, Meta(description="currency per kWh")]
    limit: Annotated[str, Meta(description="what keeps the power from being another; price: nothing else")]
    stored_value: Annotated[
        float | None, Meta(description="what a kWh more in the battery after it would save")
    ]


class Reasons(msgspec.Struct, frozen=True, kw_only=True):
    """Why a plan is as it is."""

    timestamp: Annotated[datetime, Meta(description="when it was planned")]
    currency: str
    violations: Annotated[list[str], Meta(description="the soft limits that it has to miss")]
    steps: list[Reason]


def reasons_of(schedule: Schedule) -> Reasons:
    """A plan's prices, limits and values, step by step; none where nothing was solved."""
    values: Sequence[float | None] = schedule.stored_value or [None] * len(schedule.limit)
    told = zip(schedule.limit, values, strict=True)
    return Reasons(
        timestamp=plain(schedule.issued_at),
        currency=schedule.currency,
        violations=schedule.violations,
        steps=[
            Reason(
                start=plain(schedule.start.after(i * schedule.step_s)),
                battery_power_kw=rounded(schedule.battery_power_kw[i]),
                import_price=rounded(schedule.import_price[i]),
                limit=limit,
                stored_value=None if value is None else rounded(value),
            )
            for i, (limit, value) in enumerate(told)
        ],
    )


def dispatch_of(schedule: Schedule | None, now: Instant) -> Dispatch:
    """The command that holds now: the plan's step in hand; without a valid plan, a fallback of 0 kW."""
    if schedule is not None and now < schedule.valid_until:
        step = int(now.seconds_since(schedule.start) // schedule.step_s)
        if 0 <= step < len(schedule.battery_power_kw):
            return Dispatch(
                timestamp=plain(schedule.issued_at),
                battery_power_kw=rounded(schedule.battery_power_kw[step]),
                status=schedule.status,
            )
    return Dispatch(timestamp=plain(now), battery_power_kw=0.0, status="fallback")


def full_schedule_of(schedule: Schedule) -> FullSchedule:
    """The whole plan."""
    hours = len(schedule.battery_power_kw) * schedule.step_s / 3600.0
    return FullSchedule(
        timestamp=plain(schedule.issued_at),
        horizon_hours=int(hours) if hours.is_integer() else hours,
        battery_power_schedule=all_rounded(schedule.battery_power_kw),
        grid_power_schedule=all_rounded(schedule.grid_power_kw),
        soc_schedule=all_rounded(soc / 100.0 for soc in schedule.soc_percent),
        total_cost=rounded(schedule.total_cost),
        energy_cost=rounded(schedule.energy_cost),
        demand_cost=rounded(schedule.demand_cost),
        peak_demand=rounded(schedule.peak_kw),
        solver_status=schedule.status,
        solver_time=schedule.solve_time_s or 0.0,
    )


def rounded(value: float) -> float:
    """To the milliwatt: what floating point adds is no news."""
    return round(value, DIGITS) + 0.0


def all_rounded(values: Iterable[float]) -> list[float]:
    """Each of them `rounded`."""
    return [rounded(value) for value in values]


def plain(instant: Instant) -> datetime:
    """The same moment as a plain datetime, which msgspec writes without milliseconds where there are none."""
    return datetime.combine(instant.date(), instant.timetz())
