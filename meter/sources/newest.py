"""The newest of what a meter says by itself, as long as it is not too old."""

import asyncio

from meter.errors import MeterSilentError
from meter.source import Measured
from runtime.clock import Clock

FIRST_WITHIN_S = 2.0
"""The first reading waits so long for a meter to speak."""


class Newest:
    """What was heard last.

    Args:
        clock: tells how old it is.
        age_max_s: older than this it is no measurement of now.
        where: names the meter to people.
    """

    def __init__(self, clock: Clock, age_max_s: float, where: str) -> None:
        self._clock = clock
        self._age_max_s = age_max_s
        self._where = where
        self._heard_s = 0.0
        self._measured: Measured | None = None
        self._first = asyncio.Event()
        self._trouble = ""

    def put(self, measured: Measured) -> None:
        """The meter has spoken."""
        self._measured, self._heard_s, self._trouble = measured, self._clock.monotonic(), ""
        self._first.set()

    def lapse(self) -> bool:
        """Whether what was heard last has become too old since; told once."""
        if self._measured is None or self._clock.monotonic() - self._heard_s <= self._age_max_s:
            return False
        self._measured = None
        return True

    def trouble(self, why: str) -> None:
        """Say why nothing is heard, for the error that will tell it; empty: nothing stands in the way."""
        self._trouble = why

    async def get(self, trouble: str = "") -> Measured:
        """What was heard last.

        Args:
            trouble: what stands in the way right now; empty: what did so last.

        Raises:
            MeterSilentError: nothing was, or too long ago.
        """
        if self._measured is None:
            try:
                async with self._clock.timeout(FIRST_WITHIN_S):
                    await self._first.wait()
            except TimeoutError:
                raise self._silent(f"nothing is heard from {self._where}", trouble) from None
        age_s = self._clock.monotonic() - self._heard_s
        if self._measured is None or age_s > self._age_max_s:
            raise self._silent(f"nothing was heard from {self._where} for {age_s:.0f} s", trouble)
        return self._measured

    def _silent(self, what: str, trouble: str) -> MeterSilentError:
        why = trouble or self._trouble
        return MeterSilentError(f"{what}: {why}" if why else what)
