"""A load that runs at one of its presets or stands still, and takes its time to start and to stop."""

from math import isfinite
from typing import Literal, NamedTuple

import msgspec

from energy.checks import check_range
from energy.errors import SpecError

PRESETS_MAX = 100
CHANGE_S_MAX = 3600.0
MINER_PRESETS_KW = tuple(round(1.0 + 2.0 * i / 19, 3) for i in range(20))
"""Twenty, from 1 to 3 kW."""
SAME_KW = 1e-9
MOMENT_S = 1e-6
"""What is over within this is over."""


class FlexibleLoadSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At what it can run, and how long it takes to get there.

    Raises:
        SpecError: presets that do not rise from above 0, or a time that is none.
    """

    presets_kw: tuple[float, ...] = MINER_PRESETS_KW
    """Rising; 0, standing still, is always one more."""
    start_s: float = 10.0
    """It draws nothing until it has started."""
    stop_s: float = 10.0
    """Its power falls in a line to 0 while it stops."""

    def __post_init__(self) -> None:
        presets = self.presets_kw
        if not 1 <= len(presets) <= PRESETS_MAX:
            raise SpecError(f"presets_kw has {len(presets)} values: 1 to {PRESETS_MAX} are needed")
        for low_kw, high_kw in zip((0.0, *presets), presets, strict=False):
            if not (isfinite(high_kw) and low_kw < high_kw <= 1e5):  # noqa: PLR2004 - as all powers
                raise SpecError(f"presets_kw has {high_kw:g} after {low_kw:g}: they must rise, from above 0")
        check_range("start_s", self.start_s, 0, CHANGE_S_MAX)
        check_range("stop_s", self.stop_s, 0, CHANGE_S_MAX)


class LoadState(NamedTuple):
    """What a load does."""

    phase: Literal["still", "starting", "running", "stopping"]
    preset_kw: float
    """What it runs at, starts towards, or stops from; 0 when still."""
    left_s: float = 0.0
    """Until it has started or stopped."""


STILL = LoadState("still", 0.0)


def check_preset(spec: FlexibleLoadSpec, power_kw: float) -> float:
    """The preset of that power, or 0.

    Raises:
        SpecError: it is neither.
    """
    for preset_kw in (0.0, *spec.presets_kw):
        if abs(power_kw - preset_kw) <= SAME_KW:
            return preset_kw
    low_kw, high_kw = spec.presets_kw[0], spec.presets_kw[-1]
    raise SpecError(
        f"{power_kw:g} kW is no preset: 0, or one of {len(spec.presets_kw)} from {low_kw:g} to {high_kw:g} kW"
    )


def step(spec: FlexibleLoadSpec, state: LoadState, preset_kw: float, dt_s: float) -> tuple[LoadState, float]:
    """Run for a while with that preset, 0 for none; gives the new state and the mean power [kW]."""
    energy_kws, left_s = 0.0, dt_s
    while left_s > 0:
        state = _aimed(spec, state, preset_kw)
        if state.phase in ("still", "running"):
            energy_kws += state.preset_kw * left_s
            break
        part_s = min(left_s, state.left_s)
        if state.phase == "stopping":
            energy_kws += state.preset_kw * (state.left_s - part_s / 2) / spec.stop_s * part_s
        left_s -= part_s
        state = _moved(state, part_s)
    return state, energy_kws / dt_s if dt_s > 0 else 0.0


def settles_in_s(spec: FlexibleLoadSpec, state: LoadState, preset_kw: float) -> float:
    """How long it takes from here until it runs at that preset, or stands still [s]."""
    state = _aimed(spec, state, preset_kw)
    if state.phase == "stopping" and preset_kw > 0:
        return state.left_s + spec.start_s
    return state.left_s


def _aimed(spec: FlexibleLoadSpec, state: LoadState, preset_kw: float) -> LoadState:
    """What it does now that it is told so; one that stops does so to the end."""
    match state.phase:
        case "still" if preset_kw > 0:
            state = LoadState("starting", preset_kw, spec.start_s)
        case "running" if preset_kw == 0:
            state = LoadState("stopping", state.preset_kw, spec.stop_s)
        case "starting" if preset_kw == 0:
            return STILL
        case "starting" | "running":
            state = state._replace(preset_kw=preset_kw)
        case _:
            pass
    return state if state.left_s > MOMENT_S else _moved(state, 0.0)


def _moved(state: LoadState, part_s: float) -> LoadState:
    """So much nearer to having started or stopped."""
    if state.left_s - part_s > MOMENT_S:
        return state._replace(left_s=state.left_s - part_s)
    match state.phase:
        case "starting":
            return LoadState("running", state.preset_kw)
        case "stopping":
            return STILL
        case _:
            return state
