"""Which column is what: the known names, or those a person maps, and their units."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from contracts.errors import BadArchiveError

TARGETS = ("timestamp", "meter_w", "pv_w", "house", "meter")
POWERS = ("meter_w", "pv_w")
IDENTITY = ("boot", "seq")
"""Columns that only the recorder's own files have."""
SUM = "sum_w"

POWER_UNITS_W = {"W": 1.0, "kW": 1e3, "MW": 1e6}
ENERGY_UNITS_WH = {"Wh": 1.0, "kWh": 1e3, "MWh": 1e6}
"""Energy of the interval that begins at the row's time."""
UNITS = (*POWER_UNITS_W, *ENERGY_UNITS_WH)


class Column(NamedTuple):
    """A column of a file, and the unit of what stands in it."""

    name: str
    unit: str = "W"


class Cell(NamedTuple):
    """Where a power stands in a row, and what makes W of it."""

    at: int
    factor: float
    is_energy: bool
    """The factor makes Wh of it: divide by the interval [h]."""

    @property
    def is_watts(self) -> bool:
        """Whether it stands there as it is."""
        return self.factor == 1.0 and not self.is_energy


class Shape(NamedTuple):
    """What stands where in a file's rows."""

    width: int
    time_at: int
    meter: Cell | None
    pv: Cell | None
    sum_at: int | None
    """In the recorder's own files alone; elsewhere the sum is computed."""
    house_at: int | None
    meter_at: int | None
    identity_at: tuple[int, int] | None

    @property
    def has_energy(self) -> bool:
        """Whether the interval must be known to tell a power."""
        return any(cell is not None and cell.is_energy for cell in (self.meter, self.pv))


def parse_map(texts: Iterable[str]) -> dict[str, Column]:
    """The columns of `timestamp=Time,meter_w=Load:kW`, by what they are.

    Raises:
        ValueError: not of that form, an unknown name, or one that is given twice.
    """
    columns: dict[str, Column] = {}
    for text in texts:
        # A comma or a colon in a column's name is part of it, unless a known name or unit follows.
        for part in re.split(rf",(?=(?:{'|'.join(TARGETS)})=)", text):
            target, equals, name = part.partition("=")
            if target not in TARGETS or not equals or not name:
                raise ValueError(
                    f"{part!r}: write NAME=COLUMN or NAME=COLUMN:UNIT, NAME of {', '.join(TARGETS)}"
                )
            if target in columns:
                raise ValueError(f"{target} is mapped twice")
            columns[target] = _column(target, name)
    return columns


def _column(target: str, text: str) -> Column:
    name, colon, unit = text.rpartition(":")
    if colon and name and unit in UNITS:
        if target not in POWERS:
            raise ValueError(f"{target} has no unit: {text!r}")
        return Column(name, unit)
    return Column(text)


def shape_of(path: Path, header: list[str], mapped: Mapping[str, Column]) -> Shape:
    """What stands where, by the file's first line.

    Raises:
        BadArchiveError: a column is missing, or stands twice.
    """
    columns = {target: mapped.get(target, Column(target)) for target in TARGETS}
    there = {target for target, column in columns.items() if column.name in header}
    missing = [target for target in ("timestamp", *mapped) if target not in there]
    if not missing and not there.intersection(POWERS):
        missing = ["meter_w"]
    if missing:
        wanted = columns[missing[0]].name
        raise BadArchiveError(
            f"{path}:1: no column {wanted!r}; there are: {', '.join(header)[:200]}; "
            f"--map {missing[0]}=COLUMN says which it is"
        )
    for target in there:
        if header.count(columns[target].name) > 1:
            raise BadArchiveError(f"{path}:1: more than one column {columns[target].name!r}")

    def at(target: str) -> int | None:
        return header.index(columns[target].name) if target in there else None

    recorded = all(header.count(name) == 1 for name in IDENTITY) and not mapped
    return Shape(
        width=len(header),
        time_at=header.index(columns["timestamp"].name),
        meter=_cell(at("meter_w"), columns["meter_w"].unit),
        pv=_cell(at("pv_w"), columns["pv_w"].unit),
        sum_at=header.index(SUM) if recorded and SUM in header else None,
        house_at=at("house"),
        meter_at=at("meter"),
        identity_at=(header.index("boot"), header.index("seq")) if recorded else None,
    )


def _cell(at: int | None, unit: str) -> Cell | None:
    if at is None:
        return None
    is_energy = unit in ENERGY_UNITS_WH
    return Cell(at, ENERGY_UNITS_WH[unit] if is_energy else POWER_UNITS_W[unit], is_energy)
