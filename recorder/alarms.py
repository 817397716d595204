"""The recorder's own alerts: what a person should know of the readings, published until the broker has it."""

from typing import Literal

from broker.errors import BusRefusedError
from broker.pipe import Parcel, Pipe
from broker.port import Bus
from contracts import topics
from contracts.messages import Alert
from recorder.gaps import METERS_MAX, Finding
from recorder.model import Meter
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.limit import Limit
from runtime.logs import Log

SOURCE = "recorder"
WAITING_MAX = 10_000
"""Alerts that wait for the broker; what comes then is in the log alone."""
REMIND_S = 3600.0
"""What goes on at each reading is told of so often."""


async def _nothing(_: Parcel) -> None:
    pass


class Alarms:
    """Numbers the alerts of one life of the recorder and publishes them.

    Args:
        boot: which life it is.
    """

    def __init__(self, bus: Bus, clock: Clock, life: Lifecycle, log: Log, boot: int) -> None:
        self._clock = clock
        self._log = log
        self._boot = boot
        self._seq = 0
        self._pipe = Pipe(bus, clock, life, log, _nothing)
        self._reminders = Limit(1 / REMIND_S, REMIND_S, clock, METERS_MAX)

    async def run(self) -> None:
        """Publish until closed."""
        try:
            await self._pipe.run()
        except* BusRefusedError as refused:
            self._log.error("alerts can't be published", why=str(refused.exceptions[0]))

    def close(self) -> None:
        """No more will come."""
        self._pipe.close()

    def gap(self, finding: Finding) -> None:
        """Tell of readings that are missing, or have come after all."""
        name = "sequence-gap-filled" if finding.is_filled else "sequence-gap"
        self._post(finding.meter.house, "info" if finding.is_filled else "warning", name, finding.text)

    def conflict(self, meter: Meter, why: str) -> None:
        """Tell of a reading that contradicts one that is recorded; of the first in an hour."""
        if self._reminders.take(f"{meter.house}/{meter.meter}") == 0:
            self._post(meter.house, "warning", "identity-conflict", f"quarantined: {why}")

    def flood(self, house: str, per_s: float) -> None:
        """Tell of a house that sends more than it may; at the first in an hour."""
        if self._reminders.take(house) == 0:
            text = (
                f"more than {per_s:g} readings a second, and a day of that in hand is used up: "
                f"look at its meters' interval_s, or shut it out with `wattbus revoke {house}`"
            )
            self._post(house, "warning", "reading-flood", text)

    def _post(self, house: str, severity: Literal["info", "warning"], name: str, text: str) -> None:
        if len(self._pipe) >= WAITING_MAX:
            self._log.warning("alert not published: too many wait", house=house, name=name, text=text)
            return
        self._seq += 1
        alert = Alert(
            house=house,
            source=SOURCE,
            boot=self._boot,
            seq=self._seq,
            timestamp=self._clock.now(),
            severity=severity,
            name=name,
            text=text[:2000],
        )
        self._pipe.put(Parcel(self._seq, topics.ALERT.at(house=house, source=SOURCE), alert))
