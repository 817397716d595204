"""Clouds: the share of clear-sky power that gets through, seeded by place."""

from contracts.instant import Instant
from energy.noise import smooth_noise

OCTAVES = ((21600.0, 0.45), (3600.0, 0.35), (300.0, 0.20))
"""Weather fronts, cloud fields, single clouds: period [s] and share; the shares add up to 1."""
DARKEST = 0.2
"""What a closed cloud cover still lets through."""
EDGE = 0.12
"""Half the width of a cloud's edge, in units of the noise: small is abrupt."""


def cloud_factor(seed: str, place: str, instant: Instant, cloudiness: float = 0.4) -> float:
    """The share of clear-sky power at a place and instant, 0.2 (overcast) to 1 (clear).

    A pure function: the same place at the same instant has the same sky, also after a restart.

    Args:
        seed: of the whole run.
        place: houses of one place share their clouds.
        instant: when.
        cloudiness: 0 never a cloud .. 1 always overcast.
    """
    cover = sum(share * smooth_noise(f"{seed}/clouds/{place}/{p:g}", p, instant) for p, share in OCTAVES)
    # Sums of noise crowd around 1/2; the threshold moves over that range, so clear and overcast both occur.
    threshold = 1.0 + EDGE - cloudiness * (1.0 + 2 * EDGE)
    closed = min(1.0, max(0.0, (cover - threshold + EDGE) / (2 * EDGE)))
    through = 1.0 - closed * closed * (3.0 - 2.0 * closed)
    return DARKEST + (1.0 - DARKEST) * through
