"""The closed loop of `wattbus backtest`: no plan knows the future, and no policy beats the bound."""

import numpy as np
import pytest

from der_controller.devices import ChargingCar
from energy.ev import EvseSpec, EvSpec, TripPattern
from optimizer.history import FloatArray
from tests.backtest_cases import BATTERY, CAR, case_of
from wattbus.backtest.bill import prices_of
from wattbus.backtest.cars import at_once, presence_of
from wattbus.backtest.case import START_SOC_PERCENT, Case, Devices, Policy
from wattbus.backtest.loop import Run
from wattbus.backtest.policies import POLICIES, mpc, none, perfect, rule
from wattbus.backtest.results import figures_of, violations_of

QUARTERS = 96


@pytest.fixture(scope="module")
def case() -> Case:
    return case_of(5)


@pytest.fixture(scope="module")
def runs(case: Case) -> dict[Policy, Run]:
    return {name: policy(case) for name, policy in POLICIES.items()}


def other_days(case: Case, known: int) -> Case:
    """The same up to a tick, and another house from then on."""
    load = np.concatenate([case.days.load_kw[:known], np.full(case.ticks - known, 5.0)])
    pv = np.concatenate([case.days.pv_kw[:known], np.zeros(case.ticks - known)])
    return case._replace(days=case.days._replace(load_kw=load, pv_kw=pv))


def test_what_comes_later_changes_nothing_decided_before(case: Case, runs: dict[Policy, Run]) -> None:
    known = 2 * QUARTERS + 48
    other = mpc(other_days(case, known))
    for field in ("battery_kw", "grid_kw", "curtailed_kw", "soc_percent"):
        one, two = (getattr(run.flows, field)[:known] for run in (runs["mpc"], other))
        assert one.tobytes() == two.tobytes(), field
    ahead = slice(known, known + QUARTERS)
    assert not np.array_equal(runs["mpc"].flows.battery_kw[ahead], other.flows.battery_kw[ahead])


def test_no_forecast_holds_anything_of_what_comes_later(case: Case, runs: dict[Policy, Run]) -> None:
    known = 2 * QUARTERS + 48
    other = mpc(other_days(case, known))
    changes = case.at(known)
    before = [
        (one, two)
        for one, two in zip(runs["mpc"].foretold, other.foretold, strict=False)
        if one.at <= changes
    ]
    # The plan of the changed step itself is made before any of it is measured.
    assert len(before) == known + 1
    for one, two in before:
        assert one.at == two.at
        assert one.load_kw.tobytes() + one.pv_kw.tobytes() == two.load_kw.tobytes() + two.pv_kw.tobytes()


def test_of_what_was_recorded_before_the_start_only_the_past_is_learnt(case: Case) -> None:
    assert case.days.past is not None
    assert case.days.past.load.end <= case.days.start
    assert case.days.past.pv is not None
    assert case.days.past.pv.end <= case.days.start


def test_nothing_costs_less_than_perfect_foresight(case: Case, runs: dict[Policy, Run]) -> None:
    totals = {name: figures_of(case, name, run).total for name, run in runs.items()}
    assert all(total >= totals["perfect"] - 1e-3 for total in totals.values())
    assert totals["mpc"] < totals["none"]


def test_nothing_is_broken(case: Case, runs: dict[Policy, Run]) -> None:
    for name, run in runs.items():
        assert not any(violations_of(case, name, run).values()), name


def test_nobody_saves_by_emptying_the_battery(case: Case, runs: dict[Policy, Run]) -> None:
    for name in ("rule", "mpc", "perfect"):
        soc, figures = runs[name].flows.soc_percent, figures_of(case, name, runs[name])
        assert soc[0] == START_SOC_PERCENT
        worth = np.mean(prices_of(case).import_price) * BATTERY.efficiency_oneway
        assert figures.stored == pytest.approx((soc[0] - soc[-1]) / 100 * BATTERY.capacity_kwh * worth)
        assert figures.total == pytest.approx(
            figures.energy + figures.demand - figures.export + figures.stored
        )


def test_a_run_repeats_to_the_last_bit(case: Case, runs: dict[Policy, Run]) -> None:
    again = mpc(case)
    assert again.flows.grid_kw.tobytes() == runs["mpc"].flows.grid_kw.tobytes()


def test_a_finer_tick_plans_and_pays_nearly_the_same() -> None:
    coarse, fine = (
        case_of(1, tariff="fontana_tou", tick_s=tick_s, export_kw=10.0) for tick_s in (900.0, 10.0)
    )
    paid = [figures_of(case, "mpc", mpc(case)) for case in (coarse, fine)]
    assert paid[1].violations == dict.fromkeys(paid[1].violations, 0)
    assert paid[1].total == pytest.approx(paid[0].total, rel=0.05)


def test_a_house_without_pv_or_battery_still_has_its_car() -> None:
    bare = case_of(2, tariff="fontana_tou", devices=Devices(None, (CAR,)))
    case = bare._replace(days=bare.days._replace(pv_kw=np.zeros(bare.ticks), has_pv=False))
    figures = {name: figures_of(case, name, policy(case)) for name, policy in POLICIES.items()}
    assert figures["none"].self_consumption_percent is None
    assert figures["none"].total == pytest.approx(figures["rule"].total)
    assert figures["perfect"].total <= figures["mpc"].total < figures["none"].total
    assert not any(sum(one.violations.values()) for one in figures.values())


def test_a_car_that_charges_at_once_has_its_target_or_all_there_was_time_for() -> None:
    case = case_of(7, devices=Devices(BATTERY, (CAR,)))
    presence, hurried = presence_of(case, 0), at_once(case, 0)
    leaves = np.flatnonzero(presence.leaves)
    assert len(leaves) >= 5
    assert not hurried.power_kw[~presence.there].any()
    target_kwh = CAR.car.capacity_kwh * CAR.car.target_soc_percent / 100
    assert hurried.stored_kwh[leaves + 1] == pytest.approx(np.full(len(leaves), target_kwh))
    assert_balanced(
        hurried.stored_kwh, hurried.power_kw * case.tick_h * 0.9, presence.used_percent / 100 * 60
    )


def assert_balanced(stored_kwh: FloatArray, charged_kwh: FloatArray, used_kwh: FloatArray) -> None:
    """What is in the car at the end is what was in it, charged, and not driven away."""
    assert stored_kwh[-1] == pytest.approx(stored_kwh[0] + charged_kwh.sum() - used_kwh[1:].sum())


def test_foresight_has_a_car_that_can_never_be_charged_enough() -> None:
    car = ChargingCar(
        car=EvSpec(max_charge_kw=1.4, capacity_kwh=100.0),
        evse=EvseSpec(max_current_a=6, phases=1),
        trips=TripPattern(timezone="Europe/Paris", used_percent_min=40.0),
    )
    slow = case_of(6, devices=Devices(None, (car,)))
    hurried = at_once(slow, 0)
    assert hurried.stored_kwh.min() == 0.0  # a trip has used all there was
    run = perfect(slow)
    assert sum(violations_of(slow, "perfect", run).values()) == 0


def test_a_car_not_charged_is_seen() -> None:
    case = case_of(3, devices=Devices(BATTERY, (CAR,)))
    run = none(case)
    assert violations_of(case, "none", run)["car not ready"] == 0
    idle = run.flows._replace(cars_kw=np.zeros((1, case.ticks)), grid_kw=run.flows.grid_kw - run.flows.car_kw)
    assert violations_of(case, "none", run._replace(flows=idle))["car not ready"] > 0


def test_broken_physics_is_seen(case: Case, runs: dict[Policy, Run]) -> None:
    run = runs["rule"]
    spoiled = {
        "balance": run.flows._replace(grid_kw=run.flows.grid_kw + 1e-8),
        "state of charge": run.flows._replace(soc_percent=run.flows.soc_percent - 45.0),
        "battery power": run.flows._replace(battery_kw=run.flows.battery_kw * 3),
        "stored energy": run.flows._replace(battery_kw=run.flows.battery_kw * 1.01),
        "fuse": run.flows._replace(grid_kw=run.flows.grid_kw + 17.0),
        "export": run.flows._replace(grid_kw=run.flows.grid_kw - 9.0),
        "curtailment": run.flows._replace(curtailed_kw=run.flows.curtailed_kw - 1.0),
    }
    for name, flows in spoiled.items():
        assert violations_of(case, "rule", run._replace(flows=flows))[name] > 0, name


def test_the_bound_and_the_rule_keep_the_export_limit() -> None:
    case = case_of(2, first_day=120, tariff="fontana_tou", export_kw=1.0)
    for run in (rule(case), perfect(case)):
        assert run.flows.grid_kw.min() >= -1.0 - 1e-9
    assert rule(case).flows.curtailed_kw.sum() > 0
