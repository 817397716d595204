"""The error tree of the bus: every transport's errors become one of these, at the transport.

BusError
+-- BusUnavailableError   the broker can't be reached, or did not answer in time: try again
+-- BusRefusedError       the broker said no: wrong password, not allowed
|   +-- TopologyError     a queue or an exchange is there and not as it must be
+-- NotRoutedError        a reading that no durable queue would keep
+-- BusUrlError           a URL that names no transport
"""

from runtime.errors import RuntimeFaultError


class BusError(RuntimeFaultError):
    """Something the bus could not do."""


class BusUnavailableError(BusError):
    """The broker can't be reached or did not confirm in time; whether it has the message is unknown."""


class BusRefusedError(BusError):
    """The broker answered no, and will again: credentials, permissions, a queue that differs."""

    exit_code = 2


class TopologyError(BusRefusedError):
    """A queue or an exchange of ours is at the broker with other arguments: a person must decide."""


class NotRoutedError(BusError):
    """A reading that no durable queue takes: it is not published."""


class BusUrlError(BusError):
    """A broker's URL that names no transport we have."""

    exit_code = 2
