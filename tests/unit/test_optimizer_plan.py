"""What follows from powers, and the check that a plan must pass before it is published."""

from typing import Any

import msgspec
import pytest

from optimizer.plan import TOLERANCE, check, plan_of
from tests.optimizer_cases import battery, car, charging, problem


def test_grid_energy_and_costs_follow_from_the_powers() -> None:
    case = problem(
        [1.0, 1.0],
        [10.0, 30.0],
        battery(efficiency_roundtrip=0.81, soc_percent=50.0),
        pv_kw=[0.0, 6.0],
        export_price=[0.0, 2.0],
        max_grid_export_kw=9.0,
        cars=[car(efficiency=0.9)],
        max_grid_import_kw=2.0,
    )
    plan = plan_of(case, [[2.0, -0.9]], [[0.0, 5.0]], [0.0, 0.5], status="optimal")
    assert plan.grid_kw == pytest.approx([3.0, -0.4])
    assert plan.ders[0].stored_kwh == pytest.approx([5.0, 6.8, 5.8])
    assert plan.ders[1].stored_kwh == pytest.approx([0.0, 0.0, 4.5])
    assert plan.energy_cost == pytest.approx(3.0 * 10.0 - 0.4 * 2.0)
    assert plan.peak_kw == pytest.approx(3.0)
    assert plan.violations == [
        "max_grid_import_kw of 2 kW is passed by up to 1 kW (step 0)",
        "target_soc_percent of ev, 20 %, is missed by 5.5 kWh at its departure",
    ]


def test_a_car_stops_by_itself_when_it_is_full() -> None:
    case = charging([0.0, 0.0], [1.0, 1.0], car(soc_percent=98.0, target_soc_percent=100.0))
    plan = plan_of(case, [], [[2.0, 0.0]], [0.0, 0.0], status="optimal")
    assert plan.ders[0].stored_kwh == [49.0, 50.0, 50.0]
    assert check(plan, case) is None


@pytest.mark.parametrize(
    ("change", "of_der", "cause"),
    [
        ({"grid_kw": [2.1, 0.0]}, {}, "balance"),
        ({"grid_kw": [6.0, 0.0]}, {"power_kw": [5.0, -1.0]}, "max_charge_kw of battery"),
        ({"grid_kw": [2.0, -1.0]}, {"power_kw": [1.0, -2.0]}, "max_grid_export_kw"),
        ({"curtailed_kw": [1.0, 0.0], "grid_kw": [3.0, 0.0]}, {}, "curtailed PV"),
        ({"curtailed_kw": [-1.0, 0.0], "grid_kw": [1.0, 0.0]}, {}, "curtailed PV below 0"),
        ({}, {"stored_kwh": [0.5, 1.0, 0.0]}, "battery starts"),
        ({}, {"stored_kwh": [0.0, 1.5, 0.5]}, "change of stored energy of battery"),
    ],
)
def test_check_finds(change: dict[str, Any], of_der: dict[str, Any], cause: str) -> None:
    case = problem([1.0, 1.0], [10.0, 30.0])
    plan = plan_of(case, [[1.0, -1.0]], [], [0.0, 0.0], status="optimal")
    assert check(plan, case) is None
    ders = [msgspec.structs.replace(plan.ders[0], **of_der)]
    fault = check(msgspec.structs.replace(plan, ders=ders, **change), case)
    assert fault is not None
    assert fault.startswith(cause)


def test_check_finds_too_fast_a_discharge() -> None:
    case = problem([1.0, 6.0], [10.0, 30.0])
    fault = check(plan_of(case, [[1.0, -5.0]], [], [0.0, 0.0], status="optimal"), case)
    assert fault is not None
    assert fault.startswith("max_discharge_kw of battery")


def test_check_finds_a_charge_outside_its_range() -> None:
    case = problem(
        [3.0, 1.0], [1.0, 1.0], battery(soc_percent=20.0, min_soc_percent=10.0, max_soc_percent=30.0)
    )
    for powers, cause in (([-2.0, 0.0], "min_soc_percent"), ([2.0, 0.0], "max_soc_percent")):
        fault = check(plan_of(case, [powers], [], [0.0, 0.0], status="optimal"), case)
        assert fault is not None
        assert fault.startswith(cause)


def test_check_finds_a_battery_that_adds_to_what_passes_the_import_limit() -> None:
    case = problem([5.0, 1.0], [1.0, 9.0], max_grid_import_kw=4.0)
    assert check(plan_of(case, [[0.0, 0.0]], [], [0.0, 0.0], status="optimal"), case) is None
    fault = check(plan_of(case, [[1.0, 0.0]], [], [0.0, 0.0], status="optimal"), case)
    assert fault == "max_grid_import_kw: 6 kW at step 0, the limit is 5 kW"


def test_outside_its_range_a_battery_may_only_move_back() -> None:
    case = problem(
        [3.0, 3.0], [1.0, 1.0], battery(soc_percent=5.0, min_soc_percent=10.0, max_soc_percent=30.0)
    )
    for powers in ([0.2, 0.1], [0.0, 0.0]):
        assert check(plan_of(case, [powers], [], [0.0, 0.0], status="optimal"), case) is None
    fault = check(plan_of(case, [[0.2, -0.1]], [], [0.0, 0.0], status="optimal"), case)
    assert fault is not None
    assert fault.startswith("min_soc_percent of battery")


@pytest.mark.parametrize(
    ("powers", "cause"),
    [
        ([0.0, 2.0, 0.0], None),
        ([0.0, 5.0, 0.0], None),
        ([0.0, 1.9, 0.0], "min_charge_kw less its power of ev: 0.1 at step 1, the limit is 0"),
        ([0.0, -2.0, 0.0], "charging below 0 of ev: 2 at step 1, the limit is 0"),
        ([5.1, 0.0, 0.0], "max_charge_kw of ev: 5.1 at step 0, the limit is 5"),
        ([0.0, 0.0, 2.0], "departure of ev: 2 at step 2, the limit is 0"),
        ([5.0, 2.0, 0.0], "capacity_kwh of ev: 2 at step 1, the limit is 0"),
    ],
)
def test_check_of_a_car(powers: list[float], cause: str | None) -> None:
    case = charging([3.0] * 3, [1.0] * 3, car(capacity_kwh=5.0, departure_step=2))
    assert check(plan_of(case, [], [powers], [0.0] * 3, status="optimal"), case) == cause


def test_rounding_is_no_fault() -> None:
    case = problem([1.0], [1.0])
    for more, passes in ((0.9 * TOLERANCE, True), (1.1 * TOLERANCE, False)):
        plan = plan_of(case, [[4.0 + more]], [], [0.0], status="optimal")
        assert (check(plan, case) is None) == passes
