"""What is cheapest for batteries, PV and the grid: numbers checked by hand."""

import msgspec
import pytest

from optimizer.solver import Solver
from tests.optimizer_cases import battery, problem

SOLVER = Solver()
EXACT = 1e-6


def test_buys_cheap_and_uses_dear() -> None:
    plan = SOLVER.plan(problem([1.0, 1.0], [10.0, 30.0]))
    assert plan.status == "optimal"
    assert plan.ders[0].power_kw == pytest.approx([1.0, -1.0])
    assert plan.grid_kw == pytest.approx([2.0, 0.0])
    assert plan.ders[0].stored_kwh == pytest.approx([0.0, 1.0, 0.0])
    assert plan.energy_cost == pytest.approx(20.0)


@pytest.mark.parametrize(("dear", "charged_kw"), [(13.0, 1.25), (12.0, 0.0)])
def test_losses_decide_whether_arbitrage_pays(dear: float, charged_kw: float) -> None:
    """At 0.8 round trip, 1 kWh used costs 1.25 kWh bought: it pays from 12.5 for energy bought at 10."""
    plan = SOLVER.plan(problem([1.0, 1.0], [10.0, dear], battery(efficiency_roundtrip=0.8)))
    assert plan.ders[0].power_kw[0] == pytest.approx(charged_kw, abs=EXACT)


def test_efficiency_is_the_root_each_way() -> None:
    plan = SOLVER.plan(problem([0.0, 3.0], [1.0, 100.0], battery(efficiency_roundtrip=0.81)))
    assert plan.ders[0].power_kw == pytest.approx([3.0 / 0.81, -3.0])
    assert plan.ders[0].stored_kwh == pytest.approx([0.0, 3.0 / 0.9, 0.0])


def test_without_export_the_surplus_is_stored_then_curtailed() -> None:
    plan = SOLVER.plan(problem([1.0, 4.0], [10.0, 10.0], pv_kw=[8.0, 0.0]))
    assert plan.ders[0].power_kw == pytest.approx([4.0, -4.0])
    assert plan.curtailed_kw == pytest.approx([3.0, 0.0])
    assert min(plan.grid_kw) >= -EXACT


def test_exports_what_pays_up_to_the_limit() -> None:
    plan = SOLVER.plan(
        problem(
            [0.0, 0.0],
            [10.0, 10.0],
            pv_kw=[8.0, 0.0],
            export_price=[2.0, 5.0],
            max_grid_export_kw=3.0,
        )
    )
    assert plan.grid_kw == pytest.approx([-3.0, -3.0])
    assert plan.ders[0].power_kw == pytest.approx([3.0, -3.0])
    assert plan.curtailed_kw == pytest.approx([2.0, 0.0])
    assert plan.energy_cost == pytest.approx(-21.0)


def test_stored_energy_keeps_its_value_at_the_end() -> None:
    """Else every plan would empty the battery by its last step; between what using and buying it costs, it stays."""
    full = battery(soc_percent=80.0, efficiency_roundtrip=0.81)
    worthless = SOLVER.plan(problem([0.9] * 4, [10.0] * 4, full))
    assert worthless.ders[0].stored_kwh[-1] == pytest.approx(4.0)
    valued = SOLVER.plan(
        problem([0.9] * 4, [10.0] * 4, msgspec.structs.replace(full, end_value_per_kwh=10.0))
    )
    assert valued.ders[0].stored_kwh[-1] == pytest.approx(8.0)


def test_the_import_limit_is_kept_where_it_can_be() -> None:
    plan = SOLVER.plan(problem([1.0, 5.0], [10.0, 10.0], max_grid_import_kw=3.0))
    assert plan.grid_kw == pytest.approx([3.0, 3.0])
    assert not plan.violations


def test_a_missed_import_limit_is_named_and_planned_around() -> None:
    plan = SOLVER.plan(problem([9.0, 9.0], [10.0, 10.0], max_grid_import_kw=3.0))
    assert plan.status == "optimal"
    assert plan.violations == ["max_grid_import_kw of 3 kW is passed by up to 6 kW (step 0)"]


@pytest.mark.parametrize(("soc", "stored"), [(5.0, [0.5, 2.0, 2.0]), (95.0, [9.5, 8.5, 8.0])])
def test_a_battery_found_outside_its_range_goes_back(soc: float, stored: list[float]) -> None:
    narrow = battery(
        soc_percent=soc,
        min_soc_percent=20.0,
        max_soc_percent=80.0,
        end_value_per_kwh=9.0 if soc < 50 else 99.0,
    )
    plan = SOLVER.plan(problem([1.0, 0.5], [10.0, 10.0], narrow))
    assert plan.status == "optimal"
    assert plan.ders[0].stored_kwh == pytest.approx(stored)


def test_a_battery_below_its_range_waits_for_what_the_connection_can_give() -> None:
    """The house takes 3 of 4 kW: 1 kW is left to charge with, and nothing is given before it is back."""
    empty = battery(soc_percent=5.0, min_soc_percent=20.0)
    plan = SOLVER.plan(problem([3.0, 3.0, 3.0], [10.0, 90.0, 10.0], empty, max_grid_import_kw=4.0))
    assert plan.ders[0].power_kw == pytest.approx([1.0, 0.5, 0.0], abs=EXACT)
    assert not plan.violations


def test_no_battery_adds_to_what_passes_the_import_limit() -> None:
    """However well it is paid for: the house alone passes the limit, and the battery only helps."""
    plan = SOLVER.plan(problem([5.0, 1.0], [-100.0, 50.0], battery(soc_percent=50.0), max_grid_import_kw=4.0))
    assert plan.grid_kw == pytest.approx([4.0, 0.0], abs=EXACT)
    assert not plan.violations


def test_unequal_batteries_share_what_is_to_be_done() -> None:
    """The one with less loss first, the other one with what is left."""
    good = battery(der_id="good", efficiency_roundtrip=0.9, capacity_kwh=3.0)
    poor = battery(der_id="poor", efficiency_roundtrip=0.5, max_charge_kw=1.0)
    plan = SOLVER.plan(problem([0.0, 9.0], [10.0, 30.0], good, poor))
    assert [der.der_id for der in plan.ders] == ["good", "poor"]
    assert plan.ders[0].power_kw == pytest.approx([3.0 / 0.9**0.5, -3.0 * 0.9**0.5])
    assert plan.ders[1].power_kw == pytest.approx([1.0, -0.5])


def test_paid_for_taking_it_wastes_nothing_by_charging_and_discharging_at_once() -> None:
    """Full at a negative price: room can be made only in an hour before, by use, not by loss in the same hour."""
    full = battery(soc_percent=100.0, efficiency_roundtrip=0.81)
    plan = SOLVER.plan(problem([1.0, 1.0], [5.0, -10.0], full))
    assert plan.grid_kw == pytest.approx([0.0, 1.0 + 1.0 / 0.9 / 0.9])
    assert plan.ders[0].power_kw == pytest.approx([-1.0, 1.0 / 0.81])


def test_what_earns_more_than_it_costs_is_not_bought_and_sold_at_once() -> None:
    plan = SOLVER.plan(
        problem([2.0], [10.0], batteries=[], export_price=[30.0], pv_kw=[1.0], max_grid_export_kw=50.0)
    )
    assert plan.grid_kw == pytest.approx([1.0])
    assert plan.energy_cost == pytest.approx(10.0)


def test_negative_export_prices_curtail() -> None:
    plan = SOLVER.plan(problem([1.0], [10.0], pv_kw=[8.0], export_price=[-5.0], max_grid_export_kw=50.0))
    assert plan.ders[0].power_kw == pytest.approx([0.0], abs=EXACT)
    assert plan.curtailed_kw == pytest.approx([7.0])


def test_of_a_step_in_hand_only_the_rest_counts() -> None:
    """Half an hour is left of the first hour: half the energy, at half the cost."""
    plan = SOLVER.plan(problem([1.0, 1.0], [10.0, 30.0], first_step_h=0.5))
    assert plan.ders[0].power_kw == pytest.approx([2.0, -1.0])
    assert plan.ders[0].stored_kwh == pytest.approx([0.0, 1.0, 0.0])
    assert plan.energy_cost == pytest.approx(3.0 * 0.5 * 10.0)


def test_a_horizon_of_one_step() -> None:
    plan = SOLVER.plan(problem([1.0], [10.0], battery(soc_percent=50.0)))
    assert plan.ders[0].power_kw == pytest.approx([-1.0])


def test_a_house_without_batteries_has_a_plan_too() -> None:
    plan = SOLVER.plan(problem([1.0, 2.0], [10.0, 10.0], batteries=[], pv_kw=[0.0, 3.0]))
    assert plan.status == "optimal"
    assert plan.ders == []
    assert plan.grid_kw == pytest.approx([1.0, 0.0])


def test_out_of_time_is_a_fallback_that_says_so() -> None:
    plan = Solver(time_limit_s=0.0).plan(problem([1.0, 5.0] * 50, [1.0, 30.0] * 50))
    assert plan.status == "fallback"
    assert "time limit" in plan.reason
    assert not any(plan.ders[0].power_kw)


def test_a_plan_depends_on_its_problem_alone() -> None:
    one, other = problem([1.0, 5.0, 2.0], [1.0, 9.0, 3.0]), problem([4.0, 0.0, 9.0], [5.0, 1.0, 2.0])
    alone = Solver().plan(one)
    after_another = Solver()
    after_another.plan(other)
    assert after_another.plan(one) == alone
