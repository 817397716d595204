"""Recorded days: what there is, one of them, and nothing outside of the folder."""

from datetime import date
from pathlib import Path

import pytest

from contracts.archive import HEADER
from dashboard.recordings import NotRecordedError, Recordings

DAY = date(2026, 11, 21)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "DATA" / "house-a" / "main"
    folder.mkdir(parents=True)
    lines = [HEADER]
    lines += [
        f"2026-11-21T10:0{i}:00.000Z,1000.0,{500.0 if i < 5 else ''},{1500.0 if i < 5 else ''},1,{i + 1}"
        for i in range(10)
    ]
    (folder / "main_2026-11-21.csv").write_text("\n".join(lines) + "\n2026-11-21T10:1")
    (folder / "main_2026-11-20.csv").write_text(HEADER + "\n")
    (folder / "notes_2026-11-20.csv").write_text("no day of this meter\n")
    (folder / "main_2026-99-20.csv").write_text("no day at all\n")
    (tmp_path / "secret_2026-11-21.csv").write_text("secret\n")
    (tmp_path / "DATA" / "replay" / "run-1").mkdir(parents=True)
    (tmp_path / "DATA" / ".hidden").mkdir()
    return tmp_path / "DATA"


def test_the_days_of_each_meter_the_latest_first(root: Path) -> None:
    (only,) = Recordings(root).meters()
    assert (only.house, only.meter, only.days) == ("house-a", "main", ["2026-11-21", "2026-11-20"])
    assert Recordings(root / "nowhere").meters() == []


def test_a_day_in_five_minute_means(root: Path) -> None:
    day = Recordings(root).day("house-a", "main", DAY)
    assert (day.rows, day.unreadable) == (10, 1)
    assert (day.meter_w, day.pv_w) == ([1000.0, 1000.0], [500.0, None])
    assert day.start[1] - day.start[0] == 300_000
    assert (day.meter_kwh, day.pv_kwh) == pytest.approx((2 / 12, 0.5 / 12), abs=1e-3)


@pytest.mark.parametrize(
    ("house", "meter"),
    [("house-a", "other"), ("house-b", "main"), ("..", "secret"), ("house-a", "../.."), ("replay", "run-1"), ("", "main"), ("house-a", "a/b")],
)  # fmt: skip
def test_what_is_not_recorded_or_no_id_is_not_there(root: Path, house: str, meter: str) -> None:
    with pytest.raises(NotRecordedError):
        Recordings(root).day(house, meter, DAY)
