import re
from io import StringIO
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from tests.backtest_cases import HOUSE, LOAD, PV, case_of
from wattbus.backtest.case import TITLES, Case, Policy, days_of
from wattbus.backtest.charts import Shown
from wattbus.backtest.command import run
from wattbus.backtest.errors import BacktestError
from wattbus.backtest.loop import Run
from wattbus.backtest.options import parse_options
from wattbus.backtest.policies import POLICIES
from wattbus.backtest.report import write_report
from wattbus.backtest.results import Figures, figures_of
from wattbus.backtest.summary import FineWeek, House, Results, as_csv, as_json, house_of, results_of
from wattbus.backtest.sweep import Failure
from wattbus.backtest.table import table_of

CHEAP: tuple[Policy, ...] = ("none", "rule", "perfect")


@pytest.fixture(scope="module")
def case() -> Case:
    return case_of(8)


@pytest.fixture(scope="module")
def figures(case: Case) -> list[Figures]:
    return [figures_of(case, policy, POLICIES[policy](case)) for policy in CHEAP]


def printed(house: House) -> str:
    console = Console(file=StringIO(), width=80)
    console.print(table_of(results_of([house], [])))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_same_run_is_the_same_bytes(case: Case, figures: list[Figures]) -> None:
    again = [figures_of(case, policy, POLICIES[policy](case)) for policy in CHEAP]
    one, two = (results_of([house_of(case, some, None)], []) for some in (figures, again))
    assert as_json(one) == as_json(two)
    assert as_csv(one) == as_csv(two)
    assert msgspec.json.decode(as_json(one), type=Results) == one


def test_the_share_is_of_what_foresight_saves(case: Case, figures: list[Figures]) -> None:
    lines = house_of(case, figures, None).lines
    assert [lines[0].share_percent, lines[2].share_percent] == [0.0, 100.0]
    assert lines[1].saved == pytest.approx(figures[0].total - figures[1].total)
    alone = house_of(case, figures[1:2], None).lines[0]
    assert (alone.saved, alone.share_percent) == (None, None)


def test_what_was_broken_is_told(case: Case, figures: list[Figures]) -> None:
    assert "Violations: none" in printed(house_of(case, figures, None))
    broken = msgspec.structs.replace(figures[1], violations={"fuse": 3, "balance": 0})
    house = house_of(case, [figures[0], broken], None)
    assert "Violations: simple rule: fuse 3 times" in printed(house)
    assert results_of([house], []).violations == 3


def test_the_finer_week_is_told(case: Case, figures: list[Figures]) -> None:
    week = FineWeek(begin="2024-07-01T00:00:00+02:00", total=200.0, fine_total=199.0, violations=0)
    assert "199.00 CRC, at 15 min 200.00: -1.00 (-0.50 %)" in " ".join(
        printed(house_of(case, figures, week)).split()
    )


def test_the_report_needs_nothing_from_elsewhere(case: Case, figures: list[Figures]) -> None:
    named = case._replace(house="fr", variant="</script><script>alert(1)")
    flows = {policy: POLICIES[policy](case).flows for policy in CHEAP}
    results = results_of([house_of(named, figures, None)], [Failure("bad", "", "bad.csv:2: <no> number")])
    page = write_report(results, [Shown(named, flows)])
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=", page)
    assert "<script>alert" not in page
    assert "bad.csv:2: &lt;no&gt; number" in page
    for name in ("costs", "week", "months", "peaks", "heat"):
        assert f'id="h0-{name}"' in page


def test_hours_without_a_measurement_are_counted() -> None:
    keep = np.ones(len(LOAD.times_ms), bool)
    keep[2000:2010] = False  # 5 h of 30 min
    thin = type(LOAD)(
        tuple(np.asarray(LOAD.times_ms)[keep].tolist()),
        tuple(np.asarray(LOAD.values)[keep].tolist()),
        LOAD.end_ms,
    )
    start = LOAD.start.after(86400.0 * 40)
    days = days_of(thin, PV, start, start.after(86400.0 * 3), 900.0)
    assert days.gap_h == pytest.approx(5.0)
    assert days_of(LOAD, PV, start, start.after(86400.0), 900.0).gap_h == 0.0


def test_the_usual_step_is_not_the_last_one() -> None:
    """Several meters added up end where the first of them does: the last value may hold for a moment only."""
    cut = type(LOAD)(LOAD.times_ms, LOAD.values, LOAD.times_ms[-1] + 1)
    start = LOAD.start.after(86400.0 * 40)
    assert days_of(cut, PV, start, start.after(86400.0 * 3), 900.0).gap_h == 0.0


@pytest.mark.parametrize("fails", ["rule", "perfect"])
def test_a_policy_that_fails_is_named_and_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: Policy
) -> None:
    def fail(_case: Case) -> Run:
        raise BacktestError("the solver gave up")

    monkeypatch.setitem(POLICIES, fails, fail)
    policies = ("none", "rule", "perfect")
    flags = ["--policy", ",".join(policies), "--from", "2024-04-10", "--to", "2024-04-11"]
    outputs = ["--out", str(tmp_path), "--report", str(tmp_path / "report.html")]
    code = run(parse_options([str(HOUSE), "--tariff", "costa_rica", *flags, *outputs]))
    assert code == 1
    why = f"fr_house_30min: {TITLES[fails]}: the solver gave up"
    assert capsys.readouterr().err == f"wattbus backtest: {why}\n"
    results = msgspec.json.decode((tmp_path / "results.json").read_bytes(), type=Results)
    (house,) = results.houses
    assert [line.figures.policy for line in house.lines] == [one for one in policies if one != fails]
    assert results.failures == [{"house": "fr_house_30min", "policy": fails, "why": why}]
    assert "the solver gave up" in (tmp_path / "report.html").read_text()


def test_a_house_of_which_nothing_came_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_case: Case) -> Run:
        raise BacktestError("no")

    monkeypatch.setitem(POLICIES, "perfect", fail)
    assert run(parse_options([str(HOUSE), "--policy", "perfect", "--to", "2024-03-02"])) == 1
    shown = capsys.readouterr()
    assert shown.err.endswith(": foresight: no\n")
    assert shown.out == ""
