"""From troubles to alerts: numbered, counted, and given to the post."""

from broker.port import Bus
from contracts.messages import Alert
from orchestrator.alarms import Alarms, Notice, Trouble
from orchestrator.counts import Counts
from orchestrator.sender import AlertPost
from runtime.clock import Clock
from runtime.logs import Log

TEXT_MAX = 2000


class Alerting:
    """The alerts of one life of the service.

    Args:
        source: whose they are.
        bus: where they go.
        clock: their time.
        log: has those that no broker takes.
        boot: this life's number, stored before it is used.
        counts: counts them.
    """

    def __init__(self, source: str, bus: Bus, clock: Clock, log: Log, boot: int, counts: Counts) -> None:
        self._source = source
        self._clock = clock
        self._boot = boot
        self._counts = counts
        self._post = AlertPost(bus, clock, log)
        self._seq: dict[str, int] = {}
        self.alarms = Alarms()

    @property
    def lost(self) -> int:
        """Alerts that no broker took."""
        return self._post.lost

    def report(self, trouble: Trouble) -> None:
        """Tell of a trouble if that is news."""
        if (notice := self.alarms.report(trouble, self._clock.now())) is not None:
            self.tell(notice)

    def settle(self) -> None:
        """Tell of what is over."""
        for notice in self.alarms.settle(self._clock.now()):
            self.tell(notice)

    def tell(self, notice: Notice) -> None:
        """Publish it, beside everything else."""
        seq = self._seq[notice.house] = self._seq.get(notice.house, 0) + 1
        self._counts.alerts[notice.name, notice.severity] += 1
        alert = Alert(
            house=notice.house,
            source=self._source,
            boot=self._boot,
            seq=seq,
            timestamp=self._clock.now(),
            severity=notice.severity,
            name=notice.name,
            text=notice.text[:TEXT_MAX],
        )
        self._post.post(alert)

    async def close(self) -> None:
        """Have the last ones published."""
        await self._post.close()
