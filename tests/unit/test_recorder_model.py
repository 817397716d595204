from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from contracts.messages import Alert, MeterReading, PvReading
from recorder.model import ALERTS, ROWS, Numbers, Verdict, entry_of, is_covered, judge, scan

NOON = Instant.parse("2024-07-01T12:00:00Z")
UTC = ZoneInfo("UTC")


def meter(seq: int, power_w: float = 500.0, **more: Any) -> MeterReading:
    known: dict[str, Any] = {
        "house": "house-a",
        "meter": "main",
        "boot": 1,
        "timestamp": NOON.after(10 * seq),
    } | more
    return MeterReading(seq=seq, power_w=power_w, **known)


def alert(seq: int, text: str = "gap") -> Alert:
    return Alert(
        house="house-a",
        source="main",
        boot=1,
        seq=seq,
        timestamp=NOON,
        severity="warning",
        name="gap",
        text=text,
    )


@given(st.lists(st.integers(0, 60) | st.integers(0, 2**62), max_size=200))
def test_numbers_are_a_set(given_numbers: list[int]) -> None:
    numbers = Numbers()
    for number in given_numbers:
        numbers.add(number)
    expected = set(given_numbers)
    around = {n + d for n in expected for d in (-1, 0, 1)}
    assert {n for n in around if n in numbers} == expected
    assert len(numbers.runs) == sum(n - 1 not in expected for n in expected)


def test_a_run_takes_no_memory() -> None:
    numbers = Numbers()
    for number in [*range(0, 8640, 2), *range(1, 8640, 2)]:
        numbers.add(number)
    assert len(numbers.runs) == 1


def test_the_line_of_each_message() -> None:
    pv = PvReading(
        house="house-a",
        meter="main",
        boot=1,
        seq=7,
        timestamp=NOON,
        meter_w=500.0,
        pv_w=12.5,
        sum_w=512.5,
    )
    entry = entry_of(pv, UTC)
    assert str(entry.path) == "house-a/main/main_2024-07-01.csv"
    assert entry.line == b"2024-07-01T12:00:00.000Z,500.0,12.5,512.5,1,7\n"
    assert entry_of(meter(0), UTC).line == b"2024-07-01T12:00:00.000Z,500.0,,,1,0\n"
    assert str(entry_of(meter(0, historical=True), UTC).path).startswith("replay/unnamed/house-a/main/")
    replayed = entry_of(meter(0, historical=True, run="tuesday"), UTC)
    assert str(replayed.path) == "replay/tuesday/house-a/main/main_2024-07-01.csv"
    assert str(entry_of(alert(1), UTC).path) == "house-a/alerts_2024-07-01.jsonl"
    assert is_covered(meter(0, has_pv=True))
    assert not is_covered(meter(0))
    assert not is_covered(pv)


@given(st.text(max_size=50), st.integers(0, 2**62))
def test_an_alert_is_known_by_its_line(text: str, seq: int) -> None:
    entry = entry_of(alert(seq, text), UTC)
    found = scan(ALERTS, entry.line)
    assert found.good == entry.line
    assert found.damaged == 0
    assert [o.verdict for o in judge([entry], found.seen, lambda: entry.line)] == [Verdict.DUPLICATE]


def test_a_second_time_is_a_duplicate_and_a_contradiction_is_refused() -> None:
    entries = [entry_of(m, UTC) for m in (meter(1), meter(2), meter(1), meter(2, 9.0))]
    assert [o.verdict for o in judge(entries, {}, lambda: b"")] == [
        Verdict.WRITTEN,
        Verdict.WRITTEN,
        Verdict.DUPLICATE,
        Verdict.REFUSED,
    ]
    content = ROWS.header + entries[0].line + entries[1].line
    again = judge(entries, scan(ROWS, content).seen, lambda: content)
    assert [o.verdict for o in again] == [
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
        Verdict.REFUSED,
    ]
    assert "the same identity with other values" in again[3].why


def test_one_counter_is_not_another() -> None:
    entries = [entry_of(m, UTC) for m in (meter(1), meter(11), meter(1, boot=11), meter(1, boot=2))]
    assert {o.verdict for o in judge(entries, {}, lambda: b"")} == {Verdict.WRITTEN}
    content = ROWS.header + entries[1].line
    new = judge(entries, scan(ROWS, content).seen, lambda: content)
    assert [o.verdict for o in new] == [
        Verdict.WRITTEN,
        Verdict.DUPLICATE,
        Verdict.WRITTEN,
        Verdict.WRITTEN,
    ]


CONTENT = ROWS.header + b"".join(entry_of(meter(i, 500.1 + i), UTC).line for i in range(3))


@pytest.mark.parametrize("cut", range(len(CONTENT) + 1))
def test_a_file_cut_anywhere_keeps_its_whole_lines(cut: int) -> None:
    found = scan(ROWS, CONTENT[:cut])
    assert found.good + found.torn == CONTENT[:cut]
    assert found.good == CONTENT[: CONTENT.rfind(b"\n", 0, cut) + 1]
    assert found.damaged == 0
    assert sum(len(numbers.runs) for numbers in found.seen.values()) == (found.good.count(b"\n") > 1)


@given(st.binary(max_size=300))
def test_any_content_is_read(content: bytes) -> None:
    found = scan(ROWS, content)
    assert found.torn == content.rpartition(b"\n")[2]
    assert found.good in (b"", ROWS.header) or found.seen


def test_what_others_wrote_is_told_from_rows() -> None:
    lines = CONTENT.splitlines(keepends=True)
    assert scan(ROWS, b"".join(lines[1:])).damaged == 1  # the header is gone
    holed = scan(ROWS, b"".join([*lines[:2], b"\x00" * 20 + b"\n", lines[2]]))
    assert (holed.good, holed.torn, holed.damaged) == (b"".join(lines[:3]), b"", 1)
    assert scan(ROWS, CONTENT.replace(b"\n", b"\r\n")).good == CONTENT
