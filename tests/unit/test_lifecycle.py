"""A service stops between two messages, never inside one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from tests.conftest import run_virtual


async def numbers(clock: VirtualClock, pause_s: float) -> AsyncIterator[int]:
    for number in range(100):
        await clock.sleep(pause_s)
        yield number


def test_the_message_in_hand_is_finished_and_the_next_not_begun() -> None:
    async def main(clock: VirtualClock) -> None:
        life = Lifecycle()
        begun: list[int] = []
        finished: list[int] = []

        async def serve() -> None:
            async for number in life.each(numbers(clock, 0)):
                begun.append(number)
                await clock.sleep(10)
                finished.append(number)

        task = asyncio.create_task(serve())
        await clock.sleep(25)
        life.stop()
        await task
        assert begun == finished == [0, 1, 2]
        assert clock.monotonic() == 30

    run_virtual(main)


def test_who_waits_ends_at_once() -> None:
    async def main(clock: VirtualClock) -> None:
        life = Lifecycle()

        async def serve() -> str:
            async for _ in life.each(numbers(clock, 3600)):
                pass
            return "ended by itself"

        task = asyncio.create_task(serve())
        await clock.sleep(1)
        life.stop()
        assert await task == "ended by itself"
        assert clock.monotonic() == 1

    run_virtual(main)


def test_being_cancelled_is_not_being_stopped() -> None:
    async def main(clock: VirtualClock) -> None:
        life = Lifecycle()

        async def serve() -> None:
            async for _ in life.each(numbers(clock, 3600)):
                pass

        task = asyncio.create_task(serve())
        await clock.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not life.stopping

    run_virtual(main)


def test_a_stopped_life_begins_nothing() -> None:
    async def main(clock: VirtualClock) -> list[int]:
        life = Lifecycle()
        life.stop()
        return [number async for number in life.each(numbers(clock, 0))]

    assert run_virtual(main) == []
