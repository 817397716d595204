"""What can go wrong with a meter itself."""

from runtime.errors import RuntimeFaultError


class MeterSilentError(RuntimeFaultError):
    """The meter does not answer, or says what can't be read: this reading is missing, the next may come."""
