"""The optimization problem in CVXPY: named terms and constraints, compiled once per structure.

The only module that imports cvxpy. kW and kWh throughout. DPP: a Parameter meets a Variable once in
a product, and a Variable that does has no Parameter among its `bounds=` (its sign would depend on
data); hence the limits of charge and discharge are constraints, while PV and SoC limits are bounds.
"""

import warnings
from typing import Any, NamedTuple

import cvxpy as cp
import numpy as np

from optimizer.problem import (
    SHARES,
    Plan,
    PlanStatus,
    Problem,
    check,
    fault_in,
    idle_plan,
    needs_binaries,
    over_import,
    plan_of,
)

SOLVER = "HiGHS via CVXPY"


class Structure(NamedTuple):
    """What a compiled program is made for; everything else is data."""

    steps: int
    peaks: int
    export: bool


class Data:
    """The parameters: what changes between two solves of one structure."""

    def __init__(self, structure: Structure) -> None:
        n = structure.steps
        self.net_load = cp.Parameter(n, name="net_load")
        """Load less available PV [kW]."""
        self.pv = cp.Parameter(n, name="pv", nonneg=True)
        self.import_price = cp.Parameter(n, name="import_price", nonneg=True)
        """Currency per kW for one step, as all prices here."""
        self.export_price = cp.Parameter(n, name="export_price")
        self.max_import = cp.Parameter(name="max_import", nonneg=True)
        self.over_price = cp.Parameter(name="over_price", nonneg=True)
        self.max_export = cp.Parameter(name="max_export", nonneg=True)
        self.max_charge = cp.Parameter(n, name="max_charge", nonneg=True)
        self.max_discharge = cp.Parameter(name="max_discharge", nonneg=True)
        self.stored_per_charge = cp.Parameter(name="stored_per_charge", nonneg=True)
        """kWh into the cells for a kW at the terminals during a step."""
        self.stored_per_discharge = cp.Parameter(name="stored_per_discharge", nonneg=True)
        self.stored_low = cp.Parameter(n + 1, name="stored_low")
        self.stored_high = cp.Parameter(n + 1, name="stored_high")
        self.end_value = cp.Parameter(name="end_value", nonneg=True)
        self.wear = cp.Parameter(name="wear", nonneg=True)
        if structure.peaks:
            self.demand_price = cp.Parameter(structure.peaks, name="demand_price", nonneg=True)
            self.peak_level = cp.Parameter((structure.peaks, SHARES), name="peak_level", nonneg=True)
            self.peak_of_step = cp.Parameter((n, structure.peaks), name="peak_of_step", nonneg=True)

    def load(self, problem: Problem) -> None:
        """Take the numbers of a problem."""
        battery, step_h = problem.battery, problem.step_h
        load, self.pv.value = np.asarray(problem.load_kw, float), np.asarray(problem.pv_kw, float)
        self.net_load.value = load - self.pv.value
        self.import_price.value = np.asarray(problem.import_price) * step_h
        self.export_price.value = np.asarray(problem.export_price) * step_h
        self.max_import.value = problem.max_grid_import_kw
        self.over_price.value = _over_price(problem)
        self.max_export.value = problem.max_grid_export_kw
        self.max_discharge.value = battery.max_discharge_kw
        self.stored_per_charge.value = battery.efficiency * step_h
        self.stored_per_discharge.value = step_h / battery.efficiency
        low, high = _stored_range(problem)
        self.stored_low.value, self.stored_high.value = low, high
        # A battery found too full is not charged until it is back in its range.
        too_full = high[1:] > battery.kwh(battery.max_soc_percent)
        self.max_charge.value = np.where(too_full, 0.0, battery.max_charge_kw)
        self.end_value.value = problem.end_value_per_kwh
        self.wear.value = problem.wear_per_kwh * step_h
        if problem.demand:
            self.demand_price.value = np.array([period.price_per_kw for period in problem.demand])
            self.peak_level.value = np.array([period.levels_kw for period in problem.demand])
            self.peak_of_step.value = np.eye(len(problem.demand))[list(problem.demand_of_step)]


class Flows:
    """The variables: powers of each step [kW], energy stored between them [kWh], peaks [kW]."""

    def __init__(self, structure: Structure, data: Data) -> None:
        n = structure.steps
        self.charge = cp.Variable(n, name="P_charge", bounds=[0, None])
        self.discharge = cp.Variable(n, name="P_discharge", bounds=[0, None])
        self.grid_import = cp.Variable(n, name="P_import", bounds=[0, None])
        self.over_import = cp.Variable(n, name="P_over_import", bounds=[0, None])
        self.grid_export = cp.Variable(n, name="P_export", bounds=[0, None]) if structure.export else None
        self.curtailed = cp.Variable(n, name="P_curtailed", bounds=[0, data.pv])
        self.stored = cp.Variable(n + 1, name="E_stored", bounds=[data.stored_low, data.stored_high])
        self.end = cp.Variable(name="E_end")
        self.peak = cp.Variable(structure.peaks, name="P_peak") if structure.peaks else None
        self.paid = cp.Variable((structure.peaks, SHARES), name="P_paid") if structure.peaks else None

    @property
    def grid(self) -> Any:  # noqa: ANN401 - a CVXPY expression
        """P_grid: + import / - export."""
        return self.grid_import if self.grid_export is None else self.grid_import - self.grid_export


def balance(x: Flows, data: Data) -> list[Any]:
    """What comes in goes out: grid + pv - curtailed = load + battery."""
    return [x.grid == data.net_load + x.charge - x.discharge + x.curtailed]


def storage(x: Flows, data: Data) -> list[Any]:
    """What is stored grows by charging and shrinks by discharging, each with its loss."""
    gain = data.stored_per_charge * x.charge - data.stored_per_discharge * x.discharge
    return [x.stored[1:] == x.stored[:-1] + gain, x.end == x.stored[-1]]


def battery_limits(x: Flows, data: Data) -> list[Any]:
    """The inverter's powers."""
    return [x.charge <= data.max_charge, x.discharge <= data.max_discharge]


def grid_limits(x: Flows, data: Data) -> list[Any]:
    """The connection's powers: import is soft, since a house takes what it needs; export is hard."""
    limits = [x.grid_import <= data.max_import + x.over_import]
    return limits if x.grid_export is None else [*limits, x.grid_export <= data.max_export]


def peaks(x: Flows, data: Data) -> list[Any]:
    """A demand period's peak is at least every import in it; each share of its price starts at its level."""
    if x.peak is None or x.paid is None:
        return []
    peak = cp.reshape(x.peak, (x.peak.size, 1), order="C")
    return [x.grid_import <= data.peak_of_step @ x.peak, x.paid >= data.peak_level, x.paid >= peak]


def energy_cost(x: Flows, data: Data) -> Any:  # noqa: ANN401 - a CVXPY expression
    """Imported energy, less what exported energy earns."""
    cost = data.import_price @ x.grid_import
    return cost if x.grid_export is None else cost - data.export_price @ x.grid_export


def demand_cost(x: Flows, data: Data) -> Any:  # noqa: ANN401 - a CVXPY expression
    """What a plan adds to the month's peaks, in so far as the rest of the month would not add it anyway."""
    return 0.0 if x.paid is None else data.demand_price @ cp.sum(x.paid, axis=1) / SHARES


def wear_cost(x: Flows, data: Data) -> Any:  # noqa: ANN401 - a CVXPY expression
    """Energy through the battery; it also breaks the tie of charging and discharging at once."""
    return data.wear * cp.sum(x.charge + x.discharge)


def over_cost(x: Flows, data: Data) -> Any:  # noqa: ANN401 - a CVXPY expression
    """Passing the soft import limit, dearer than anything that could be saved by it."""
    return data.over_price * cp.sum(x.over_import)


def end_value(x: Flows, data: Data) -> Any:  # noqa: ANN401 - a CVXPY expression
    """What is left is worth something after the horizon, else every plan would empty the battery."""
    return data.end_value * x.end


class Program:
    """One structure, compiled at its first solve; solved again with new data, each time from scratch.

    Without a warm start a plan depends on its problem alone, not on what was planned before.
    """

    def __init__(self, structure: Structure) -> None:
        self._data = Data(structure)
        self._x = x = Flows(structure, self._data)
        cost = energy_cost(x, self._data) + demand_cost(x, self._data)
        cost = cost + wear_cost(x, self._data) + over_cost(x, self._data) - end_value(x, self._data)
        rules = (balance, storage, battery_limits, grid_limits, peaks)
        self._program = cp.Problem(cp.Minimize(cost), [row for rule in rules for row in rule(x, self._data)])

    def plan(self, problem: Problem, time_limit_s: float | None) -> Plan:
        """Solve for a problem of this structure that has no fault."""
        self._data.load(problem)
        options = {} if time_limit_s is None else {"time_limit": time_limit_s}
        try:
            with warnings.catch_warnings():
                # Of a solution that is not optimal, which the status says too.
                warnings.simplefilter("ignore", UserWarning)
                self._program.solve(solver=cp.HIGHS, enforce_dpp=True, warm_start=False, **options)
        except cp.SolverError as error:
            return idle_plan(problem, "fallback", f"solver: {error}")
        if self._program.status != cp.OPTIMAL:
            status: PlanStatus = "infeasible" if self._program.status == cp.INFEASIBLE else "fallback"
            return idle_plan(problem, status, f"solver: {self._program.status}")
        battery = _within(self._x.charge.value - self._x.discharge.value, problem)
        curtailed = np.clip(self._x.curtailed.value, 0.0, problem.pv_kw)
        plan = plan_of(
            problem,
            battery.tolist(),
            curtailed.tolist(),
            status="optimal",
            objective=float(self._program.value),
        )
        if fault := check(plan, problem):
            return idle_plan(problem, "fallback", f"the plan failed its check: {fault}")
        reason = over_import(plan, problem)
        return (
            plan
            if not reason
            else plan_of(
                problem,
                plan.battery_kw,
                plan.curtailed_kw,
                status="optimal",
                reason=reason,
                objective=plan.objective,
            )
        )


class Solver:
    """Plans any problem, always: a plan that can't be made is one that leaves the battery alone and says why.

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
        if why := needs_binaries(problem):
            return idle_plan(problem, "fallback", why)
        structure = Structure(problem.steps, len(problem.demand), problem.max_grid_export_kw > 0)
        program = self._programs.get(structure)
        if program is None:
            program = self._programs[structure] = Program(structure)
        return program.plan(problem, self._time_limit_s)


def _over_price(problem: Problem) -> float:
    """A price per kW and step that no saving reaches: all that a kW could ever save, ten times over."""
    energy = max(problem.import_price) * problem.step_h * problem.steps
    return 10.0 * (1.0 + energy + sum(period.price_per_kw for period in problem.demand))


def _stored_range(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """The energy allowed between the steps [kWh], shape (N + 1,); the first is what is stored now.

    A battery found outside its range goes back into it: up as fast as it can charge, down as fast as
    the house uses what it gives. So the range is never one that can't be kept.
    """
    battery, step_h = problem.battery, problem.step_h
    now = battery.stored_kwh
    use = np.clip(np.asarray(problem.load_kw) - np.asarray(problem.pv_kw), 0.0, battery.max_discharge_kw)
    up = np.full(problem.steps, battery.max_charge_kw * battery.efficiency * step_h)
    reach_up = now + np.concatenate([[0.0], np.cumsum(up)])
    reach_down = now - np.concatenate([[0.0], np.cumsum(use * step_h / battery.efficiency)])
    low = np.minimum(battery.kwh(battery.min_soc_percent), reach_up)
    high = np.maximum(battery.kwh(battery.max_soc_percent), reach_down)
    low[0] = high[0] = now
    return low, high


def _within(battery_kw: np.ndarray, problem: Problem) -> np.ndarray:
    """Rounding taken off: what is nothing is 0, and no power passes the inverter's."""
    battery = problem.battery
    clipped = np.clip(battery_kw, -battery.max_discharge_kw, battery.max_charge_kw)
    return np.where(np.abs(clipped) < 1e-9, 0.0, clipped)  # noqa: PLR2004 - kW, a solver's zero
