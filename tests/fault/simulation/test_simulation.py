"""Seeds: a house over two hours and a midnight, with at least ten faults each; and the controls that fail."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts import archive
from contracts.messages import MeterReading
from tests.fault.simulation.__main__ import replay
from tests.fault.simulation.fleet import Many, fleet, one
from tests.fault.simulation.ledger import HOUSE, METER, Ledger
from tests.fault.simulation.plan import FAULTS_MIN, LASTS_S, PARTS, Plan, plan_of
from tests.fault.simulation.services import READ_S
from tests.fault.simulation.world import Outcome, simulate_plan

SEEDS, A_BLOCK = 500, 50
SEEDS_LONG = 10_000
CONTROL_SEEDS = range(1, 11)


@pytest.fixture(scope="module")
def many() -> Iterator[Many]:
    with fleet() as running:
        yield running


def judge(outcomes: Iterator[Outcome]) -> Counter[str]:
    """No seed breaks a promise, and none is an idle one; returns what was seen in all of them."""
    seen: Counter[str] = Counter()
    failed: list[str] = []
    for outcome in outcomes:
        seen.update(outcome.seen)
        if outcome.breaches:
            failed += [str(outcome), *(f"    {detail}" for detail in outcome.details)]
            failed += [f"    replay it: python -m tests.fault.simulation {outcome.seed}"]
        assert outcome.struck >= FAULTS_MIN, f"seed {outcome.seed}: {outcome.struck} faults"
    assert not failed, "\n".join(failed)
    return seen


@pytest.mark.timeout(400)
@pytest.mark.parametrize("first", range(0, SEEDS, A_BLOCK))
def test_no_seed_breaks_a_promise(first: int, many: Many) -> None:
    seen = judge(many(range(first, first + A_BLOCK)))
    faults = {what.removeprefix("fault: ").split()[0] for what in seen if what.startswith("fault: ")}
    assert faults == {
        "crash", "cut", "drop", "unconfirmed", "duplicate", "delay", "reorder", "redeliver", "clock", "hostile",
    }  # fmt: skip
    assert seen["rows"] > A_BLOCK * LASTS_S / READ_S * 0.9
    assert seen["fell safe"] > A_BLOCK / 2


def test_the_world_itself_loses_nothing(many: Many) -> None:
    """Seeds at which it once did: the link over a cut, the ledger when a meter died as it measured or another's disk was torn."""
    judge(many([520, 669, 715, 719, 906, 994, 5408, 5904, 6981, 7942]))


@pytest.mark.fault
@pytest.mark.timeout(6 * 3600)
def test_no_seed_of_many_breaks_a_promise(many: Many) -> None:
    judge(many(range(SEEDS, SEEDS + SEEDS_LONG)))


def test_a_seed_replays_to_the_byte(tmp_path: Path, many: Many) -> None:
    outcome, trace = simulate_plan(plan_of(7), tmp_path / "a", {}, traced=True)
    again, same_trace = simulate_plan(plan_of(7), tmp_path / "b", {}, traced=True)
    assert "\n".join(trace).encode() == "\n".join(same_trace).encode()
    assert outcome == again == next(many([7]))  # in another process, too
    assert one(8).digest != outcome.digest


def test_a_seed_is_printed_with_its_plan_and_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(7, None) == 0
    said = capsys.readouterr().out
    assert said.startswith(str(plan_of(7)))
    assert "meter says wattbus/house-a/meter/main/reading" in said
    assert said.endswith("seed 7: kept all promises\n")


def test_without_faults_every_row_is_there_in_order(tmp_path: Path) -> None:
    plan = Plan(0, plan_of(0).place, has_pv=True, plans=False, faults=())
    outcome, trace = simulate_plan(plan, tmp_path / "seed", {}, traced=True)
    assert not outcome.breaches
    assert outcome.seen["rows"] == outcome.seen["made"] > LASTS_S / READ_S
    heard = [line for line in trace if "recorder hears wattbus/house-a/pv/" in line]
    seqs = [int(line.split('"seq":')[1].split(",")[0]) for line in heard]
    assert seqs == list(range(1, outcome.seen["rows"] + 1))


def test_plans_are_drawn_from_the_seed_alone_and_meet_every_part() -> None:
    plans = [plan_of(seed) for seed in range(100)]
    assert plans == [plan_of(seed) for seed in range(100)]
    assert all(len(plan.faults) >= FAULTS_MIN for plan in plans)
    assert {fault.part for plan in plans for fault in plan.faults if fault.kind == "crash"} == set(PARTS)
    assert {plan.place.day_timezone for plan in plans} == {"UTC", "America/Los_Angeles", "Europe/Berlin"}


# The controls: under the same plans what is built naively breaks the promises.


def breaches_of(outcomes: Iterator[Outcome]) -> list[Counter[str]]:
    return [outcome.breaches for outcome in outcomes]


def test_a_naive_meter_loses(many: Many) -> None:
    found = breaches_of(many(CONTROL_SEEDS, "meter"))
    assert sum(breaches["lost"] > 0 for breaches in found) > len(CONTROL_SEEDS) / 2


def test_a_naive_recorder_loses_and_writes_twice(many: Many) -> None:
    found = breaches_of(many(CONTROL_SEEDS, "recorder"))
    assert sum(breaches["lost"] > 0 for breaches in found) > 1
    assert sum(breaches["written twice"] > 0 for breaches in found) > len(CONTROL_SEEDS) / 2


def test_a_naive_battery_obeys_what_it_must_not(many: Many) -> None:
    found = sum(breaches_of(many(CONTROL_SEEDS, "der")), Counter())
    assert found["safe too late"] > len(CONTROL_SEEDS)
    assert any(what.startswith("obeyed a command") for what in found)


# The judge of the files sees what is wrong with them.


@pytest.mark.parametrize(
    ("rows", "end", "wrong"),
    [
        ([1, 2, 3], "", []),
        ([1, 2], "", ["lost"]),
        ([1, 2, 2, 3], "", ["written twice", "rows in another order than they came in"]),
        ([1, 3, 2], "", ["rows in another order than they came in"]),
        ([1, 2, 3], "2024-07-01T12:00:40.000Z,10", ["torn"]),
        ([1, 2, 3, 4], "", ["a row of no reading", "rows in another order than they came in"]),
    ],
)
def test_the_ledger_sees_a_bad_file(tmp_path: Path, rows: list[int], end: str, wrong: list[str]) -> None:
    ledger = Ledger()
    start = plan_of(0).place.start
    for seq in (1, 2, 3):
        reading = MeterReading(
            house=HOUSE, meter=METER, boot=1, seq=seq, timestamp=start.after(10 * seq), power_w=1.0
        )
        ledger.make(reading, 0.0)
        ledger.keep([reading])
        ledger.given.append((1, seq))
    lines = [archive.format_row(archive.Row(start.after(10 * seq), 1.0, None, None, 1, seq)) for seq in rows]
    folder = tmp_path / "DATA" / HOUSE / METER
    folder.mkdir(parents=True)
    (folder / "main_2024-07-01.csv").write_text("\n".join([archive.HEADER, *lines, end]))
    ledger.judge(tmp_path / "DATA", tmp_path / "quarantine")
    assert sorted(ledger.breaches) == sorted(wrong)


def test_the_ledger_sees_what_is_not_kept_or_leaves_out_of_order() -> None:
    ledger = Ledger()
    readings = [
        MeterReading(house=HOUSE, meter=METER, boot=1, seq=seq, timestamp=plan_of(0).place.start, power_w=1.0)
        for seq in (1, 2)
    ]
    for reading in readings:
        ledger.make(reading, 0.0)
    ledger.meter_died(10.0)
    assert ledger.breaches == {"not kept in time": 2}
    for reading in reversed(readings):
        ledger.tried(reading)
    assert ledger.breaches["out of the outbox out of order"] == 1
