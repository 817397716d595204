"""The pure parts of a replay: order, doubles, holes, local times, units, names."""

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadArchiveError
from contracts.instant import Instant
from recorder.replay import sorting
from recorder.replay.columns import Column, parse_map, shape_of
from recorder.replay.find import source_of
from recorder.replay.model import (
    DUPLICATE,
    GAPS,
    MISSING,
    Ledger,
    Row,
    Scribe,
    Stream,
    merge,
    rebase_ms,
)
from recorder.replay.options import parse_options
from recorder.replay.survey import Survey, survey
from recorder.replay.times import AMBIGUOUS, NO_SUCH_TIME

DAY = Instant.parse("2024-07-01T00:00:00Z")


def row(at_ms: int, number: int = 0, identity: tuple[int, int] | None = None, **more: Any) -> Row:
    known: dict[str, Any] = {"series": 0, "file": 0, "meter_w": 1.0, "pv_w": None, "sum_w": None} | more
    return Row(at_ms=at_ms, number=number, identity=identity, **known)


def accepted(rows: list[Row]) -> tuple[list[int], Counter[str]]:
    noted: Counter[str] = Counter()
    ledger = Ledger(noted)
    return [each.number for each in rows if ledger.accepts(each)], noted


@given(st.lists(st.lists(st.integers(0, 100)), max_size=6))
def test_streams_are_merged_by_time_and_opened_when_they_are_due(files: list[list[int]]) -> None:
    opened: list[int] = []

    def stream(file: int, times: list[int]) -> Stream:
        def rows() -> Any:
            opened.append(file)
            return iter(row(at, number, file=file) for number, at in enumerate(sorted(times)))

        return Stream(min(times), rows)

    streams = [stream(file, times) for file, times in enumerate(files) if times]
    merged = []
    for each in merge(streams):
        merged.append(each)
        assert all(files[file] and min(files[file]) <= each.at_ms for file in opened)
    assert merged == sorted(row(at, number, file=file) for file, times in enumerate(files) for number, at in enumerate(sorted(times)))  # fmt: skip


def test_the_first_of_a_meters_rows_at_an_instant_counts() -> None:
    assert accepted([row(0, 1), row(0, 2), row(0, 3, series=1), row(10, 4)]) == (
        [1, 3, 4],
        Counter({DUPLICATE: 1}),
    )


def test_the_recorders_rows_all_count_unless_they_are_the_same_reading() -> None:
    rows = [row(0, 1, (1, 1)), row(0, 2, (2, 1)), row(0, 3, (1, 1)), row(0, 4)]
    assert accepted(rows) == ([1, 2], Counter({DUPLICATE: 2}))


@pytest.mark.parametrize(
    ("times_s", "gaps", "missing"),
    [
        ([0, 10, 20, 30], 0, 0),
        ([0, 10, 20, 60, 70], 1, 3),
        ([0, 10.4, 20, 30.2, 60.1, 70], 1, 2),
        ([0, 10, 20, 80, 140, 200], 1, 5),
        ([0, 10, 20, 34], 0, 0),
        ([0, 3600], 0, 0),
    ],
)
def test_what_is_missing_is_counted(times_s: list[float], gaps: int, missing: int) -> None:
    _, noted = accepted([row(round(1000 * at)) for at in times_s])
    assert (noted[GAPS], noted[MISSING]) == (gaps, missing)


@given(st.lists(st.integers(0, 1000), max_size=40), st.integers(1, 7))
def test_rows_are_put_in_order_over_the_disk(times: list[int], at_once: int) -> None:
    rows = [
        row(at, number, (1, number), pv_w=None if at % 3 else 0.25, file=4) for number, at in enumerate(times)
    ]
    before = sorting.SORTED_AT_ONCE
    sorting.SORTED_AT_ONCE = at_once
    try:
        assert list(sorting.in_order(iter(rows))) == sorted(rows)
    finally:
        sorting.SORTED_AT_ONCE = before


def test_a_row_with_pv_becomes_two_readings_of_one_identity() -> None:
    scribe = Scribe([("house-a", "main")], "run-1", 3, 1000)
    [(address, meter)] = scribe.messages(row(DAY.unix_ms))
    assert address.name == "wattbus/house-a/meter/main/reading"
    assert (meter.boot, meter.seq, meter.timestamp, meter.run) == (3, 1, DAY.after(1), "run-1")
    [(_, meter), (address, both)] = scribe.messages(row(DAY.unix_ms, pv_w=2.0, sum_w=3.0))
    assert address.name == "wattbus/house-a/pv/main/reading"
    assert meter.has_pv  # type: ignore[union-attr]
    assert (both.boot, both.seq, both.timestamp, both.historical) == (3, 2, meter.timestamp, True)


@given(st.integers(0, 800), st.integers(0, 5000), st.integers(0, 86_399_999))
def test_rebased_rows_reach_today_by_whole_days(days: int, away_days: int, into_ms: int) -> None:
    first_ms = DAY.unix_ms
    now = Instant.at_ms(first_ms + away_days * 86_400_000 + into_ms)
    shift_ms = rebase_ms(first_ms, first_ms + days * 86_400_000 + 86_390_000, now)
    assert shift_ms % 86_400_000 == 0
    assert first_ms + shift_ms <= now.unix_ms
    if days >= 6:
        assert shift_ms % (7 * 86_400_000) == 0


def look(path: Path, *arguments: str) -> Survey:
    faults: list[str] = []
    found = survey(parse_options([str(path), *arguments]), 0, faults.append, lambda: False)
    assert faults == []
    return found


def played(path: Path, *arguments: str) -> tuple[list[Row], Counter[str]]:
    found = look(path, *arguments)
    noted: Counter[str] = Counter()
    streams = [
        found.reader.stream(one, number, noted, pytest.fail, lambda: False)
        for number, one in enumerate(found.found)
    ]
    return list(merge(streams)), noted


def test_local_times_over_the_end_of_summer_time(tmp_path: Path) -> None:
    path = tmp_path / "loft.csv"
    walls = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]
    path.write_text("timestamp,meter_w\n" + "".join(f"2024-10-27 {wall},1\n" for wall in walls))
    rows, noted = played(path, "--timezone", "Europe/Paris")
    first = Instant.parse("2024-10-26T23:30:00Z").unix_ms
    assert [each.at_ms - first for each in rows] == [1_800_000 * i for i in range(6)]
    assert noted[AMBIGUOUS] == 4


def test_local_times_over_the_start_of_summer_time(tmp_path: Path) -> None:
    path = tmp_path / "loft.csv"
    walls = ["01:30", "02:00", "02:30", "03:00"]
    path.write_text("timestamp,meter_w\n" + "".join(f"2024-03-31 {wall},1\n" for wall in walls))
    rows, noted = played(path, "--timezone", "Europe/Paris")
    assert [str(Instant.at_ms(each.at_ms))[11:16] for each in rows] == ["00:30", "01:00"]
    assert noted[NO_SUCH_TIME] == 2


def test_energy_of_an_interval_is_made_power(tmp_path: Path) -> None:
    path = tmp_path / "loft.csv"
    path.write_text("timestamp,kwh\n2024-07-01T00:00Z,0.25\n2024-07-01T00:30Z,1.1\n2024-07-01T02:00Z,0\n2024-07-01T02:30Z,0\n")  # fmt: skip
    rows, _ = played(path, "--map", "meter_w=kwh:kWh")
    assert [each.meter_w for each in rows] == [500.0, 2200.0, 0.0, 0.0]
    rows, _ = played(path, "--map", "meter_w=kwh:Wh")
    assert [each.meter_w for each in rows] == [0.5, 2.2, 0.0, 0.0]


def test_columns_tell_house_and_meter_and_are_selected(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("timestamp,house,meter,meter_w,pv_w\n2024-07-01T00:01Z,b,main,1,-3\n2024-07-01T00:00Z,a,main,2,\n2024-07-01T00:00Z,a,heat,,4\n")  # fmt: skip
    rows, noted = played(path)
    assert [(each.meter_w, each.pv_w) for each in rows] == [(2.0, None), (1.0, 0.0)]
    assert noted["rows without a value"] == noted["PV below 0 W, taken as 0"] == 1
    assert look(path, "--house", "a", "--meter", "main").meters == [("a", "main")]


def test_a_file_of_pv_alone_is_played(tmp_path: Path) -> None:
    path = tmp_path / "roof.csv"
    path.write_text("timestamp,pv_w\n2024-07-01T00:00Z,7\n")
    [only] = played(path)[0]
    assert (only.meter_w, only.pv_w, only.sum_w) == (0.0, 7.0, 7.0)


def test_from_and_to_select_and_skip_days_by_name(tmp_path: Path) -> None:
    for day in ("2024-07-01", "2024-07-05"):
        path = tmp_path / "house-a" / "main" / f"main_{day}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"timestamp,meter_w,pv_w,sum_w,boot,seq\n{day}T00:00:00.000Z,1,,,1,1\n{day}T12:00:00.000Z,2,,,1,2\n"
        )
    (tmp_path / "house-a" / "main" / "main_2024-07-20.csv").write_text("never looked at")
    rows, noted = played(tmp_path, "--from", "2024-07-05", "--to", "2024-07-05T12:00Z")
    assert [each.meter_w for each in rows] == [1.0]
    assert noted["outside --from and --to"] == 1


def test_the_name_of_a_run_is_that_of_what_is_played(tmp_path: Path) -> None:
    for folder, power in (("one", 1), ("two", 1), ("three", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text(f"timestamp,meter_w\n2024-07-01T00:00Z,{power}\n")
    one, two, three = (look(tmp_path / name).run for name in ("one", "two", "three"))
    assert one == two != three
    assert one.startswith("2024-07-01-")
    assert look(tmp_path / "one", "--from", "2024-06-01").run != one
    assert look(tmp_path / "one", "--run", "mine").run == "mine"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("meter_w=Load:kW", {"meter_w": Column("Load", "kW")}),
        ("meter_w=Load: total", {"meter_w": Column("Load: total")}),
        (
            "timestamp=Time,meter_w=Load, all:W",
            {"timestamp": Column("Time"), "meter_w": Column("Load, all", "W")},
        ),
    ],
)
def test_a_map_names_columns_and_units(text: str, columns: dict[str, Column]) -> None:
    assert parse_map([text]) == columns


@pytest.mark.parametrize(
    "text", ["", "meter_w", "meter_w=", "load=x", "timestamp=Time:kW", "meter_w=a,meter_w=b"]
)
def test_a_map_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write NAME=COLUMN|has no unit|mapped twice"):
        parse_map([text])


def test_a_mapped_column_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadArchiveError, match=r"x.csv:1: no column 'Solar'; there are: timestamp, meter_w"):
        shape_of(Path("x.csv"), ["timestamp", "meter_w"], {"pv_w": Column("Solar")})


@pytest.mark.parametrize(
    ("path", "whose"),
    [
        ("/d/house-a/main/main_2024-07-01.csv", ("house-a", "main", True)),
        ("/d/replay/r1/house-a/main/main_2024-07-01.csv", ("house-a", "main", True)),
        ("/d/house-a/heat/../main/main_2024-07-01.csv", ("house-a", "main", True)),
        ("/d/house-a/main/other_2024-07-01.csv", ("other_2024-07-01", "main", False)),
        ("/d/My loft (1).csv", ("My-loft-1", "main", False)),
        ("/d/house-a/main/main_2024-13-01.csv", ("main_2024-13-01", "main", False)),
    ],
)
def test_whose_rows_a_file_holds(path: str, whose: tuple[str, str, bool]) -> None:
    source = source_of(Path(path), None, None)
    assert (source.house, source.meter, source.day is not None) == whose


def test_a_file_whose_name_is_none_for_a_house_is_refused() -> None:
    with pytest.raises(BadArchiveError, match="name it with --house"):
        source_of(Path("/d/---.csv"), None, None)
    assert source_of(Path("/d/---.csv"), "house-a", "heat")[1:3] == ("house-a", "heat")


def test_a_year_of_rows_is_read_without_being_held(tmp_path: Path) -> None:
    """The first row is there before the file has been read."""
    path = tmp_path / "loft.csv"
    path.write_text("timestamp,meter_w\n" + "".join(f"{DAY.after(i)},1\n" for i in range(20_000)))
    found = look(path)
    noted: Counter[str] = Counter()
    list(islice(found.reader.stream(found.found[0], 0, noted, pytest.fail, lambda: False).open(), 3))
    assert noted["rows"] == 3
