"""Reads the recorder's folder: which days there are, and one of them."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import msgspec

from contracts.archive import HEADER, Row, day_file, parse_row
from contracts.errors import ContractError
from contracts.ids import RESERVED_HOUSES, check_id

DAYS_MAX = 4000
"""Of one meter: the latest."""
STEP_S = 300


class MeterDays(msgspec.Struct, frozen=True, kw_only=True):
    """The recorded days of one meter, the latest first."""

    house: str
    meter: str
    days: list[str]


class RecordedDay(msgspec.Struct, frozen=True, kw_only=True):
    """One day of one meter: five-minute means; times are Unix milliseconds."""

    house: str
    meter: str
    day: str
    file: str
    rows: int
    unreadable: int
    """Lines that are no rows, such as one that is being written."""
    step_s: int
    start: list[int]
    meter_w: list[float]
    pv_w: list[float | None]
    meter_kwh: float
    """Means over time measured; gaps count nothing."""
    pv_kwh: float


class NotRecordedError(Exception):
    """There is no such day."""


def not_recorded(house: str, meter: str, day: date) -> NotRecordedError:
    """The error of a day that is not there, or not for whoever asks: which, it does not tell."""
    return NotRecordedError(f"{house}/{meter} has no recorded day {day}")


class Recordings:
    """What a recorder has written; read only.

    Args:
        root: its data folder, which may not be there yet.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def meters(self) -> list[MeterDays]:
        """Every recorded meter and its days."""
        return [
            MeterDays(house=house.name, meter=meter.name, days=days)
            for house in _folders(self._root)
            if house.name.lower() not in RESERVED_HOUSES
            for meter in _folders(house)
            if (days := _days(meter))
        ]

    def file(self, house: str, meter: str, day: date) -> Path:
        """A day's file.

        Raises:
            NotRecordedError: there is none, or these are no ids.
        """
        try:
            path = self._root / day_file(house, meter, day)
        except ContractError as error:
            raise NotRecordedError(str(error)) from error
        if house.lower() in RESERVED_HOUSES or not path.is_file():
            raise not_recorded(house, meter, day)
        return path

    def day(self, house: str, meter: str, day: date) -> RecordedDay:
        """A day in five-minute means.

        Raises:
            NotRecordedError: there is none, or it can't be read.
        """
        path = self.file(house, meter, day)
        try:
            with path.open(encoding="utf-8", errors="replace") as lines:
                return _summary(house, meter, day, path.name, lines)
        except OSError as error:
            raise NotRecordedError(f"{path.name}: can't be read: {error.strerror}") from error


def _summary(house: str, meter: str, day: date, name: str, lines: Iterator[str]) -> RecordedDay:
    means: dict[int, list[float]] = {}
    rows = unreadable = 0
    for line in lines:
        if line.rstrip() == HEADER:
            continue
        try:
            row = parse_row(line)
        except ContractError:
            unreadable += 1
            continue
        rows += 1
        _add(means, row)
    starts = sorted(means)
    meter_w = [means[at][0] / means[at][1] for at in starts]
    pv_w = [means[at][2] / means[at][3] if means[at][3] else None for at in starts]
    hours = STEP_S / 3600
    return RecordedDay(
        house=house,
        meter=meter,
        day=day.isoformat(),
        file=name,
        rows=rows,
        unreadable=unreadable,
        step_s=STEP_S,
        start=[at * STEP_S * 1000 for at in starts],
        meter_w=[round(value, 1) for value in meter_w],
        pv_w=[None if value is None else round(value, 1) for value in pv_w],
        meter_kwh=round(sum(meter_w) * hours / 1000, 3),
        pv_kwh=round(sum(value or 0.0 for value in pv_w) * hours / 1000, 3),
    )


def _add(means: dict[int, list[float]], row: Row) -> None:
    sums = means.setdefault(row.timestamp.unix_ms // (STEP_S * 1000), [0.0, 0.0, 0.0, 0.0])
    sums[0] += row.meter_w
    sums[1] += 1
    if row.pv_w is not None:
        sums[2] += row.pv_w
        sums[3] += 1


def _folders(folder: Path) -> list[Path]:
    """Those whose names are ids."""
    if not folder.is_dir():
        return []
    return sorted(item for item in folder.iterdir() if item.is_dir() and _is_id(item.name))


def _is_id(name: str) -> bool:
    try:
        check_id(name)
    except ContractError:
        return False
    return True


def _days(folder: Path) -> list[str]:
    found = [
        path.stem.removeprefix(f"{folder.name}_") for path in folder.glob(f"{folder.name}_????-??-??.csv")
    ]
    return sorted((day for day in found if _is_day(day)), reverse=True)[:DAYS_MAX]


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
