"""What a bus counts, message by message."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from contracts.instant import Instant
from contracts.messages import Message
from runtime.clock import Clock
from runtime.metrics import Metric, counters, gauges


class BusCounts:
    """Everything since the bus was opened, by the kind of message."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lags_s: dict[str, float] = {}
        self._heard_at_s: dict[str, float] = {}
        self.published: Counter[str] = Counter()
        self.heard: Counter[str] = Counter()

    def note_heard(self, message: Message, *, retained: bool) -> None:
        """One has arrived; a state from before, or a replay, says nothing of how long messages take."""
        kind = type(message).__name__
        self.heard[kind] += 1
        self._heard_at_s[kind] = self._clock.monotonic()
        if not retained and (made_at := _made_at(message)) is not None:
            self._lags_s[kind] = self._clock.now().seconds_since(made_at)

    def metrics(self) -> Iterator[Metric]:
        """For Prometheus."""
        published = "Messages the broker has, or that are on their way."
        yield counters("wattbus_published", published, "message", self.published)
        yield counters("wattbus_heard", "Messages that arrived.", "message", self.heard)
        lag = "From the time in the last message to its arrival."
        yield gauges("wattbus_lag_seconds", lag, "message", self._lags_s)
        now_s = self._clock.monotonic()
        ages_s = {kind: now_s - at_s for kind, at_s in self._heard_at_s.items()}
        yield gauges("wattbus_age_seconds", "Since the last message arrived.", "message", ages_s)


def _made_at(message: Any) -> Instant | None:  # noqa: ANN401 - a message of any kind
    if getattr(message, "historical", False):
        return None
    moment: Instant | None = getattr(message, "timestamp", None) or getattr(message, "issued_at", None)
    return moment
