"""Runs a house's DERs: telemetry every second, commands judged, stored, obeyed and acknowledged."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple

from broker.errors import BusError
from broker.port import Bus, Delivery
from contracts import topics
from contracts.instant import Instant
from contracts.messages import CommandAck, DerTelemetry, DispatchCommand, PvReading
from contracts.topics import Address, Topic
from der_controller.gate import Accept
from der_controller.model import DerMemory, DerModel
from runtime.clock import Clock
from runtime.errors import StoreError
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.metrics import Metric, counter, counters, gauges
from runtime.store import Store

SAVE_EVERY_S = 60.0
"""So much of a DER's charge is forgotten at most when the process is killed."""
LOOK_S = 1.0
"""A DER that falls back to its safe state says so within this, however seldom it speaks otherwise."""


class Der(NamedTuple):
    """One DER and where it is remembered."""

    model: DerModel
    store: Store[DerMemory]
    pv_meter: str | None = None
    """Of an inverter: the meter whose PV readings say what is available."""


class DerControllerService:
    """The controller of one house's DERs."""

    def __init__(
        self,
        house: str,
        ders: Mapping[str, Der],
        interval_s: float,
        bus: Bus,
        clock: Clock,
        life: Lifecycle,
    ) -> None:
        self._house = house
        self._ders = ders
        self._interval_s = interval_s
        self._bus = bus
        self._clock = clock
        self._life = life
        self._log = get_log("der_controller")
        self._telemetry: dict[str, Address[DerTelemetry]] = {
            der_id: topics.DER_TELEMETRY.at(house=house, der_id=der_id) for der_id in ders
        }
        self._following: dict[str, str] = {}
        self._obeyed = asyncio.Event()
        self.unsent = 0
        self.answered: Counter[str] = Counter()
        """Commands, by what became of them."""

    def metrics(self) -> Iterator[Metric]:
        """What it counts, for Prometheus."""
        answers = "Commands, by what became of them."
        yield counters("wattbus_commands", answers, "result", self.answered)
        yield counter("wattbus_unsent", "Messages the broker did not take.", self.unsent)
        following = {der: float(what == "command") for der, what in self._following.items()}
        yield gauges("wattbus_following", "1: a command is in force; 0: the safe state.", "der", following)

    async def run(self) -> None:
        """Serve until stopped; the DERs' charge is stored at the end."""
        heard: list[Topic[Any]] = [topics.DER_COMMAND.of(house=self._house)]
        meters = {der.pv_meter for der in self._ders.values() if der.pv_meter is not None}
        heard += [topics.PV_READING.of(house=self._house, meter=meter) for meter in sorted(meters)]
        async with self._bus.subscribe(*heard) as deliveries:
            self._log.info("der controller started", house=self._house, ders=",".join(self._ders))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hear(deliveries))
                group.create_task(self._speak())
        self._save_all()
        self._log.info("der controller stopped", house=self._house, unsent=self.unsent, **self.answered)

    async def _hear(self, deliveries: AsyncIterator[Delivery[Any]]) -> None:
        async for delivery in self._life.each(deliveries):
            message = delivery.message
            if isinstance(message, PvReading):
                self._hear_sun(message)
            else:
                await self._obey(message)
            await delivery.ack()

    def _hear_sun(self, reading: PvReading) -> None:
        now, monotonic_s = self._clock.now(), self._clock.monotonic()
        for der in self._ders.values():
            if der.pv_meter == reading.meter:
                der.model.hear(reading, now, monotonic_s)

    async def _obey(self, command: DispatchCommand) -> None:
        ack = self._carry_out(command)
        self.answered[ack.result] += 1
        if ack.result != "accepted":
            self._log.warning("command not obeyed", der=ack.der_id, result=ack.result, why=ack.reason)
        await self._publish(topics.DER_ACK.at(house=self._house, der_id=command.der_id), ack)

    def _carry_out(self, command: DispatchCommand) -> CommandAck:
        now, monotonic_s = self._clock.now(), self._clock.monotonic()
        der = self._ders.get(command.der_id)
        if der is None:
            return _refusal(
                command, now, f"{self._house} has no DER {command.der_id}: it has {', '.join(self._ders)}"
            )
        verdict = der.model.judge(command, now, monotonic_s)
        if isinstance(verdict, Accept):
            try:
                # Stored before it acts: after a restart the same command is not obeyed again.
                der.store.save(der.model.memory(now, verdict))
            except StoreError as error:
                return _refusal(command, now, f"its mark can't be stored: {error}")
        ack = der.model.apply(verdict, self._clock.now(), self._clock.monotonic())
        self._obeyed.set()
        return ack

    async def _speak(self) -> None:
        saved = self._clock.now().floor(SAVE_EVERY_S)
        spoken: Instant | None = None
        async for beat in self._life.each(self._beats(min(self._interval_s, LOOK_S))):
            monotonic_s = self._clock.monotonic()
            due = beat.floor(self._interval_s)
            for der_id, der in self._ders.items():
                telemetry = der.model.tick(beat, monotonic_s)
                if self._is_news(telemetry) or due != spoken:
                    await self._publish(self._telemetry[der_id], telemetry)
            spoken = due
            if (minute := beat.floor(SAVE_EVERY_S)) != saved:
                saved = minute
                self._save_all()

    async def _beats(self, step_s: float) -> AsyncIterator[Instant]:
        """The aligned moments at which there is something to say or to see.

        Each wait is on the monotonic clock: a wall clock that is set back must not silence a DER for hours.
        """
        if self._clock.opens_at is not None:
            await self._clock.sleep_until(self._clock.opens_at)
        await self._to_step(step_s)
        while True:
            beat = self._clock.now().after(step_s / 2).floor(step_s)
            self._obeyed.clear()  # what is obeyed while this beat is told is for the next
            yield beat
            try:
                async with self._clock.timeout(self._quiet_s(beat, step_s)):
                    await self._obeyed.wait()
            except TimeoutError:
                continue
            await self._to_step(step_s)

    async def _to_step(self, step_s: float) -> None:
        """Wait for the next multiple of a step."""
        await self._clock.sleep(-self._clock.now().unix_ms % round(step_s * 1000) / 1000)

    def _quiet_s(self, beat: Instant, step_s: float) -> float:
        """For how long nothing will happen to a DER unless it obeys a command [s]."""
        due = min(beat.floor(every_s).after(every_s) for every_s in (self._interval_s, SAVE_EVERY_S))
        due = due.after(step_s - 0.001).floor(step_s)  # at a step, or it would be stamped with the next one
        longest_s = math.ceil(min(self._interval_s, SAVE_EVERY_S) / step_s) * step_s
        left_s = min(max(due.seconds_since(self._clock.now()), 0.0), longest_s)
        monotonic_s = self._clock.monotonic()
        for der in self._ders.values():
            if (deadline_s := der.model.deadline_s) is not None:
                steps = math.ceil(max(deadline_s - monotonic_s, 0.0) / step_s)
                left_s = min(left_s, steps * step_s)
        return left_s

    def _is_news(self, telemetry: DerTelemetry) -> bool:
        """Whether a DER has just fallen back to its safe state, or come back from it."""
        before = self._following.get(telemetry.der_id)
        self._following[telemetry.der_id] = telemetry.following
        if before is None or before == telemetry.following:
            return False
        if telemetry.following == "safe":
            self._log.warning("no valid command any more: safe state", der=telemetry.der_id)
        else:
            self._log.info("follows commands", der=telemetry.der_id)
        return True

    def _save_all(self) -> None:
        for der_id, der in self._ders.items():
            try:
                der.store.save(der.model.memory(self._clock.now()))
            except StoreError as error:
                self._log.error("charge not stored", der=der_id, why=str(error))

    async def _publish(self, address: Address[Any], message: Any) -> None:  # noqa: ANN401 - telemetry or ack
        try:
            await self._bus.publish(address, message)
        except BusError as error:
            # The next second brings newer telemetry; a command without an ack is sent again.
            self.unsent += 1
            self._log.debug("not sent", topic=address.name, why=str(error))


def _refusal(command: DispatchCommand, now: Instant, reason: str) -> CommandAck:
    return CommandAck(
        command_id=command.command_id,
        house=command.house,
        der_id=command.der_id,
        epoch=command.epoch,
        seq=command.seq,
        timestamp=now,
        result="rejected",
        reason=reason,
    )
