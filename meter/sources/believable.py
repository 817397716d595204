"""What can't be measured is not believed, whatever a source says."""

from contracts.instant import Instant
from meter.errors import MeterSilentError
from meter.source import Measured, Source

POWER_MAX_W, CURRENT_MAX_A = 1e8, 1e6
"""What a `MeterReading` may carry."""


class Believable:
    """A source of which what no house can have is not believed: a damaged register, a wrong scale."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def measure(self, at: Instant) -> Measured:
        """See `Source`."""
        measured = await self._source.measure(at)
        if not abs(measured.power_w) <= POWER_MAX_W:  # nor is a NaN
            raise MeterSilentError(f"the meter says {measured.power_w:g} W: that is not believed")
        if all(abs(current) <= CURRENT_MAX_A for current in measured.phase_a):
            return measured
        return Measured(measured.power_w)

    async def close(self) -> None:
        """See `Source`."""
        await self._source.close()
