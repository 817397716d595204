"""The recorder's own alerts: what a person should know of the readings, published until the broker has it."""

from typing import Literal

from broker.errors import BusRefusedError
from broker.pipe import Parcel, Pipe
from broker.port import Bus
from contracts import topics
from contracts.messages import Alert
from recorder.gaps import Finding
from recorder.model import Meter
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import Log

SOURCE = "recorder"
WAITING_MAX = 10_000
"""Alerts that wait for the broker; what comes then is in the log alone."""
CONFLICTS_EVERY_S = 3600.0
"""A meter whose readings contradict its recorded ones is told of so often: it makes one at each beat."""
CONFLICTS_MAX = 20_000
"""Meters of which that is remembered."""


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
        self._conflicts: dict[Meter, float] = {}

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
        now_s = self._clock.monotonic()
        told_s = self._conflicts.get(meter)
        if told_s is not None and now_s - told_s < CONFLICTS_EVERY_S:
            return
        if len(self._conflicts) >= CONFLICTS_MAX:
            self._conflicts.clear()
        self._conflicts[meter] = now_s
        self._post(meter.house, "warning", "identity-conflict", f"quarantined: {why}")

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
