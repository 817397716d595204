"""Plans any problem, always: a plan that can't be made is one that leaves the DERs alone and says why."""

from collections.abc import Sequence

import msgspec
import numpy as np

from optimizer.exact import Answer, Exact, is_paid_to_import, is_paid_to_turn_round
from optimizer.highs import GAP, Basis, Solved
from optimizer.plan import Plan, PlanStatus, check, idle_plan, plan_of
from optimizer.problem import Problem, fault_in
from optimizer.program import Structure, structure_of
from optimizer.reasons import limits_of

SOLVER = "HiGHS"
STRUCTURES_MAX = 32
"""Of so many a HiGHS is kept alive; the one that was made first makes room."""
SOLVED_ZERO = 1e-9
"""kW; a solver's zero."""


class Solver:
    """Plans houses one after the other: a live HiGHS for each structure, a basis for each house.

    Args:
        time_limit_s: of one plan; None on a clock on which a run must repeat.
        gap: how far from the optimum a plan with whole numbers may be, as a share of its cost.
    """

    def __init__(self, time_limit_s: float | None = None, gap: float = GAP) -> None:
        self._time_limit_s = time_limit_s
        self._gap = gap
        self._exact: dict[Structure, Exact] = {}
        self._bases: dict[str, tuple[Structure, Basis]] = {}

    def plan(self, problem: Problem, house: str | None = None) -> Plan:
        """The cheapest plan; not for two threads at once.

        Args:
            problem: what is to be planned.
            house: begins where this house's last plan ended: several times faster, and of plans that cost the
                same it may be another one. Without, the plan depends on the problem alone.
        """
        if fault := fault_in(problem):
            return idle_plan(problem, "error", fault)
        plan = self._plan(problem, house)
        if fault := check(plan, problem):
            return idle_plan(problem, "fallback", f"the plan failed its check: {fault}")
        return plan

    def forget(self, house: str) -> None:
        """Drop what is kept of a house that is gone."""
        self._bases.pop(house, None)

    def _plan(self, problem: Problem, house: str | None) -> Plan:
        answer = self._answer(problem, house)
        outcome = answer.solved.outcome
        if answer.solved.x is None:
            return idle_plan(problem, STATUSES[outcome], self._why(answer.solved))
        return _plan_from(answer, problem, STATUSES[outcome], self._why(answer.solved))

    def _answer(self, problem: Problem, house: str | None) -> Answer:
        structure = structure_of(problem, modes=needs_modes(problem))
        exact = self._exact.get(structure)
        if exact is None:
            if len(self._exact) >= STRUCTURES_MAX:
                del self._exact[next(iter(self._exact))]
            exact = self._exact[structure] = Exact(structure, problem, self._gap)
        if house is None:
            return exact.answer(problem, None, self._time_limit_s)
        known, basis = self._bases.get(house, (None, None))
        # Another house's basis is a better beginning than none.
        answer = exact.answer(problem, basis if known == structure else exact.basis, self._time_limit_s)
        if exact.basis is not None:
            self._bases[house] = structure, exact.basis
        return answer

    @staticmethod
    def _why(solved: Solved) -> str:
        if solved.outcome == "optimal":
            return ""
        if solved.outcome == "stopped" and solved.x is not None:
            return f"solver: {solved.told}: within {100 * solved.gap:.2g} % of the optimum"
        return f"solver: {solved.told}"


STATUSES: dict[str, PlanStatus] = {
    "optimal": "optimal",
    "stopped": "fallback",
    "infeasible": "infeasible",
    "failed": "error",
}


def needs_modes(problem: Problem) -> bool:
    """Whether it could pay to charge and discharge, or to import and export, at once."""
    return bool(is_paid_to_import(problem).any() or is_paid_to_turn_round(problem).any())


def _plan_from(answer: Answer, problem: Problem, status: PlanStatus, reason: str) -> Plan:
    battery_kw = [
        _within(powers, -battery.max_discharge_kw, battery.max_charge_kw)
        for powers, battery in zip(answer.battery_kw, problem.batteries, strict=True)
    ]
    car_kw = [
        _within(powers, 0.0, car.max_charge_kw)
        for powers, car in zip(answer.car_kw, problem.cars, strict=True)
    ]
    curtailed = _curtailed(answer.curtailed_kw, problem, [*battery_kw, *car_kw])
    plan = plan_of(
        problem, battery_kw, car_kw, curtailed, status=status, reason=reason, objective=answer.solved.cost
    )
    values: Sequence[list[float]] = answer.stored_value.tolist() or [[]] * len(plan.ders)
    ders = [
        msgspec.structs.replace(der, limit=limit, stored_value=value)
        for der, limit, value in zip(plan.ders, limits_of(plan, problem), values, strict=True)
    ]
    return msgspec.structs.replace(plan, ders=ders)


def _curtailed(powers_kw: np.ndarray, problem: Problem, ders_kw: Sequence[list[float]]) -> list[float]:
    """Rounding taken off: what may not be exported is curtailed, but no more than there is."""
    pv_kw = np.asarray(problem.pv_kw)
    surplus_kw = pv_kw - problem.load_kw - np.sum(ders_kw, axis=0)
    least_kw = np.maximum(powers_kw, surplus_kw - problem.max_grid_export_kw)
    curtailed: list[float] = np.where(least_kw < SOLVED_ZERO, 0.0, np.minimum(least_kw, pv_kw)).tolist()
    return curtailed


def _within(powers_kw: np.ndarray, low_kw: float, high_kw: float) -> list[float]:
    """Rounding taken off: what is nothing is 0, and no power passes the device's."""
    clipped = np.clip(powers_kw, low_kw, high_kw)
    clean: list[float] = np.where(np.abs(clipped) < SOLVED_ZERO, 0.0, clipped).tolist()
    return clean
