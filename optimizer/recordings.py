"""A house's days before the start, from the recorder's files, and forecasts that know them."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from contracts.archive import HEADER, identity_of
from contracts.instant import Instant
from optimizer.forecast import Outlook
from optimizer.history import DAY_S, KEEP_DAYS, FloatArray
from optimizer.model import fresh_outlooks
from optimizer.slots import HOLD_GAPS, HOLD_MS, Slot

W_PER_KW = 1000.0


class Past(NamedTuple):
    """Means of the steps that were recorded [kW], by step, rising; a step is counted since the epoch."""

    load_kw: dict[int, float]
    pv_kw: dict[int, float]
    faults: list[str]
    """The files that could not be read, and why."""


class Rows(NamedTuple):
    """The rows of one day's file, by time: instants [ms], powers [W], NaN where there is none."""

    at_ms: npt.NDArray[np.int64]
    meter_w: FloatArray
    pv_w: FloatArray


class Recalled(NamedTuple):
    """Forecasts that have learnt a house's recorded days."""

    load: Outlook
    pv: Outlook
    faults: list[str]
    """The files that could not be read, and why."""


def recall(root: Path, house: str, step_s: float, now: Instant, *, of_grid: bool) -> Recalled:
    """Read a house's recorded days and learn them; blocking, and it takes a while.

    Args:
        root: the recorder's data folder.
        house: whose days.
        step_s: length of a step [s].
        now: what was recorded later is left out.
        of_grid: the meters are at the grid connection: what they say is no consumption, since batteries and
            cars are in it, of which the files do not tell.
    """
    past = read_past(root, house, step_s, now)
    load, pv = fresh_outlooks(step_s)
    for outlook, means in ((load, {} if of_grid else past.load_kw), (pv, past.pv_kw)):
        for slot, kw in sorted(means.items()):
            outlook.learn(slot, kw)
    return Recalled(load, pv, past.faults)


def read_past(root: Path, house: str, step_s: float, now: Instant) -> Past:
    """The means of the last `KEEP_DAYS` days from the files of a house's meters.

    A step counts where every meter that has a file of that day has measured nearly all of it.

    Args:
        root: the recorder's data folder.
        house: whose days; what was replayed for it stands elsewhere and is not read.
        step_s: length of a step [s].
        now: steps that are not over by then are left out.
    """
    past = Past({}, {}, [])
    over = now.unix_ms // round(step_s * 1000)
    for paths in _days(root / house, now.after(-KEEP_DAYS * DAY_S).date()):
        days = []
        for path in paths:
            try:
                days.append(_read(path))
            except (OSError, ValueError) as error:
                past.faults.append(f"{path}: {error}")
        for means, column in ((past.load_kw, "meter_w"), (past.pv_kw, "pv_w")):
            slots = _sum([_means(rows.at_ms, getattr(rows, column), step_s) for rows in days])
            means.update({slot: max(0.0, watts) / W_PER_KW for slot, watts in slots if slot < over})
    return past


def _days(folder: Path, first: date) -> Iterable[list[Path]]:
    """The meters' files, day by day."""
    days: defaultdict[str, list[Path]] = defaultdict(list)
    for path in folder.glob("*/*.csv"):
        meter, _, day = path.stem.rpartition("_")
        if meter == path.parent.name and day >= first.isoformat():
            days[day].append(path)
    return [sorted(paths) for _, paths in sorted(days.items())]


def _read(path: Path) -> Rows:
    """The rows of a file; a line that is none is left out.

    Raises:
        OSError: it can't be read.
        ValueError: it is no such file.
    """
    header, *lines = path.read_text(encoding="utf-8").split("\n")
    if header.rstrip("\r") != HEADER:
        raise ValueError(f"its first line is not {HEADER}")
    del lines[-1:]  # empty, or a line that is still being written
    try:
        return _parsed(lines)
    except ValueError:
        return _parsed([line for line in lines if identity_of(line.rstrip("\r"))])


def _parsed(lines: list[str]) -> Rows:
    stamps, meters, pvs = [], [], []
    for line in lines:
        stamp, meter, pv, _ = line.split(",", 3)
        stamps.append(stamp[:-1])  # numpy takes all times for UTC, and minds being told so
        meters.append(meter)
        pvs.append(pv or "nan")
    at_ms = np.array(stamps, dtype="datetime64[ms]").astype(np.int64)
    order = np.argsort(at_ms, kind="stable")
    meter_w, pv_w = np.array(meters, dtype=np.float64), np.array(pvs, dtype=np.float64)
    return Rows(at_ms[order], meter_w[order], pv_w[order])


def _means(at_ms: npt.NDArray[np.int64], watts: FloatArray, step_s: float) -> dict[int, float]:
    """The means of the steps that were nearly all measured, by step: each value holds until the next one."""
    known = np.isfinite(watts)
    at_ms, watts = at_ms[known], watts[known]
    if not len(at_ms):
        return {}
    gaps = np.diff(at_ms)
    longest = max(HOLD_MS, HOLD_GAPS * float(np.median(gaps))) if len(gaps) else HOLD_MS
    held = np.minimum(np.append(gaps, longest), longest)
    # What has been measured by an instant: straight lines between where each value begins to hold and ends.
    knots = np.column_stack([at_ms, at_ms + held]).ravel()
    covered = np.cumsum(np.column_stack([np.zeros_like(held), held]).ravel())
    summed = np.cumsum(np.column_stack([np.zeros_like(held), held * watts]).ravel())
    step_ms = round(step_s * 1000)
    slots = np.arange(at_ms[0] // step_ms, int(knots[-1]) // step_ms + 1)
    bounds = np.append(slots, slots[-1] + 1) * step_ms
    covered, summed = (np.diff(np.interp(bounds, knots, line)) for line in (covered, summed))
    enough = covered >= Slot.LEARN_SHARE * step_ms
    means = summed[enough] / covered[enough]
    return dict(zip(slots[enough].tolist(), means.tolist(), strict=True))


def _sum(meters: list[dict[int, float]]) -> list[tuple[int, float]]:
    """The steps that all meters know, added up; a meter that knows none of the day does not count."""
    measuring = [means for means in meters if means]
    if not measuring:
        return []
    slots = set.intersection(*(set(means) for means in measuring))
    return [(slot, sum(means[slot] for means in measuring)) for slot in sorted(slots)]
