"""A problem's exact optimum: first without binaries, then with those alone that it proves to need."""

from typing import NamedTuple

import numpy as np

from optimizer.highs import GAP, Basis, Highs, Solved
from optimizer.linear import Linear, Numbers
from optimizer.parameters import Parameters, parameters_of
from optimizer.problem import Problem
from optimizer.program import Program, Structure

LEAST_KW = 1e-6
"""Less is a solver's nothing."""
VALUE_DIGITS = 6
VALUE_MAX = 1e6
"""Currency per kWh; a limit missed makes energy dearer than any price, but a message carries no more."""


def is_paid_to_import(problem: Problem) -> np.ndarray:
    """The steps in which losses earn money, so that it pays to charge and discharge at once."""
    paid: np.ndarray = np.asarray(problem.import_price) < 0
    return paid


def is_paid_to_turn_round(problem: Problem) -> np.ndarray:
    """The steps in which it pays to import and export at once."""
    dearer = np.asarray(problem.export_price) > np.asarray(problem.import_price)
    pays: np.ndarray = dearer & (problem.max_grid_export_kw > 0)
    return pays


class Answer(NamedTuple):
    """What came of a problem."""

    solved: Solved
    battery_kw: np.ndarray
    """+ charging / - discharging, shape (batteries, N)."""
    car_kw: np.ndarray
    """Shape (cars, N)."""
    curtailed_kw: np.ndarray
    stored_value: np.ndarray
    """What a kWh more after each step would save, shape (batteries and cars, N); no rows if not known."""


class Exact:
    """Solves the problems of one structure, of any houses, in one HiGHS.

    Args:
        structure: of all its problems.
        problem: the first of them.
        gap: how far from the optimum whole numbers may leave it, as a share of it.
    """

    def __init__(self, structure: Structure, problem: Problem, gap: float = GAP) -> None:
        self._structure = structure
        self.linear = Linear(Program(structure), problem)
        self.highs = Highs(gap)
        self.basis: Basis | None = None
        """Where the last linear program ended."""

    def answer(
        self, problem: Problem, basis: Basis | None = None, time_limit_s: float | None = None
    ) -> Answer:
        """The optimum, or why there is none.

        Args:
            problem: of this structure.
            basis: where to begin; None: anew.
            time_limit_s: for all of it.
        """
        parameters = parameters_of(problem)
        numbers = self.linear.numbers(parameters)
        whole = self._suspects(problem)
        left_s = time_limit_s
        while True:
            solved = self._solve(numbers, whole, basis, left_s)
            if solved.x is None:
                return self._answer(solved, parameters)
            more = self._broken(solved.x, parameters, whole) & ~whole
            if not more.any():
                return self._answer(solved, parameters)
            if solved.outcome != "optimal":
                return self._answer(solved._replace(x=None), parameters)
            whole |= more
            if left_s is not None:
                left_s = max(0.0, left_s - solved.took_s)

    def _solve(
        self, numbers: Numbers, whole: np.ndarray, basis: Basis | None, limit_s: float | None
    ) -> Solved:
        """The optimum with these columns whole; what it leaves open is settled by a linear program."""
        if not whole.any():
            solved = self.highs.solve(numbers, basis=basis, time_limit_s=limit_s)
            if solved.outcome == "failed" and basis is not None:
                solved = self.highs.solve(numbers, time_limit_s=limit_s)
            if solved.outcome == "optimal":
                self.basis = self.highs.basis()
            return solved
        chosen = self.highs.solve(numbers, whole, time_limit_s=limit_s)
        if chosen.x is None:
            return chosen
        # Whole numbers are whole to a tolerance only; made so, what remains is exact, and has duals.
        settled = numbers._replace(low=numbers.low.copy(), high=numbers.high.copy())
        settled.low[whole] = settled.high[whole] = np.round(chosen.x[whole])
        rest = self.highs.solve(settled)
        if rest.outcome != "optimal":
            return chosen
        return rest._replace(
            outcome=chosen.outcome, told=chosen.told, gap=chosen.gap, took_s=chosen.took_s + rest.took_s
        )

    def _suspects(self, problem: Problem) -> np.ndarray:
        """The columns that are binary from the start: where it surely pays to do two things at once."""
        whole = np.zeros(len(self.linear.binary), bool)
        columns = self.linear.columns
        if "charging" in columns:
            whole[columns["charging"][:, is_paid_to_import(problem)]] = True
        if "buying" in columns:
            # Elsewhere doing both gains nothing, and the plan has their difference.
            whole[columns["buying"][is_paid_to_turn_round(problem)]] = True
        return whole

    def _broken(self, x: np.ndarray, parameters: Parameters, whole: np.ndarray) -> np.ndarray:
        """The columns that must be binary too, as a solution with some binaries shows."""
        more = np.zeros(len(x), bool)
        columns = self.linear.columns
        if "charging" in columns:
            both = np.minimum(x[columns["P_charge"]], x[columns["P_discharge"]]) > LEAST_KW
            more[columns["charging"][both]] = True
        if "car_on" in columns:
            power, there, on = x[columns["P_car"]], parameters["car_max"] > 0, columns["car_on"]
            too_little = (power > LEAST_KW) & (power < parameters["car_min"] - LEAST_KW)
            # What a step may not do goes to the next: if it happens again, all of the car's steps are binary.
            again = whole[on].any(axis=1, keepdims=True) & too_little.any(axis=1, keepdims=True)
            more[on[too_little | (there & again)]] = True
        return more

    def _powers(self, x: np.ndarray, name: str) -> np.ndarray:
        """A variable's numbers; no rows where the structure has none."""
        none = np.empty((0, self._structure.steps), int)
        powers: np.ndarray = x[self.linear.columns.get(name, none)]
        return powers

    def _answer(self, solved: Solved, parameters: Parameters) -> Answer:
        x = np.zeros(len(self.linear.binary)) if solved.x is None else solved.x
        car_kw = self._powers(x, "P_car")
        return Answer(
            solved,
            self._battery_kw(x, parameters),
            np.where(car_kw > LEAST_KW, car_kw, 0.0),
            self._powers(x, "P_curtailed"),
            self._stored_value(x, solved.row_dual, parameters),
        )

    def _battery_kw(self, x: np.ndarray, parameters: Parameters) -> np.ndarray:
        """The one power that stores what charging and discharging store together, should a tie leave both."""
        if not self._structure.batteries:
            return np.empty((0, self._structure.steps))
        per_charge, per_discharge = parameters["stored_per_charge"], parameters["stored_per_discharge"]
        stored = per_charge * x[self.linear.columns["P_charge"]]
        stored -= per_discharge * x[self.linear.columns["P_discharge"]]
        power: np.ndarray = stored / np.where(stored > 0, per_charge, per_discharge)
        return power

    def _stored_value(self, x: np.ndarray, row_dual: np.ndarray | None, parameters: Parameters) -> np.ndarray:
        """From what one more on the right side of the rules for stored energy costs."""
        if row_dual is None:
            return np.empty((0, 0))
        values = [np.empty((0, self._structure.steps))]
        if self._structure.batteries:
            # Stored after a step = stored before it + charged - discharged; after the last one, it is kept.
            steps, end = (-row_dual[row] for row in self.linear.rows["storage"])
            values.append(np.column_stack([(steps + parameters["reserved"])[:, 1:], end]))
        if self._structure.cars:
            values.append(self._car_value(x, row_dual, parameters))
        rounded = np.round(np.nan_to_num(np.concatenate(values)), VALUE_DIGITS)
        return np.clip(rounded, -VALUE_MAX, VALUE_MAX) + 0.0

    def _car_value(self, x: np.ndarray, row_dual: np.ndarray, parameters: Parameters) -> np.ndarray:
        """Of the rules for its target and its room; once it has charged its last, more would save nothing."""
        need, room = (np.abs(row_dual[row])[:, None] for row in self.linear.rows["cars"][2:])
        charges = x[self.linear.columns["P_car"]] > LEAST_KW
        short = x[self.linear.columns["E_short"]][:, None] > LEAST_KW
        until_then = np.flip(np.logical_or.accumulate(np.flip(charges, axis=1), axis=1), axis=1)
        later = np.column_stack([until_then[:, 1:], np.zeros(len(charges), bool)])
        value: np.ndarray = (need - room) * (later | short) * (parameters["car_gain"] > 0)
        return value
