"""Readings from before a meter knows the time, or has a disk to keep them on: they wait in memory."""

from collections.abc import Callable
from math import inf
from typing import NamedTuple, TypeVar

from contracts.instant import Instant
from meter.errors import MeterSilentError
from meter.source import Measured, Source
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import Log

BELIEVED_FROM = Instant.parse("2024-01-01T00:00:00Z")
"""A small computer that starts without a network shows an earlier time."""
EARLY_MAX = 100_000
"""Eleven days at one every 10 s."""
SAY_AGAIN_S = 600.0
"""In the log, a meter that stays silent or comes and goes is not told of more often."""

T = TypeVar("T")


class Early(NamedTuple):
    """What was measured when nobody could say what time it was, or keep it."""

    at_s: float
    """The monotonic clock's time: it is right even while the wall clock is not."""
    measured: Measured


async def measure_until(
    ready: Callable[[], T | None], source: Source, clock: Clock, life: Lifecycle, interval_s: float, log: Log
) -> tuple[T | None, list[Early]]:
    """Measure until `ready` gives something; returns that, or None if stopped, and what was measured.

    Args:
        ready: asked at once, and after each beat; says itself why it gives nothing.
        source: what is measured.
        interval_s: between two readings.
    """
    early: list[Early] = []
    said_s = -inf
    refused = 0
    found = ready()
    if found is None:
        async for _ in life.each(clock.every(interval_s)):
            try:
                reading = Early(clock.monotonic(), await source.measure(clock.now()))
            except MeterSilentError as error:
                if clock.monotonic() - said_s >= SAY_AGAIN_S:
                    said_s = clock.monotonic()
                    log.warning("no reading", why=str(error))
            else:
                refused += not _took(early, reading)
            if (found := ready()) is not None:
                break
    if early or refused:
        log.warning("readings waited in memory", count=len(early), refused=refused, lost=found is None)
    return found, early


def _took(early: list[Early], reading: Early) -> bool:
    if len(early) >= EARLY_MAX:
        return False
    early.append(reading)
    return True
