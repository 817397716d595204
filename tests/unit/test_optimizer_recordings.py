"""What the recorder's files tell of a house's days before the start."""

from pathlib import Path

import pytest

from contracts.archive import HEADER, Row, day_file, format_row
from contracts.instant import Instant
from optimizer.recordings import read_past, recall

NOW = Instant.parse("2024-07-03T12:00:00Z")
STEP_S = 900.0


def slot(at: Instant) -> int:
    return at.unix_ms // 900_000


def record(
    root: Path,
    start: Instant,
    seconds: float,
    meter_w: float,
    pv_w: float | None = None,
    *,
    every: float = 10.0,
    meter: str = "main",
    run: str | None = None,
) -> Path:
    path = root / day_file("house-a", meter, start.date(), run)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a") as file:
        if new:
            file.write(HEADER + "\n")
        for i in range(round(seconds / every)):
            total = None if pv_w is None else meter_w + pv_w
            file.write(format_row(Row(start.after(i * every), meter_w, pv_w, total, 1, i)) + "\n")
    return path


def test_means_of_steps_that_were_measured(tmp_path: Path) -> None:
    start = NOW.after(-7200)
    record(tmp_path, start, 900, 1000.0, 500.0)
    record(tmp_path, start.after(900), 900, 3000.0, 0.0)
    record(tmp_path, start.after(1800), 700, 9000.0, 0.0)  # 13 of 15 min
    past = read_past(tmp_path, "house-a", STEP_S, NOW)
    first = slot(start)
    assert past.load_kw == pytest.approx({first: 1.0, first + 1: 3.0})
    assert past.pv_kw == pytest.approx({first: 0.5, first + 1: 0.0})
    assert not past.faults


def test_each_value_holds_until_the_next(tmp_path: Path) -> None:
    start = NOW.after(-3600)
    record(tmp_path, start, 60, 1000.0, every=60)
    record(tmp_path, start.after(60), 840, 2000.0, every=1)
    assert read_past(tmp_path, "house-a", STEP_S, NOW).load_kw[slot(start)] == pytest.approx(
        (1.0 * 60 + 2.0 * 840) / 900
    )


def test_a_slow_meters_values_hold_longer(tmp_path: Path) -> None:
    start = NOW.after(-4 * 3600)
    record(tmp_path, start, 3 * 3600, 2000.0, every=1800)
    past = read_past(tmp_path, "house-a", STEP_S, NOW)
    assert past.load_kw[slot(start)] == past.load_kw[slot(start) + 11] == 2.0


def test_meters_add_up_where_all_have_measured(tmp_path: Path) -> None:
    start = NOW.after(-7200)
    record(tmp_path, start, 1800, 1000.0, 700.0)
    record(tmp_path, start, 900, 500.0, meter="shed")
    past = read_past(tmp_path, "house-a", STEP_S, NOW)
    assert past.load_kw == pytest.approx({slot(start): 1.5})
    assert past.pv_kw == pytest.approx({slot(start): 0.7, slot(start) + 1: 0.7})


def test_neither_replayed_nor_old_days_nor_the_step_in_hand(tmp_path: Path) -> None:
    record(tmp_path, NOW.after(-3600), 900, 1000.0, run="tuesday")
    record(tmp_path, NOW.after(-40 * 86400), 900, 1000.0)
    record(tmp_path, NOW, 900, 1000.0)
    past = read_past(tmp_path, "house-a", STEP_S, NOW.after(600))
    assert (past.load_kw, past.pv_kw, past.faults) == ({}, {}, [])
    assert read_past(tmp_path / "none", "house-a", STEP_S, NOW).load_kw == {}


def test_a_broken_line_costs_that_line_and_a_broken_file_that_file(tmp_path: Path) -> None:
    start = NOW.after(-7200)
    path = record(tmp_path, start, 900, 1000.0)
    lines = path.read_text().splitlines()
    lines[20] = "nonsense"
    path.write_text("\n".join(lines) + f"\n{lines[-1][:40]}")  # and one that is still being written
    other = tmp_path / "house-a" / "main" / f"main_{NOW.after(-86400).date().isoformat()}.csv"
    other.write_bytes(b"\xff\xfe")
    past = read_past(tmp_path, "house-a", STEP_S, NOW)
    assert past.load_kw == pytest.approx({slot(start): 1.0})
    (fault,) = past.faults
    assert fault.startswith(str(other))


def test_of_a_grid_meter_only_the_pv_is_learnt(tmp_path: Path) -> None:
    record(tmp_path, NOW.after(-7200), 900, 1000.0, 500.0)
    load = recall(tmp_path, "house-a", STEP_S, NOW, of_grid=False)
    grid = recall(tmp_path, "house-a", STEP_S, NOW, of_grid=True)
    assert (len(load.load.history), len(load.pv.history)) == (1, 1)
    assert (len(grid.load.history), len(grid.pv.history)) == (0, 1)
