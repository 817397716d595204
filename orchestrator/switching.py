"""Since when each car is let charge or not: it is not switched to and fro. Pure."""

from collections.abc import Iterable
from math import inf

from contracts.instant import Instant
from contracts.messages import DerTelemetry
from orchestrator.limits import Verdict


class Switching:
    """The cars of a house; one that was unplugged, or has not been commanded yet, may be switched at once."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[bool, Instant]] = {}

    def of(self, der_id: str, now: Instant) -> tuple[bool, float]:
        """Whether a car is let charge, and for how long that has been so [s]."""
        if der_id not in self._since:
            return False, inf
        charging, since = self._since[der_id]
        return charging, max(now.seconds_since(since), 0.0)

    def note(self, cars: Iterable[DerTelemetry], verdicts: Iterable[Verdict], now: Instant) -> None:
        """Take note of what was decided."""
        given = {verdict.der_id: bool(verdict.given_a) for verdict in verdicts if verdict.given_a is not None}
        for car in cars:
            if not car.connected or car.der_id not in given:
                self._since.pop(car.der_id, None)
                continue
            charging = given[car.der_id]
            known = self._since.get(car.der_id)
            if known is None and charging:
                self._since[car.der_id] = (True, now)
            elif known is not None and known[0] is not charging:
                self._since[car.der_id] = (charging, now)
