"""The control loop: hear everything, decide every 10 s, say why, command; publishing runs beside it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from broker.port import Bus, Delivery
from contracts import topics
from contracts.instant import Instant
from contracts.messages import CommandAck, DispatchCommand
from contracts.orders import OperatorRequest
from contracts.topics import Address, Topic
from energy.zones import zone_of
from orchestrator.alarms import Trouble
from orchestrator.alerting import Alerting
from orchestrator.audit import Audit
from orchestrator.counts import Counts
from orchestrator.desk import Desk
from orchestrator.devices import MISSES_ALERT, Due, Link
from orchestrator.errors import OrchestratorError, PowerBalanceError
from orchestrator.inputs import HouseLimits
from orchestrator.issuer import Issuer, Standing
from orchestrator.memory import Mark, Memory
from orchestrator.model import HouseModel
from orchestrator.requests import standing
from orchestrator.sender import Posting, Sender
from orchestrator.settings import DEFAULT_ISSUER, OrchestratorSettings
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.settings import Layered
from runtime.store import Store

__all__ = ["Mark", "OrchestratorService"]

HEARD = (
    topics.METER_READING,
    topics.PV_READING,
    topics.PLANT_READING,
    topics.DER_TELEMETRY,
    topics.SCHEDULE,
    topics.PRICE,
    topics.DER_ACK,
    topics.OPERATOR_REQUEST,
)
HOUSES_MAX = 100_000
AT_ONCE = 100
"""So many houses are decided before what has arrived meanwhile is heard."""
RETRY_LOOK_S = 1.0
SOURCE = "orchestrator"
"""Of its alerts; with the issuer's name behind it where that is not the usual one: no two share a counter."""
DEAF_S = 60.0
"""Houses speak every second: after so long without a word this orchestrator is cut off, or all of them."""
TICKS_MISSED = 3
"""So many without a tick, and the loop counts as stuck."""


class OrchestratorService:
    """One orchestrator for all the houses it hears of.

    Args:
        settings: for all houses, and what one has different.
        bus: where everything is heard and commanded.
        clock: its time.
        life: says when to stop.
        store: its memory.
        audit: where requests are written down; None: nowhere.
    """

    def __init__(
        self,
        settings: Layered[OrchestratorSettings],
        bus: Bus,
        clock: Clock,
        life: Lifecycle,
        store: Store[Mark],
        audit: Audit | None = None,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._life = life
        self._log = get_log("orchestrator")
        for one in (settings.base, *settings.houses.values()):
            zone_of(one.timezone)  # a wrong one is told at the start, not when its house is heard
        self._addresses: dict[tuple[Topic[Any], str, str], Address[Any]] = {}
        self._waiting: dict[tuple[str, str], Link] = {}
        """The DERs whose answer is awaited."""
        self._memory = Memory(store, self._log)
        self.houses: dict[str, HouseModel] = {}
        self.counts = Counts()
        self.sender = Sender(bus, clock, self._log)
        source = SOURCE if settings.base.issuer == DEFAULT_ISSUER else f"{SOURCE}-{settings.base.issuer}"
        self.alerting = Alerting(source, bus, clock, self._log, self._memory.alert_boot, self.counts)
        self.issuer = Issuer(settings.base.issuer, self._memory.epoch)
        self.desk = Desk(
            self.houses,
            self._memory,
            audit or Audit(None),
            self.alerting,
            self._decide_now,
            self._tell_orders,
            self.counts,
            clock,
            self._log,
        )
        self.last_tick_at: Instant | None = None
        self._heard_at: Instant | None = None

    @property
    def interval_s(self) -> float:
        """The control loop's beat."""
        return self._settings.base.interval_s

    def ailing(self, now: Instant, began: Instant) -> str:
        """Why the loop, running since `began`, does not do its work; empty if it does."""
        silent_s = now.seconds_since(self.last_tick_at or began)
        if silent_s > TICKS_MISSED * self.interval_s + self._settings.base.settle_s:
            return f"no tick for {silent_s:.0f} s"
        deaf_s = now.seconds_since(self._heard_at) if self._heard_at is not None else 0.0
        return f"nothing has been heard for {deaf_s:.0f} s" if deaf_s > DEAF_S else ""

    async def run(self) -> None:
        """Serve until stopped."""
        async with AsyncExitStack() as stack:
            await self._bus.declare(topics.ALERT, durable=topics.RECORDER)
            deliveries = await stack.enter_async_context(self._bus.subscribe(*HEARD))
            self._log.info("control loop started", issuer=self.issuer.name, epoch=self.issuer.epoch)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hear(deliveries))
                group.create_task(self._control())
                group.create_task(self._retry())
            self._memory.keep_wear(self.houses, self._clock.now(), is_last=True)
            await self.sender.close()
            await self.alerting.close()
        self._log.info("control loop stopped", ticks=self.counts.ticks, **self.counts.commands)

    async def _hear(self, deliveries: AsyncIterator[Delivery[Any]]) -> None:
        async for delivery in self._life.each(deliveries):
            if (refusal := self._take(delivery)) is None:
                await delivery.ack()
            else:
                await delivery.reject(refusal)

    def _take(self, delivery: Delivery[Any]) -> str | None:
        """Take in what has arrived, or say why not."""
        message = delivery.message
        self._heard_at = self._clock.now()
        if message.house not in self.houses and len(self.houses) >= HOUSES_MAX:
            return f"more than {HOUSES_MAX} houses"
        house = self.hear_of(message.house)
        match message:
            case CommandAck():
                self._hear_ack(house, message)
            case OperatorRequest():
                if delivery.retained:
                    return "a retained request: who knows when it was made"
                self.desk.order(message, "bus")
            case _:
                house.known.hear(message, self._clock.now())
        return None

    def hear_of(self, name: str) -> HouseModel:
        """The house of that name; a new one with what was ordered in it before."""
        if (known := self.houses.get(name)) is not None:
            return known
        settings = self._settings.of(name)
        limits = HouseLimits(**{field: getattr(settings, field) for field in HouseLimits.__struct_fields__})
        orders, wear = self._memory.orders_of(name), self._memory.wear_of(name)
        house = HouseModel(name, limits, zone_of(settings.timezone), orders, wear=wear)
        self.houses[name] = house
        if house.orders.holds or house.orders.ev_plans:
            self._tell_orders(house)  # of an earlier life: nobody may have kept it
        return house

    def _tell_orders(self, house: HouseModel) -> None:
        orders = standing(house.house, house.orders, self._clock.now())
        address = self._address(topics.ORDERS, house.house)
        self.sender.send((house.house, topics.ORDERS.pattern), [(address, orders)])

    def _hear_ack(self, house: HouseModel, ack: CommandAck) -> None:
        if self.issuer.is_ours(ack):
            self._hear_answer(house, ack)
        match self.issuer.hear(ack, self._clock.now()):
            case Standing.RAISED:
                self._log.warning("epoch raised", epoch=self.issuer.epoch, der=ack.der_id)
                self._memory.keep_epoch(self.issuer.epoch)
            case Standing.STOOD_DOWN:
                self._log.error("stands down: another orchestrator commands", house=ack.house)
                self._stand_down(house)
            case Standing.UNCHANGED:
                pass

    def _hear_answer(self, house: HouseModel, ack: CommandAck) -> None:
        link = house.links.get(ack.der_id)
        if link is None or not link.hear(ack):
            return
        self._waiting.pop((ack.house, ack.der_id), None)
        self.counts.commands[ack.result] += 1
        if ack.result != "accepted":
            self._log.warning(
                "command not accepted", house=ack.house, der=ack.der_id, result=ack.result, why=ack.reason
            )

    def _stand_down(self, house: HouseModel) -> None:
        """Wait for no answers any more."""
        self._waiting.clear()
        for one in self.houses.values():
            for link in one.links.values():
                link.drop()
        self._report_standing(house)

    def _report_standing(self, house: HouseModel) -> None:
        text = f"another orchestrator commands {house.house}: this one, {self.issuer.name}, stands down"
        self.alerting.report(Trouble(house.house, "stood-down", "critical", text))

    async def _control(self) -> None:
        async for tick in self._life.each(self._clock.every(self._settings.base.interval_s)):
            if tick.skipped:
                self.counts.late_ticks += tick.skipped
                self._log.warning("control loop late", skipped=tick.skipped, at=str(tick.at))
            # What was published for this instant is heard before it is decided upon.
            await self._clock.sleep(self._settings.base.settle_s)
            began_s = self._clock.monotonic()
            await self.tick()
            self.counts.note_tick((self._clock.monotonic() - began_s) / self._clock.speed)
            self.last_tick_at = tick.at
            self._memory.keep_wear(self.houses, tick.at)

    async def tick(self) -> None:
        """Decide for every house, if this orchestrator is the one that commands."""
        if self.issuer.commands(self._clock.now()):
            if self.issuer.epoch != self._memory.epoch:
                self._memory.keep_epoch(self.issuer.epoch)
            await self._decide_all()
        else:
            for house in self.houses.values():
                if house.known.ders:
                    self._report_standing(house)
        self.alerting.settle()

    async def _decide_all(self) -> None:
        houses = list(self.houses.values())
        for i in range(0, len(houses), AT_ONCE):
            now = self._clock.now()
            for house in houses[i : i + AT_ONCE]:
                self._decide(house, now)
            await self._clock.sleep(0)
            if self.issuer.stands_down:
                return

    def _decide_now(self, house: HouseModel) -> None:
        """Between two ticks: what a person has ordered does not wait for the next."""
        now = self._clock.now()
        if self.issuer.commands(now):
            self._decide(house, now)

    def _decide(self, house: HouseModel, now: Instant) -> None:
        outcome = house.tick(now, self.issuer)
        if outcome.error is not None:
            self._note_error(house.house, outcome.error)
        for line in outcome.lines:
            self._log.info(line)
        for trouble in outcome.troubles:
            self.alerting.report(trouble)
        if outcome.lapsed:
            self.desk.lapsed(house.house, outcome.lapsed)
        for command in outcome.commands:
            self._command(house, command)
        said: list[Posting] = [
            (self._address(topics.DECISION, house.house, decision.der_id), decision)
            for decision in outcome.decisions
        ]
        if outcome.snapshot is not None:
            said.append((self._address(topics.SNAPSHOT, house.house), outcome.snapshot))
        if said:
            self.sender.send(house.house, said)

    def _address(self, topic: Topic[Any], house: str, der_id: str = "") -> Address[Any]:
        """Kept: putting one together takes as long as deciding what goes there."""
        key = (topic, house, der_id)
        if (known := self._addresses.get(key)) is None:
            ids = {"house": house, "der_id": der_id} if der_id else {"house": house}
            known = self._addresses[key] = topic.at(**ids)
        return known

    def _note_error(self, house: str, error: OrchestratorError) -> None:
        if isinstance(error, PowerBalanceError):
            self.counts.balance_errors += 1
            self._log.error("no balance: the grid carries the house", house=house, why=str(error))
        else:
            self.counts.violations += 1
            self._log.error("violation: safe default", house=house, why=str(error))

    def _command(self, house: HouseModel, command: DispatchCommand) -> None:
        link = house.links.get(command.der_id)
        if link is None:
            link = house.links[command.der_id] = Link()
        link.send(command, self._clock.monotonic())
        self._waiting[house.house, command.der_id] = link
        self.counts.commands["sent"] += 1
        self._send(command)

    def _send(self, command: DispatchCommand) -> None:
        address = self._address(topics.DER_COMMAND, command.house, command.der_id)
        self.sender.send((command.house, command.der_id), [(address, command)])

    async def _looks(self) -> AsyncIterator[float]:
        """Every second while anything is on its way or awaited: by how much the look comes late [s]."""
        while True:
            if not self._waiting:
                await self.sender.busy.wait()
            due_s = self._clock.monotonic() + RETRY_LOOK_S
            await self._clock.sleep(RETRY_LOOK_S)
            yield self._clock.monotonic() - due_s

    async def _retry(self) -> None:
        """Send again what has no answer, and count what gets none; beside the control loop."""
        async for late_s in self._life.each(self._looks()):
            if late_s > RETRY_LOOK_S:
                continue  # this process was held up: what was answered meanwhile is heard first
            self.sender.give_up()
            now_s = self._clock.monotonic()
            for (house, der_id), link in list(self._waiting.items()):
                command = link.pending
                match link.due(now_s):
                    case Due.RESEND if command is not None:
                        self.counts.commands["resent"] += 1
                        self._send(command)
                    case Due.MISSED:
                        del self._waiting[house, der_id]
                        self.counts.commands["unanswered"] += 1
                        log = self._log.warning if link.misses <= MISSES_ALERT else self._log.debug
                        log("no answer", house=house, der=der_id, in_a_row=link.misses)
                    case _:
                        pass
