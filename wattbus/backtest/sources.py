"""Which houses there are in the files that were named, and what they have measured."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from contracts.archive import REPLAY
from contracts.errors import ContractError
from contracts.ids import check_id
from energy.errors import SeriesError
from energy.series import RECORDER_COLUMNS, Series, read_series

LOAD, PV = "meter_w", "pv_w"
LEAST_W = -100.0
"""A meter of consumption shows no less, for all its noise."""


class Source(NamedTuple):
    """A house, and where its meters' readings stand: a file or a folder each."""

    house: str
    paths: tuple[Path, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.paths))


class Measured(NamedTuple):
    """What a house has measured [W]."""

    load: Series
    pv: Series | None


def find(paths: Iterable[Path]) -> list[Source]:
    """The houses in files and folders: the recorder's data folder, a house's, a meter's, or any CSV.

    Raises:
        SeriesError: nothing is there, or two have one name.
    """
    found: dict[str, list[Path]] = {}
    for path in paths:
        for house, meters in _houses_in(path):
            if house in found:
                raise SeriesError(f"{path}: a second house named {house}: rename the file, or name it once")
            found[house] = meters
    return [Source(house, tuple(meters)) for house, meters in found.items()]


def _houses_in(path: Path) -> Iterator[tuple[str, list[Path]]]:
    if not path.is_dir():
        yield _name(path, path.stem), [path]
        return
    folders = [path, *(folder for folder in sorted(path.rglob("*")) if folder.is_dir())]
    houses: defaultdict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        files = sorted(folder.glob("*.csv"))
        if not files or REPLAY in folder.relative_to(path).parts:
            continue
        if _is_recorded(files[0]):
            houses[folder.resolve().parent.name].append(folder)
        else:
            for file in files:
                houses[file.stem].append(file)
    if not houses:
        raise SeriesError(f"{path}: no .csv file in this folder")
    for house, meters in houses.items():
        yield _name(path, house), meters


def _name(path: Path, house: str) -> str:
    try:
        return check_id(house, "house")
    except ContractError as error:
        raise SeriesError(f"{path}: {error}") from error


def _is_recorded(file: Path) -> bool:
    return set(_header(file)) >= RECORDER_COLUMNS


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
    loads = [read_series(path, LOAD) for path in source.paths]
    pvs = [read_series(path, PV) for path in source.paths if _has_pv(path)]
    load = _sum(source, loads)
    if (least := min(load.values)) < LEAST_W:
        raise SeriesError(
            f"{source}: {LOAD} goes down to {least:.0f} W: that meter stands at the grid connection, and "
            "what the house would have cost can be told from its consumption alone: give a file of that"
        )
    return Measured(load, _sum(source, pvs) if pvs else None)


def _has_pv(path: Path) -> bool:
    """Whether a column says what the PV produces, in any row."""
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    return any(_says_pv(file) for file in files)


def _says_pv(file: Path) -> bool:
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
