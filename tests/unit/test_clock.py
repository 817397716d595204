"""The three clocks."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from contracts.instant import Instant
from runtime.clock import ScaledClock, SystemClock, Tick, VirtualClock
from tests.conftest import START, run_virtual


def test_a_virtual_day_takes_no_time_and_ticks_are_aligned() -> None:
    async def main(clock: VirtualClock) -> list[Tick]:
        ticks = []
        async for tick in clock.every(10):
            ticks.append(tick)
            if len(ticks) == 8640:
                return ticks
        raise AssertionError

    began = time.perf_counter()
    ticks = run_virtual(main, START.after(3.2))
    assert time.perf_counter() - began < 10
    assert [ticks[0].at, ticks[-1].at] == [START.after(10), START.after(86400)]
    assert all(tick.skipped == 0 for tick in ticks)


def test_a_late_tick_is_skipped_and_counted() -> None:
    async def main(clock: VirtualClock) -> list[Tick]:
        ticks = []
        async for tick in clock.every(10):
            ticks.append(tick)
            if len(ticks) == 2:
                await clock.sleep(35)
            if len(ticks) == 4:
                return ticks
        raise AssertionError

    ticks = run_virtual(main)
    assert [(tick.at.seconds_since(START), tick.skipped) for tick in ticks] == [
        (0, 0),
        (10, 0),
        (40, 2),
        (50, 0),
    ]


def test_work_in_threads_is_waited_for_and_taken_in_its_order() -> None:
    def work(seconds: float, name: str) -> str:
        time.sleep(seconds)
        return name

    async def main(clock: VirtualClock) -> tuple[list[str], float]:
        done: list[str] = []

        async def one(seconds: float, name: str) -> None:
            done.append(await asyncio.get_running_loop().run_in_executor(None, work, seconds, name))

        before = clock.monotonic()
        await asyncio.gather(one(0.05, "first"), one(0.0, "second"), asyncio.to_thread(work, 0.0, "third"))
        return done, clock.monotonic() - before

    done, took = run_virtual(main)
    assert done == ["first", "second"]
    assert took == 0


def test_an_error_in_a_thread_arrives() -> None:
    def fail() -> None:
        raise KeyError("x")

    async def main(_clock: VirtualClock) -> None:
        with pytest.raises(KeyError):
            await asyncio.to_thread(fail)

    run_virtual(main)


def test_virtual_time_that_can_never_go_on_says_so() -> None:
    async def main(_clock: VirtualClock) -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="everybody waits"):
        run_virtual(main)


def test_timeouts_run_on_the_virtual_clock() -> None:
    async def main(clock: VirtualClock) -> float:
        with pytest.raises(TimeoutError):
            async with clock.timeout(3600):
                await asyncio.Event().wait()
        return clock.monotonic()

    assert run_virtual(main) == pytest.approx(3600)


async def test_processes_with_one_start_agree_on_the_time() -> None:
    start = SystemClock().now().after(-10)
    one = ScaledClock(60, start)
    await asyncio.sleep(0.05)
    two = ScaledClock(60, start)
    assert abs(one.now().seconds_since(two.now())) < 60 * 0.05
    assert one.now().seconds_since(start) == pytest.approx(60 * 10, abs=60)


async def test_a_scaled_clock_starts_where_it_is_told() -> None:
    start = Instant.parse("2020-01-01T00:00:00Z")
    clock = ScaledClock(1000, start, anchor=SystemClock().now())
    assert 0 <= clock.now().seconds_since(start) < 100
    async for tick in clock.every(10):
        assert tick.at.unix_ms % 10_000 == 0
        break
    async with clock.timeout(1000):
        await clock.sleep(10)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_speed_must_be_above_zero(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        ScaledClock(speed, START)


def test_a_wall_clock_set_back_during_the_wait_stops_no_rhythm() -> None:
    class Jumping(VirtualClock):
        def now(self) -> Instant:
            return super().now().after(-7200 if self.monotonic() > 15 else 0)

    async def main(clock: VirtualClock) -> list[float]:
        jumping = Jumping(START)
        seen = []
        async for tick in jumping.every(10):
            seen.append(tick.at.seconds_since(START))
            if len(seen) == 4:
                break
        assert clock.monotonic() < 60
        return seen

    assert run_virtual(main) == [0, 10, -7170, -7160]


def test_a_wall_clock_set_back_repeats_no_hour_and_stops_no_rhythm() -> None:
    class Jumping(VirtualClock):
        back_s = 0.0

        def now(self) -> Instant:
            return super().now().after(-self.back_s)

    async def main(clock: VirtualClock) -> list[float]:
        jumping = Jumping(START)
        seen = []
        ticks: AsyncIterator[Tick] = jumping.every(10)
        async for tick in ticks:
            seen.append(tick.at.seconds_since(START))
            if len(seen) == 2:
                jumping.back_s = 7200
            if len(seen) == 4:
                break
        assert clock.monotonic() < 60
        return seen

    assert run_virtual(main) == [0, 10, -7180, -7170]
