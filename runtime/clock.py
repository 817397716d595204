"""Time: three clocks, one interface. Nothing else in wattbus asks the system for the time.

`SystemClock` is now; `ScaledClock` runs faster from a given start; `VirtualClock` jumps to the next
timer, so that a simulated day takes seconds and the same seed gives the same bytes.
"""

import asyncio
import selectors
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

from contracts.instant import Instant

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


LONGEST_NAP_S = 60.0
"""Waiting for a moment is done in pieces: a wall clock that is set must be noticed."""


class Tick(NamedTuple):
    """One beat of `Clock.every`."""

    at: Instant
    """The aligned moment this beat stands for."""
    skipped: int
    """Beats lost since the last one because the work took too long."""


class Clock(ABC):
    """What time it is, and how to wait."""

    speed: float = 1.0
    """How many of this clock's seconds pass in a real one."""
    is_virtual: bool = False
    """Whether a run on this clock must repeat to the byte."""
    opens_at: Instant | None = None
    """No beat comes before this: processes that were given one start begin together."""

    @abstractmethod
    def now(self) -> Instant:
        """The wall-clock time [UTC]; may jump."""

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds that only ever pass [s]; the zero is arbitrary."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait that many of this clock's seconds."""

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        """A context that raises TimeoutError after that many of this clock's seconds."""
        return asyncio.timeout(None if seconds is None else seconds / self.speed)

    async def sleep_until(self, moment: Instant) -> None:
        """Wait until `now()` has reached `moment`, however the wall clock is set meanwhile."""
        while (left := moment.seconds_since(self.now())) > 0:
            await self.sleep(min(left, LONGEST_NAP_S))

    async def every(self, interval_s: float) -> AsyncIterator[Tick]:
        """Beats aligned to multiples of `interval_s` since the epoch.

        A late beat is not made up for: the missed ones are counted in `Tick.skipped` and the rhythm
        is taken up again at the next aligned moment. A wall clock set back repeats no beat early.
        """
        if self.opens_at is not None:
            await self.sleep_until(self.opens_at)
        due = self.now().floor(interval_s)
        if due < self.now():
            due = due.after(interval_s)
        skipped = 0
        while True:
            while (left_s := due.seconds_since(self.now())) > 0:
                if left_s > interval_s:
                    # Set back while we waited: the rhythm goes on at the wall clock's new time.
                    due = self.now().floor(interval_s).after(interval_s)
                    continue
                await self.sleep(min(left_s, LONGEST_NAP_S))
            yield Tick(due, skipped)
            following = due.after(interval_s)
            late = self.now().floor(interval_s)
            skipped = 0
            if late > following:
                skipped = round(late.seconds_since(following) / interval_s)
                following = late
            elif late < due:
                following = late.after(interval_s)
            due = following


class SystemClock(Clock):
    """The machine's own clock."""

    def now(self) -> Instant:
        return Instant.of(datetime.now(UTC))

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ScaledClock(Clock):
    """Runs `speed` times as fast as real time, from `start` on.

    Processes that are given the same start agree on the time: it is `start` when the machine's clock
    shows `anchor`, by default the start itself.
    """

    def __init__(self, speed: float, start: Instant, anchor: Instant | None = None) -> None:
        if not speed > 0:
            raise ValueError(f"speed is {speed}: it must be above 0")
        self.speed = speed
        self._start = start
        self.opens_at = start
        ahead_s = (anchor or start).seconds_since(datetime.now(UTC))
        self._zero = time.monotonic() + ahead_s

    def monotonic(self) -> float:
        return (time.monotonic() - self._zero) * self.speed

    def now(self) -> Instant:
        return self._start.after(self.monotonic())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


class VirtualClock(Clock):
    """Time that passes only when everybody waits; runs on a `VirtualLoop`."""

    is_virtual = True

    def __init__(self, start: Instant) -> None:
        self._start = start

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> Instant:
        return self._start.after(self.monotonic())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock(Clock):
    """A clock that stands still until it is moved; for models and tests outside a loop."""

    def __init__(self, start: Instant) -> None:
        self._now = start
        self._monotonic_s = 0.0

    def now(self) -> Instant:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._monotonic_s += seconds
        self._now = self._now.after(seconds)

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError(f"a manual clock does not wait ({seconds} s): use a VirtualClock")


class _JumpingSelector(selectors.DefaultSelector):
    """When there is nothing to do until a timer, moves the loop's time there instead of waiting."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.loop.finish_oldest_job():
            return []
        if timeout is None:
            raise RuntimeError("virtual time stands still: everybody waits and no timer is set")
        self.loop.advance(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer.

    Work given to threads runs there, but its results are taken only when nothing else can run at
    this instant, and in the order it was given: two runs of one seed take the same path.
    """

    def __init__(self) -> None:
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.loop = self
        self._virtual_s = 0.0
        self._jobs: deque[tuple[Future[Any], asyncio.Future[Any]]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def time(self) -> float:
        return self._virtual_s

    def advance(self, seconds: float) -> None:
        """Move to the next timer."""
        self._virtual_s += seconds

    def run_in_executor(  # one pool, whatever is asked for
        self, _executor: object, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(thread_name_prefix="virtual")
        result: asyncio.Future[_T] = self.create_future()
        self._jobs.append((self._pool.submit(func, *args), result))
        return result

    def finish_oldest_job(self) -> bool:
        """Wait for the oldest work given to a thread and hand over its result; False if there is none."""
        if not self._jobs:
            return False
        job, result = self._jobs.popleft()
        error = job.exception()
        if result.cancelled():
            return True
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(job.result())
        return True

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        super().close()
