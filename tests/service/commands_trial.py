"""A hostile course for a DER: commands lost, doubled, late and mixed up, restarts, power cuts, clocks that jump.

Virtual time, the real controller on the bus in memory, real store files; a monitor that knows the truth.
"""

import asyncio
import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from contracts import topics
from contracts.instant import Instant
from contracts.messages import CommandAck, DerTelemetry, DispatchCommand
from der_controller.__main__ import build
from der_controller.gate import Accept, Mark
from der_controller.model import DerMemory, DerModel
from der_controller.service import Der, DerControllerService
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from runtime.store import Store
from tests.conftest import START, memory_bus
from tests.service.commands_monitor import DER, HOUSE, OWN, SAFE_KW, JumpingClock, Monitor

SLOT_S = 0.2
A_SLOT = 2
"""So many commands an orchestrator sends in each slot: far more than a real one, to mix them up."""
JUMP_S = 7200.0


class PowerCutError(Exception):
    """The DER loses power while it stores something."""


class FragileStore(Store[DerMemory]):
    """A real file; when armed the power fails just before or just after it is written."""

    armed: Literal["before", "after"] | None = None
    lost: Callable[[DerMemory], None]

    def save(self, value: DerMemory) -> None:
        if self.armed != "before":
            super().save(value)
        if self.armed is not None:
            self.lost(value)
            raise PowerCutError


class NaiveModel:
    """The control: does whatever was said last, for ever, and goes on with it after a restart."""

    kept_kw = SAFE_KW
    deadline_s = None

    def __init__(self, der: DerModel) -> None:
        self._der = der

    def memory(self, now: Instant, _verdict: object = None) -> DerMemory:
        return DerMemory(soc_percent=50.0, at=now)

    def judge(self, command: DispatchCommand, _now: Instant, _monotonic_s: float) -> Accept:
        return Accept(command, Mark.of(command), command.setpoint_kw or 0.0, 1e12)

    def apply(self, verdict: Accept, now: Instant, _monotonic_s: float) -> CommandAck:
        NaiveModel.kept_kw = verdict.setpoint
        command = verdict.command
        return CommandAck(
            command_id=command.command_id, house=HOUSE, der_id=DER, epoch=command.epoch, seq=command.seq,
            timestamp=now, result="accepted", mark_epoch=command.epoch, mark_seq=command.seq,
        )  # fmt: skip

    def tick(self, now: Instant, monotonic_s: float) -> DerTelemetry:
        safe = self._der.tick(now, monotonic_s)
        kept_kw = NaiveModel.kept_kw
        return type(safe)(
            **{name: getattr(safe, name) for name in safe.__struct_fields__}
            | {"current_output": kept_kw, "following": "safe" if kept_kw == SAFE_KW else "command"}
        )


class Sender:
    """One orchestrator: its epoch is in a file, except when that is lost."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._store = Store(folder / f"{name}.json", DerMemory, DerMemory(soc_percent=0, at=START, epoch=0))
        self.epoch = 0
        self.seq = 0
        self.restart()

    def restart(self, *, forgets: bool = False) -> None:
        stored = 0 if forgets else self._store.load().epoch
        self.start(stored + 1)

    def start(self, epoch: int) -> None:
        self.epoch, self.seq = epoch, 0
        self._store.save(DerMemory(soc_percent=0, at=START, epoch=epoch))

    def hear(self, ack: CommandAck) -> None:
        """One that finds itself behind rises above what the DER has obeyed."""
        mine = ack.command_id.startswith(f"{self.name}-{self.epoch}-")
        if mine and ack.result == "rejected" and (ack.mark_epoch or 0) >= self.epoch and self.seq > 50:
            self.start((ack.mark_epoch or 0) + 1)


class Trial(NamedTuple):
    """What came of a course."""

    breaches: Counter[str]
    seen: Counter[str]


class Course:
    """One seeded course of so many commands."""

    def __init__(self, clock: VirtualClock, folder: Path, commands: int, seed: str, *, naive: bool) -> None:
        self._clock = clock
        self._folder = folder
        self._left = commands
        self._rng = random.Random(seed)
        self._naive = naive
        NaiveModel.kept_kw = SAFE_KW
        self._bus, _ = memory_bus(clock)
        self._der_clock = JumpingClock(START)
        self._monitor = Monitor(clock, self._der_clock)
        self._senders = [Sender("alpha", folder), Sender("beta", folder)]
        self._active = [self._senders[0]]
        self._setpoints = iter(self._rng.sample([k for k in range(-99_999, 100_000) if k], commands))
        self._under_way: list[tuple[int, int, DispatchCommand]] = []
        self._count = 0
        self._recent: deque[DispatchCommand] = deque(maxlen=20)
        self._fragile: FragileStore | None = None
        self._over = asyncio.Event()

    async def run(self) -> Trial:
        """Send them all; returns once the DER has been left alone for a while."""
        ears, ends = Lifecycle(), Lifecycle()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(ears))
            der = group.create_task(self._keep_der_going(ends))
            group.create_task(self._disturb())
            await self._send_all()
            self._over.set()
            ends.stop()
            await der
            ears.stop()
        return Trial(self._monitor.breaches, self._monitor.seen)

    async def _listen(self, life: Lifecycle) -> None:
        async with self._bus.subscribe(topics.DER_ACK, topics.DER_TELEMETRY) as deliveries:
            async for delivery in life.each(deliveries):
                self._monitor.hear(delivery.message)
                if isinstance(delivery.message, CommandAck):
                    for sender in self._active:
                        sender.hear(delivery.message)

    # The DER: killed, stopped, cut off from its power, and started again.

    async def _keep_der_going(self, ends: Lifecycle) -> None:
        while not ends.stopping:
            life = Lifecycle()
            task = asyncio.create_task(self._service(life).run())
            self._monitor.restarted()
            self._redeliver()
            ending = asyncio.create_task(ends.wait())
            lasts = asyncio.create_task(self._clock.sleep(self._rng.uniform(60, 300)))
            await asyncio.wait({task, lasts, ending}, return_when=asyncio.FIRST_COMPLETED)
            manner = self._rng.choice(["stopped", "killed", "before", "after"])
            if ends.stopping or manner == "stopped":
                life.stop()
            elif manner == "killed":
                task.cancel()
            elif self._fragile is not None:
                self._fragile.armed = "before" if manner == "before" else "after"
            await asyncio.wait({task})
            self._count_end(task, manner)
            for waiting in (lasts, ending):
                waiting.cancel()
            await asyncio.wait({lasts, ending})
            if not ends.stopping:
                await self._clock.sleep(self._rng.choice([0.05, 3.0, 40.0]))

    def _service(self, life: Lifecycle) -> DerControllerService:
        der = build(OWN, self._der_clock, self._folder)[DER]
        fragile = FragileStore(self._folder / f"der-{HOUSE}-{DER}.json", DerMemory, der.store.load())
        fragile.lost = self._monitor.power_lost
        self._fragile = fragile
        model: Any = NaiveModel(der.model) if self._naive else der.model
        return DerControllerService(
            HOUSE, {DER: Der(model, fragile)}, OWN.interval_s, self._bus, self._der_clock, life
        )

    def _count_end(self, task: "asyncio.Task[None]", manner: str) -> None:
        self._monitor.seen[f"restart: {manner}"] += 1
        error = None if task.cancelled() else task.exception()
        if isinstance(error, BaseExceptionGroup):
            _, other = error.split(PowerCutError)
            assert other is None, other
        elif error is not None:
            raise error

    # The orchestrators, and the DER's wall clock.

    async def _disturb(self) -> None:
        """Restarts of orchestrators, two at once, lost disks; and the wall clock set wrong for a while."""
        rng = self._rng
        while not self._over.is_set():
            await self._clock.sleep(rng.uniform(30, 120))
            match rng.choice(["restart", "forget", "takeover", "tie", "clock"]):
                case "restart":
                    self._active[0].restart()
                case "forget":
                    self._active[0].restart(forgets=True)
                case "clock":
                    self._der_clock.off_s = rng.choice([-JUMP_S, JUMP_S])
                    await self._clock.sleep(rng.uniform(5, 60))
                    self._der_clock.off_s = 0.0
                case how:
                    old = self._active[0]
                    new = next(sender for sender in self._senders if sender is not old)
                    new.start(old.epoch + (how == "takeover"))
                    self._active = [new, old]
                    await self._clock.sleep(20)  # so long both command
                    self._active = [new]
            self._monitor.seen["orchestrator or clock"] += 1

    # The commands, and the way they take.

    async def _send_all(self) -> None:
        rng, busy_until = self._rng, self._clock.monotonic() + 60
        await self._clock.sleep(SLOT_S / 2)
        while self._left or self._under_way:
            if self._left:
                for sender in A_SLOT * self._active:
                    self._issue(sender)
            await self._deliver()
            await self._clock.sleep(SLOT_S)
            if self._clock.monotonic() > busy_until:
                pause_s = rng.choice([0.0, 10.0, 35.0, 60.0])
                await self._deliver_for(pause_s)
                busy_until = self._clock.monotonic() + rng.uniform(20, 120)

    async def _deliver_for(self, seconds: float) -> None:
        """Nobody commands; what is under way arrives all the same."""
        until = self._clock.monotonic() + seconds
        while self._clock.monotonic() < until:
            await self._deliver()
            await self._clock.sleep(SLOT_S)

    def _issue(self, sender: Sender) -> None:
        if not self._left:
            return
        self._left -= 1
        command = self._command(sender)
        self._monitor.send(command)
        rng = self._rng
        for _ in range(rng.choices([0, 1, 2, 3], [3, 70, 20, 7])[0]):
            low, high = rng.choices([(0, 0.5), (0.5, 10), (10, 60), (60, 2000)], [75, 16, 8, 1])[0]
            self._put_under_way(command, rng.uniform(low, high))

    def _redeliver(self) -> None:
        """A broker gives again what may not have been acknowledged before the DER went down."""
        for command in self._recent:
            self._put_under_way(command, 0.0)

    def _put_under_way(self, command: DispatchCommand, delay_s: float) -> None:
        self._count += 1
        heapq.heappush(self._under_way, (self._clock.now().after(delay_s).unix_ms, self._count, command))

    def _command(self, sender: Sender) -> DispatchCommand:
        rng, now = self._rng, self._clock.now()
        kind = rng.choices(
            ["good", "too much", "stranger", "stale", "early", "foreign"], [92, 3, 1, 2, 1, 1]
        )[0]
        sender.seq += 1
        kw = next(self._setpoints) / 100
        issued_at = now.after({"stale": -40.0, "early": 10.0}.get(kind, 0.0))
        issuer = "mallory" if kind == "stranger" else sender.name
        epoch = 10**9 if kind == "stranger" else sender.epoch
        return DispatchCommand(
            command_id=f"{issuer}-{epoch}-{sender.seq}-{self._left}", house=HOUSE,
            der_id="heater" if kind == "foreign" else DER, issuer=issuer, epoch=epoch, seq=sender.seq,
            issued_at=issued_at, valid_until=issued_at.after(rng.choice([2.0, 10.0, 30.0])),
            setpoint_kw=kw + (2001.0 if kind == "too much" else 0.0),
        )  # fmt: skip

    async def _deliver(self) -> None:
        now_ms = self._clock.now().unix_ms
        while self._under_way and self._under_way[0][0] <= now_ms:
            command = heapq.heappop(self._under_way)[2]
            await self._bus.publish(topics.DER_COMMAND.at(house=HOUSE, der_id=command.der_id), command)
            self._recent.append(command)
            self._monitor.seen["delivered"] += 1
