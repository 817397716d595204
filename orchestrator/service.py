"""The control loop: hear everything, decide every 10 s, say why, command."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from broker.errors import BusError
from broker.port import Bus, Delivery
from contracts import topics
from contracts.messages import Alert, CommandAck
from orchestrator.errors import OrchestratorError
from orchestrator.model import HouseLimits, HouseModel, Issuer, Outcome, Standing
from orchestrator.settings import OrchestratorSettings
from runtime.clock import Clock
from runtime.errors import StoreError
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.settings import Layered
from runtime.store import Store

HEARD = (
    topics.METER_READING,
    topics.PV_READING,
    topics.DER_TELEMETRY,
    topics.SCHEDULE,
    topics.PRICE,
    topics.DER_ACK,
)
HOUSES_MAX = 100_000


class Mark(msgspec.Struct, frozen=True):
    """What an orchestrator must not forget."""

    epoch: int = 0
    alert_boot: int = 0


class OrchestratorService:
    """One orchestrator for all the houses it hears of."""

    def __init__(
        self,
        settings: Layered[OrchestratorSettings],
        bus: Bus,
        clock: Clock,
        life: Lifecycle,
        store: Store[Mark],
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._life = life
        self._store = store
        self._log = get_log("orchestrator")
        self._houses: dict[str, HouseModel] = {}
        self._outbox: set[asyncio.Task[None]] = set()
        self._alert_seq = 0
        mark = store.load()
        # Stored before it is used: two lives of an orchestrator never share an epoch.
        self._mark = Mark(epoch=mark.epoch + 1, alert_boot=mark.alert_boot + 1)
        store.save(self._mark)
        self._issuer = Issuer(settings.base.issuer, self._mark.epoch)
        self.late_ticks = 0
        self.undecided = 0

    async def run(self) -> None:
        """Serve until stopped."""
        async with AsyncExitStack() as stack:
            await self._bus.declare(topics.ALERT, durable=topics.RECORDER)
            deliveries = await stack.enter_async_context(self._bus.subscribe(*HEARD))
            self._log.info("control loop started", issuer=self._issuer.name, epoch=self._issuer.epoch)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hear(deliveries))
                group.create_task(self._control())
            if self._outbox:
                await asyncio.wait(self._outbox)

    async def _hear(self, deliveries: AsyncIterator[Delivery[Any]]) -> None:
        async for delivery in self._life.each(deliveries):
            message = delivery.message
            if isinstance(message, CommandAck):
                self._hear_ack(message)
            house = self._houses.get(message.house)
            if house is None:
                if len(self._houses) >= HOUSES_MAX:
                    await delivery.reject(f"more than {HOUSES_MAX} houses")
                    continue
                house = self._houses[message.house] = HouseModel(message.house, self._limits(message.house))
            house.hear(message, self._clock.now())
            await delivery.ack()

    def _hear_ack(self, ack: CommandAck) -> None:
        match self._issuer.hear(ack, self._clock.now()):
            case Standing.RAISED:
                self._log.warning("epoch raised", epoch=self._issuer.epoch, der=ack.der_id)
                self._keep_epoch()
            case Standing.STOOD_DOWN:
                text = (
                    f"another orchestrator commands {ack.house}: this one, {self._issuer.name}, stands down"
                )
                self._log.error(text)
                self._send(self._alert(ack.house, "stood-down", text))
            case Standing.UNCHANGED:
                pass
        if ack.result != "accepted":
            self._log.warning(
                "command not accepted", house=ack.house, der=ack.der_id, result=ack.result, why=ack.reason
            )

    def _keep_epoch(self) -> None:
        self._mark = msgspec.structs.replace(self._mark, epoch=self._issuer.epoch)
        try:
            self._store.save(self._mark)
        except StoreError as error:
            # It holds for this life; the next one finds its way by the DERs' answers.
            self._log.error("epoch not stored", why=str(error))

    def _limits(self, house: str) -> HouseLimits:
        settings = self._settings.of(house)
        return HouseLimits(
            max_grid_import_kw=settings.max_grid_import_kw,
            max_grid_export_kw=settings.max_grid_export_kw,
            reading_fresh_s=settings.reading_fresh_s,
            ttl_s=settings.ttl_s,
            arbitrage_threshold=settings.arbitrage_threshold,
        )

    async def _control(self) -> None:
        async for tick in self._life.each(self._clock.every(self._settings.base.interval_s)):
            if tick.skipped:
                self.late_ticks += tick.skipped
                self._log.warning("control loop late", skipped=tick.skipped, at=str(tick.at))
            # What was published for this instant is heard before it is decided upon.
            await self._clock.sleep(self._settings.base.settle_s)
            if not self._issuer.commands(self._clock.now()):
                continue
            if self._issuer.epoch != self._mark.epoch:
                self._keep_epoch()
            for house in self._houses.values():
                try:
                    outcome = house.tick(self._clock.now(), self._issuer)
                except OrchestratorError as error:
                    self.undecided += 1
                    self._log.error("not decided", house=house.house, why=str(error))
                    self._send(self._alert(house.house, "no-balance", str(error)))
                    continue
                self._send(self._publish(house.house, outcome))

    def _send(self, work: Any) -> None:  # noqa: ANN401 - any coroutine
        """Publishing runs beside the loop: a broker that is away never holds up the next tick."""
        task = asyncio.create_task(work)
        self._outbox.add(task)
        task.add_done_callback(self._outbox.discard)

    async def _publish(self, house: str, outcome: Outcome) -> None:
        try:
            for command in outcome.commands:
                await self._bus.publish(topics.DER_COMMAND.at(house=house, der_id=command.der_id), command)
            if outcome.snapshot is not None:
                await self._bus.publish(topics.SNAPSHOT.at(house=house), outcome.snapshot)
            for decision in outcome.decisions:
                await self._bus.publish(topics.DECISION.at(house=house, der_id=decision.der_id), decision)
        except BusError as error:
            # The next tick brings newer ones; meanwhile the DERs go to their safe state by themselves.
            self._log.warning("not published", house=house, why=str(error))

    async def _alert(self, house: str, name: str, text: str) -> None:
        self._alert_seq += 1
        alert = Alert(
            house=house,
            source="orchestrator",
            boot=self._mark.alert_boot,
            seq=self._alert_seq,
            timestamp=self._clock.now(),
            severity="critical",
            name=name,
            text=text[:2000],
        )
        try:
            await self._bus.publish(topics.ALERT.at(house=house, source="orchestrator"), alert)
        except BusError as error:
            self._log.error("alert not published", house=house, alert=text, why=str(error))
