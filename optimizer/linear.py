"""The linear program behind a compiled CVXPY problem: all its numbers, by one sparse product."""

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from optimizer.parameters import Parameters
from optimizer.problem import Problem
from optimizer.program import Program

Canonical = Any
"""CVXPY's ParamConeProg: A x + b is 0 in its first rows, >= 0 in the others; all linear in the parameters."""


class Numbers(NamedTuple):
    """Minimise cost @ x over low <= x <= high and row_low <= A x <= row_high; A by columns, without zeros."""

    cost: np.ndarray
    low: np.ndarray
    high: np.ndarray
    row_low: np.ndarray
    row_high: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    values: np.ndarray


class _Entries(NamedTuple):
    """Some entries of -A, in the order of its columns."""

    column: np.ndarray
    row: np.ndarray
    of_parameters: Any
    """Sparse, shape (entries, parameters); the last parameter is 1."""


class Linear:
    """A structure's linear program as a function of its parameters; CVXPY is asked once, and never again.

    A rule that limits one variable by itself becomes a bound of its column, and is no row.

    Args:
        program: the CVXPY problem of the structure.
        problem: any of that structure.
    """

    def __init__(self, program: Program, problem: Problem) -> None:
        canonical = program.canonical(problem)
        self._size, rows = canonical.x.size, canonical.constr_size
        self._equal = int(canonical.cone_dims.zero)
        self._slices = {
            canonical.id_to_param[key].name(): slice(first, first + canonical.param_id_to_size[key])
            for key, first in canonical.param_id_to_col.items()
            if key in canonical.id_to_param
        }
        self.columns = {
            canonical.id_to_var[key].name(): _indices(canonical.id_to_var[key].shape, first)
            for key, first in canonical.var_id_to_col.items()
        }
        """Of each variable, by its name and in its shape."""
        self.binary = np.zeros(self._size, bool)
        self.binary[[int(index[0]) for index in canonical.x.boolean_idx]] = True

        entries, right = _entries(canonical)
        alone, factor = _alone(entries, self._equal)
        is_row = np.ones(rows, bool)
        is_row[entries.row[alone]] = False
        number = np.where(is_row, np.cumsum(is_row) - 1, -1)
        inside = is_row[entries.row]
        self._column, self._row = entries.column[inside], number[entries.row[inside]].astype(np.int32)
        self._bounded, self._from_above = entries.column[alone], factor > 0
        blocks = [
            canonical.q[: self._size],
            entries.of_parameters[inside],
            right[is_row],
            canonical.lb_tensor,
            canonical.ub_tensor,
            sp.diags_array(1.0 / factor) @ right[entries.row[alone]],
        ]
        self._numbers = sp.vstack(blocks, format="csr")
        self._ends = np.cumsum([block.shape[0] for block in blocks])[:-1]
        self.rows = {
            name: [number[indices] for indices in _rows(canonical, rules)]
            for name, rules in program.rules.items()
        }
        """Of each rule, by its name and in its shape; -1 where it has become a bound."""

    def numbers(self, parameters: Parameters) -> Numbers:
        """The numbers for these parameters."""
        vector = np.ones(self._numbers.shape[1])
        for name, place in self._slices.items():
            vector[place] = parameters[name].ravel(order="F")
        cost, value, right, low, high, bound = np.split(self._numbers @ vector, self._ends)
        above, below = self._from_above, ~self._from_above
        np.minimum.at(high, self._bounded[above], bound[above])
        np.maximum.at(low, self._bounded[below], bound[below])
        low[self.binary] = np.maximum(low[self.binary], 0.0)
        high[self.binary] = np.minimum(high[self.binary], 1.0)
        row_low = np.full(len(right), -np.inf)
        row_low[: self._equal] = right[: self._equal]
        there = value != 0.0
        start = np.zeros(self._size, np.int32)
        np.cumsum(np.bincount(self._column[there], minlength=self._size)[:-1], out=start[1:])
        return Numbers(cost, low, high, row_low, right, start, self._row[there], value[there])


def _entries(canonical: Canonical) -> tuple[_Entries, Any]:
    """The entries of -A that are not always 0, and b."""
    size, rows = canonical.x.size, canonical.constr_size
    every = sp.coo_array(canonical.A)
    every.eliminate_zeros()
    place, number = np.unique(every.coords[0], return_inverse=True)
    shape = (len(place), every.shape[1])
    of_parameters = sp.csr_array((every.data, (number, every.coords[1])), shape=shape)
    inside = place < size * rows
    right = sp.csr_array((rows, every.shape[1]))
    if not inside.all():
        of_right = of_parameters[~inside].tocoo()
        row = place[~inside][of_right.coords[0]] - size * rows
        right = sp.csr_array((of_right.data, (row, of_right.coords[1])), shape=right.shape)
    return _Entries(place[inside] // rows, place[inside] % rows, -of_parameters[inside]), right


def _alone(entries: _Entries, equal: int) -> tuple[np.ndarray, np.ndarray]:
    """The entries that are the only one of an inequality, and constant; and their factors."""
    is_only = np.bincount(entries.row)[entries.row] == 1
    is_constant = np.diff(entries.of_parameters[:, :-1].tocsr().indptr) == 0
    alone = np.flatnonzero(is_only & is_constant & (entries.row >= equal))
    return alone, entries.of_parameters[alone][:, [-1]].toarray()[:, 0]


def _rows(canonical: Canonical, rules: list[Any]) -> list[np.ndarray]:
    """Where each rule's rows are, in its shape."""
    sizes = [rule.size for rule in canonical.constraints]
    firsts = dict(zip([rule.id for rule in canonical.constraints], np.cumsum([0, *sizes]), strict=False))
    return [_indices(rule.shape, firsts[rule.id]) for rule in rules]


def _indices(shape: tuple[int, ...], first: int) -> np.ndarray:
    """As many whole numbers from `first` on, in CVXPY's order: first index fastest."""
    return first + np.arange(int(np.prod(shape))).reshape(shape, order="F")
