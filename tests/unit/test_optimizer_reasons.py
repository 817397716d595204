"""Why a power is what it is: each name where it binds, by hand."""

from typing import Any

import pytest

from optimizer.plan import plan_of
from optimizer.problem import DemandPeriod, Problem
from optimizer.reasons import limits_of
from optimizer.solver import Solver
from tests.optimizer_cases import BATTERY, battery, car, charging, problem

SOLVER = Solver()
HALF = battery(soc_percent=50.0)
DAY = DemandPeriod(name="2024-07 peak", price_per_kw=1000.0, floor_kw=0.0)


def reasons(case: Problem) -> list[str]:
    """Of the first battery or car, as planned."""
    plan = SOLVER.plan(case)
    assert plan.status == "optimal", plan.reason
    return plan.ders[0].limit


def reason_of(power_kw: float, case: Problem, curtailed_kw: float = 0.0) -> str:
    """Of the battery's power in the one step of a problem."""
    plan = plan_of(case, [[power_kw]], [], [curtailed_kw], status="optimal")
    return limits_of(plan, case)[0][0]


def one_step(load: float, pv: float = 0.0, *, of: Any = HALF, **more: Any) -> Problem:
    return problem([load], [10.0], of, pv_kw=[pv], **more)


# As planned


def test_buying_for_later_is_held_by_what_is_needed_then() -> None:
    assert reasons(problem([0.0, 3.0], [1.0, 30.0])) == ["price", "self-consumption"]


def test_full_power_both_ways() -> None:
    case = problem(
        [0.0, 9.0], [1.0, 30.0], battery(max_charge_kw=3.0, max_discharge_kw=2.0, soc_percent=20.0)
    )
    assert reasons(case) == ["price", "max_discharge_kw"]
    case = problem([0.0, 0.0, 6.0], [1.0, 1.0, 30.0], battery(max_charge_kw=3.0, max_discharge_kw=7.0))
    assert reasons(case) == ["max_charge_kw", "max_charge_kw", "self-consumption"]


def test_full_and_empty() -> None:
    small = battery(capacity_kwh=2.0)
    assert reasons(problem([0.0, 3.0, 1.0], [1.0, 30.0, 29.0], small)) == [
        "max_soc_percent",
        "min_soc_percent",
        "min_soc_percent",
    ]


def test_energy_kept_for_a_dearer_hour_is_a_matter_of_price() -> None:
    """Not of self-consumption, even where the sun just covers the load."""
    assert reasons(
        problem([1.0, 1.0, 5.0], [10.0, 10.0, 30.0], battery(soc_percent=40.0), pv_kw=[0.0, 1.0, 0.0])
    ) == [
        "price",
        "price",
        "max_discharge_kw",
    ]


def test_the_sun_is_stored_as_far_as_it_goes() -> None:
    """Bought energy would not be cheaper than that of the next hour."""
    case = problem([1.0, 3.0], [10.0, 10.0], pv_kw=[3.0, 0.0])
    assert reasons(case) == ["solar surplus", "min_soc_percent"]


def test_a_full_battery_lets_the_sun_go() -> None:
    assert reasons(problem([1.0], [10.0], battery(soc_percent=100.0), pv_kw=[5.0])) == ["max_soc_percent"]


def test_a_peak_is_held_from_both_sides() -> None:
    case = problem([1.0, 5.0], [1.0, 1.0], demand=[DAY], demand_of_interval=[0, 0])
    assert reasons(case) == ["peak of 2024-07 peak"] * 2


def test_a_peak_that_costs_nothing_yet_holds_nobody() -> None:
    free = DemandPeriod(name="day", price_per_kw=1000.0, floor_kw=9.0)
    assert reasons(problem([1.0, 5.0], [1.0, 1.0], demand=[free], demand_of_interval=[0, 0])) == [
        "min_soc_percent",
        "min_soc_percent",
    ]


def test_a_peak_below_what_is_expected_anyway_holds_nobody() -> None:
    case = one_step(3.0, demand=[DAY], demand_of_interval=[0])
    assert reason_of(0.0, case) == "peak of 2024-07 peak"
    expected = DemandPeriod(name="day", price_per_kw=1000.0, floor_kw=0.0, expected_kw=[4.0, 5.0, 6.0, 7.0])
    assert reason_of(0.0, one_step(3.0, demand=[expected], demand_of_interval=[0])) == "price"


def test_the_fuse_from_both_sides() -> None:
    assert reasons(problem([1.0, 5.0], [1.0, 10.0], max_grid_import_kw=3.0)) == ["max_grid_import_kw"] * 2


def test_what_can_be_sold() -> None:
    case = problem(
        [0.0, 0.0],
        [90.0, 90.0],
        pv_kw=[8.0, 0.0],
        export_price=[2.0, 5.0],
        max_grid_export_kw=3.0,
    )
    assert reasons(case) == ["price", "max_grid_export_kw"]


# One step, by hand


@pytest.mark.parametrize(
    ("power_kw", "case", "curtailed_kw", "name"),
    [
        (4.0, one_step(0.0), 0.0, "max_charge_kw"),
        (-4.0, one_step(4.0), 0.0, "max_discharge_kw"),
        (2.0, one_step(1.0, 3.0), 0.0, "solar surplus"),
        (1.0, one_step(1.0, 3.0), 1.0, "price"),  # it will be full without the rest
        (1.0, one_step(1.0, 3.0, max_grid_export_kw=1.0), 0.0, "max_grid_export_kw"),
        (1.0, one_step(1.0, 3.0, max_grid_export_kw=9.0), 0.0, "price"),
        (3.0, one_step(1.0, 3.0), 0.0, "price"),  # more than the sun gives
        (1.0, one_step(1.0, of=battery(soc_percent=90.0)), 0.0, "max_soc_percent"),
        (1.0, one_step(2.0, max_grid_import_kw=3.0), 0.0, "max_grid_import_kw"),
        (-1.0, one_step(1.0), 0.0, "self-consumption"),
        (-1.0, one_step(3.0), 0.0, "price"),
        (-1.0, one_step(3.0, of=battery(soc_percent=10.0)), 0.0, "min_soc_percent"),
        (-2.0, one_step(1.0, max_grid_export_kw=1.0), 0.0, "max_grid_export_kw"),
        (-1.0, one_step(4.0, max_grid_import_kw=3.0), 0.0, "max_grid_import_kw"),
        (0.0, one_step(3.0), 0.0, "price"),
        (0.0, one_step(1.0, 1.0), 0.0, "price"),
        (0.0, one_step(1.0, 3.0), 2.0, "price"),
        (0.0, one_step(3.0, of=BATTERY), 0.0, "min_soc_percent"),
        (0.0, one_step(0.0, 3.0, of=BATTERY, max_grid_export_kw=9.0), 0.0, "price"),
        (0.0, one_step(3.0, of=battery(soc_percent=100.0)), 0.0, "price"),
        (0.0, one_step(1.0, 3.0, of=battery(soc_percent=100.0)), 2.0, "max_soc_percent"),
        (0.0, one_step(3.0, max_grid_import_kw=3.0), 0.0, "max_grid_import_kw"),
        (0.0, one_step(3.0, of=battery(max_charge_kw=0.0, max_discharge_kw=0.0)), 0.0, "max_charge_kw"),
    ],
)
def test_what_holds_a_battery(power_kw: float, case: Problem, curtailed_kw: float, name: str) -> None:
    assert reason_of(power_kw, case, curtailed_kw) == name


# Cars


def test_what_holds_a_car() -> None:
    """10 kWh: the cheap hours first, at full power and then what is left; nothing when it is done, or has gone."""
    case = charging(
        [0.0] * 6, [40.0, 30.0, 10.0, 20.0, 30.0, 1.0], car(departure_step=5, target_soc_percent=16.0)
    )
    assert reasons(case) == [
        "price",
        "price",
        "max_charge_kw",
        "target_soc_percent",
        "target_soc_percent",
        "departure",
    ]


def test_the_least_a_car_takes() -> None:
    assert reasons(charging([0.0, 0.0], [10.0, 20.0], car(target_soc_percent=12.0))) == [
        "target_soc_percent",
        "min_charge_kw",
    ]


def test_no_room_for_a_car_under_the_fuse() -> None:
    assert reasons(charging([2.0, 5.0], [10.0, 10.0], max_grid_import_kw=6.0)) == ["max_grid_import_kw"] * 2


def test_a_car_under_a_peak_and_on_the_sun() -> None:
    case = charging([1.0] * 3, [10.0] * 3, demand=[DAY], demand_of_interval=[0] * 3)
    assert reasons(case) == ["peak of 2024-07 peak"] * 3
    sunny = charging([1.0, 1.0], [10.0, 90.0], car(target_soc_percent=6.0), pv_kw=[4.0, 0.0])
    assert reasons(sunny) == ["solar surplus", "target_soc_percent"]
