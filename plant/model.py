"""A power plant that drifts: two random walks within their bounds, each split in two."""

import random
from math import isfinite

import msgspec

from energy.errors import SpecError

W_PER_MW = 1_000_000
"""Powers are whole watts, so that what is split adds up to the last digit."""
GENERATORS = ("generoso", "nogueira")
CONTAINERS = ("container_eles", "container_mazp")
SHARE = 0.5
SHARE_DRIFT = 0.05
"""How far the first part's share may be from half."""


class Bounds(msgspec.Struct, frozen=True):
    """Between what a walk stays [MW].

    Raises:
        SpecError: no number, below zero, or the wrong way round.
    """

    name: str
    low_mw: float
    high_mw: float

    def __post_init__(self) -> None:
        for end, value in (("min", self.low_mw), ("max", self.high_mw)):
            if not isfinite(value) or value < 0:
                raise SpecError(f"--{self.name}-{end} is {value:g}: it must be finite and not negative (MW)")
        if self.low_mw > self.high_mw:
            raise SpecError(
                f"--{self.name}-min {self.low_mw:g} is above --{self.name}-max {self.high_mw:g} (MW)"
            )


class Walk:
    """A random walk within bounds, in whole watts.

    Source: the plant API document, "How Random Walk Works".
    """

    def __init__(self, bounds: Bounds, step_mw: float, rng: random.Random) -> None:
        self._low_w, self._high_w = round(bounds.low_mw * W_PER_MW), round(bounds.high_mw * W_PER_MW)
        self._step_mw = step_mw
        self._rng = rng
        self.power_w = rng.randint(self._low_w, self._high_w)

    def move(self) -> None:
        """One step up or down."""
        change_w = round(self._rng.uniform(-self._step_mw, self._step_mw) * W_PER_MW)
        self.power_w = min(max(self.power_w + change_w, self._low_w), self._high_w)


class Split(msgspec.Struct, frozen=True):
    """A power as two parts that add up to it [W]."""

    first_w: int
    second_w: int

    @property
    def total_w(self) -> int:
        """Both."""
        return self.first_w + self.second_w


class PlantModel:
    """Generation and consumption, which walk independently of one another.

    Args:
        generation: the bounds of what is generated.
        consumption: the bounds of what is consumed.
        step_mw: the most that changes in one update.
        seed: the same seed, the same walks.
    """

    def __init__(self, generation: Bounds, consumption: Bounds, step_mw: float, seed: str) -> None:
        if not isfinite(step_mw) or step_mw < 0:
            raise SpecError(f"--step is {step_mw:g}: it must be finite and not negative (MW)")
        self._generation = Walk(generation, step_mw, random.Random(f"{seed}/generation"))
        self._consumption = Walk(consumption, step_mw, random.Random(f"{seed}/consumption"))
        self._shares = random.Random(f"{seed}/shares")
        self._split()

    def update(self) -> None:
        """Move both on by one step."""
        self._generation.move()
        self._consumption.move()
        self._split()

    def _split(self) -> None:
        self.generation = self._parts(self._generation.power_w)
        self.consumption = self._parts(self._consumption.power_w)

    def _parts(self, power_w: int) -> Split:
        first_w = round(power_w * (SHARE + self._shares.uniform(-SHARE_DRIFT, SHARE_DRIFT)))
        return Split(first_w, power_w - first_w)

    @property
    def available_w(self) -> int:
        """What is generated and not consumed; negative if more is consumed."""
        return self.generation.total_w - self.consumption.total_w
