"""One seed: the services live and die as the plan has it, then all is mended, drained and judged."""

import asyncio
import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from contextvars import Context
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from structlog.typing import EventDict, WrappedLogger

from broker.transport import Incoming, Outgoing
from contracts import topics
from contracts.codec import decode, encode
from contracts.messages import CommandAck, DerTelemetry, DispatchCommand
from contracts.topics import DeliveryClass
from runtime.clock import VirtualClock
from tests.fault.simulation.ledger import HOUSE, Ledger, key_of, reading_of
from tests.fault.simulation.life import Armed, Life, SimulatedLoop, WallClock
from tests.fault.simulation.link import Link, Network
from tests.fault.simulation.plan import LASTS_S, PARTS, Fault, Plan, plan_of
from tests.fault.simulation.services import BUILDERS, READING, Builder, Running, Site
from tests.fault.simulation.watch import BATTERY, DER, ISSUER, Watch

QUIET_S = 60.0
"""After the last fault, so that what is late arrives."""
DRAINED_WITHIN_S = 600.0
LOOK_S = 60.0
TTL_S = 30.0
FUTURE_S = 5400.0
"""No clock is ever set wrong by this."""
_LOG_LEVEL = 30


class Outcome(NamedTuple):
    """What came of a seed."""

    seed: int
    breaches: Counter[str]
    details: list[str]
    seen: Counter[str]
    """Faults that struck by kind, rows, commands: whether the seed was worth anything."""
    digest: str
    """Of the trace."""

    @property
    def struck(self) -> int:
        """How many faults there were indeed."""
        return sum(count for what, count in self.seen.items() if what.startswith("fault: "))

    def __str__(self) -> str:
        found = ", ".join(f"{what} x{count}" for what, count in self.breaches.items())
        return f"seed {self.seed}: {found or 'kept all promises'}"


class Part:
    """One service over all its lives."""

    def __init__(self, world: "World", name: str, builder: Builder) -> None:
        self.name = name
        self.armed = Armed(world.seen)
        self.clock = WallClock(world.plan.place.start)
        self._world = world
        self._builder = builder
        self.number = 0
        self.life: Life
        self.link: Link
        self.running: Running
        self._task: asyncio.Task[None]
        self.restarting: asyncio.Task[None] | None = None
        self.cut_until_s = 0.0

    def start(self) -> None:
        world = self._world
        self.number += 1
        disk = world.folder / self.name / str(self.number)
        disk.mkdir(parents=True, exist_ok=True)
        self.life = Life(self.name, self.number, disk, self.armed, self._died)
        if self.name == "meter":  # what is torn of another's disk is no reading that was kept
            self.life.torn = lambda: world.ledger.torn(world.confirmed)
        self.link = Link(world.network, self.life)
        if world.true_s() < self.cut_until_s:
            self.link.cut()
        self._task = self.life.start(self._live())
        self._task.add_done_callback(self._ended)

    async def _live(self) -> None:
        self.running = self._builder(self._world.site, self.life, self.link, self.clock)
        if self.running.waits_for_broker:
            await self.link.up()
        await self.running.service.run()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if self.life.dead or task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._world.ledger.breach(f"{self.name} ended by itself", repr(_root(error)))

    def _died(self, life: Life, fault: Fault) -> None:
        self._world.died(self, fault)
        self.restarting = Context().run(asyncio.create_task, self._again(life, fault.lasts_s))

    async def _again(self, life: Life, down_s: float) -> None:
        await life.bury()
        shutil.rmtree(life.disk)
        await asyncio.sleep(down_s)
        self._world.note(self.name, "starts again")
        self.start()

    def cut(self, seconds: float) -> None:
        self.cut_until_s = max(self.cut_until_s, self._world.true_s() + seconds)
        self.link.cut()
        asyncio.get_running_loop().call_later(seconds, self.mend)

    def mend(self) -> None:
        if self._world.true_s() >= self.cut_until_s - 0.001:
            self.link.mend()

    async def heal(self) -> None:
        """Nothing more goes wrong with it."""
        self.armed.clear()
        self.clock.set_wrong_by(0.0)
        self.cut_until_s = 0.0
        if self.restarting is not None:
            await self.restarting
        self.link.mend()

    async def stop(self) -> None:
        self.life.lifecycle.stop()
        await asyncio.wait([self._task])


class World:
    """Everything of one seed."""

    def __init__(self, plan: Plan, folder: Path, naive: Mapping[str, Builder], *, traced: bool) -> None:
        self.plan = plan
        self.folder = folder
        self.ledger = Ledger()
        self.watch = Watch(self.ledger)
        self.network = Network(self)
        self.site = Site(plan, self.ledger, self.true_s)
        self.confirmed: set[tuple[int, int]] = set()
        self.seen: Counter[str] = Counter()
        self.trace: list[str] = []
        self._traced = traced
        self._hash = hashlib.sha256()
        self._rng = random.Random(f"hostile/{plan.seed}")
        self._clock = VirtualClock(plan.place.start)
        self.parts = {name: Part(self, name, naive.get(name, BUILDERS[name])) for name in plan.parts}

    def true_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def run(self) -> Outcome:
        for part in self.parts.values():
            part.start()
        looking = asyncio.create_task(self._look())
        for fault in self.plan.faults:
            await asyncio.sleep(max(fault.at_s - self.true_s(), 0.0))
            self._strike(fault)
        await asyncio.sleep(max(LASTS_S - self.true_s(), 0.0))
        for part in self.parts.values():
            await part.heal()
        await self.network.settled()
        await asyncio.sleep(QUIET_S)
        await self._drain()
        looking.cancel()
        recorder = self.parts["recorder"].life.disk
        self.seen["rows"] = self.ledger.judge(recorder / "DATA", recorder / "quarantine")
        self.seen.update(
            {"obeyed": self.watch.obeyed, "fell safe": self.watch.fell_safe, "made": len(self.ledger.made)}
        )
        self.note("end", ", ".join(f"{what} {count}" for what, count in sorted(self.seen.items())))
        breaches = self.ledger.breaches
        return Outcome(self.plan.seed, breaches, self.ledger.details, self.seen, self._hash.hexdigest())

    # What goes wrong.

    def _strike(self, fault: Fault) -> None:
        part = self.parts[fault.part]
        self.note("fault", str(fault))
        match fault.kind:
            case "crash" if fault.how == "now":
                part.life.crash(fault)
            case "cut":
                self.seen["fault: cut"] += 1
                part.cut(fault.lasts_s)
            case "clock":
                self.seen["fault: clock"] += 1
                part.clock.set_wrong_by(fault.off_s)
                asyncio.get_running_loop().call_later(fault.lasts_s, self._set_right, part)
            case "hostile":
                self.seen["fault: hostile"] += 1
                _ = self.network.later(0.0, lambda: self._command(fault.how))
            case _:
                part.armed.add(fault)

    def _set_right(self, part: Part) -> None:
        part.clock.set_wrong_by(0.0)
        self.note(part.name, "has the right time again")

    def died(self, part: Part, fault: Fault) -> None:
        self.seen[f"fault: crash {fault.how}"] += 1
        self.note(part.name, f"dies: {fault.how}")
        if part.name == "der":
            self.watch.der_died()
        if part.name == "meter":
            self.ledger.meter_died(self.true_s())

    async def _command(self, how: str) -> None:
        """Somebody commands the battery who may not, or not so, or not any more."""
        now, last = self._clock.now(), self._last_command()
        if how == "replay":
            if last is not None:
                await self._publish(last)
            return
        issued_at = now.after({"expired": -TTL_S - 10.0, "from the future": FUTURE_S}.get(how, 0.0))
        epoch = 1 if last is None else last.epoch
        command = DispatchCommand(
            command_id=f"{ISSUER}-{epoch}-{10**6 + self.seen['fault: hostile']}",
            house="house-b" if how == "other house" else HOUSE,
            der_id=DER,
            issuer="mallory" if how == "stranger" else ISSUER,
            epoch=epoch,
            seq=10**6 + self.seen["fault: hostile"],
            issued_at=issued_at,
            valid_until=issued_at.after(TTL_S),
            setpoint_kw=(BATTERY.max_charge_kw + 1.0 if how == "out of range" else 1.0),
        )
        at_s = self.true_s() + issued_at.seconds_since(now)
        self.watch.command(command, min(at_s, self.true_s()))
        await self._publish(command)

    def _last_command(self) -> DispatchCommand | None:
        given = list(self.watch.issued.values())
        return self._rng.choice(given[-50:]).command if given else None

    async def _publish(self, command: DispatchCommand) -> None:
        name = topics.DER_COMMAND.at(house=HOUSE, der_id=DER).name
        await self.network.deliver(Outgoing(name, encode(command), DeliveryClass.COMMAND))

    # What is seen.

    def said(self, life: Life, out: Outgoing) -> None:
        now_s, kind = self.true_s(), out.name.rsplit("/", 1)[1]
        if out.name == READING:
            self.ledger.tried(reading_of(out.payload))
        elif kind == "command":
            self.watch.command(decode(DispatchCommand, out.payload), now_s)
        elif kind == "ack":
            self.watch.ack(decode(CommandAck, out.payload), now_s)
        elif kind == "telemetry":
            self.watch.telemetry(decode(DerTelemetry, out.payload), now_s)
        self.note(life.name, "says", out.name, out.payload)

    def at_broker(self, out: Outgoing) -> None:
        if out.name == READING:
            key = key_of(out.name, out.payload)
            self.confirmed.add(key)
            self.ledger.kept.add(key)

    def heard(self, life: Life, incoming: Incoming, *, durable: bool) -> None:
        if not durable:
            return
        if (
            life.name == "recorder"
            and (out_pv := "/pv/" in incoming.name) == self.plan.has_pv
            and (out_pv or incoming.name == READING)
        ):
            self.ledger.given.append(key_of(incoming.name, incoming.payload))
        self.note(life.name, "hears", incoming.name, incoming.payload)

    def note(self, who: str, what: str, *more: Any) -> None:
        text = " ".join([who, what, *(one.decode() if isinstance(one, bytes) else str(one) for one in more)])
        line = f"{self.true_s():10.3f} {text}"
        self._hash.update(line.encode())
        if self._traced:
            self.trace.append(line)

    def log(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """What the services log stands in the trace."""
        text = " ".join(f"{key}={value}" for key, value in event.items() if key != "event")
        self.note("log", method, f"{event['event']} {text}".replace(str(self.folder), ""))
        raise structlog.DropEvent

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for part in self.parts.values():
                if part.life.dead or not hasattr(part, "running"):
                    continue
                for what, (size, most) in part.running.sizes().items():
                    self.seen[f"most: {what}"] = max(self.seen[f"most: {what}"], size)
                    if size > most:
                        self.ledger.breach("memory not bounded", f"{what}: {size}, at most {most}")

    # The end.

    async def _drain(self) -> None:
        """Stop from the meter to the recorder, each emptied in turn."""
        meter, broker = self.parts["meter"], self.network.broker
        try:
            async with asyncio.timeout(DRAINED_WITHIN_S):
                await _until(lambda: not meter.running.waiting())
                await meter.stop()
                await _until(lambda: not broker.backlog(topics.PVSIM))
                for name in self.plan.parts:
                    if name not in ("meter", "recorder"):
                        await self.parts[name].stop()
                await _until(lambda: not broker.backlog(topics.RECORDER))
                await self.parts["recorder"].stop()
        except TimeoutError:
            left = (
                f"{broker.backlog(topics.PVSIM)} at pvsim, {broker.backlog(topics.RECORDER)} at the recorder"
            )
            self.ledger.breach("never drained", f"{meter.running.waiting()} at the meter, {left}")


async def _until(done: Callable[[], bool]) -> None:
    while not done():  # noqa: ASYNC110 - nobody tells of it, and virtual seconds cost nothing
        await asyncio.sleep(1)


def _root(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def simulate(seed: int, folder: Path, naive: Mapping[str, Builder] | None = None) -> Outcome:
    """Run one seed in an empty folder, which is emptied again."""
    return simulate_plan(plan_of(seed), folder, naive or {})[0]


def simulate_plan(
    plan: Plan, folder: Path, naive: Mapping[str, Builder], *, traced: bool = False
) -> tuple[Outcome, list[str]]:
    """Run one plan; returns the trace too, if it is wanted.

    Args:
        plan: the course.
        folder: for the services' disks; removed at the end.
        naive: services that are built otherwise.
        traced: whether to keep the trace; its digest is there in any case.
    """
    world: World | None = None

    async def main() -> Outcome:
        nonlocal world
        world = World(plan, folder, naive, traced=traced)
        structlog.configure(
            processors=[world.log], wrapper_class=structlog.make_filtering_bound_logger(_LOG_LEVEL)
        )
        return await world.run()

    try:
        with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
            outcome = runner.run(main())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        structlog.reset_defaults()
    assert world is not None
    return outcome, world.trace


__all__ = ["PARTS", "Outcome", "simulate", "simulate_plan"]
