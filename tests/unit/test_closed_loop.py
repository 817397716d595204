"""The closed loop of `python -m benchmarks year`: no plan knows the future, and no policy beats the bound."""

import msgspec
import pytest

from benchmarks.closed_loop import HOUSES, Case, Mpc, case_of, perfect, rule, without
from benchmarks.year import lines_of, run, table
from optimizer.solver import Solver

HOUSE = HOUSES[0]


@pytest.fixture(scope="module")
def case() -> Case:
    return case_of(HOUSE, "costa_rica", first_day=40, days=9)


def test_what_comes_later_changes_no_plan_made_before(case: Case) -> None:
    """The same days up to noon of the sixth, other ones from then on."""
    known = 5 * 96 + 48
    load = [*case.load_kw[:known], *[5.0] * (case.steps - known)]
    pv = [*case.pv_kw[:known], *[0.0] * (case.steps - known)]
    other = case._replace(load_kw=load, pv_kw=pv)
    one, two = (Mpc(days, 4, Solver()).run() for days in (case, other))
    assert one.battery_kw[:known] == two.battery_kw[:known]
    assert one.battery_kw[known : known + 96] != two.battery_kw[known : known + 96]


def test_nothing_costs_less_than_perfect_foresight(case: Case) -> None:
    best = perfect(case).costs.total
    for policy in (without(case), rule(case), Mpc(case, 4, Solver()).run()):
        assert policy.costs.total >= best - 1e-6


def test_all_policies_end_with_the_charge_they_began_with(case: Case) -> None:
    one_way = HOUSE.battery.efficiency_oneway
    for policy in (rule(case), Mpc(case, 4, Solver()).run(), perfect(case)):
        into = sum(kw * one_way if kw > 0 else kw / one_way for kw in policy.battery_kw)
        assert into == pytest.approx(0.0, abs=0.05)


def test_the_table_has_a_line_for_each_policy() -> None:
    days = case_of(HOUSE, "fontana_tou", first_day=40, days=3)
    lines = lines_of(days, run(days, 8))
    assert [line.share_percent for line in lines if line.policy == "no battery"] == [0.0]
    assert lines[-1].share_percent == pytest.approx(100.0)
    assert len(table(lines).splitlines()) == len(lines) + 2
    assert msgspec.json.decode(msgspec.json.encode(lines), type=list[type(lines[0])]) == lines
