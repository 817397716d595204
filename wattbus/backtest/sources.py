"""Which houses there are in the files that were named, and what they have measured."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from contracts.errors import BadArchiveError
from energy.errors import SeriesError
from energy.series import RECORDER_COLUMNS, Series, read_files
from recorder.replay.find import find_files, full, source_of
from runtime.errors import UsageError

LOAD, PV = "meter_w", "pv_w"
LEAST_W = -100.0
"""A meter of consumption shows no less, for all its noise."""


class Source(NamedTuple):
    """A house, and where its meters' readings stand."""

    house: str
    meters: tuple[tuple[Path, ...], ...]
    """Each one's files, in the order of their names."""

    def __str__(self) -> str:
        return ", ".join(str(files[0] if len(files) == 1 else files[0].parent) for files in self.meters)


class Measured(NamedTuple):
    """What a house has measured [W]."""

    load: Series
    pv: Series | None


def find(paths: Iterable[Path], faults: list[str]) -> list[Source]:
    """The houses in files and folders, by the rules of `wattbus replay`.

    Args:
        paths: the recorder's data folder, a house's, a meter's, or any CSV, whose name is its house's.
        faults: told of what leads to nothing.

    Raises:
        UsageError: two houses have one name.
    """
    houses: dict[str, dict[str, list[Path]]] = {}
    places: dict[str, Path] = {}
    for path in find_files(map(str, paths), faults):
        try:
            found = source_of(path, None, None)
        except BadArchiveError as error:
            faults.append(str(error))
            continue
        place = path if found.day is None else full(path).parent.parent.resolve()
        if places.setdefault(found.house, place) != place:
            raise UsageError(
                f"PATH: two houses are named {found.house}, {place} and {places[found.house]}: "
                "rename one, or leave it out"
            )
        houses.setdefault(found.house, {}).setdefault(found.meter, []).append(path)
    return [Source(house, tuple(map(tuple, meters.values()))) for house, meters in houses.items()]


def _header(file: Path) -> list[str]:
    """The columns; none if it can't be read, which reading it says better."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return next(csv.reader(lines), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def read(source: Source) -> Measured:
    """A house's load and production, those of several meters added up.

    Raises:
        SeriesError: a file that can't be read, named with its line; or no consumption was measured.
    """
    loads = [read_files(files, LOAD) for files in source.meters]
    pvs = [read_files(files, PV) for files in source.meters if any(_says_pv(file) for file in files)]
    load = _sum(source, loads)
    if (least := min(load.values)) < LEAST_W:
        raise SeriesError(
            f"{source}: {LOAD} goes down to {least:.0f} W: that meter stands at the grid connection, and "
            "what the house would have cost can be told from its consumption alone: give a file of that"
        )
    return Measured(load, _sum(source, pvs) if pvs else None)


def _says_pv(file: Path) -> bool:
    """Whether a column says what the PV produces, in any row."""
    header = _header(file)
    if PV not in header:
        return False
    if not set(header) >= RECORDER_COLUMNS:
        return True
    column = header.index(PV)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return any(len(row) > column and row[column] for row in csv.reader(lines) if row != header)


def _sum(source: Source, series: list[Series]) -> Series:
    """What several meters measure together, where all of them do."""
    if len(series) == 1:
        return series[0]
    start, end = max(one.times_ms[0] for one in series), min(one.end_ms for one in series)
    if start >= end:
        raise SeriesError(f"{source}: these meters of {source.house} have no time in common: leave one out")
    times = np.unique(np.concatenate([np.asarray(one.times_ms) for one in series]))
    times = np.unique(np.append(times[(times >= start) & (times < end)], start))
    values = sum(np.asarray(one.values)[np.searchsorted(one.times_ms, times, "right") - 1] for one in series)
    return Series(tuple(times.tolist()), tuple(np.asarray(values).tolist()), end)
