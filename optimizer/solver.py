"""Plans any problem, always: a plan that can't be made is one that leaves the DERs alone and says why."""

import warnings

import cvxpy as cp
import msgspec
import numpy as np

from optimizer.plan import Plan, PlanStatus, check, idle_plan, plan_of
from optimizer.problem import Problem, fault_in
from optimizer.program import Program, Structure, structure_of
from optimizer.reasons import limits_of

SOLVER = "HiGHS via CVXPY"
SOLVED_ZERO = 1e-9
"""kW; a solver's zero."""


class Solver:
    """Plans houses one after the other, each structure compiled once.

    Args:
        time_limit_s: of one solve; None on a clock on which a run must repeat.
    """

    def __init__(self, time_limit_s: float | None = None) -> None:
        self._time_limit_s = time_limit_s
        self._programs: dict[Structure, Program] = {}

    def plan(self, problem: Problem) -> Plan:
        """The cheapest plan; not for two threads at once."""
        if fault := fault_in(problem):
            return idle_plan(problem, "error", fault)
        plan = self._solve(problem, modes=needs_modes(problem))
        if fault := check(plan, problem):
            return idle_plan(problem, "fallback", f"the plan failed its check: {fault}")
        return plan

    def _solve(self, problem: Problem, *, modes: bool) -> Plan:
        structure = structure_of(problem, modes=modes)
        program = self._programs.get(structure)
        if program is None:
            program = self._programs[structure] = Program(structure)
        program.data.load(problem)
        options = {} if self._time_limit_s is None else {"time_limit": self._time_limit_s}
        try:
            with warnings.catch_warnings():
                # Of a solution that is not optimal, which the status says too.
                warnings.simplefilter("ignore", UserWarning)
                program.problem.solve(solver=cp.HIGHS, enforce_dpp=True, warm_start=False, **options)
        except cp.SolverError as error:
            return idle_plan(problem, "fallback", f"solver: {error}")
        if program.problem.status != cp.OPTIMAL:
            status: PlanStatus = "infeasible" if program.problem.status == cp.INFEASIBLE else "fallback"
            return idle_plan(problem, status, f"solver: {program.problem.status}")
        return _plan_from(program, problem)


def needs_modes(problem: Problem) -> bool:
    """Whether a linear program could charge and discharge, or import and export, at once."""
    exports = problem.max_grid_export_kw > 0
    prices = zip(problem.import_price, problem.export_price, strict=True)
    return any(buy < 0 or (exports and sell > buy) for buy, sell in prices)


def _plan_from(program: Program, problem: Problem) -> Plan:
    x = program.x
    battery_kw = (
        [] if x.charge is None or x.discharge is None else (x.charge.value - x.discharge.value).tolist()
    )
    battery_kw = [
        _within(powers, -battery.max_discharge_kw, battery.max_charge_kw)
        for powers, battery in zip(battery_kw, problem.batteries, strict=True)
    ]
    car_kw = [] if x.car is None else x.car.value.tolist()
    car_kw = [
        _within(powers, 0.0, car.max_charge_kw) for powers, car in zip(car_kw, problem.cars, strict=True)
    ]
    curtailed = np.clip(x.curtailed.value, 0.0, problem.pv_kw).tolist()
    objective = float(program.problem.value)
    plan = plan_of(problem, battery_kw, car_kw, curtailed, status="optimal", objective=objective)
    ders = [
        msgspec.structs.replace(der, limit=limit)
        for der, limit in zip(plan.ders, limits_of(plan, problem), strict=True)
    ]
    return msgspec.structs.replace(plan, ders=ders)


def _within(powers_kw: list[float], low_kw: float, high_kw: float) -> list[float]:
    """Rounding taken off: what is nothing is 0, and no power passes the device's."""
    clipped = np.clip(powers_kw, low_kw, high_kw)
    clean: list[float] = np.where(np.abs(clipped) < SOLVED_ZERO, 0.0, clipped).tolist()
    return clean
