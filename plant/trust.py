"""Whether a plant API's answer can be believed, and the reading it then is: pure."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from contracts.instant import Instant
from contracts.messages import PlantReading
from plant.model import W_PER_MW
from plant.wire import Latest, Part, Reading

SUCCESS = "success"
TRUSTED = "trusted"
FUTURE_S = 30.0
"""A reading from further in the future than this means that one of the two clocks is wrong."""


class UntrustedError(ValueError):
    """An answer that must not be acted on; the message says why."""


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer must keep to."""

    max_age_s: float = 120.0
    sum_tolerance_mw: float = 1e-4
    """How far parts and totals may differ: whoever rounds them rounds each."""
    min_confidence: float = 0.5


def reading_of(
    latest: Latest, trust: Trust, now: Instant, plant_id: str, boot: int, seq: int
) -> PlantReading:
    """The reading in an answer, with our own identity and the plant's own time.

    Raises:
        UntrustedError: it does not stand by itself, does not add up, or is too old.
    """
    reading = latest.reading
    trusted = reading.trust
    if trusted.status != TRUSTED or trusted.confidence_score < trust.min_confidence:
        says = f"{trusted.status!r} with confidence {trusted.confidence_score:g}"
        raise UntrustedError(f"it is {says}: {trusted.summary[:200]}")
    _check_sums(reading, trust.sum_tolerance_mw)
    collected = _time("collection_timestamp", reading.collection_timestamp, trust, now)
    for parts in (reading.generation, reading.consumption):
        for name, part in parts.items():
            _time(f"source_timestamp of {name[:64]}", part.source_timestamp, trust, now)
    return PlantReading(
        house=plant_id,
        boot=boot,
        seq=seq,
        timestamp=collected,
        generation_w=_watts(reading.totals.generation_mw),
        consumption_w=_watts(reading.totals.consumption_mw),
    )


def _watts(power_mw: float) -> float:
    """In W, to a milliwatt: 0.130095 MW are 130095 W, and not 130095.00000000001."""
    return round(power_mw * W_PER_MW, 3)


def _check_sums(reading: Reading, tolerance_mw: float) -> None:
    totals = reading.totals
    sums = (
        ("generation_mw", totals.generation_mw, _sum("generation", reading.generation)),
        ("consumption_mw", totals.consumption_mw, _sum("consumption", reading.consumption)),
        ("exported_mw", totals.exported_mw, totals.generation_mw - totals.consumption_mw),
    )
    for name, said, summed in sums:
        if abs(said - summed) > tolerance_mw:
            raise UntrustedError(f"totals.{name} is {said:g}, its parts make {summed:g}")


def _sum(kind: str, parts: Mapping[str, Part]) -> float:
    if not parts:
        raise UntrustedError(f"{kind} has no parts")
    for name, part in parts.items():
        if part.status != SUCCESS:
            raise UntrustedError(f"{kind}.{name[:64]} has status {part.status!r}")
    return sum(part.value_mw for part in parts.values())


def _time(name: str, text: str, trust: Trust, now: Instant) -> Instant:
    try:
        at = Instant.of(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        raise UntrustedError(f"{name} {text!r} is no time: {error}") from error
    age_s = now.seconds_since(at)
    if age_s > trust.max_age_s:
        raise UntrustedError(f"{name} {text} is {age_s:.0f} s old, more than {trust.max_age_s:g} s")
    if age_s < -FUTURE_S:
        raise UntrustedError(f"{name} {text} is {-age_s:.0f} s in the future: one of the clocks is wrong")
    return at
