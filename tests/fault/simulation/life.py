"""One life of a service: its tasks, its disk and its link; the power of all of them fails at once."""

import asyncio
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from contracts.instant import Instant
from runtime.clock import VirtualClock, VirtualLoop
from runtime.lifecycle import Lifecycle
from tests.fault.simulation.plan import Fault

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DISK_S = (0.001, 0.02)
"""A disk job takes so long, in virtual time: a crash can fall into it."""


POWER_CUTS = 0.5
"""So many crashes take what is not synchronised; the others are of the process alone."""


WRITES_ON = 0.5
"""So many writes of a job that is torn are done before the one that is."""


class WallClock(VirtualClock):
    """One machine's: its wall clock can be set wrong. It is asked more often than time passes."""

    def __init__(self, start: Instant) -> None:
        super().__init__(start)
        self._off_s = 0.0
        self._known_s = -1.0
        self._known = start

    def set_wrong_by(self, seconds: float) -> None:
        self._off_s = seconds
        self._known_s = -1.0

    def now(self) -> Instant:
        monotonic_s = self.monotonic()
        if monotonic_s != self._known_s:
            self._known_s = monotonic_s
            self._known = self._start.after(monotonic_s + self._off_s)
        return self._known


class Armed:
    """The faults that wait for one service to do what they concern."""

    def __init__(self, struck: Counter[str]) -> None:
        self._faults: list[tuple[Fault, int]] = []
        self._struck = struck

    def add(self, fault: Fault) -> None:
        self._faults.append((fault, fault.times))

    def take(self, kind: str, how: str = "") -> Fault | None:
        """The first of a kind, which has then struck once more."""
        for i, (fault, left) in enumerate(self._faults):
            if fault.kind == kind and fault.how.startswith(how):
                if left == fault.times and kind != "crash":
                    self._struck[f"fault: {kind}"] += 1
                if left > 1:
                    self._faults[i] = fault, left - 1
                else:
                    del self._faults[i]
                return fault
        return None

    def clear(self) -> None:
        self._faults.clear()


class Life:
    """From a start to a crash or a clean stop.

    Args:
        name: of the service.
        number: of this life, from 1 on.
        disk: what it may write to; nothing else of it survives.
        armed: faults that await this service.
        struck: told when its power fails, with what was going on.
    """

    def __init__(
        self, name: str, number: int, disk: Path, armed: Armed, struck: Callable[["Life", Fault], None]
    ) -> None:
        self.name = name
        self.number = number
        self.disk = disk
        self.armed = armed
        self.lifecycle = Lifecycle()
        self.dead = False
        self.synced: dict[int, int] = {}
        """Of files whose syncs are known, by inode: so many bytes survive a power cut for sure."""
        self.tearing: Fault | None = None
        """The power fails inside one of the writes of the job that runs now."""
        self.at_crash: list[Callable[[], None]] = []
        """What the world around a process does when it dies: the system closes files, the broker its link."""
        self.torn: Callable[[], None] = lambda: None
        """Told when what a disk job wrote is not there after all."""
        self._struck = struck
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._jobs: dict[asyncio.Future[Any], None] = {}
        self._rng = random.Random(f"{name}/{number}")

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something as this process; what it starts is this process's too."""
        context = Context()
        context.run(_life.set, self)
        return context.run(asyncio.create_task, work)

    def crash(self, fault: Fault) -> None:
        """Fail now: the disk stays as it is, and nothing that is done from now on counts."""
        if self.dead:
            return
        self.dead = True
        shutil.copytree(self.disk, self.survives)
        if self._rng.random() < POWER_CUTS:
            self._lose_unsynced()
        self._struck(self, fault)

    @property
    def survives(self) -> Path:
        """The disk as the next life finds it."""
        return self.disk.with_name(str(self.number + 1))

    def _lose_unsynced(self) -> None:
        for path, size in sorted(_sizes(self.disk).items()):
            synced = self.synced.get(path.stat().st_ino, size)
            if synced < size:
                os.truncate(self.survives / path.relative_to(self.disk), self._rng.randint(synced, size))

    async def nothing_more(self) -> None:
        """A dead process waits for good."""
        await asyncio.Event().wait()

    async def bury(self) -> None:
        """Take its tasks away; whatever they still do on their way out happens to a disk nobody reads."""
        while tasks := [task for task in self._tasks if not task.done()]:
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0)
            for job in self._jobs:
                if not job.done():
                    job.set_result(None)
            await asyncio.wait(tasks, timeout=1)
        for undone in self.at_crash:
            undone()

    def adopt(self, task: asyncio.Task[Any]) -> None:
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]
        if self.dead and not task.cancelled():
            task.exception()  # a process that was killed says nothing

    def disk_job(self, loop: "SimulatedLoop", work: Callable[[], T]) -> asyncio.Future[T]:
        """Do what the service gives to a thread; its result comes a little later."""
        result: asyncio.Future[T] = loop.create_future()
        self._jobs[result] = None
        result.add_done_callback(self._jobs.pop)
        if self.dead:
            return result
        if (fault := self.armed.take("crash", "disk")) is not None:
            self._crash_in_job(fault, work)
            return result
        try:
            value = work()
        except Exception as error:  # noqa: BLE001 - whoever waits for the job gets it
            loop.call_later(self._rng.uniform(*DISK_S), _fail, result, error)
        else:
            loop.call_later(self._rng.uniform(*DISK_S), _finish, result, value)
        return result

    def part_written(self, size: int) -> int | None:
        """How much of a write of that size is there when the power fails inside it; None: it does not fail."""
        if self.tearing is None or self.dead or self._rng.random() < WRITES_ON:
            return None
        return self._rng.randrange(size)

    def _crash_in_job(self, fault: Fault, work: Callable[[], object]) -> None:
        if fault.how == "disk torn" and self.synced:
            self.tearing = fault
            with suppress(OSError):
                work()
            self.crash(fault)
            return
        before = _sizes(self.disk)
        if fault.how != "disk nothing":
            work()
        changed = {path for path, size in _sizes(self.disk).items() if before.get(path) != size}
        self.crash(fault)
        if fault.how == "disk torn" and len(changed) == 1:
            # Of several files it is not known which was written first; of one, any part may be there.
            path = changed.pop()
            size, grown = before.get(path, 0), path.stat().st_size
            if grown > size:
                self.torn()
                os.truncate(self.survives / path.relative_to(self.disk), self._rng.randint(size, grown - 1))


_life: ContextVar[Life | None] = ContextVar("life", default=None)


class SimulatedLoop(VirtualLoop):
    """A virtual loop that knows whose each task is, and runs disk jobs in virtual time."""

    def create_task(self, coro: Any, **more: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **more)
        if (life := _life.get()) is not None:
            life.adopt(task)
        return task

    def run_in_executor(  # one disk a service
        self, _executor: object, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        life = _life.get()
        assert life is not None, "a disk job of nobody"
        return life.disk_job(self, lambda: func(*args))


def _finish(result: asyncio.Future[T], value: T) -> None:
    if not result.done():
        result.set_result(value)


def _fail(result: asyncio.Future[Any], error: Exception) -> None:
    if not result.done():
        result.set_exception(error)


def _sizes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
