from hypothesis import given
from hypothesis import strategies as st

from recorder.gaps import BOOTS_MAX, HOLES_MAX, METERS_MAX, Finding, Gaps
from recorder.model import Meter

HOUSE = Meter("house-a", "main")
PATIENCE_S = 60.0


def gaps() -> Gaps:
    found = Gaps(PATIENCE_S)
    found.begin(HOUSE, [], 0.0)
    return found


def told(found: Gaps, now_s: float) -> list[tuple[bool, int, list[tuple[int, int]]]]:
    return [(f.is_filled, f.boot, list(f.runs)) for f in found.findings(now_s)]


def add(found: Gaps, *seqs: int, boot: int = 1, now_s: float = 0.0) -> None:
    for seq in seqs:
        found.add(HOUSE, boot, seq, now_s)


def test_a_gap_is_told_once_after_the_patience_and_taken_back_when_all_have_come() -> None:
    found = gaps()
    add(found, 1, 2, 6, 7, 9)
    assert told(found, 59.9) == []
    assert told(found, 60.0) == [(False, 1, [(3, 5), (8, 8)])]
    assert told(found, 1e6) == []
    assert found.missing == 4
    add(found, 8, 3, 5)
    assert told(found, 1e6) == []
    assert found.missing == 1
    add(found, 4)
    assert told(found, 1e6) == [(True, 1, [(3, 5), (8, 8)])]
    assert found.missing == 0
    assert told(found, 1e6) == []


def test_what_comes_late_but_within_the_patience_is_no_gap() -> None:
    found = gaps()
    add(found, 1, 4, 3, 2, 6, 5)
    assert told(found, 1e6) == []


def test_a_new_boot_is_no_gap_and_each_has_its_own() -> None:
    found = gaps()
    add(found, 1, 2)
    add(found, 17, 18, boot=2)
    add(found, 3)
    assert told(found, 1e6) == []
    add(found, 20, boot=2)
    assert told(found, 2e6) == [(False, 2, [(19, 19)])]


def test_what_comes_before_the_first_makes_it_the_first() -> None:
    found = gaps()
    add(found, 5, 4, 2)
    assert told(found, 1e6) == [(False, 1, [(3, 3)])]


def test_the_past_is_taken_up() -> None:
    found = Gaps(PATIENCE_S)
    assert not found.knows(HOUSE)
    found.begin(HOUSE, [(2, [(1, 5), (8, 9)]), (1, [(1, 100)])], 0.0)
    assert found.knows(HOUSE)
    add(found, 11, boot=2)
    assert told(found, 60.0) == [(False, 2, [(6, 7), (10, 10)])]
    add(found, 6, 7, 10, boot=2)
    assert told(found, 60.0) == [(True, 2, [(6, 7), (10, 10)])]


def test_the_words() -> None:
    finding = Finding(HOUSE, 3, [(5, 7), (9, 9)], is_filled=False)
    assert finding.text == "4 readings of main are missing: boot 3, seq 5 to 7, 9"
    many = Finding(HOUSE, 3, [(i, i) for i in range(0, 20, 2)], is_filled=True)
    assert many.text.endswith("have come after all: boot 3, seq 0, 2, 4, 6, 8 and 5 gaps more")


def test_memory_is_bounded() -> None:
    found = gaps()
    add(found, *range(0, 4 * HOLES_MAX, 2))
    (runs,) = [finding.runs for finding in found.findings(1e6)]
    assert len(runs) == HOLES_MAX
    assert found.missing == HOLES_MAX
    for boot in range(2, 20):
        add(found, 1, boot=boot)
    assert len(found._meters[HOUSE]) == BOOTS_MAX
    for i in range(METERS_MAX):
        found.begin(Meter(f"h{i}", "main"), [], 0.0)
    assert len(found._meters) == METERS_MAX
    assert not found.knows(HOUSE)
    add(found, 100)
    assert told(found, 1e9) == []
    assert not found._restless


@given(st.lists(st.integers(0, 40), min_size=1), st.lists(st.integers(0, 40)))
def test_what_is_told_is_what_is_missing(before: list[int], after: list[int]) -> None:
    found = gaps()
    add(found, *before)
    missing = set(range(min(before), max(before))) - set(before)
    runs = [run for finding in found.findings(60.0) for run in finding.runs]
    assert {n for a, b in runs for n in range(a, b + 1)} == missing
    after = [n for n in after if n <= max(before)]
    add(found, *after, now_s=60.0)
    filled = [finding for finding in found.findings(61.0) if finding.is_filled]
    assert bool(filled) == (bool(missing) and missing <= set(after))
    assert found.missing == len(missing - set(after))
