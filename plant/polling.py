"""Asks a plant API again and again, and tells the bus what can be believed; the last of it is kept."""

import asyncio
from collections.abc import Iterator
from typing import Literal

from broker.errors import BusError
from broker.outbox import Outbox
from broker.outbox_file import OutboxFile
from broker.port import Bus
from contracts import topics
from contracts.instant import Instant
from contracts.messages import Alert, PlantReading, Status
from plant.trust import Trust, UntrustedError, reading_of
from plant.wire import Latest
from runtime.asking import Asker, RemoteError
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.metrics import Metric

SOURCE = "plant-poller"
"""Of its alerts."""
AILING = "plant-ailing"
STATUS_EXPIRES_S = 90.0
AFTER_S = 0.2
"""So long after the beat a plant is asked: it may collect on the beat, and others decide soon after it."""
TEXT_MAX = 2000


class Condition:
    """How it stands with a plant, from the outcomes of the polls.

    Args:
        failures_max: so many in a row, and somebody should know.
    """

    def __init__(self, failures_max: int) -> None:
        self._failures_max = failures_max
        self.failures = 0
        """In a row, up to now."""
        self.why = ""
        """The last poll's failure; empty: it was a success, or there was none yet."""
        self.since: Instant | None = None
        """When the first of them was."""
        self.last: PlantReading | None = None
        """The last that could be believed."""

    @property
    def is_ailing(self) -> bool:
        """Whether somebody should know."""
        return self.failures >= self._failures_max

    def fail(self, why: str, now: Instant) -> bool:
        """Note a failure; whether it is the one to tell of."""
        if not self.failures:
            self.since = now
        self.failures += 1
        self.why = why
        return self.failures == self._failures_max

    def succeed(self, reading: PlantReading) -> tuple[bool, str]:
        """Note a success: whether the reading is news, and what is over, in words, if somebody was told."""
        over = f"over, since {self.since}: {self.why}" if self.is_ailing else ""
        self.failures, self.why, self.since = 0, "", None
        is_news = self.last is None or reading.timestamp > self.last.timestamp
        if is_news:
            self.last = reading
        return is_news, over


class PollerService:
    """The poller of one plant.

    Args:
        plant_id: the plant, on the bus the house.
        boot: of its readings' and alerts' identity, stored before its first use.
        asker: asks the plant API.
        query: what is asked behind the API's endpoint.
        trust: what an answer must keep to.
        interval_s: between two questions.
        failures_max: so many failures in a row are told.
        bus: where readings go.
        clock: its time.
        life: says when to stop.
        file: keeps what the broker does not have over a restart; None keeps it in memory.
    """

    def __init__(
        self,
        plant_id: str,
        boot: int,
        asker: Asker,
        query: str,
        trust: Trust,
        interval_s: float,
        failures_max: int,
        bus: Bus,
        clock: Clock,
        life: Lifecycle,
        file: OutboxFile | None = None,
    ) -> None:
        self._plant_id = plant_id
        self._boot = boot
        self._asker = asker
        self._query = query
        self._trust = trust
        self._interval_s = interval_s
        self._bus = bus
        self._clock = clock
        self._life = life
        self._log = get_log("plant_poller")
        self._seq = 0
        self._alerts_seq = 0
        address = topics.PLANT_READING.at(house=plant_id)
        self._outbox = Outbox(
            address, bus, clock, life, self._log, file=file, alarm=self._alarm, prepare=self._declare
        )
        self._alert_address = topics.ALERT.at(house=plant_id, source=SOURCE)
        self._status = topics.STATUS.at(house=plant_id, device="main", **{"class": "plant"})
        self.condition = Condition(failures_max)

    def metrics(self) -> Iterator[Metric]:
        """What it counts, for Prometheus."""
        return self._outbox.metrics()

    async def run(self) -> None:
        """Serve until stopped."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._outbox.publish())
            async for _ in self._life.each(self._clock.every(self._interval_s)):
                await self._clock.sleep(min(AFTER_S, self._interval_s / 4))
                await self._poll()
                await self._tell_status(online=not self.condition.is_ailing)
            self._outbox.close()
        await self._tell_status(online=False)
        self._log.info("plant poller stopped", confirmed=self._outbox.published, waiting=self._outbox.waiting)

    async def _declare(self) -> None:
        """Whoever reads them later finds them: the queue exists before the first reading."""
        reading = topics.PLANT_READING.of(house=self._plant_id)
        await self._bus.declare(reading, topics.ALERT.of(house=self._plant_id), durable=topics.RECORDER)

    async def _poll(self) -> None:
        try:
            latest = await self._asker.ask(Latest, "GET", self._query)
            now = self._clock.now()
            reading = reading_of(latest, self._trust, now, self._plant_id, self._boot, self._seq + 1)
        except UntrustedError as error:
            self._fail(f"{self._asker.name}: not believed: {error}")
        except RemoteError as error:
            self._fail(str(error))
        else:
            self._take(reading)

    def _take(self, reading: PlantReading) -> None:
        is_news, over = self.condition.succeed(reading)
        if over:
            self._log.info("plant is back", plant=self._plant_id)
            self._tell(AILING, "info", over)
        if is_news:
            self._seq = reading.seq
            self._outbox.add(reading)
            self._log.debug("read", generation_w=reading.generation_w, consumption_w=reading.consumption_w)

    def _fail(self, why: str) -> None:
        is_told = self.condition.fail(why, self._clock.now())
        if self.condition.failures == 1 or is_told:
            self._log.warning("no reading", plant=self._plant_id, in_a_row=self.condition.failures, why=why)
        if is_told:
            last = self.condition.last
            known = (
                f"the last reading is of {last.timestamp}" if last is not None else "there was no reading yet"
            )
            self._tell(AILING, "warning", f"{self.condition.failures} failures in a row, {known}: {why}")

    def _alarm(self, name: str, text: str) -> None:
        self._tell(name, "critical", text)

    def _tell(self, name: str, severity: Literal["info", "warning", "critical"], text: str) -> None:
        self._alerts_seq += 1
        alert = Alert(
            house=self._plant_id,
            source=SOURCE,
            boot=self._boot,
            seq=self._alerts_seq,
            timestamp=self._clock.now(),
            severity=severity,
            name=name,
            text=f"{self._plant_id}: {text}"[:TEXT_MAX],
        )
        self._outbox.post(self._alert_address, alert)

    async def _tell_status(self, *, online: bool) -> None:
        """Whether the plant can be believed; it stands where the plant's own word would."""
        expires_s = min(max(STATUS_EXPIRES_S, 3 * self._interval_s), 86400.0)
        status = Status(
            house=self._plant_id,
            device="main",
            online=online,
            timestamp=self._clock.now(),
            expires_s=expires_s,
        )
        try:
            await self._bus.publish(self._status, status)
        except BusError as error:
            # It expires by itself; the next poll tells it anew.
            self._log.info("status not published", plant=self._plant_id, why=str(error))
