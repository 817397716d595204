from itertools import pairwise
from statistics import fmean, quantiles

from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from energy.clouds import cloud_factor
from energy.noise import _lattice, smooth_noise

START = Instant.parse("2024-06-03T00:00:00Z")
MONTH = [START.after(600.0 * i) for i in range(30 * 144)]


@given(st.integers(0, 4_000_000_000_000), st.floats(0, 1), st.text(max_size=5))
def test_a_factor_is_between_darkest_and_clear(at_ms: int, cloudiness: float, place: str) -> None:
    assert 0.2 <= cloud_factor("1", place, Instant.at_ms(at_ms), cloudiness) <= 1


def test_it_is_the_same_after_a_restart_and_differs_by_seed_and_place() -> None:
    sky = [cloud_factor("1", "fontana", t) for t in MONTH]
    _lattice.cache_clear()
    assert sky == [cloud_factor("1", "fontana", t) for t in MONTH]
    assert sky != [cloud_factor("2", "fontana", t) for t in MONTH]
    assert sky != [cloud_factor("1", "golden", t) for t in MONTH]


def test_clear_and_overcast_both_occur_and_cloudiness_darkens() -> None:
    deciles = quantiles([cloud_factor("1", "a", t) for t in MONTH], n=20)
    assert deciles[0] < 0.5
    assert deciles[-1] == 1.0
    means = [fmean(cloud_factor("1", "a", t, c) for t in MONTH) for c in (0.0, 0.3, 0.6, 1.0)]
    assert means == sorted(means, reverse=True)
    assert means[0] == 1.0
    assert means[-1] < 0.25


def test_noise_is_smooth() -> None:
    values = [smooth_noise("k", 300.0, START.after(float(i))) for i in range(3000)]
    assert max(abs(b - a) for a, b in pairwise(values)) <= 1.5 / 300
