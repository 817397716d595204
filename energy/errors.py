"""The error tree of physics and prices: what was given can't be, and the message says what and where."""


class EnergyError(ValueError):
    """What was given can't be; one line says what, where and what to do."""


class SpecError(EnergyError):
    """A nameplate, a site or a setpoint that no such device can have."""


class SeriesError(EnergyError):
    """Recorded data that can't be read; the message names file and line."""


class OutsideSeriesError(SeriesError):
    """A time that the recorded data does not cover."""


class TariffError(EnergyError):
    """A tariff that can't be read, or leaves an hour without a price."""
