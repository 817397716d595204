from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from energy.errors import OutsideSeriesError, SeriesError
from energy.series import Series, read_series

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
HOUR_MS = 3_600_000


def hourly(values: list[float]) -> Series:
    return Series(tuple(i * HOUR_MS for i in range(len(values))), tuple(values), len(values) * HOUR_MS)


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30),
    st.sampled_from([10.0, 60.0, 450.0, 900.0, 3600.0, 2 * 3600.0, 5000.0]),
)
def test_resampling_keeps_the_mean(values: list[float], step_s: float) -> None:
    series = hourly(values)
    n = int(len(values) * 3600 // step_s)
    resampled = series.resample(series.start, step_s, n)
    assert sum(resampled) / n == pytest.approx(series.mean(series.start, n * step_s), rel=1e-9, abs=1e-6)
    assert min(values) - 1e-6 <= min(resampled)
    assert max(resampled) <= max(values) + 1e-6


def test_finer_holds_and_coarser_means() -> None:
    series = hourly([100.0, 300.0, 200.0])
    assert series.resample(series.start, 900, 6) == [100.0] * 4 + [300.0] * 2
    assert series.mean(series.start, 7200) == 200.0
    assert series.mean(series.start.after(1800), 3600) == 200.0
    assert series.at(series.start.after(3600)) == 300.0


def test_outside_is_refused_and_shifting_moves_everything() -> None:
    series = hourly([100.0, 300.0])
    with pytest.raises(OutsideSeriesError, match="the record runs from"):
        series.at(series.end)
    with pytest.raises(OutsideSeriesError):
        series.mean(series.start.after(3600), 3601)
    with pytest.raises(OutsideSeriesError):
        series.at(series.start.after(-0.001))
    moved = series.shifted(86400)
    assert moved.at(moved.start.after(3600)) == 300.0
    assert moved.end.seconds_since(series.end) == 86400


def test_the_example_houses_are_read() -> None:
    house = read_series(EXAMPLES / "ca_house1_60min.csv", "meter_w")
    assert (house.step_s, len(house.values)) == (3600.0, 8760)
    assert str(house.start) == "2016-08-01T07:00:00.000Z"
    assert house.at(Instant.parse("2016-08-01T08:59:50Z")) == 851.2
    assert read_series(EXAMPLES / "fr_house_30min.csv", "pv_w").step_s == 1800.0


def test_rows_that_are_not_equally_spaced_are_taken_as_they_are(tmp_path: Path) -> None:
    path = written(
        tmp_path / "x.csv",
        "timestamp,meter_w",
        "2024-01-01T00:00:00Z,10",
        "2024-01-01T00:00:10Z,20",
        "2024-01-01T00:00:40Z,40",
        "2024-01-01T01:00:50+01:00,70",
    )
    series = read_series(path, "meter_w")
    assert series.at(Instant.parse("2024-01-01T00:00:39Z")) == 20.0
    assert series.mean(series.start, 40) == 17.5
    assert str(series.end) == "2024-01-01T00:01:00.000Z"


def test_the_recorders_own_files_are_read_in_order_of_time(tmp_path: Path) -> None:
    header = "timestamp,meter_w,pv_w,sum_w,boot,seq"
    written(
        tmp_path / "m_2024-01-01.csv",
        header,
        "2024-01-01T23:59:40.000Z,1,,,1,1",
        "2024-01-01T23:59:50.000Z,3,7,10,1,3",
        "2024-01-01T23:59:45.000Z,2,,,1,2",
    )
    written(
        tmp_path / "m_2024-01-02.csv",
        header,
        "2024-01-02T00:00:00.000Z,4,8,12,1,4",
        "2024-01-02T00:00:00.000Z,5,9,14,2,1",
    )
    assert read_series(tmp_path, "meter_w").values == (1.0, 2.0, 3.0, 5.0)
    assert read_series(tmp_path, "pv_w").values == (7.0, 9.0)


HEADER = "timestamp,meter_w"
GOOD = "2024-01-01T00:00:00Z,10"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["timestamp,power", GOOD], r"x\.csv:1: no column 'meter_w'; there are: timestamp, power"),
        (["time,meter_w", GOOD], r"x\.csv:1: no column 'timestamp'; there are: time, meter_w"),
        (["timestamp,meter_w,meter_w", GOOD], r"x\.csv:1: more than one column 'meter_w'"),
        ([HEADER, GOOD, "2024-01-01T00:00:10Z,abc"], r"x\.csv:3: meter_w is 'abc': not a number"),
        ([HEADER, GOOD, "2024-01-01T00:00:10Z,"], r"x\.csv:3: meter_w is '': not a number"),
        ([HEADER, GOOD, "2024-01-01T00:00:10Z,nan"], r"x\.csv:3: meter_w is 'nan': not finite"),
        ([HEADER, GOOD, "2024-01-01T00:00:10Z,-inf"], r"x\.csv:3: meter_w is '-inf': not finite"),
        ([HEADER, GOOD, "2023-01-01T00:00:10Z,1"], r"x\.csv:3: time runs backwards: 2023"),
        ([HEADER, GOOD, GOOD], r"x\.csv:3: time stands twice: 2024-01-01T00:00:00.000Z"),
        ([HEADER, "2024-01-01T00:00:00,1"], r"x\.csv:2: timestamp '2024-01-01T00:00:00' has no timezone"),
        ([HEADER, "soon,1"], r"x\.csv:2: timestamp 'soon' has no time$"),
        ([HEADER, "2024-01-01T00:00:00Z"], r"x\.csv:2: 1 cells, but 2 columns"),
        ([HEADER, "9999-99-99T00:00:00Z,1"], r"x\.csv:2: timestamp"),
        ([HEADER, '2024-01-01T00:00:00Z,"1'], r"x\.csv:2: not a CSV line"),
        ([HEADER], r"x\.csv: no data in column meter_w"),
        ([HEADER, GOOD], r"x\.csv:2: one row only"),
        ([""], r"x\.csv:1: empty"),
    ],
)
def test_bad_files_are_named_by_line(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(SeriesError, match=message) as caught:
        read_series(written(tmp_path / "x.csv", *lines), "meter_w")
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match=r"none\.csv: no such file"):
        read_series(tmp_path / "none.csv", "meter_w")
    with pytest.raises(SeriesError, match=r"no \.csv file in this directory"):
        read_series(tmp_path, "meter_w")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(SeriesError, match=r"empty\.csv:1: empty"):
        read_series(tmp_path / "empty.csv", "meter_w")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SeriesError, match="not a text file"):
        read_series(tmp_path / "b.csv", "meter_w")


def test_a_recorded_house_without_pv_has_no_pv_data(tmp_path: Path) -> None:
    path = written(
        tmp_path / "m.csv", "timestamp,meter_w,pv_w,sum_w,boot,seq", "2024-01-01T00:00:00Z,1,,,1,1"
    )
    with pytest.raises(SeriesError, match="no data in column pv_w"):
        read_series(path, "pv_w")
