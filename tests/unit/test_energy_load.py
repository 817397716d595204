import random
from itertools import pairwise
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from energy.errors import SpecError
from energy.load import HouseProfile, load_w, texture

START = Instant.parse("2024-06-03T00:00:00Z")


def seeded(key: int | str) -> random.Random:
    return random.Random(key)


@given(st.floats(-1e5, 1e6), st.integers(1, 800), st.integers(), st.sampled_from([1.0, 10.0, 60.0, 900.0]))
def test_texture_keeps_the_mean_exactly(mean_w: float, n: int, seed: int, step_s: float) -> None:
    samples = texture(mean_w, n, seeded(seed), step_s)
    assert len(samples) == n
    assert samples == [round(sample, 1) for sample in samples]
    assert round(sum(round(sample * 10) for sample in samples) / 10, 1) == round(n * mean_w, 1)
    if mean_w >= 0:
        assert min(samples) >= 0


def test_texture_repeats_with_its_seed_and_looks_like_a_house() -> None:
    samples = texture(800.0, 360, seeded("a"))
    assert samples == texture(800.0, 360, seeded("a"))
    assert samples != texture(800.0, 360, seeded("b"))
    assert pstdev(samples) > 150
    # An appliance runs for minutes: most neighbours differ little, a few differ by its power.
    jumps = [abs(b - a) for a, b in pairwise(samples)]
    assert sorted(jumps)[len(jumps) // 2] < 40
    assert max(jumps) > 100


def test_a_negative_mean_gets_noise_only() -> None:
    samples = texture(-2000.0, 360, seeded("a"))
    assert max(samples) < 0
    assert fmean(samples) == pytest.approx(-2000)


def test_a_simulated_house_is_a_pure_function_of_time_within_range() -> None:
    profile = HouseProfile(timezone="America/Los_Angeles")
    day = [load_w(profile, "1/house-a", START.after(10.0 * i)) for i in range(8640)]
    assert day[5000] == load_w(profile, "1/house-a", START.after(50000.0))
    assert day != [load_w(profile, "1/house-b", START.after(10.0 * i)) for i in range(8640)]
    assert min(day) >= 0
    assert max(day) <= 9000
    assert max(day) > 1000


def test_evenings_are_livelier_than_nights() -> None:
    profile = HouseProfile(timezone="America/Los_Angeles")
    midnight = Instant.parse("2024-06-03T07:00:00Z")

    def mean(hour: int) -> float:
        return fmean(
            load_w(profile, "1/a", midnight.after(86400 * day + 3600 * hour + 120 * i))
            for day in range(14)
            for i in range(30)
        )

    assert mean(19) > 2 * mean(3)


def test_without_noise_the_base_is_the_hours_factor_alone() -> None:
    def base(noise: float) -> list[float]:
        profile = HouseProfile(base_w=1000.0, hourly_factors=(2.0,) * 24, noise=noise)
        return [load_w(profile, "1", START.after(60.0 * i)) for i in range(0, 1440, 7)]

    assert min(base(0.0)) == 2000.0
    assert 1400.0 <= min(base(0.3)) < 1700.0


def test_the_largest_power_is_kept_to() -> None:
    profile = HouseProfile(base_w=50000.0)
    assert max(load_w(profile, "1", START.after(3600.0 * i)) for i in range(24)) == 9000.0


def test_an_impossible_house_is_named() -> None:
    with pytest.raises(SpecError, match="2 numbers"):
        HouseProfile(hourly_factors=(1.0, 2.0))
    with pytest.raises(SpecError, match="noise is 2"):
        HouseProfile(noise=2.0)
    with pytest.raises(SpecError, match="base_w"):
        HouseProfile(base_w=-1.0)
