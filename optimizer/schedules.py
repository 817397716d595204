"""Plans as the messages that carry them: one Schedule for each battery and car."""

from collections.abc import Sequence

from contracts.messages import Schedule
from optimizer.model import PlanInputs
from optimizer.plan import Plan
from optimizer.problem import Problem

LATE_S = 900.0
"""A plan still holds for so long after its house's next turn."""


def schedules_of(
    inputs: PlanInputs,
    problem: Problem,
    plan: Plan,
    *,
    interval_s: float,
    solver: str,
    solve_time_s: float | None,
) -> list[Schedule]:
    """The messages that carry a plan made from `inputs`; grid power and costs are the house's, in each.

    Args:
        inputs: what was known.
        problem: what was planned.
        plan: what came out.
        interval_s: how often its house is planned [s].
        solver: its name.
        solve_time_s: wall-clock time; None in a run that must repeat.
    """
    now = inputs.load.issued_at
    return [
        Schedule(
            house=inputs.load.house,
            der_id=der.der_id,
            issued_at=now,
            valid_until=now.after(interval_s + LATE_S),
            start=inputs.load.start,
            step_s=inputs.load.step_s,
            status=plan.status,
            reason=plan.reason,
            violations=plan.violations,
            battery_power_kw=der.power_kw,
            grid_power_kw=plan.grid_kw,
            grid_ceiling_kw=plan.grid_ceiling_kw,
            curtailed_kw=plan.curtailed_kw,
            soc_percent=_soc_percent(der.stored_kwh, device.capacity_kwh),
            limit=der.limit,
            stored_value=der.stored_value,
            load_kw=inputs.load.power_kw,
            pv_kw=inputs.pv.power_kw,
            import_price=inputs.prices.import_price,
            currency=inputs.prices.currency,
            energy_cost=plan.energy_cost,
            demand_cost=plan.demand_cost,
            total_cost=plan.energy_cost + plan.demand_cost,
            peak_kw=plan.peak_kw,
            solver=solver,
            solve_time_s=solve_time_s,
        )
        for der, device in zip(plan.ders, problem.ders, strict=True)
    ]


def _soc_percent(stored_kwh: Sequence[float], capacity_kwh: float) -> list[float]:
    if not capacity_kwh > 0:
        return [0.0] * len(stored_kwh)
    return [min(100.0, max(0.0, 100.0 * kwh / capacity_kwh)) for kwh in stored_kwh]
