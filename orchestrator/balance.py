"""Shares a plant's available power among flexible loads with discrete presets; pure.

Choosing presets is a small knapsack: as few loads as possible are changed, and of these the last ones are set
so that as little as possible of the available power is left over.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import floor
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from contracts.ids import Id
from contracts.instant import Instant

W_PER_KW = 1000
FITTED = 3
"""So many of the changed loads are fitted exactly to what is left; those before them go all the way."""
EXTRA = 2
"""So many more loads than needed are looked at."""
WORTH_W = 100
"""One more load is changed if that leaves so much less over."""
ROUNDING_W = 1e-6


Order = Literal["fair", "priority"]


class FlexibleLoad(msgspec.Struct, frozen=True, kw_only=True):
    """A load that runs at one of its presets, or stands still."""

    der_id: Id
    presets_kw: tuple[Annotated[float, Meta(gt=0, le=1e4)], ...]
    """Rising."""
    power_kw: float
    """The preset it was last told, 0 for standing still."""
    priority: int = 0
    """The higher, the sooner it gets power and the later it loses it."""
    ready_at: Instant | None = None
    """It is still starting, stopping or cooling down until then."""
    managed: bool = True
    """Whether it may be changed at all."""


class BalanceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the available power is shared."""

    reserve_kw: Annotated[float, Meta(ge=0, le=1e5, description="of the available power, left alone")] = 2.0
    tolerance_kw: Annotated[
        float, Meta(ge=0, le=1e5, description="so far from the target nothing is done")
    ] = 2.0
    order: Annotated[
        Order,
        Meta(description="fair: the lowest rises first, the highest falls first; priority: by priority"),
    ] = "fair"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One load's new preset."""

    der_id: Id
    before_kw: float
    after_kw: float


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What was found and what is to be changed."""

    target_kw: float
    current_kw: float
    changes: list[Change]
    why: str
    """In one sentence."""

    @property
    def delta_kw(self) -> float:
        """What the target is above the current power."""
        return self.target_kw - self.current_kw

    @property
    def after_kw(self) -> float:
        """The managed loads' power once they have settled."""
        return self.current_kw + sum(change.after_kw - change.before_kw for change in self.changes)


def balance(
    loads: Iterable[FlexibleLoad], available_kw: float, settings: BalanceSettings, now: Instant
) -> Balance:
    """The changes that bring the managed loads to what is available, less the reserve.

    Within the tolerance nothing is changed, but for a load more than is available: so the band below the
    target is as wide as the tolerance, the one above it never wider than the reserve.

    Args:
        loads: all of the plant's.
        available_kw: generation less consumption, the managed loads not counted in it.
        settings: how to share.
        now: loads that are not ready by now stay as they are.
    """
    managed = [load for load in loads if load.managed]
    current_kw = sum(load.power_kw for load in managed)
    target_kw = max(0.0, available_kw - settings.reserve_kw)
    delta_kw = target_kw - current_kw
    above_kw = min(settings.tolerance_kw, max(0.0, available_kw) - target_kw)
    if -above_kw <= delta_kw <= settings.tolerance_kw:
        return Balance(target_kw=target_kw, current_kw=current_kw, changes=[], why="within the tolerance")
    ready = [load for load in managed if load.ready_at is None or load.ready_at <= now]
    up = delta_kw > 0
    able = [load for load in ready if _furthest_kw(load, up=up) != load.power_kw]
    if not able:
        why = "every load is at its limit" if len(ready) == len(managed) else "the others are not ready yet"
        return Balance(target_kw=target_kw, current_kw=current_kw, changes=[], why=why)
    changes = _fit(_in_order(able, settings.order, up=up), delta_kw)
    verb = "raised to use it" if up else "lowered to stay within it"
    why = f"{target_kw:.1f} kW are there for them: {len(changes)} of {len(managed)} loads {verb}"
    if not changes:
        why = "no preset fits what is left"
    return Balance(target_kw=target_kw, current_kw=current_kw, changes=changes, why=why)


def _furthest_kw(load: FlexibleLoad, *, up: bool) -> float:
    if not up:
        return 0.0
    return max(load.power_kw, load.presets_kw[-1]) if load.presets_kw else load.power_kw


def _in_order(loads: list[FlexibleLoad], order: str, *, up: bool) -> list[FlexibleLoad]:
    """Who is changed first."""
    sign = 1.0 if up else -1.0
    if order == "priority":
        return sorted(loads, key=lambda load: (-sign * load.priority, sign * load.power_kw, load.der_id))
    return sorted(loads, key=lambda load: (sign * load.power_kw, load.der_id))


def _fit(loads: Sequence[FlexibleLoad], delta_kw: float) -> list[Change]:
    """Change the first few so that their sum moves by at most `delta_kw` up, or at least that far down."""
    up = delta_kw > 0
    delta_w = floor(delta_kw * W_PER_KW + ROUNDING_W)
    moves = [_watts(_furthest_kw(load, up=up)) - _watts(load.power_kw) for load in loads]
    needed = _needed(moves, abs(delta_w))
    tried = []
    for count in range(max(1, needed - 1), min(needed + EXTRA, len(loads)) + 1):
        fixed = max(0, count - FITTED)
        options = [_steps(load, up=up) for load in loads[fixed:count]]
        choice = _closest(options, delta_w - sum(moves[:fixed]), up=up)
        tried.append(
            choice._replace(steps=(*moves[:fixed], *choice.steps), cost_w=choice.cost_w + fixed * WORTH_W)
        )
    # Where no choice is enough, all that there is.
    best = min(tried) if tried[-1].is_enough else tried[-1]
    return [
        Change(
            der_id=load.der_id, before_kw=load.power_kw, after_kw=(_watts(load.power_kw) + step) / W_PER_KW
        )
        for load, step in zip(loads, best.steps, strict=False)
        if step
    ]


def _needed(moves_w: Sequence[int], wanted_w: int) -> int:
    """How many of the first must go all the way to move so far."""
    reached = list(accumulate(map(abs, moves_w)))
    return min(bisect_left(reached, wanted_w) + 1, len(reached))


def _steps(load: FlexibleLoad, *, up: bool) -> list[int]:
    """By how much a load's power may move in that direction, not at all first [W]."""
    now_w = _watts(load.power_kw)
    presets = (0, *map(_watts, load.presets_kw))
    return [0, *(w - now_w for w in presets if (w > now_w if up else w < now_w))]


class _Choice(NamedTuple):
    """One step for each load, and what is against it; the least comes first."""

    lacks_w: int
    """What it falls short of a fall that must be."""
    cost_w: int
    """What it leaves over, and its changes at what they must be worth."""
    steps: tuple[int, ...]

    @property
    def is_enough(self) -> bool:
        return self.lacks_w == 0


def _closest(options: Sequence[Sequence[int]], wanted_w: int, *, up: bool) -> _Choice:
    """The best choice of one step each: its sum at most what is wanted; when falling, at least that far."""
    ways: dict[int, tuple[int, ...]] = {0: ()}
    # From the last to the first: of two ways alike, the one that changes those who come first is kept.
    for steps in reversed(options):
        grown: dict[int, tuple[int, ...]] = {}
        for total, chosen in ways.items():
            for step in steps:
                way = (step, *chosen)
                if total + step not in grown or way.count(0) > grown[total + step].count(0):
                    grown[total + step] = way
        ways = grown
    return min(
        _Choice(
            lacks_w=0 if up else max(0, total - wanted_w),
            cost_w=abs(wanted_w - total) + WORTH_W * (len(way) - way.count(0)),
            steps=way,
        )
        for total, way in ways.items()
        if not up or total <= wanted_w
    )


def _watts(kw: float) -> int:
    return round(kw * W_PER_KW)
