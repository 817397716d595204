"""The examples run as they stand, and show what they promise."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def lines_of(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_every_example_is_tried_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "simulate_battery.py",
        "simulate_car.py",
        "simulate_house.py",
    }


def test_the_battery_loses_a_tenth_and_warms_up(capsys: pytest.CaptureFixture[str]) -> None:
    *hours, account = lines_of("simulate_battery.py", capsys)[1:]
    assert len(hours) == 24
    charged, gave = (float(part.split()[-2]) for part in account.split(", "))
    assert gave == pytest.approx(0.9 * charged, rel=0.01)
    temperatures = [float(line.split()[-1]) for line in hours]
    assert temperatures[0] == 25.0
    assert 30 < max(temperatures) < 45


def test_the_car_is_away_at_noon_and_full_in_the_morning(capsys: pytest.CaptureFixture[str]) -> None:
    refused, _, *rows = lines_of("simulate_car.py", capsys)
    assert "5 A: this charge point offers 0 or 6 to 16 whole A" in refused
    noons = [row.split() for row in rows if "12:00" in row]
    assert [row[3] for row in noons[:5]] == ["no"] * 5
    mornings = [float(row.split()[4]) for row in rows if "06:00" in row]
    assert len(mornings) == 7
    assert min(mornings) >= 80


def test_the_house_is_lively_in_the_evening_and_its_roof_by_day(capsys: pytest.CaptureFixture[str]) -> None:
    *hours, account = lines_of("simulate_house.py", capsys)[1:]
    loads, clear, pv = ([float(line.split()[column]) for line in hours] for column in (1, 2, 3))
    assert sum(loads[18:23]) > 2 * sum(loads[0:5])
    assert clear[0] == clear[23] == 0
    assert 3000 < max(clear) <= 4000
    assert all(low <= high for low, high in zip(pv, clear, strict=True))
    assert account == lines_of("simulate_house.py", capsys)[-1]  # seeded
