"""Noise that is smooth in time and a pure function of it: the same after a restart, and for a redelivery."""

from functools import lru_cache
from hashlib import blake2b

from contracts.instant import Instant


@lru_cache(maxsize=4096)
def _lattice(key: str, index: int) -> float:
    digest = blake2b(f"{key}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def smooth_noise(key: str, period_s: float, instant: Instant) -> float:
    """Value noise in 0..1: a hashed random number each `period_s`, joined smoothly.

    Source: K. Perlin, An image synthesizer (1985), in one dimension, with the 3t^2 - 2t^3 blend.
    """
    position = instant.unix_ms / (period_s * 1000.0)
    index = int(position // 1)
    part = position - index
    blend = part * part * (3.0 - 2.0 * part)
    left, right = _lattice(key, index), _lattice(key, index + 1)
    return left + (right - left) * blend
