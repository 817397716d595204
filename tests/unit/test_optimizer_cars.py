"""Cars in the plan: the cheapest hours, nothing or at least 6 A, the target if it can be had, the fuse before it."""

from typing import Any

import msgspec
import pytest

from optimizer.plan import Plan
from optimizer.problem import DemandPeriod
from optimizer.solver import Solver
from tests.optimizer_cases import battery, car, charging

SOLVER = Solver()
EXACT = 1e-6


def powers(plan: Plan, der_id: str = "ev") -> list[float]:
    assert plan.status == "optimal", plan.reason
    return next(der.power_kw for der in plan.ders if der.der_id == der_id)


def test_charges_in_the_cheapest_hours_before_it_leaves() -> None:
    """10 kWh by the end of the third hour; the cheapest hour comes too late."""
    plan = SOLVER.plan(charging([0.0] * 4, [30.0, 10.0, 20.0, 1.0], car(departure_step=3)))
    assert powers(plan) == pytest.approx([0.0, 5.0, 5.0, 0.0], abs=EXACT)
    assert plan.ders[0].stored_kwh == pytest.approx([0.0, 0.0, 5.0, 10.0, 10.0])
    assert not plan.violations


def test_losses_on_the_way_into_the_car_are_bought_too() -> None:
    plan = SOLVER.plan(charging([0.0], [10.0], car(target_soc_percent=7.2, efficiency=0.9, departure_step=1)))
    assert powers(plan) == pytest.approx([4.0])


@pytest.mark.parametrize(
    ("target_percent", "kw"),
    [
        (0.0, [0.0, 0.0]),  # nothing lacks
        (2.0, [2.0, 0.0]),  # 1 kWh lacks: 2 kW is the least
        (12.0, [4.0, 2.0]),  # 6 kWh: the dear hour at its least, the rest in the cheap one
        (10.2, [3.6, 2.0]),  # 5.1 kWh, and half a kWh more: so little is not worth a step of its own
        (16.0, [5.0, 3.0]),
    ],
)
def test_nothing_or_at_least_six_amperes(target_percent: float, kw: list[float]) -> None:
    plan = SOLVER.plan(charging([0.0] * 2, [10.0, 20.0], car(target_soc_percent=target_percent)))
    assert powers(plan) == pytest.approx(kw, abs=EXACT)
    assert not plan.violations


@pytest.mark.parametrize("lacks_percent", [0.001, 0.5, 3.9])
def test_what_lacks_less_than_the_least_power_gives_is_charged_all_the_same(lacks_percent: float) -> None:
    """A step at 2 kW is 2 kWh, 4 % of the car: however little lacks, it is not left out for being cheap."""
    peak = DemandPeriod(name="day", price_per_kw=5000.0, floor_kw=0.0)
    lacking = car(target_soc_percent=lacks_percent)
    plan = SOLVER.plan(charging([0.0] * 2, [90.0, 80.0], lacking, demand=[peak], demand_of_interval=[0, 0]))
    assert powers(plan) == pytest.approx([0.0, 2.0], abs=EXACT)
    assert not plan.violations


def test_a_car_of_one_power_is_charged_with_it() -> None:
    """4.14 kW or nothing, 9 kWh: three times a third of an hour would be enough, so three hours it is."""
    only = car(min_charge_kw=4.14, max_charge_kw=4.14, target_soc_percent=18.0, departure_step=4)
    plan = SOLVER.plan(charging([0.0] * 4, [10.0, 40.0, 20.0, 30.0], only))
    assert powers(plan) == pytest.approx([4.14, 0.0, 4.14, 4.14], abs=EXACT)


def test_the_last_kwh_of_a_full_car() -> None:
    """1 kWh of room, and 2 kW the least: it stops by itself."""
    plan = SOLVER.plan(
        charging([0.0], [10.0], car(soc_percent=98.0, target_soc_percent=100.0, departure_step=1))
    )
    assert powers(plan) == pytest.approx([2.0])
    assert plan.ders[0].stored_kwh == [49.0, 50.0]
    assert not plan.violations


def test_a_target_out_of_reach_is_named_and_all_is_charged_that_can_be() -> None:
    plan = SOLVER.plan(charging([0.0] * 3, [90.0, 10.0, 10.0], car(target_soc_percent=80.0)))
    assert powers(plan) == pytest.approx([5.0, 5.0, 0.0], abs=EXACT)
    assert plan.violations == ["target_soc_percent of ev, 80 %, is missed by 30 kWh at its departure"]


def test_a_car_that_is_gone_is_not_charged() -> None:
    plan = SOLVER.plan(charging([0.0] * 2, [10.0, 10.0], car(departure_step=0)))
    assert powers(plan) == [0.0, 0.0]
    assert plan.violations == ["target_soc_percent of ev, 20 %, is missed by 10 kWh at its departure"]


def test_no_peak_is_too_dear_for_the_target() -> None:
    peak = DemandPeriod(name="day", price_per_kw=1e5, floor_kw=0.0)
    case = charging([1.0] * 4, [10.0] * 4, demand=[peak], demand_of_interval=[0] * 4)
    plan = SOLVER.plan(case)
    assert powers(plan) == pytest.approx([2.5] * 4)
    assert not plan.violations


def test_the_fuse_goes_before_the_target() -> None:
    """4 kW for the car in the first hour; in the second 1 kW is left, less than the car can take."""
    plan = SOLVER.plan(charging([2.0, 5.0], [10.0, 10.0], max_grid_import_kw=6.0))
    assert powers(plan) == pytest.approx([4.0, 0.0], abs=EXACT)
    assert max(plan.grid_kw) <= 6.0 + EXACT
    assert plan.violations == ["target_soc_percent of ev, 20 %, is missed by 6 kWh at its departure"]


def test_the_fuse_is_not_passed_by_a_watt() -> None:
    """A whole hour of charging would be won by so little."""
    plan = SOLVER.plan(charging([4.001], [10.0], max_grid_import_kw=6.0))
    assert powers(plan) == [0.0]
    assert plan.grid_kw == [4.001]


def test_a_battery_makes_room_under_the_fuse() -> None:
    """It charges beforehand what the car takes more than the fuse can carry."""
    case = charging(
        [0.0, 1.0], [10.0, 10.0], car(departure_step=2, target_soc_percent=18.0), max_grid_import_kw=5.0
    )
    case = msgspec.structs.replace(case, batteries=[battery()])
    plan = SOLVER.plan(case)
    assert not plan.violations
    assert sum(powers(plan)) == pytest.approx(9.0)
    assert max(plan.grid_kw) <= 5.0 + EXACT
    assert sum(powers(plan, "battery")) == pytest.approx(0.0, abs=EXACT)


def test_two_cars_share_the_fuse() -> None:
    """10 kWh each within four hours at 5 kW, at most one of them at full power."""
    first, second = car(der_id="first", departure_step=2), car(der_id="second", departure_step=4)
    plan = SOLVER.plan(charging([0.0] * 4, [10.0, 10.0, 10.0, 10.0], second, first, max_grid_import_kw=5.0))
    assert powers(plan, "first") == pytest.approx([5.0, 5.0, 0.0, 0.0], abs=EXACT)
    assert powers(plan, "second") == pytest.approx([0.0, 0.0, 5.0, 5.0], abs=EXACT)


def test_solar_surplus_goes_into_the_car_first() -> None:
    plan = SOLVER.plan(charging([1.0, 1.0, 1.0], [10.0, 10.0, 10.0], pv_kw=[0.0, 5.0, 7.0]))
    assert powers(plan) == pytest.approx([0.0, 4.0, 6.0], abs=EXACT) or sum(powers(plan)) == pytest.approx(
        10.0
    )
    assert plan.energy_cost == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("fields", "asked_kwh", "room_kwh"),
    [
        ({"target_soc_percent": 0.0}, 0.0, 50.0),
        ({"target_soc_percent": 0.2}, 0.3, 50.0),  # 0.1 kWh lack; the least that a step gives is 1 kWh
        ({"target_soc_percent": 3.0}, 1.5, 50.0),
        ({"target_soc_percent": 4.0}, 2.0, 50.0),
        ({"target_soc_percent": 4.2}, 2.3, 50.0),  # a whole step at 8 kW gives 2 kWh
        ({"target_soc_percent": 100.0, "soc_percent": 99.0}, 0.5, 1.0),
        ({"target_soc_percent": 100.0, "soc_percent": 97.0, "max_charge_kw": 4.0}, 1.5, 2.0),
        ({"target_soc_percent": 4.0, "max_charge_kw": 0.0, "min_charge_kw": 0.0}, 2.0, 50.0),
    ],
)
def test_what_is_asked_is_worth_a_step(fields: dict[str, Any], asked_kwh: float, room_kwh: float) -> None:
    asking = car(**{"min_charge_kw": 4.0, "max_charge_kw": 8.0, **fields})
    assert asking.asked_kwh(0.25) == pytest.approx(asked_kwh)
    assert asking.room_kwh(0.25) == pytest.approx(room_kwh)
