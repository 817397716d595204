"""Replays on the bus in memory, in virtual time: recorded again, they are the same rows."""

import asyncio
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.port import Bus
from contracts import topics
from contracts.archive import HEADER, Row, day_file, format_row, parse_row
from contracts.instant import Instant
from contracts.messages import MeterReading, PvReading
from recorder.replay.model import Row as Played
from recorder.replay.model import Stream
from recorder.replay.options import parse_options
from recorder.replay.reader import Reader
from recorder.replay.rows import ROWS
from recorder.replay.service import ReplayService
from recorder.replay.survey import survey
from recorder.service import RecorderService
from recorder.settings import RecorderSettings
from runtime.clock import Clock, SystemClock, VirtualClock
from runtime.lifecycle import Lifecycle
from tests.conftest import START, memory_bus, run_virtual

DAY = Instant.parse("2024-07-01T00:00:00Z")
DAY_MS = 86_400_000
Values = tuple[Instant, float, float | None, float | None]
Archive = dict[tuple[str, str, date], list[Row]]

powers = st.floats(min_value=-1e8, max_value=1e8, allow_nan=False)
productions = st.floats(min_value=0, max_value=5e7, allow_nan=False)


@st.composite
def archives(draw: st.DrawFn) -> Archive:
    """Days of meters as a recorder leaves them: in order of arrival, over restarts, with and without PV."""
    days: Archive = {}
    meters = draw(
        st.sets(st.sampled_from([("house-a", "main"), ("house-a", "grid"), ("b", "main")]), min_size=1)
    )
    for house, meter in sorted(meters):
        times = draw(st.lists(st.integers(0, 2 * DAY_MS - 1), min_size=1, max_size=12))
        for seq, ms in enumerate(times):
            meter_w = draw(powers)
            pv_w = draw(st.none() | productions)
            sum_w = None if pv_w is None else draw(st.none() | st.just(min(meter_w + pv_w, 1e8)))
            at = DAY.after(0) if ms == 0 else Instant.at_ms(DAY.unix_ms + ms)
            row = Row(at, meter_w, pv_w, sum_w, draw(st.integers(1, 3)) * 1000 + seq, seq)
            days.setdefault((house, meter, at.date()), []).append(row)
    return days


def write(root: Path, days: Archive) -> None:
    for (house, meter, day), rows in days.items():
        path = root / day_file(house, meter, day)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([HEADER, *map(format_row, rows), ""]))


def values(root: Path) -> dict[str, list[Values]]:
    """What the files say, by file, in order of time."""
    return {
        str(path.relative_to(root)): sorted((parse_row(line)[:4] for line in path.read_text().splitlines()[1:]), key=repr)
        for path in sorted(root.rglob("*.csv"))
    }  # fmt: skip


async def replay(
    bus: Bus, clock: Clock, *arguments: str | Path, life: Lifecycle | None = None, run: str | None = None
) -> ReplayService:
    """A replay as the command makes it; it has ended."""
    faults: list[str] = []
    options = parse_options([*map(str, arguments), *(["--run", run] if run else [])])
    service = ReplayService(
        survey(options, 0, faults.append, lambda: False),
        bus,
        clock,
        life or Lifecycle(),
        speed=options.speed,
        loop=options.loop,
        rebase=options.rebase,
        fault=faults.append,
    )
    await service.run()
    assert faults == []
    return service


def recorded(*arguments: str | Path, data_dir: Path, **more: Any) -> ReplayService:
    """Replay onto a bus with a real recorder."""

    async def main(clock: VirtualClock) -> ReplayService:
        bus, transport = memory_bus(clock)
        life = Lifecycle()
        running = asyncio.create_task(
            RecorderService(RecorderSettings(data_dir=data_dir), bus, clock, life).run()
        )
        await clock.sleep(0)
        service = await replay(bus, clock, *arguments, **more)
        while transport.backlog(topics.RECORDER):
            await clock.sleep(0.1)
        life.stop()
        await running
        return service

    return run_virtual(main)


@settings(max_examples=40, deadline=None)
@given(archives())
def test_what_was_recorded_and_replayed_and_recorded_again_is_the_same(days: Archive) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, once, twice = (Path(scratch) / name for name in ("source", "once", "twice"))
        write(source, days)

        service = recorded(source, "--speed", "max", data_dir=once)
        recorded(source, "--speed", "max", data_dir=twice)

        again = once / "replay" / service.survey.run
        assert values(again) == values(source)
        assert service.played == sum(map(len, days.values()))
        files = sorted(path.relative_to(once) for path in once.rglob("*.csv"))
        assert [(once / file).read_bytes() for file in files] == [
            (twice / file).read_bytes() for file in files
        ]
        for path in again.rglob("*.csv"):
            rows = [parse_row(line) for line in path.read_text().splitlines()[1:]]
            assert [row.timestamp for row in rows] == sorted(row.timestamp for row in rows)
            assert {row.boot for row in rows} == {1}
        # And what was replayed can be replayed.
        third = Path(scratch) / "third"
        last = recorded(again, "--speed", "max", data_dir=third)
        assert values(third / "replay" / last.survey.run) == values(source)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 10**7), st.decimals(0, 99, places=3), st.decimals(0, 9, places=3)),
        min_size=1,
        max_size=30,
        unique_by=lambda row: row[0],
    ),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_a_foreign_file_is_recorded_as_it_says(rows: list[tuple[int, Any, Any]], separator: str, codec: str, end: str) -> None:  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "loft.csv"
        lines = [
            "PV (MW);Load, kW;Time".replace(";", separator) if separator != "," else "PV (MW),Load kW,Time"
        ]
        lines += [separator.join((str(pv), str(load), str(DAY.after(at)))) for at, load, pv in rows]
        path.write_bytes((end.join(lines) + end).encode(codec))
        load = "Load kW" if separator == "," else "Load, kW"
        mapped = f"timestamp=Time,meter_w={load}:kW,pv_w=PV (MW):MW"

        service = recorded(path, "--map", mapped, "--speed", "max", data_dir=Path(scratch) / "data")

        kept = [
            row
            for rows_ in values(Path(scratch) / "data" / "replay" / service.survey.run / "loft").values()
            for row in rows_
        ]
        wanted = [
            (
                DAY.after(at),
                float(load * 1000),
                float(pv * 1_000_000),
                float(load * 1000) + float(pv * 1_000_000),
            )
            for at, load, pv in rows
        ]
        assert sorted(kept) == sorted(wanted)


def a_day(root: Path, rows: int = 20, house: str = "house-a", step_s: float = 10) -> Path:
    rng = random.Random("a day")
    kept = [Row(DAY.after(step_s * i), float(rng.randint(0, 9000)), None, None, 7, i) for i in range(rows)]
    write(root, {(house, "main", DAY.date()): kept})
    return root


async def heard(
    bus: Bus, clock: Clock, body: Callable[[], Any]
) -> list[tuple[float, MeterReading | PvReading]]:
    """What somebody hears, and after how long, while `body` runs."""
    found: list[tuple[float, MeterReading | PvReading]] = []
    began = clock.monotonic()
    async with bus.subscribe(topics.METER_READING, topics.PV_READING) as deliveries:

        async def listen() -> None:
            async for delivery in deliveries:
                at_s = clock.monotonic() - began
                found.append((at_s, delivery.message))

        listening = asyncio.create_task(listen())
        await body()
        await clock.sleep(0.01)
        listening.cancel()
        await asyncio.wait([listening])
    return found


@pytest.mark.parametrize(("speed", "apart"), [("1", 10.0), ("60", 10 / 60), ("max", 0.0)])
def test_rows_are_as_far_apart_as_the_speed_says(tmp_path: Path, speed: str, apart: float) -> None:
    async def main(clock: VirtualClock) -> None:
        bus, _ = memory_bus(clock)
        a_day(tmp_path)
        found = await heard(bus, clock, lambda: replay(bus, clock, tmp_path, "--speed", speed))
        assert [round(at, 6) for at, _ in found] == [round(i * apart, 6) for i in range(20)]
        for number, (_, reading) in enumerate(found):
            assert reading.historical
            assert (reading.house, reading.meter, reading.boot, reading.seq) == (
                "house-a",
                "main",
                1,
                number + 1,
            )
            assert reading.timestamp == DAY.after(10 * number)

    run_virtual(main)


class Slow(Reader):
    """Takes its time to put a file in order: until somebody on the event loop lets it go on."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader._selection, reader._roster)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def stream(self, *arguments: Any) -> Stream:
        stream = super().stream(*arguments)

        def rows() -> Iterator[Played]:
            self.begun.set()
            assert self.go_on.wait(30), "the event loop waits for the file"
            yield from stream.open()

        return stream._replace(open=rows)


def shuffled(root: Path, rows: int) -> Path:
    """One file, in no order."""
    times = random.Random("shuffled").sample(range(rows), rows)
    path = root / "house.csv"
    path.write_text("\n".join(["timestamp,meter_w", *(f"{DAY.after(at)},{at}" for at in times), ""]))
    return path


async def test_the_bus_stays_alive_while_a_file_is_put_in_order(tmp_path: Path) -> None:
    clock, faults = SystemClock(), list[str]()
    bus, _ = memory_bus(clock)
    found = survey(parse_options([str(shuffled(tmp_path, 3000))]), 0, faults.append, lambda: False)
    reader = Slow(found.reader)
    service = ReplayService(
        found._replace(reader=reader),
        bus,
        clock,
        Lifecycle(),
        speed=None,
        loop=False,
        rebase=False,
        fault=faults.append,
    )
    async with bus.subscribe(topics.METER_READING, durable=topics.RECORDER) as deliveries:
        playing = asyncio.create_task(service.run())
        while not reader.begun.is_set():
            await clock.sleep(0.01)
        reader.go_on.set()
        for at in range(3000):
            delivery = await anext(deliveries)
            assert delivery.message.power_w == at
            await delivery.ack()
        await playing
    assert faults == []


def test_a_replay_that_is_stopped_reads_no_further(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        bus, _ = memory_bus(clock)
        life = Lifecycle()
        life.stop()
        service = await replay(bus, clock, shuffled(tmp_path, 3000), "--speed", "max", life=life)
        assert service.noted[ROWS] < 3000
        assert service.published == 0

    run_virtual(main)


def test_a_loop_plays_again_with_a_new_boot_until_it_is_stopped(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        bus, _ = memory_bus(clock)
        life = Lifecycle()
        a_day(tmp_path)

        async def body() -> None:
            playing = asyncio.create_task(replay(bus, clock, tmp_path, "--loop", life=life))
            await clock.sleep(475)
            life.stop()
            service = await playing
            assert service.passes == 3
            assert service.waiting == 0

        found = [reading for _, reading in await heard(bus, clock, body)]
        assert Counter(reading.boot for reading in found) == {1: 20, 2: 20, 3: 10}

    run_virtual(main)


def test_rebased_times_hold_weekday_and_hour_and_reach_today(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        bus, _ = memory_bus(clock)
        a_day(tmp_path, rows=8 * 24, step_s=450)
        found = await heard(
            bus, clock, lambda: replay(bus, clock, tmp_path, "--rebase", "now", "--speed", "max")
        )
        first, last = found[0][1].timestamp, found[-1][1].timestamp
        assert first <= clock.now()
        assert last.after(450) > clock.now()
        assert (first - DAY).total_seconds() % 86400 == 0

    run_virtual(main, START.after(40 * 86400))
