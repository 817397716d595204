"""Files, flags and sweeps of `wattbus backtest`."""

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from energy.battery import BatterySpec
from energy.errors import SeriesError
from runtime.errors import UsageError
from tests.backtest_cases import HOUSE
from wattbus.backtest.options import battery_of, car_of, instant_of, parse_options
from wattbus.backtest.sources import Source, find, read
from wattbus.backtest.sweep import Variant, plan_of, variants_of

BASE = BatterySpec(capacity_kwh=6.4, max_charge_kw=3.0, max_discharge_kw=4.0, efficiency_roundtrip=0.8)


def write(path: Path, header: str, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def rows(*watts: float, ending: str = "") -> list[str]:
    return [f"2024-06-01T{i:02}:00:00.000Z,{value}{ending}" for i, value in enumerate(watts)]


def found(*paths: Path) -> list[Source]:
    faults = list[str]()
    sources = find(paths, faults)
    assert faults == []
    return sources


def test_a_size_keeps_what_it_does_not_say() -> None:
    small = battery_of("5kWh", "--sweep", BASE)
    assert small is not None
    assert (small.capacity_kwh, small.max_discharge_kw, small.efficiency_roundtrip) == (5.0, 4.0, 0.8)
    strong = battery_of("12.5kWh:7.5kW", "--battery", BASE)
    assert strong is not None
    assert (strong.max_charge_kw, strong.max_discharge_kw) == (7.5, 7.5)
    assert battery_of("none", "--battery", BASE) is None


@pytest.mark.parametrize(
    ("text", "amps", "phases"), [("40kWh:3.7kW", 16, 1), ("60kWh:7.4kW", 32, 1), ("60kWh:11kW", 16, 3)]
)
def test_a_car_has_the_charge_point_of_its_power(text: str, amps: int, phases: int) -> None:
    car = car_of(text, "Europe/Paris")
    assert (car.evse.max_current_a, car.evse.phases) == (amps, phases)


def test_a_day_begins_at_the_places_midnight() -> None:
    assert str(instant_of("2024-07-01", "--from", ZoneInfo("Europe/Paris"))) == "2024-06-30T22:00:00.000Z"
    assert (
        str(instant_of("2024-07-01T06:00Z", "--from", ZoneInfo("Europe/Paris"))) == "2024-07-01T06:00:00.000Z"
    )


def test_each_with_each() -> None:
    assert variants_of([]) == [Variant()]
    assert variants_of(["tariff=a,b", "battery=5,10kWh"]) == [
        Variant("5", "a"),
        Variant("5", "b"),
        Variant("10kWh", "a"),
        Variant("10kWh", "b"),
    ]
    for text in ("battery", "battery=", "battery=5,,6", "color=red"):
        with pytest.raises(UsageError, match="--sweep"):
            variants_of([text])
    with pytest.raises(UsageError, match="each once"):
        variants_of(["battery=5", "battery=6"])


def test_a_houses_meters_are_added_up(tmp_path: Path) -> None:
    header = "timestamp,meter_w,pv_w,sum_w,boot,seq"
    write(
        tmp_path / "house-a" / "main" / "main_2024-06-01.csv",
        header,
        *rows(100, 200, 300, ending=",50.0,0,1,1"),
    )
    write(tmp_path / "house-a" / "shed" / "shed_2024-06-01.csv", header, *rows(10, 20, 30, ending=",,,1,1"))
    (source,) = found(tmp_path)
    measured = read(source)
    assert source.house == "house-a"
    assert measured.load.values == (110.0, 220.0, 330.0)
    assert measured.pv is not None
    assert measured.pv.values == (50.0, 50.0, 50.0)


def test_a_file_without_a_pv_column_is_a_house_without_pv(tmp_path: Path) -> None:
    path = write(tmp_path / "flat.csv", "timestamp,meter_w", *rows(100, 200))
    (source,) = found(path)
    assert source.house == "flat"
    assert read(source).pv is None


def test_a_folder_of_plain_files_is_a_house_a_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / f"{name}.csv", "timestamp,meter_w", *rows(100, 200))
    assert [source.house for source in found(tmp_path)] == ["one", "two"]


def test_files_are_found_by_the_rules_of_replay(tmp_path: Path) -> None:
    """Hidden files, replays and files named twice are left out; a day's file tells its house by its place."""
    header, kept = "timestamp,meter_w,pv_w,sum_w,boot,seq", rows(100, 200, ending=",,,1,1")
    day = write(tmp_path / "DATA" / "house-a" / "main" / "main_2024-06-01.csv", header, *kept)
    write(tmp_path / "DATA" / "house-a" / "main" / ".main_2024-06-02.csv", header, *kept)
    write(tmp_path / "DATA" / "replay" / "run-1" / "house-b" / "main" / "main_2024-06-01.csv", header, *kept)
    (source,) = found(tmp_path / "DATA", day)
    assert (source.house, source.meters) == ("house-a", ((day,),))
    (played,) = found(tmp_path / "DATA" / "replay" / "run-1")
    assert played.house == "house-b"


def test_a_house_is_one_however_its_meters_are_spelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header, kept = "timestamp,meter_w,pv_w,sum_w,boot,seq", rows(100, 200, ending=",,,1,1")
    house = tmp_path / "DATA" / "house-x"
    for meter in ("main", "garden"):
        write(house / meter / f"{meter}_2024-06-01.csv", header, *kept)
    elsewhere = write(tmp_path / "disk" / "7" / "shed_2024-06-01.csv", header, *kept)
    (house / "shed").symlink_to(elsewhere.parent)
    monkeypatch.chdir(house / "main")
    for spelt, meters in (((".", "../garden"), 2), ((str(house / "main"), "../garden"), 2), (("..",), 3)):
        (source,) = found(*map(Path, spelt))
        assert (source.house, len(source.meters)) == ("house-x", meters)


@pytest.mark.parametrize("step_min", [5, 15, 30, 60])
def test_a_run_begins_on_a_step_of_its_plans(tmp_path: Path, step_min: int) -> None:
    site = tmp_path / "site.toml"
    site.write_text(f"[optimizer]\nstep_min = {step_min}\n")
    flags = ["--site", str(site), "--from", "2024-07-01T00:40Z", "--to", "2024-07-02T00:40Z", "--tick", "10"]
    plan = plan_of(parse_options([str(HOUSE), *flags]))
    (case,) = plan.cases
    assert case.days.start.unix_ms % (step_min * 60_000) == 0
    assert str(case.end) == "2024-07-02T00:45:00.000Z"


def test_an_end_before_the_beginning_is_refused() -> None:
    options = parse_options([str(HOUSE), "--from", "2024-07-02", "--to", "2024-07-01"])
    with pytest.raises(UsageError, match=r"^--to 2024-07-01: is not after --from 2024-07-02$"):
        plan_of(options)


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    faults = list[str]()
    assert find([tmp_path, tmp_path / "gone.csv"], faults) == []
    assert faults == [f"{tmp_path}: no .csv file in it", f"{tmp_path / 'gone.csv'}: no such file"]
    for name in ("one.csv", "b/one.csv"):
        write(tmp_path / name, "timestamp,meter_w")
    with pytest.raises(UsageError, match="two houses are named one"):
        found(tmp_path)


def test_a_meter_at_the_grid_connection_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "net.csv", "timestamp,meter_w", *rows(100, -1500, 200))
    (source,) = found(path)
    with pytest.raises(SeriesError, match="down to -1500 W: that meter stands at the grid connection"):
        read(source)
