"""What a house consumes: a simulated house, and the texture that turns recorded means into seconds."""

import random
from functools import lru_cache
from itertools import starmap
from math import floor
from zoneinfo import ZoneInfo

import msgspec

from contracts.instant import Instant
from energy.checks import check_range
from energy.errors import SpecError
from energy.noise import smooth_noise
from energy.zones import zone_of

# fmt: off
HOURLY_FACTORS = (
    0.6, 0.5, 0.5, 0.5, 0.5, 0.6, 1.0, 1.5, 1.3, 1.0, 0.9, 1.0,
    1.2, 1.1, 0.9, 0.9, 1.1, 1.5, 2.0, 2.3, 2.2, 1.8, 1.3, 0.8,
)
# fmt: on
"""How lively a house is in each local hour; mean about 1.1."""

APPLIANCES = (
    (2000.0, 3.0),
    (2200.0, 20.0),
    (1800.0, 15.0),
    (1000.0, 4.0),
    (1500.0, 6.0),
    (1500.0, 12.0),
    (150.0, 45.0),
    (120.0, 15.0),
)
"""Kettle, oven, washing machine, microwave, hair dryer, air conditioner, television, fridge: [W], [min]."""

SMALLEST_PULSE = 1e-3
"""Less energy than this [W x samples] is not worth an appliance."""

USES_PER_HOUR = 0.12
"""How often an appliance starts in an hour whose factor is 1."""
HOUR_S = 3600


class HouseProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A simulated house: what always runs, and how the day goes on its own clocks.

    Raises:
        SpecError: not 24 factors, an unknown timezone, a negative power.
    """

    timezone: str = "UTC"
    base_w: float = 350.0
    hourly_factors: tuple[float, ...] = HOURLY_FACTORS
    noise: float = 0.3
    """The base moves by up to this share, either way."""
    max_w: float = 9000.0

    def __post_init__(self) -> None:
        zone_of(self.timezone)
        check_range("house base_w", self.base_w, 0, 1e6)
        check_range("house noise", self.noise, 0, 1)
        check_range("house max_w", self.max_w, 0, 1e6)
        if len(self.hourly_factors) != 24:  # noqa: PLR2004 - hours
            raise SpecError(f"house hourly_factors has {len(self.hourly_factors)} numbers: give 24")
        for factor in self.hourly_factors:
            check_range("house hourly_factors", factor, 0, 100)


class Pulse(msgspec.Struct, frozen=True):
    """An appliance that runs for a while, in milliseconds since the epoch."""

    start_ms: float
    end_ms: float
    power_w: float


def load_w(profile: HouseProfile, seed: str, instant: Instant) -> float:
    """A simulated house's consumption at an instant [W], 0..max_w, to 0.1 W.

    A pure function of seed and time: a restarted meter goes on where it was.
    """
    local = instant.local(ZoneInfo(profile.timezone))
    factors = profile.hourly_factors
    # A factor stands at its hour's middle; between two of them the house changes gradually.
    position = local.hour + local.minute / 60.0 + local.second / 3600.0 - 0.5
    hour = floor(position)
    factor = factors[hour % 24] + (factors[(hour + 1) % 24] - factors[hour % 24]) * (position - hour)
    wobble = profile.noise * (2.0 * smooth_noise(f"{seed}/load", 120.0, instant) - 1.0)
    base = profile.base_w * factor * (1.0 + wobble)
    at_ms = instant.unix_ms
    slot = at_ms // (HOUR_S * 1000)
    pulses = (*_pulses(profile, seed, slot - 1), *_pulses(profile, seed, slot))
    running = sum(pulse.power_w for pulse in pulses if pulse.start_ms <= at_ms < pulse.end_ms)
    return round(min(profile.max_w, base + running), 1)


@lru_cache(maxsize=256)
def _pulses(profile: HouseProfile, seed: str, slot: int) -> tuple[Pulse, ...]:
    """What is switched on in one hour since the epoch; nothing of it runs longer than an hour."""
    begin = Instant.at_ms(slot * HOUR_S * 1000)
    factor = profile.hourly_factors[begin.local(ZoneInfo(profile.timezone)).hour]
    rng = random.Random(f"{seed}/appliances/{slot}")

    def one(power_w: float, minutes: float) -> Pulse | None:
        used, when, long, strong = (rng.random() for _ in range(4))
        if used >= USES_PER_HOUR * factor:
            return None
        start_ms = begin.unix_ms + when * HOUR_S * 1000
        return Pulse(
            start_ms, start_ms + minutes * (0.7 + 0.6 * long) * 60000, power_w * (0.85 + 0.3 * strong)
        )

    return tuple(pulse for pulse in starmap(one, APPLIANCES) if pulse is not None)


def texture(mean_w: float, n: int, rng: random.Random, step_s: float = 10.0) -> list[float]:
    """Samples that look like a house and have exactly the given mean.

    A consumption is split into a slowly moving base and rectangular appliance pulses, never
    negative; a negative mean (a grid meter that exports) gets noise only.

    Args:
        mean_w: the recorded mean [W].
        n: number of samples, 1 or more.
        rng: where the randomness comes from; the same state gives the same samples.
        step_s: time between samples [s], which gives the appliances their length.

    Returns:
        n samples to 0.1 W, whose sum is `round(n * mean_w, 1)`.
    """
    total = round(round(n * mean_w, 1) * 10)
    drift = _drift(n, rng)
    if mean_w >= 0:
        shape = _house_shape(mean_w, drift, rng, step_s)
        scale = total / (sum(shape) or 1.0)
        exact = [value * scale for value in shape]
    else:
        mean = total / n
        exact = [mean + abs(mean) * (value - sum(drift) / n) for value in drift]
    return [tenths / 10 for tenths in _whole(exact, total)]


def _drift(n: int, rng: random.Random) -> list[float]:
    """Autoregressive noise of the first order around 0, as a share of the mean."""
    value = rng.gauss(0.0, 0.1)
    values = []
    for _ in range(n):
        values.append(value)
        value = 0.95 * value + rng.gauss(0.0, 0.03)
    return values


def _house_shape(mean_w: float, drift: list[float], rng: random.Random, step_s: float) -> list[float]:
    n = len(drift)
    pulsed = rng.uniform(0.3, 0.6)
    samples = [mean_w * (1.0 - pulsed) * max(0.2, 1.0 + value) for value in drift]
    left = pulsed * mean_w * n
    while left > SMALLEST_PULSE:
        power_w, minutes = rng.choice(APPLIANCES)
        length = min(n, max(1, round(minutes * 60.0 / step_s)))
        # Half the mean at least: a large consumer has larger appliances, not thousands of kettles.
        height = min(max(power_w, 0.5 * mean_w), left / length)
        start = rng.randint(0, n - length)
        for i in range(start, start + length):
            samples[i] += height
        left = left - height * length if height * length < left else 0.0
    return samples


def _whole(exact: list[float], total: int) -> list[int]:
    """Whole numbers near `exact` that add up to `total`: the largest remainders are rounded up."""
    values = [floor(value) for value in exact]
    missing = total - sum(values)
    by_remainder = sorted(range(len(exact)), key=lambda i: values[i] - exact[i])
    # Rounding errors of `exact` may ask for one more or one less than there are remainders.
    for turn in range(abs(missing)):
        index = by_remainder[turn % len(exact)] if missing > 0 else _largest(values)
        values[index] += 1 if missing > 0 else -1
    return values


def _largest(values: list[int]) -> int:
    return max(range(len(values)), key=values.__getitem__)
