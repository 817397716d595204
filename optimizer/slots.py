"""What is being measured in the step in hand: powers over time, and how much of it was measured at all."""

from math import exp
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from contracts.instant import Instant

HOLD_MS = 60_000
"""A reading stands for so long at most, unless its meter is slower than that."""
HOLD_GAPS = 1.5
"""A slow meter's reading stands for so many of its usual gaps."""
RECENT_S = 120.0
"""The running mean is of about so long, and says nothing before."""
SILENT_MS = 86_400_000
METERS_MAX = 1000
"""Of each kind in a house; more are not heard."""
MS_PER_H = 3_600_000.0


class Mean:
    """The mean of one power over a slot: each reading holds until the next one, but not for ever."""

    __slots__ = (
        "_gap_ms",
        "_kw",
        "_kw_ms",
        "_read_ms",
        "_recent_ms",
        "_since_ms",
        "_until_ms",
        "covered_ms",
        "recent_kw",
    )

    def __init__(self, kw: float, at_ms: int) -> None:
        self._kw = self.recent_kw = kw
        self._read_ms = self._since_ms = at_ms
        self._until_ms = at_ms + HOLD_MS
        self._gap_ms = 0
        self._kw_ms = 0.0
        self._recent_ms = 0
        self.covered_ms = 0

    def add(self, kw: float, at_ms: int) -> None:
        """Take in a reading; one that is older than the last is left out."""
        gap_ms = at_ms - self._read_ms
        if gap_ms == 0:
            self._kw = kw
        if gap_ms <= 0:
            return
        if at_ms > self._until_ms:
            self._recent_ms, self.recent_kw = 0, kw
        self.advance(at_ms)
        # The shorter of two gaps: after a silence a quick meter is still a quick one.
        usual_ms = min(gap_ms, self._gap_ms)
        self._until_ms = at_ms + max(HOLD_MS, round(HOLD_GAPS * usual_ms))
        self._kw, self._read_ms, self._gap_ms = kw, at_ms, gap_ms

    def advance(self, to_ms: int) -> None:
        """Let time pass."""
        held_ms = min(to_ms, self._until_ms) - self._since_ms
        if held_ms > 0:
            self._kw_ms += self._kw * held_ms
            self.covered_ms += held_ms
            self._recent_ms += held_ms
            self.recent_kw += (self._kw - self.recent_kw) * (1.0 - exp(-held_ms / (RECENT_S * 1000.0)))
        self._since_ms = max(self._since_ms, to_ms)

    def restart(self) -> None:
        """A new slot begins where the time has come to."""
        self._kw_ms, self.covered_ms = 0.0, 0

    @property
    def is_measured(self) -> bool:
        """Whether anything is known of the slot."""
        return self.covered_ms > 0 or self._until_ms > self._since_ms

    @property
    def is_settled(self) -> bool:
        """Whether the running mean says something."""
        return self._recent_ms >= RECENT_S * 1000.0 and self._until_ms > self._since_ms

    @property
    def is_silent(self) -> bool:
        """Whether it has not been heard for a day."""
        return self._since_ms - self._read_ms > SILENT_MS

    @property
    def value_kw(self) -> float:
        """The mean of what was measured."""
        return self._kw_ms / self.covered_ms if self.covered_ms else self._kw


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """What has been imported since an instant, as far as it was measured."""

    start: Instant
    kwh: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    measured_s: Annotated[float, Meta(ge=0, le=1e5)] = 0.0


class Done(NamedTuple):
    """A slot that is over."""

    number: int
    load_kw: float | None
    """None: too little of it was measured."""
    pv_kw: float | None
    import_kwh: float
    """What was measured to be imported: what was not measured is not in it."""


class Slot:
    """The step in hand: the meters of a house add up, and its batteries and cars are no load of its own.

    Args:
        step_s: its length [s].
        number: since the epoch: slot s runs from s * step_s.
    """

    LEARN_SHARE = 0.9
    """With less of it measured a slot is no mean to learn from."""

    def __init__(self, step_s: float, number: int) -> None:
        self._step_ms = round(step_s * 1000)
        self.number = number
        self._load: dict[str, Mean] = {}
        self._pv: dict[str, Mean] = {}
        self._ders: Mean | None = None
        self._carried = Running(start=self.start)
        self.of_grid = False
        """Whether the house is measured at its grid connection, with batteries and cars."""
        self.has_pv = False

    @property
    def start(self) -> Instant:
        """When it began."""
        return Instant.at_ms(self.number * self._step_ms)

    def number_of(self, at: Instant) -> int:
        """The slot that holds an instant."""
        return at.unix_ms // self._step_ms

    def hear_load(self, meter: str, kw: float, ders_kw: float, at: Instant) -> None:
        """Take in what a meter measured, PV added if it is a grid meter's; and what the DERs took then."""
        at_ms = at.unix_ms
        if _hear(self._load, meter, kw, at_ms):
            if self._ders is None:
                self._ders = Mean(ders_kw, at_ms)
            else:
                self._ders.add(ders_kw, at_ms)

    def hear_pv(self, meter: str, kw: float, at: Instant) -> None:
        """Take in production."""
        self.has_pv = True
        _hear(self._pv, meter, kw, at.unix_ms)

    def advance(self, now: Instant) -> None:
        """Let time pass, no further than the slot's end."""
        self._advance(min(now.unix_ms, (self.number + 1) * self._step_ms))

    def move_to(self, number: int) -> Done:
        """End the slot, and begin a later one; what is over is returned."""
        self._advance((self.number + 1) * self._step_ms)
        learn_ms = self.LEARN_SHARE * self._step_ms
        done = Done(
            self.number,
            self.load_kw if _covered_ms(self._load) >= learn_ms else None,
            self.pv_kw if _covered_ms(self._pv) >= learn_ms else None,
            self.imported.kwh,
        )
        self.number = number
        self._advance(number * self._step_ms)
        for means in (self._load, self._pv):
            for meter in [meter for meter, mean in means.items() if mean.is_silent]:
                del means[meter]
        for mean in self._means():
            mean.restart()
        self._carried = Running(start=self.start)
        return done

    def resume(self, carried: Running) -> None:
        """Count what had been imported in this slot before a restart."""
        if carried.start == self.start:
            self._carried = carried

    @property
    def load_kw(self) -> float | None:
        """The mean consumption so far, without batteries and cars; None if nothing was measured."""
        measured = [mean.value_kw for mean in self._load.values() if mean.is_measured]
        if not measured:
            return None
        return max(0.0, sum(measured) - self._ders_kw) if self.of_grid else sum(measured)

    @property
    def pv_kw(self) -> float | None:
        """The mean production so far; None if nothing was measured."""
        measured = [mean.value_kw for mean in self._pv.values() if mean.is_measured]
        return sum(measured) if measured else None

    @property
    def recent_kw(self) -> tuple[float, float] | None:
        """Load and PV of the last minutes; None if too little is known of either."""
        load = [mean for mean in self._load.values() if mean.is_measured]
        pv = [mean for mean in self._pv.values() if mean.is_measured]
        if not load or (self.has_pv and not pv) or not all(mean.is_settled for mean in load + pv):
            return None
        load_kw = sum(mean.recent_kw for mean in load)
        if self.of_grid and self._ders is not None:
            load_kw = max(0.0, load_kw - self._ders.recent_kw)
        return load_kw, sum(mean.recent_kw for mean in pv)

    @property
    def imported(self) -> Running:
        """What has been imported in it, as far as that was measured."""
        measured = [mean.value_kw for mean in self._load.values() if mean.is_measured]
        grid_kw = sum(measured) + (0.0 if self.of_grid else self._ders_kw) - (self.pv_kw or 0.0)
        covered_ms = _covered_ms(self._load)
        if self.has_pv:
            covered_ms = min(covered_ms, _covered_ms(self._pv))
        return Running(
            start=self.start,
            kwh=self._carried.kwh + max(0.0, grid_kw) * covered_ms / MS_PER_H,
            measured_s=self._carried.measured_s + covered_ms / 1000.0,
        )

    def passed_kwh(self, now: Instant) -> float:
        """What has been imported in it by now: of what was not measured, as much as of what was."""
        imported = self.imported
        if not imported.measured_s > 0:
            return 0.0
        return imported.kwh * max(1.0, now.seconds_since(self.start) / imported.measured_s)

    @property
    def _ders_kw(self) -> float:
        return 0.0 if self._ders is None else self._ders.value_kw

    def _advance(self, to_ms: int) -> None:
        for mean in self._means():
            mean.advance(to_ms)

    def _means(self) -> list[Mean]:
        means = [*self._load.values(), *self._pv.values()]
        return means if self._ders is None else [*means, self._ders]


def _hear(means: dict[str, Mean], meter: str, kw: float, at_ms: int) -> bool:
    """Take in a meter's reading; False if the house already has all the meters that are heard."""
    mean = means.get(meter)
    if mean is not None:
        mean.add(kw, at_ms)
    elif len(means) < METERS_MAX:
        means[meter] = Mean(kw, at_ms)
    else:
        return False
    return True


def _covered_ms(means: dict[str, Mean]) -> int:
    """How long all the meters that say something of the slot have measured [ms]."""
    return min((mean.covered_ms for mean in means.values() if mean.is_measured), default=0)
