"""Random houses: the optimum of a formulation written independently, and what holds for every plan."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.plan import TOLERANCE, Plan, check
from optimizer.problem import Problem
from optimizer.solver import Solver
from tests.optimizer_cases import random_case, worth
from tests.optimizer_reference import reference_objective

SOLVER = Solver()
AGREE = 1e-6
"""Of the cost, or of 1 in the tariff's currency."""
MIXED = [
    {"modes": True, "cars": 0},
    {"modes": False, "cars": 1},
    {"modes": True, "cars": 2},
]
"""Negative prices and export dearer than import; cars; all of it."""


def agrees(case: Problem, *, binaries: bool) -> None:
    plan = SOLVER.plan(case)
    assert plan.status == "optimal", plan.reason
    assert plan.objective is not None
    assert plan.objective == pytest.approx(reference_objective(case, binaries=binaries), rel=AGREE, abs=AGREE)
    # Charging and discharging at once would be netted in the plan and show here; so would any lost term.
    assert worth(plan, case) == pytest.approx(plan.objective, rel=AGREE, abs=AGREE)


@pytest.mark.parametrize("seed", range(200))
def test_agrees_with_clarabel(seed: int) -> None:
    agrees(random_case(random.Random(seed)), binaries=False)


@pytest.mark.parametrize("seed", [7, 8])
def test_agrees_with_clarabel_over_48_hours(seed: int) -> None:
    agrees(random_case(random.Random(seed), 192), binaries=False)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", MIXED, ids=str)
def test_agrees_with_binaries_everywhere(seed: int, kind: dict[str, Any]) -> None:
    agrees(random_case(random.Random(seed), **kind), binaries=True)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 5]), st.sampled_from([{}, *MIXED]))
def test_every_plan_keeps_to_physics(seed: int, n: int, kind: dict[str, Any]) -> None:
    case = random_case(random.Random(seed), n, **kind)
    plan = SOLVER.plan(case)
    assert plan.status == "optimal", plan.reason
    assert check(plan, case) is None
    keeps_to_physics(plan, case)
    assert worth(plan, case) == pytest.approx(plan.objective, rel=AGREE, abs=AGREE)


def keeps_to_physics(plan: Plan, case: Problem) -> None:
    """By its own words, not by those of the check."""
    of_batteries, of_cars = plan.ders[: len(case.batteries)], plan.ders[len(case.batteries) :]
    for i, (grid, load, pv, curtailed) in enumerate(
        zip(plan.grid_kw, case.load_kw, case.pv_kw, plan.curtailed_kw, strict=True)
    ):
        taken = sum(der.power_kw[i] for der in plan.ders)
        assert grid + pv - curtailed == pytest.approx(load + taken, abs=1e-9)
        assert 0.0 <= curtailed <= pv
        assert -case.max_grid_export_kw - TOLERANCE <= grid
        assert grid <= max(case.max_grid_import_kw, load - pv) + TOLERANCE
    for der, battery in zip(of_batteries, case.batteries, strict=True):
        low, high = battery.kwh(battery.min_soc_percent), battery.kwh(battery.max_soc_percent)
        now = battery.stored_kwh
        assert all(-battery.max_discharge_kw <= kw <= battery.max_charge_kw for kw in der.power_kw)
        assert all(min(low, now) - TOLERANCE <= kwh <= max(high, now) + TOLERANCE for kwh in der.stored_kwh)
    for der, car in zip(of_cars, case.cars, strict=True):
        for i, kw in enumerate(der.power_kw):
            assert kw == 0.0 or car.min_charge_kw - TOLERANCE <= kw <= car.max_charge_kw
            assert kw == 0.0 or i < car.departure_step
