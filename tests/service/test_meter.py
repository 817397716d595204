"""The meter on the bus in memory."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import BusUnavailableError
from broker.memory import MemoryTransport
from broker.outbox_file import OutboxFile
from broker.transport import Outgoing
from contracts import topics
from contracts.codec import decode
from contracts.instant import Instant
from contracts.messages import Alert, MeterReading
from energy.errors import SeriesError
from energy.series import Series
from meter.__main__ import build
from meter.model import RecordedSource
from meter.service import MeterService
from meter.settings import MeterSettings
from runtime.clock import ManualClock, VirtualClock
from runtime.errors import UsageError
from runtime.lifecycle import Lifecycle
from tests.conftest import START, memory_bus, run_virtual


def readings_of(settings: MeterSettings, seconds: float, boots: Path | None = None) -> list[MeterReading]:
    async def main(clock: VirtualClock) -> list[MeterReading]:
        bus, transport = memory_bus(clock)
        life = Lifecycle()
        service = MeterService(settings, *build(settings, clock, boots), bus, clock, life)
        task = asyncio.create_task(service.run())
        await clock.sleep(seconds - 0.001)
        life.stop()
        await task
        async with bus.subscribe(topics.METER_READING, durable=topics.RECORDER) as deliveries:
            return [(await anext(deliveries)).message for _ in range(transport.backlog(topics.RECORDER))]

    return run_virtual(main)


def test_a_reading_every_ten_seconds_aligned_and_numbered() -> None:
    readings = readings_of(MeterSettings(house="house-a"), 600)
    assert [r.timestamp.seconds_since(START) for r in readings] == [10.0 * i for i in range(60)]
    assert [r.seq for r in readings] == list(range(1, 61))
    assert all(0 <= r.power_w <= 9000 and r.has_pv for r in readings)


def test_the_same_seed_gives_the_same_readings() -> None:
    assert readings_of(MeterSettings(house="house-a", seed=4), 600) == readings_of(
        MeterSettings(house="house-a", seed=4), 600
    )
    assert readings_of(MeterSettings(house="house-a", seed=4), 600) != readings_of(
        MeterSettings(house="house-a", seed=5), 600
    )


def test_the_boot_counter_is_stored_before_its_first_use(tmp_path: Path) -> None:
    boots = tmp_path / "meter.json"
    assert {r.boot for r in readings_of(MeterSettings(house="house-a"), 20, boots)} == {1}
    assert {r.boot for r in readings_of(MeterSettings(house="house-a"), 20, boots)} == {2}
    # A disk that was replaced starts above the floor its house's settings carry.
    assert {r.boot for r in readings_of(MeterSettings(house="house-a", boot_floor=40), 20, boots)} == {41}


def test_a_meter_without_pv_says_so_and_asks_nobody_to_answer() -> None:
    assert not readings_of(MeterSettings(house="house-a", pv=False), 10)[0].has_pv


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 9000).map(lambda x: round(x, 1)), min_size=2, max_size=4),
    st.sampled_from([60, 900, 1800, 3600]),
    st.integers(0, 3600),
)
def test_the_texture_keeps_each_recorded_step_s_mean(means: list[float], step_s: int, offset_s: int) -> None:
    begin = START.after(offset_s)
    times = tuple(begin.after(i * step_s).unix_ms for i in range(len(means)))
    source = RecordedSource(
        Series(times, tuple(means), begin.after(len(means) * step_s).unix_ms), 10.0, "seed"
    )
    for i, mean in enumerate(means):
        samples = [source.power_w(begin.after(i * step_s + t)) for t in range(0, step_s, 10)]
        assert sum(samples) / len(samples) == pytest.approx(mean, abs=0.051)
        assert min(samples) >= 0


def test_a_recording_is_moved_to_the_present(tmp_path: Path) -> None:
    path = tmp_path / "house.csv"
    first = Instant.parse("2023-07-03T12:00:00Z")  # a Monday, 52 weeks before START
    rows = [f"{first.after(i * 3600)},{100 + i}" for i in range(24 * 8)]
    path.write_text("\n".join(["timestamp,meter_w", *rows]))
    own = MeterSettings(house="house-a", source="csv", csv=path, csv_rebase=True, interval_s=3600)
    assert [r.power_w for r in readings_of(own, 3 * 3600)] == [100, 101, 102]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("time,meter_w\n2024-07-01T12:00:00Z,1\n", "no column 'timestamp'"),
        ("timestamp,load\n2024-07-01T12:00:00Z,1\n", "no column 'meter_w'; there are: timestamp, load"),
        ("timestamp,meter_w\n2024-07-01T12:00:00Z,abc\n", ":2: meter_w is 'abc': not a number"),
        ("timestamp,meter_w\n2024-07-01T12:00:00Z,NaN\n", ":2: meter_w is 'NaN': not finite"),
        ("timestamp,meter_w\n2024-07-01T12:00:10Z,1\n2024-07-01T12:00:00Z,1\n", ":3: time runs backwards"),
        ("timestamp,meter_w\n2020-07-01T12:00:00Z,1\n2020-07-01T12:00:10Z,1\n", "no data at 2024"),
    ],
)
def test_a_bad_recording_is_one_clear_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(SeriesError) as caught:
        build(MeterSettings(house="house-a", source="csv", csv=path), ManualClock(START), None)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_csv_without_a_file_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="needs --csv FILE"):
        build(MeterSettings(house="house-a", source="csv"), ManualClock(START), None)


class Away(MemoryTransport):
    """A broker that is away until it is let back."""

    away = True

    async def publish(self, out: Outgoing) -> None:
        if self.away:
            raise BusUnavailableError("away")
        await super().publish(out)


def test_no_reading_is_dropped_while_the_broker_is_away() -> None:
    async def main(clock: VirtualClock) -> list[bytes]:
        bus, _ = memory_bus(clock)
        transport = Away()
        bus._readings = bus._live = transport
        life = Lifecycle()
        own = MeterSettings(house="house-a")
        service = MeterService(own, *build(own, clock, None), bus, clock, life)
        task = asyncio.create_task(service.run())
        await clock.sleep(300)
        transport.away = False
        await clock.sleep(5)
        life.stop()
        await task
        async with transport.subscribe((), topics.RECORDER) as incoming:
            return [(await anext(incoming)).payload for _ in range(transport.backlog(topics.RECORDER))]

    readings = [decode(MeterReading, payload) for payload in run_virtual(main)]
    assert [r.seq for r in readings] == list(range(1, 32))
    assert [r.timestamp.seconds_since(START) for r in readings] == [10.0 * i for i in range(31)]


def test_readings_of_an_outage_outlive_the_meter_and_keep_their_identity(tmp_path: Path) -> None:
    own = MeterSettings(house="house-a")
    boots, path = tmp_path / "boots.json", tmp_path / "outbox.sqlite"

    async def live(clock: VirtualClock, *, away: bool) -> list[MeterReading]:
        bus, _ = memory_bus(clock)
        bus._readings = bus._live = transport = Away()
        transport.away = away
        life = Lifecycle()
        model, source = build(own, clock, boots)
        task = asyncio.create_task(MeterService(own, model, source, bus, clock, life, OutboxFile(path)).run())
        await clock.sleep(95)
        life.stop()
        await task
        async with bus.subscribe(topics.METER_READING, durable=topics.RECORDER) as deliveries:
            return [(await anext(deliveries)).message for _ in range(transport.backlog(topics.RECORDER))]

    assert run_virtual(lambda clock: live(clock, away=True)) == []
    found = run_virtual(lambda clock: live(clock, away=False), START.after(3600))
    assert [(r.boot, r.seq) for r in found] == [(boot, seq) for boot in (1, 2) for seq in range(1, 11)]
    since = [0.0, 3600.0]
    assert [r.timestamp.seconds_since(START) for r in found] == [
        begin + 10 * i for begin in since for i in range(10)
    ]


def test_a_reading_is_shown_when_it_is_made_and_never_from_the_backlog(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> list[MeterReading]:
        bus, live = memory_bus(clock)
        bus._readings = transport = Away()
        life = Lifecycle()
        own = MeterSettings(house="house-a")
        file = OutboxFile(tmp_path / "outbox.sqlite")
        async with bus.subscribe(topics.METER_READING) as shown:
            service = MeterService(own, *build(own, clock, None), bus, clock, life, file)
            task = asyncio.create_task(service.run())
            await clock.sleep(600)
            transport.away = False
            await clock.sleep(35)
            life.stop()
            await task
            assert transport.backlog(topics.RECORDER) == 64
            del live
            seen = []
            while True:
                try:
                    async with clock.timeout(1):
                        seen.append((await anext(shown)).message)
                except TimeoutError:
                    return seen

    assert [reading.seq for reading in run_virtual(main)] == list(range(1, 65))


def test_what_is_refused_leaves_a_gap_that_is_alarmed(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> tuple[list[int], list[Alert]]:
        bus, _ = memory_bus(clock)
        bus._readings = bus._live = transport = Away()
        life = Lifecycle()
        own = MeterSettings(house="house-a", outbox_max_rows=20)
        file = OutboxFile(tmp_path / "outbox.sqlite")
        service = MeterService(own, *build(own, clock, None), bus, clock, life, file)
        task = asyncio.create_task(service.run())
        await clock.sleep(595)
        assert service.refused == 40
        transport.away = False
        await clock.sleep(35)
        life.stop()
        await task
        wanted = (topics.METER_READING, topics.ALERT)
        async with bus.subscribe(*wanted, durable=topics.RECORDER) as deliveries:
            found = [(await anext(deliveries)).message for _ in range(transport.backlog(topics.RECORDER))]
        seqs = [message.seq for message in found if isinstance(message, MeterReading)]
        return seqs, [message for message in found if isinstance(message, Alert)]

    seqs, alerts = run_virtual(main)
    assert seqs == [*range(1, 21), *range(61, 65)]
    assert [(a.name, a.source, a.boot, a.seq) for a in alerts] == [
        ("outbox-full", "meter-main", 1, 1),
        ("outbox-gap", "meter-main", 1, 2),
    ]
    assert "from seq 21 on" in alerts[0].text
    assert "up to seq 60 are missing, 40 in all" in alerts[1].text
