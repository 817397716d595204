"""A meter without hardware, as pure functions of time; and how readings are numbered."""

import random
from typing import Literal

from msgspec import UNSET

from contracts.instant import Instant
from contracts.messages import MeterReading
from energy.load import HouseProfile, load_w, texture
from energy.series import Series
from meter.source import Measured, Played


class SimulatedSource(Played):
    """A believable house, 0 W to the profile's most."""

    def __init__(self, profile: HouseProfile, seed: str) -> None:
        self._profile = profile
        self._seed = seed

    def power_w(self, at: Instant) -> float:
        return load_w(self._profile, self._seed, at)


class RecordedSource(Played):
    """A recording played again: finer data is averaged, coarser data gets a seeded texture.

    The texture keeps each recorded step's mean, so that the energy is the recorded one.
    """

    def __init__(self, series: Series, interval_s: float, seed: str) -> None:
        self._series = series
        self._interval_s = interval_s
        self._seed = seed
        self._samples: tuple[int, list[float]] = (0, [])

    def power_w(self, at: Instant) -> float:
        step_ms, interval_ms = round(self._series.step_s * 1000), round(self._interval_s * 1000)
        n, rest = divmod(step_ms, interval_ms)
        if n <= 1 or rest:
            return round(self._series.mean(at, self._interval_s), 1)
        into_ms = (at.unix_ms - self._series.start.unix_ms) % step_ms
        begin_ms = at.unix_ms - into_ms
        key, samples = self._samples
        if key != begin_ms:
            rng = random.Random(f"{self._seed}/{begin_ms}")
            samples = texture(self._series.at(at), n, rng, self._interval_s)
            self._samples = (begin_ms, samples)
        return samples[into_ms // interval_ms]


class MeterModel:
    """Makes the readings of one meter; their identity is (house, meter, boot, seq)."""

    def __init__(
        self, *, house: str, meter: str, boot: int, measures: Literal["load", "grid"], has_pv: bool
    ) -> None:
        self._house = house
        self._meter = meter
        self.boot = boot
        """Which life of the meter it is."""
        self._measures = measures
        self._has_pv = has_pv
        self._seq = 0

    def reading(self, at: Instant, measured: Measured) -> MeterReading:
        """The next reading: what was measured, with its number."""
        self._seq += 1
        return MeterReading(
            house=self._house,
            meter=self._meter,
            boot=self.boot,
            seq=self._seq,
            timestamp=at,
            power_w=measured.power_w,
            measures=self._measures,
            has_pv=self._has_pv,
            phase_a=list(measured.phase_a) or UNSET,
        )
