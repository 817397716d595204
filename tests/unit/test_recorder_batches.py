import asyncio

from recorder.batches import Batches
from runtime.clock import VirtualClock
from tests.conftest import run_virtual


def test_a_batch_goes_when_it_is_full_or_its_window_ends() -> None:
    async def main(clock: VirtualClock) -> None:
        batches: Batches[int] = Batches(clock, 3, 10.0)
        for i in range(3):
            await batches.put(i)
        assert await batches.take() == [0, 1, 2]
        assert clock.monotonic() == 0
        await batches.put(3)
        assert await batches.take() == [3]
        assert clock.monotonic() == 10.0

    run_virtual(main)


def test_nothing_is_polled() -> None:
    async def main(clock: VirtualClock) -> None:
        batches: Batches[int] = Batches(clock, 3, 10.0)
        taking = asyncio.create_task(batches.take())
        await clock.sleep(1e6)
        await batches.put(1)
        assert await taking == [1]
        assert clock.monotonic() == 1e6 + 10

    run_virtual(main)


def test_who_puts_waits_for_room() -> None:
    async def main(clock: VirtualClock) -> None:
        batches: Batches[int] = Batches(clock, 2, 10.0)

        async def fill() -> None:
            for i in range(5):
                await batches.put(i)
            batches.close()

        filling = asyncio.create_task(fill())
        await clock.sleep(100)
        assert not filling.done()
        assert await batches.take() == [0, 1]
        batches.give_back([0, 1])
        await clock.sleep(100)
        taken: list[int] = []
        while batch := await batches.take():
            taken += batch
        assert taken == [0, 1, 2, 3, 4]
        await filling

    run_virtual(main)


def test_closing_lets_who_waits_go() -> None:
    async def main(clock: VirtualClock) -> None:
        batches: Batches[int] = Batches(clock, 1, 10.0)
        await batches.put(1)
        waiting = asyncio.create_task(batches.put(2))
        await clock.sleep(1)
        batches.close()
        await waiting
        assert await batches.take() == [1]
        assert await batches.take() == []

    run_virtual(main)
