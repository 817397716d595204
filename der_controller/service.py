"""Runs a house's DERs: telemetry every second, commands judged, stored, obeyed and acknowledged."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from broker.errors import BusError
from broker.port import Bus, Delivery
from contracts import topics
from contracts.instant import Instant
from contracts.messages import CommandAck, DerTelemetry, DispatchCommand
from contracts.topics import Address
from der_controller.gate import Accept
from der_controller.model import DerMemory, DerModel
from runtime.clock import Clock
from runtime.errors import StoreError
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.store import Store

SAVE_EVERY_S = 60.0


class Der(NamedTuple):
    """One DER and where it is remembered."""

    model: DerModel
    store: Store[DerMemory]


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
        self.unsent = 0

    async def run(self) -> None:
        """Serve until stopped; the DERs' charge is stored at the end."""
        async with self._bus.subscribe(topics.DER_COMMAND.of(house=self._house)) as commands:
            self._log.info("der controller started", house=self._house, ders=",".join(self._ders))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._obey(commands))
                group.create_task(self._speak())
        self._save_all()

    async def _obey(self, commands: AsyncIterator[Delivery[Any]]) -> None:
        async for delivery in self._life.each(commands):
            command: DispatchCommand = delivery.message
            ack = self._carry_out(command)
            if ack.result != "accepted":
                self._log.warning("command not obeyed", der=ack.der_id, result=ack.result, why=ack.reason)
            await self._publish(topics.DER_ACK.at(house=self._house, der_id=command.der_id), ack)
            await delivery.ack()

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
        return der.model.apply(verdict, self._clock.now(), self._clock.monotonic())

    async def _speak(self) -> None:
        saved_at = self._clock.monotonic()
        async for tick in self._life.each(self._clock.every(self._interval_s)):
            monotonic_s = self._clock.monotonic()
            for der_id, der in self._ders.items():
                await self._publish(self._telemetry[der_id], der.model.tick(tick.at, monotonic_s))
            if monotonic_s - saved_at >= SAVE_EVERY_S:
                saved_at = monotonic_s
                self._save_all()

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
