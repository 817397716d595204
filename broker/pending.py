"""The outbox by its former name, for sources that keep theirs in memory."""

from broker.outbox import Outbox as PendingReadings

__all__ = ["PendingReadings"]
