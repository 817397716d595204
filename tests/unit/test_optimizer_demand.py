"""The demand charge: means of measurement intervals, what had passed of them, the months' floors, and what is expected anyway."""

from typing import Any

import pytest

from optimizer.plan import Plan
from optimizer.problem import DemandPeriod, Problem
from optimizer.solver import Solver
from tests.optimizer_cases import battery, problem

SOLVER = Solver()
EXACT = 1e-6


def period(price: float = 1000.0, floor: float = 0.0, name: str = "day", **more: Any) -> DemandPeriod:
    return DemandPeriod(name=name, price_per_kw=price, floor_kw=floor, **more)


def charged(load: list[float], *periods: DemandPeriod, **more: Any) -> Problem:
    """One price all day; if nothing else is said, all intervals are in the first period."""
    steps = more.get("interval_steps", 1)
    intervals = -(-(len(load) + more.get("passed_steps", 0)) // steps)
    fields: dict[str, Any] = {"demand_of_interval": [0] * intervals, **more}
    return problem(load, [1.0] * len(load), demand=list(periods), **fields)


def planned(case: Problem) -> Plan:
    plan = SOLVER.plan(case)
    assert plan.status == "optimal", plan.reason
    return plan


def test_shaves_the_peak_flat() -> None:
    peak = DemandPeriod(name="all day", price_per_kw=1000.0, floor_kw=0.0)
    plan = SOLVER.plan(problem([1.0, 5.0], [1.0, 1.0], demand=[peak], demand_of_interval=[0, 0]))
    assert plan.grid_kw == pytest.approx([3.0, 3.0])
    assert plan.peak_kw == pytest.approx(3.0)
    assert plan.demand_cost == pytest.approx(3000.0)


def test_a_peak_already_paid_for_is_free() -> None:
    peak = DemandPeriod(name="all day", price_per_kw=1000.0, floor_kw=5.0)
    plan = SOLVER.plan(problem([1.0, 5.0], [1.0, 1.0], demand=[peak], demand_of_interval=[0, 0]))
    assert plan.ders[0].power_kw == pytest.approx([0.0, 0.0], abs=EXACT)
    assert plan.demand_cost == pytest.approx(5000.0)


def test_each_period_has_its_own_peak() -> None:
    cheap = DemandPeriod(name="night", price_per_kw=10.0, floor_kw=0.0)
    dear = DemandPeriod(name="day", price_per_kw=1000.0, floor_kw=0.0)
    plan = SOLVER.plan(problem([0.0, 4.0], [1.0, 1.0], demand=[cheap, dear], demand_of_interval=[0, 1]))
    assert plan.grid_kw == pytest.approx([4.0, 0.0], abs=EXACT)
    assert plan.demand_cost == pytest.approx(40.0)


def test_a_peak_is_the_mean_of_its_interval() -> None:
    """Half an hour, of two steps of a quarter: 9 and 1 kW are a mean of 5 kW, and nothing is to be shaved."""
    plan = planned(charged([9.0, 1.0, 5.0, 5.0], period(), step_h=0.25, interval_steps=2))
    assert plan.demand_cost == pytest.approx(5000.0)
    assert plan.peak_kw == pytest.approx(9.0)
    assert plan.ders[0].power_kw == pytest.approx([0.0] * 4, abs=EXACT)


def test_intervals_are_levelled_against_one_another() -> None:
    plan = planned(charged([1.0, 1.0, 5.0, 5.0], period(), step_h=0.25, interval_steps=2))
    means = [sum(plan.grid_kw[:2]) / 2, sum(plan.grid_kw[2:]) / 2]
    assert means == pytest.approx([3.0, 3.0])
    assert plan.demand_cost == pytest.approx(3000.0)


def test_what_has_passed_of_an_interval_counts() -> None:
    """2 kWh in its first quarter is a mean of 4 kW already; what is left of it may add nothing to 6 kW."""
    case = charged(
        [4.0, 1.0, 1.0], period(), step_h=0.25, interval_steps=2, passed_steps=1, passed_kwh=2.0, batteries=[]
    )
    assert planned(case).demand_cost == pytest.approx((2.0 + 4.0 * 0.25) / 0.5 * 1000.0)


def test_a_step_in_hand_counts_for_what_is_left_of_it() -> None:
    """Of the hour 3 kWh have been imported; at 4 kW its last half makes it a mean of 5 kW."""
    case = charged([4.0, 1.0], period(), first_step_h=0.5, passed_kwh=3.0, batteries=[])
    assert planned(case).demand_cost == pytest.approx(5000.0)


def test_each_month_has_its_own_peak() -> None:
    """June has had its 5 kW; in July every kW is a new one."""
    june, july = period(floor=5.0, name="2024-06 day"), period(name="2024-07 day")
    plan = planned(charged([1.0, 5.0, 5.0, 1.0], june, july, demand_of_interval=[0, 0, 1, 1]))
    assert plan.grid_kw[2] == pytest.approx(1.0)
    assert plan.grid_kw[3] == pytest.approx(1.0)
    assert sum(plan.grid_kw[:2]) == pytest.approx(10.0)
    assert plan.demand_cost == pytest.approx(6000.0)


def test_export_lowers_no_mean() -> None:
    """The meter counts what is taken; what is fed in is another register."""
    case = charged(
        [4.0, 0.0], period(), interval_steps=2, batteries=[], pv_kw=[0.0, 4.0], max_grid_export_kw=9.0
    )
    assert planned(case).demand_cost == pytest.approx(2000.0)


@pytest.mark.parametrize(
    ("price", "given_kw"),
    [
        (150.0, 0.0),  # a quarter of it above each level: 37.5, 75, 112.5 a kW against wear of 200 for two
        (240.0, 1.0),  # above 3 levels 180 a kW, above 4 of them 240
        (300.0, 2.0),
    ],
)
def test_above_each_expected_level_a_share_is_paid(price: float, given_kw: float) -> None:
    """A kWh costs 100 into the battery and 100 out of it; 6 kW are needed once, 0 kW before."""
    case = charged(
        [0.0, 6.0],
        period(price, expected_kw=[1.0, 2.0, 4.0, 5.0]),
        period(0.0, name="night"),
        demand_of_interval=[1, 0],
        batteries=[],
    )
    with_battery = problem(
        [0.0, 6.0],
        [0.0, 0.0],
        demand=case.demand,
        demand_of_interval=[1, 0],
        batteries=[battery(wear_per_kwh=100.0)],
    )
    plan = planned(with_battery)
    assert plan.ders[0].power_kw[1] == pytest.approx(-given_kw, abs=EXACT)
    assert planned(case).demand_cost == pytest.approx(6.0 * price)


def test_a_level_below_the_floor_is_the_floor() -> None:
    assert period(floor=3.0, expected_kw=[1.0, 2.0, 4.0, 5.0]).levels_kw == [3.0, 3.0, 4.0, 5.0]
    assert period(floor=3.0).levels_kw == [3.0] * 4
