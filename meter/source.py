"""What a meter's readings come from: one small interface for simulated, recorded and real meters."""

from typing import NamedTuple, Protocol

from contracts.instant import Instant


class Measured(NamedTuple):
    """What was measured at one instant, with the sign of what the meter measures."""

    power_w: float
    phase_a: tuple[float, ...] = ()
    """The current on each phase [A]; none if the meter does not tell."""


class Source(Protocol):
    """Something that measures; it connects when it is first asked."""

    async def measure(self, at: Instant) -> Measured:
        """What it measures at `at`, which is now; one that plays gives the same for the same instant.

        Raises:
            MeterSilentError: nothing that can be believed was heard.
            OutsideSeriesError: a recording does not cover that instant.
        """

    async def close(self) -> None:
        """Let go of what it is connected to."""


class Played:
    """The base of sources that need nothing but the time."""

    def power_w(self, at: Instant) -> float:
        """The power at an instant [W]."""
        raise NotImplementedError

    async def measure(self, at: Instant) -> Measured:
        """See `Source`."""
        return Measured(self.power_w(at))

    async def close(self) -> None:
        """Nothing is held."""


class Inverted:
    """A meter that is wired, or counts, the other way round."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def measure(self, at: Instant) -> Measured:
        """See `Source`."""
        measured = await self._source.measure(at)
        return Measured(-measured.power_w, tuple(-current for current in measured.phase_a))

    async def close(self) -> None:
        """See `Source`."""
        await self._source.close()
