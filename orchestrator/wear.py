"""How much each battery of a house has cycled since local midnight. Pure."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

from contracts.instant import Instant
from contracts.messages import DerTelemetry

GAP_MAX_S = 60.0
"""What flowed in a longer gap between two telemetry messages is not known, and not made up."""
DAY_MAX_S = 25 * 3600.0
"""Of the day on which the clocks are set back."""


class DayWear(msgspec.Struct, frozen=True):
    """What has flowed through a house's batteries on one day, as it is kept over a restart."""

    until: Instant
    """The local midnight that ends the day."""
    through_kwh: dict[str, float]
    """By the battery's id."""


class Wear:
    """Energy through the batteries' terminals, day by day on the place's clocks.

    Args:
        zone: the place's clocks.
        kept: what was counted before a restart.
    """

    def __init__(self, zone: ZoneInfo, kept: DayWear | None = None) -> None:
        self._zone = zone
        self._last: dict[str, DerTelemetry] = {}
        self._through_kwh: dict[str, float] = {} if kept is None else dict(kept.through_kwh)
        self._midnight = None if kept is None else kept.until

    @property
    def today(self) -> DayWear | None:
        """What is to be kept; nothing before a battery was heard."""
        return None if self._midnight is None else DayWear(self._midnight, dict(self._through_kwh))

    def add(self, battery: DerTelemetry) -> None:
        """Take in what a battery has done since it was last heard."""
        # A midnight that is further off was kept under a clock that was ahead.
        if self._midnight is None or not 0 < self._midnight.seconds_since(battery.timestamp) <= DAY_MAX_S:
            self._through_kwh.clear()
            self._midnight = _midnight_after(battery.timestamp, self._zone)
        last = self._last.get(battery.der_id)
        self._last[battery.der_id] = battery
        if last is None:
            return
        seconds = battery.timestamp.seconds_since(last.timestamp)
        if 0 < seconds <= GAP_MAX_S:
            kwh = abs(last.current_output) * seconds / 3600
            self._through_kwh[battery.der_id] = self._through_kwh.get(battery.der_id, 0.0) + kwh

    def cycles(self, battery: DerTelemetry) -> float:
        """Full cycles today: energy through its terminals over twice its capacity."""
        if not battery.capacity_kwh:
            return 0.0
        return self._through_kwh.get(battery.der_id, 0.0) / (2 * battery.capacity_kwh)


def _midnight_after(moment: Instant, zone: ZoneInfo) -> Instant:
    day = moment.local(zone).date() + timedelta(days=1)
    return Instant.of(datetime.combine(day, time(), tzinfo=zone))
