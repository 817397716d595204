from datetime import date
from pathlib import Path, PurePath
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.archive import (
    HEADER,
    Row,
    alerts_file,
    day_file,
    day_of,
    format_row,
    identity_of,
    parse_row,
)
from contracts.errors import BadArchiveError, BadIdError
from contracts.instant import Instant

NOON = Instant.parse("2024-07-01T12:00:00Z")
DAY = date(2024, 7, 1)

powers = st.floats(-1e8, 1e8)
counters = st.integers(0, 2**62)
instants = st.integers(946_684_800_000, 7_258_118_400_000).map(Instant.at_ms)


@given(
    st.builds(Row, instants, powers, powers, powers, counters, counters)
    | st.builds(Row, instants, powers, st.none(), st.none(), counters, counters)
)
def test_a_row_reads_back_as_it_was(row: Row) -> None:
    line = format_row(row)
    assert parse_row(line) == row
    assert parse_row(line + "\n") == row
    assert parse_row(line + "\r\n") == row
    assert identity_of(line) == (row.boot, row.seq)
    assert line.isascii()
    assert line.count(",") == HEADER.count(",")


def test_a_row_has_the_shortest_digits() -> None:
    assert format_row(Row(NOON, 512.3, 0.1 + 0.2, 0.0, 3, 44)) == (
        "2024-07-01T12:00:00.000Z,512.3,0.30000000000000004,0.0,3,44"
    )
    assert format_row(Row(NOON, 512, None, None, 3, 44)) == "2024-07-01T12:00:00.000Z,512.0,,,3,44"


@pytest.mark.parametrize(
    "line",
    [
        "",
        HEADER,
        "2024-07-01T12:00:00.000Z,512.3,,,3",
        "2024-07-01T12:00:00.000Z,512.3,,,3,44,5",
        "2024-07-01T12:00:00.000Z,,,,3,44",
        "2024-07-01T12:00:00.000Z,nan,,,3,44",
        "2024-07-01T12:00:00.000Z,inf,,,3,44",
        "2024-07-01T12:00:00.000Z,1e999,,,3,44",
        "2024-07-01T12:00:00.000Z,5_1.0,,,3,44",
        "2024-07-01T12:00:00.000Z,many,,,3,44",
        "2024-07-01T12:00:00.000Z,1.0,,,03,44",
        "2024-07-01T12:00:00.000Z,1.0,,,3,-44",
        "2024-07-01T12:00:00.000Z,1.0,,,3,٤",
        "2024-07-01T12:00:00.000,1.0,,,3,44",
        "2024-13-01T12:00:00.000Z,1.0,,,3,44",
        "\x00\x00\x00",
    ],
)
def test_what_is_no_row_is_named(line: str) -> None:
    with pytest.raises(BadArchiveError):
        parse_row(line)


@given(st.text())
def test_any_text_is_a_row_or_a_clear_error(text: str) -> None:
    try:
        row = parse_row(text)
    except BadArchiveError:
        return
    assert parse_row(format_row(row)) == row


def test_paths() -> None:
    assert day_file("house-a", "main", DAY) == PurePath("house-a/main/main_2024-07-01.csv")
    assert day_file("house-a", "main", DAY, run="tuesday") == PurePath(
        "replay/tuesday/house-a/main/main_2024-07-01.csv"
    )
    assert alerts_file("house-a", DAY) == PurePath("house-a/alerts_2024-07-01.jsonl")


@pytest.mark.parametrize(
    "bad", ["", ".", "..", "../x", "a/b", "/etc", "a\x00", "a\n", "a.b", "-a", "~", "ä", "x" * 65]
)
def test_a_hostile_id_makes_no_path(bad: str) -> None:
    with pytest.raises(BadIdError):
        day_file(bad, "main", DAY)
    with pytest.raises(BadIdError):
        day_file("house-a", bad, DAY)
    with pytest.raises(BadIdError):
        alerts_file(bad, DAY)


@given(st.text(min_size=1, max_size=70), st.text(min_size=1, max_size=70), st.dates())
def test_no_path_leaves_the_data_folder(house: str, meter: str, day: date) -> None:
    try:
        path = day_file(house, meter, day)
    except BadIdError:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert len(path.parts) == 3


@pytest.mark.parametrize(
    ("moment", "zone", "day"),
    [
        ("2024-07-01T23:59:59.999Z", "UTC", "2024-07-01"),
        ("2024-07-02T00:00:00Z", "UTC", "2024-07-02"),
        ("2024-07-02T05:59:59.999Z", "America/Costa_Rica", "2024-07-01"),
        ("2024-07-02T06:00:00Z", "America/Costa_Rica", "2024-07-02"),
        # The night of 23 hours, and the one of 25, in Berlin.
        ("2024-03-30T23:00:00Z", "Europe/Berlin", "2024-03-31"),
        ("2024-03-31T21:59:59.999Z", "Europe/Berlin", "2024-03-31"),
        ("2024-03-31T22:00:00Z", "Europe/Berlin", "2024-04-01"),
        ("2024-10-26T21:59:59.999Z", "Europe/Berlin", "2024-10-26"),
        ("2024-10-26T22:00:00Z", "Europe/Berlin", "2024-10-27"),
        ("2024-10-27T22:59:59.999Z", "Europe/Berlin", "2024-10-27"),
        ("2024-10-27T23:00:00Z", "Europe/Berlin", "2024-10-28"),
    ],
)
def test_the_day_of_a_moment(moment: str, zone: str, day: str) -> None:
    assert day_of(Instant.parse(moment), ZoneInfo(zone)).isoformat() == day


def test_a_moment_without_a_day_is_refused() -> None:
    with pytest.raises(BadArchiveError, match="no day in America/Costa_Rica"):
        day_of(Instant.parse("0001-01-01T00:00:00Z"), ZoneInfo("America/Costa_Rica"))


def test_a_file_opens_in_pandas_as_it_is(tmp_path: Path) -> None:
    rows = [Row(NOON, 512.3, 100.0, 612.3, 1, 1), Row(NOON.after(10), -1e-7, None, None, 1, 2)]
    path = tmp_path / "main_2024-07-01.csv"
    path.write_text("\n".join([HEADER, *map(format_row, rows)]) + "\n")
    frame = pd.read_csv(path, parse_dates=["timestamp"])
    assert list(frame.columns) == HEADER.split(",")
    assert str(frame.timestamp.dt.tz) == "UTC"
    assert frame.meter_w.tolist() == [512.3, -1e-7]
    assert frame.pv_w.isna().tolist() == [False, True]
    assert frame.seq.tolist() == [1, 2]
