"""The outbox: in order, over outages and restarts, on the disk only when it must be, bounded and never silent."""

import asyncio
import random
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import BusRefusedError
from broker.outbox import Limits
from broker.outbox_file import OutboxFile, Row
from broker.outbox_keeper import COMMIT_S, IN_MEMORY_MAX
from broker.pipe import IN_FLIGHT_MAX
from contracts import topics
from runtime.clock import VirtualClock
from tests.conftest import run_virtual
from tests.unit.outbox_rig import House, house, kept, reading

# --- the way of a reading -----------------------------------------------------


class CountingFile(OutboxFile):
    writes: int = 0

    def write(self, rows: Iterable[Row], gone_to: int) -> None:
        self.writes += 1
        super().write(rows, gone_to)


def test_what_is_confirmed_at_once_never_touches_the_disk(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> int:
        async with house(clock, tmp_path / "o.sqlite", file=CountingFile) as own:
            for seq in range(1, 61):
                own.add([seq])
                await clock.sleep(1)
            assert own.broker.got == list(range(1, 61))
            file = own.outbox._file
            assert isinstance(file, CountingFile)
            return file.writes

    assert run_virtual(main) == 0


def test_what_is_not_confirmed_is_on_the_disk_within_200_ms(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        async with house(clock, tmp_path / "o.sqlite") as own:
            own.away()
            own.add([1, 2])
            await clock.sleep(COMMIT_S / 2)
            own.add([3])
            await clock.sleep(COMMIT_S / 2 + 0.01)
            assert own.outbox._file is not None
            assert [r.number for r in own.outbox._file.read(0, 10)] == [1, 2, 3]

    run_virtual(main)
    assert kept(tmp_path / "o.sqlite") == [1, 2, 3]


def test_a_hundred_are_written_at_once(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        async with house(clock, tmp_path / "o.sqlite") as own:
            own.away()
            await clock.sleep(0.01)
            own.add(range(1, 101))
            await clock.sleep(COMMIT_S / 10)
            assert own.outbox._file is not None
            assert own.outbox._file.rows == 100

    run_virtual(main)


def test_a_backlog_is_drained_in_order_while_new_readings_go_on(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> list[int]:
        async with house(clock, tmp_path / "o.sqlite") as own:
            own.away()
            for first in range(1, 5001, 50):
                own.add(range(first, first + 50))
                await clock.sleep(0.1)
                assert len(own.outbox._pipe) <= IN_MEMORY_MAX
                assert len(own.outbox._keeper.unkept) <= 200  # type: ignore[union-attr]
            own.back()
            begun = clock.monotonic()
            for seq in range(5001, 5101):
                own.add([seq])
                await clock.sleep(0.01)
            await own.drained()
            assert 5100 / (clock.monotonic() - begun) > 2000
            assert own.broker.at_once_max == IN_FLIGHT_MAX
            return own.broker.got

    assert run_virtual(main) == list(range(1, 5101))
    assert kept(tmp_path / "o.sqlite") == []
    assert (tmp_path / "o.sqlite").stat().st_size < 100_000  # the space goes back


def test_readings_outlive_a_restart_and_keep_identity_and_time(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"

    async def first(clock: VirtualClock) -> None:
        async with house(clock, path) as own:
            own.away()
            own.add(range(1, 1001))

    async def second(clock: VirtualClock) -> list[bytes]:
        async with house(clock, path) as own:
            await own.broker.declare((), topics.RECORDER)
            assert own.outbox.waiting == 1000
            own.outbox.add(reading(1, boot=2))
            await own.drained()
            assert own.broker.got == [*range(1, 1001), 1]
            return []

    run_virtual(first)
    assert kept(path) == list(range(1, 1001))
    run_virtual(second)
    assert kept(path) == []


def test_without_a_file_all_wait_in_memory_and_all_go() -> None:
    async def main(clock: VirtualClock) -> list[int]:
        async with house(clock, None) as own:
            own.away()
            own.add(range(1, 2001))
            await clock.sleep(100)
            own.back()
            await own.drained()
            return own.broker.got

    assert run_virtual(main) == list(range(1, 2001))


def test_while_the_broker_is_away_one_alone_is_tried() -> None:
    async def main(clock: VirtualClock) -> None:
        async with house(clock, None) as own:
            own.away()
            own.add(range(1, 501))
            await clock.sleep(1)
            own.broker.at_once_max = 0
            await clock.sleep(60)
            assert own.broker.at_once_max == 1

    run_virtual(main)


def test_a_refusal_ends_the_service_and_keeps_the_readings(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        async with house(clock, tmp_path / "o.sqlite") as own:
            own.broker.error = BusRefusedError("no right to publish")
            own.add([1, 2, 3])
            await clock.sleep(1)

    with pytest.raises(ExceptionGroup) as caught:
        run_virtual(main)
    assert caught.group_contains(BusRefusedError)
    assert kept(tmp_path / "o.sqlite") == [1, 2, 3]


def test_a_stop_while_the_broker_hangs_keeps_the_readings(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        own = House(clock, OutboxFile(tmp_path / "o.sqlite"))
        task = asyncio.create_task(own.outbox.publish())
        own.add([1, 2, 3])
        await clock.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])

    run_virtual(main)
    assert kept(tmp_path / "o.sqlite") == [1, 2, 3]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_all_arrive(seed: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "o.sqlite"
        got: list[int] = []
        seqs = iter(range(1, 10_000))
        added = 0

        async def life(clock: VirtualClock) -> None:
            nonlocal added
            async with house(clock, path) as own:
                own.broker.random = random.Random(rng.random())
                for _ in range(rng.randint(1, 8)):
                    (own.away if rng.random() < 0.5 else own.back)()
                    burst = [next(seqs) for _ in range(rng.choice((1, 5, 50, 200)))]
                    own.add(burst)
                    added = burst[-1]
                    await clock.sleep(rng.choice((0.0, 0.05, 0.3, 2.0)))
            got.extend(own.broker.got)

        for _ in range(rng.randint(1, 4)):
            run_virtual(life)

        async def last(clock: VirtualClock) -> None:
            async with house(clock, path) as own:
                await own.drained()
            got.extend(own.broker.got)

        run_virtual(last)
        assert set(got) == set(range(1, added + 1))
        assert kept(path) == []


# --- limits -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(rows=500), "500 wait for the broker"),
        (Limits(bytes=1 << 20), "1 MiB wait for the broker"),
        (Limits(age_s=3600), "the broker has been away for"),
    ],
)
def test_what_is_too_much_is_refused_counted_and_alarmed(tmp_path: Path, limits: Limits, says: str) -> None:
    async def main(clock: VirtualClock) -> None:
        async with house(clock, tmp_path / "o.sqlite", limits) as own:
            own.away()
            taken = []
            for seq in range(1, 10_001, 20):
                taken += own.add(range(seq, seq + 20))
                await clock.sleep(0.2)
            first = taken.index(False)
            assert first > 400
            assert not any(taken[first:])
            assert own.outbox.refused == taken.count(False)
            ((name, text),) = own.alarms
            assert name == "outbox-full"
            assert f"from seq {first + 1} on" in text
            assert says in text
            own.back()
            await own.drained()
            own.add([10_001])
            await own.drained()
            assert own.alarms[1] == (
                "outbox-gap",
                f"readings up to seq 10000 are missing, {own.outbox.refused} in all",
            )
            assert own.broker.got == [*range(1, first + 1), 10_001]

    run_virtual(main)
