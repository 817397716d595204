"""HiGHS, kept alive: new numbers in, a hot basis, and its answer in our words."""

from typing import Literal, NamedTuple

import highspy
import numpy as np

from optimizer.linear import Numbers

Outcome = Literal["optimal", "stopped", "infeasible", "failed"]
Basis = highspy.HighsBasis
"""A byte for each column and row: all that is kept of a solve."""

GAP = 1e-6
"""How far from the optimum a mixed-integer solution may be, as a share of it."""
NODES_MAX = 2000
"""Branches of a mixed-integer program before it is stopped: unlike a time, the same on every machine."""
OPTIONS = {
    "output_flag": False,
    "threads": 1,
    "mip_max_nodes": NODES_MAX,
    # Devex: from a hot basis, the exact weights of steepest edge cost more than they save.
    "simplex_dual_edge_weight_strategy": 1,
}
BY_COLUMN, MINIMIZE = 1, 1
OUTCOMES: dict[highspy.HighsModelStatus, Outcome] = {
    highspy.HighsModelStatus.kOptimal: "optimal",
    highspy.HighsModelStatus.kInfeasible: "infeasible",
    highspy.HighsModelStatus.kTimeLimit: "stopped",
    highspy.HighsModelStatus.kSolutionLimit: "stopped",
}


class Solved(NamedTuple):
    """What came of one run."""

    outcome: Outcome
    told: str
    """HiGHS's word for it."""
    x: np.ndarray | None
    """The best it has found, if anything."""
    row_dual: np.ndarray | None
    """What one more on each row's right side would cost; of a linear program."""
    cost: float
    gap: float
    """How far it may be from the optimum, as a share of it; of a mixed-integer program."""
    took_s: float


class Highs:
    """One instance for all programs of one structure.

    All its numbers are passed on each time, in place of the last ones: in a horizon that has rolled, so many
    differ that it is faster than to change these alone. What stays is the instance and its memory.
    """

    def __init__(self, gap: float = GAP) -> None:
        self._highs = highspy.Highs()  # type: ignore[no-untyped-call]
        for option, value in {**OPTIONS, "mip_rel_gap": gap}.items():
            self._highs.setOptionValue(option, value)

    def solve(
        self,
        numbers: Numbers,
        whole: np.ndarray | None = None,
        basis: Basis | None = None,
        time_limit_s: float | None = None,
    ) -> Solved:
        """The optimum.

        Args:
            numbers: the program.
            whole: the columns that must be whole numbers, as a mask; None: it is a linear program.
            basis: where to begin a linear program, from one of the same structure; None: anew, so that
                nothing depends on the past.
            time_limit_s: of this run; None: as long as it takes.
        """
        highs = self._highs
        highs.setOptionValue("presolve", "off" if whole is None else "choose")
        began_s = highs.getRunTime()
        # HiGHS counts a linear program from when the instance was made, a mixed-integer one from this run on.
        spent_s = began_s if whole is None else 0.0
        highs.setOptionValue("time_limit", np.inf if time_limit_s is None else spent_s + time_limit_s)
        self._pass(numbers, whole)
        if basis is not None:
            highs.setBasis(basis)
        highs.run()
        status, information = highs.getModelStatus(), highs.getInfo()
        outcome = OUTCOMES.get(status, "failed")
        found = information.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        usable = outcome == "optimal" or (outcome == "stopped" and found)
        solution = highs.getSolution()
        return Solved(
            outcome,
            _told(highs.modelStatusToString(status)),
            np.array(solution.col_value) if usable else None,
            np.array(solution.row_dual) if usable and whole is None else None,
            float(information.objective_function_value),
            float(information.mip_gap),
            highs.getRunTime() - began_s,
        )

    def basis(self) -> Basis:
        """Where the last run ended."""
        return self._highs.getBasis()

    def _pass(self, numbers: Numbers, whole: np.ndarray | None) -> None:
        columns, rows = len(numbers.cost), len(numbers.row_low)
        self._highs.passModel(
            columns,
            rows,
            len(numbers.values),
            BY_COLUMN,
            MINIMIZE,
            0.0,
            numbers.cost,
            numbers.low,
            numbers.high,
            numbers.row_low,
            numbers.row_high,
            numbers.starts,
            numbers.rows,
            numbers.values,
            np.zeros(columns, np.int32) if whole is None else whole.astype(np.int32),
        )


def _told(word: str) -> str:
    # It calls its limit of branches one of solutions.
    return word.lower().replace("solution limit", f"limit of {NODES_MAX} branches")
