"""The PV simulator on the bus in memory."""

import asyncio
import subprocess
import sys
from itertools import pairwise

import pytest

from broker.errors import BusUnavailableError
from broker.memory import MemoryTransport
from broker.pipe import IN_FLIGHT_MAX
from broker.transport import Outgoing
from contracts import topics
from contracts.instant import Instant
from contracts.messages import MeterReading, PvReading
from energy.series import Series
from pvsim.__main__ import build
from pvsim.model import recorded
from pvsim.service import PvsimService
from pvsim.settings import PvsimSettings
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from runtime.settings import Layered
from tests.conftest import START, memory_bus, run_virtual

OWN = PvsimSettings(latitude=40.0, longitude=-3.7, timezone="Europe/Madrid")


def reading(seq: int, at: Instant = START, **changes: object) -> MeterReading:
    known: dict[str, object] = {"house": "house-a", "meter": "main", "boot": 1, "has_pv": True}
    return MeterReading(seq=seq, timestamp=at, power_w=500.0, **{**known, **changes})  # type: ignore[arg-type]


def answers(*readings: MeterReading, own: PvsimSettings = OWN) -> list[PvReading]:
    async def main(clock: VirtualClock) -> list[PvReading]:
        bus, transport = memory_bus(clock)
        life = Lifecycle()
        task = asyncio.create_task(PvsimService(build(Layered(own, {}), clock), bus, clock, life).run())
        await clock.sleep(0.1)
        for message in readings:
            await bus.publish(topics.METER_READING.at(house=message.house, meter=message.meter), message)
        await clock.sleep(1)
        assert transport.backlog(topics.PVSIM) == 0
        life.stop()
        await task
        async with bus.subscribe(topics.PV_READING, durable=topics.RECORDER) as deliveries:
            found = [(await anext(deliveries)).message for _ in range(transport.backlog(topics.RECORDER))]
        assert bus.refused == 0
        return found

    return run_virtual(main)


def test_each_reading_is_answered_for_its_own_instant() -> None:
    first, second = answers(reading(1), reading(2, START.after(10)))
    assert (first.house, first.meter, first.boot, first.seq, first.timestamp) == (
        "house-a",
        "main",
        1,
        1,
        START,
    )
    assert second.timestamp == START.after(10)
    assert 0 < first.pv_w <= 4000
    assert first.sum_w == pytest.approx(first.meter_w + first.pv_w)


def test_a_redelivery_gives_the_same_answer_again() -> None:
    once, again = answers(reading(1), reading(1))
    assert once == again


def test_no_sun_at_night() -> None:
    assert answers(reading(1, Instant.parse("2024-07-01T01:00:00Z")))[0].pv_w == 0


def test_neither_a_replay_nor_a_house_without_pv_is_answered() -> None:
    assert answers(reading(1, historical=True), reading(2, has_pv=False)) == []


def test_a_recording_changes_gradually_and_keeps_its_energy() -> None:
    hours = (0.0, 600.0, 1800.0, 2400.0, 1800.0, 600.0, 0.0)
    series = Series(
        tuple(START.after(3600 * i).unix_ms for i in range(7)), hours, START.after(7 * 3600).unix_ms
    )
    production = recorded(series)
    values = [production(START.after(10 * i)) for i in range(7 * 360)]
    assert max(abs(a - b) for a, b in pairwise(values)) < 10
    assert sum(values) / 360 == pytest.approx(sum(hours), rel=0.01)
    assert production(START.after(1800)) == hours[0]
    assert production(START.after(3600 * 2.5)) == hours[2]


def test_where_no_pv_value_is_known_the_meter_s_value_stands_alone() -> None:
    async def main(clock: VirtualClock) -> PvReading:
        bus, transport = memory_bus(clock)
        life = Lifecycle()
        series = Series((START.unix_ms,), (5.0,), START.after(10).unix_ms)
        task = asyncio.create_task(PvsimService(lambda _house: recorded(series), bus, clock, life).run())
        await clock.sleep(0.1)
        late = reading(1, START.after(60))
        await bus.publish(topics.METER_READING.at(house="house-a", meter="main"), late)
        await clock.sleep(1)
        life.stop()
        await task
        assert transport.backlog(topics.PVSIM) == 0
        async with bus.subscribe(topics.PV_READING, durable=topics.RECORDER) as deliveries:
            answered: PvReading = (await anext(deliveries)).message
            return answered

    answered = run_virtual(main)
    assert (answered.meter_w, answered.pv_w, answered.sum_w) == (500.0, None, None)


def test_a_recording_off_the_hour_changes_gradually_too() -> None:
    begin = START.after(1800)
    series = Series(
        tuple(begin.after(3600 * i).unix_ms for i in range(4)),
        (0.0, 900.0, 1800.0, 900.0),
        begin.after(4 * 3600).unix_ms,
    )
    production = recorded(series)
    values = [production(begin.after(10 * i)) for i in range(4 * 360)]
    assert max(abs(a - b) for a, b in pairwise(values)) < 10


class Away(MemoryTransport):
    """A broker that takes no answers for a while, and counts those that are tried at once."""

    away = True
    at_once = at_once_max = 0

    async def publish(self, out: Outgoing) -> None:
        if "/pv/" in out.name:
            self.at_once += 1
            self.at_once_max = max(self.at_once, self.at_once_max)
            await asyncio.sleep(0.01)
            self.at_once -= 1
            if self.away:
                raise BusUnavailableError("away")
        await super().publish(out)


def test_a_reading_is_acknowledged_after_its_own_answer_is_confirmed() -> None:
    async def main(clock: VirtualClock) -> list[PvReading]:
        bus, _ = memory_bus(clock)
        bus._readings = bus._live = transport = Away()
        life = Lifecycle()
        service = PvsimService(build(Layered(OWN, {}), clock), bus, clock, life)
        task = asyncio.create_task(service.run())
        await clock.sleep(0.1)
        for seq in range(1, 501):
            await bus.publish(topics.METER_READING.at(house="house-a", meter="main"), reading(seq))
        await clock.sleep(60)
        assert transport.backlog(topics.PVSIM) == 500
        assert len(service._unanswered) <= IN_FLIGHT_MAX
        transport.away = False
        begun = clock.monotonic()
        while transport.backlog(topics.PVSIM):
            await clock.sleep(0.01)
        assert clock.monotonic() - begun < 2
        assert transport.at_once_max > 50
        assert service.answered == 500
        life.stop()
        await task
        async with bus.subscribe(topics.PV_READING, durable=topics.RECORDER) as deliveries:
            return [(await anext(deliveries)).message for _ in range(transport.backlog(topics.RECORDER))]

    assert sorted(pv.seq for pv in run_virtual(main)) == list(range(1, 501))


def test_stopped_without_a_broker_it_leaves_the_readings_to_the_next_one() -> None:
    async def main(clock: VirtualClock) -> None:
        bus, _ = memory_bus(clock)
        bus._readings = bus._live = transport = Away()
        first, second = Lifecycle(), Lifecycle()
        task = asyncio.create_task(PvsimService(build(Layered(OWN, {}), clock), bus, clock, first).run())
        await clock.sleep(0.1)
        for seq in range(1, 301):
            await bus.publish(topics.METER_READING.at(house="house-a", meter="main"), reading(seq))
        await clock.sleep(5)
        first.stop()
        await task
        assert transport.backlog(topics.PVSIM) == 300
        transport.away = False
        task = asyncio.create_task(PvsimService(build(Layered(OWN, {}), clock), bus, clock, second).run())
        await clock.sleep(5)
        assert transport.backlog(topics.PVSIM) == 0
        assert transport.backlog(topics.RECORDER) == 300
        second.stop()
        await task

    run_virtual(main)


def test_a_restart_gives_a_redelivery_the_same_answer() -> None:
    own = PvsimSettings(latitude=40.0, longitude=-3.7, cloudiness=0.5, seed=3)
    instants = [START.after(600 * i) for i in range(20)]
    once = answers(*(reading(i + 1, at) for i, at in enumerate(instants)), own=own)
    again = answers(*(reading(i + 1, at) for i, at in reversed(list(enumerate(instants)))), own=own)
    assert sorted(again, key=lambda pv: pv.seq) == once


def test_pvlib_that_is_missing_is_told_at_the_start() -> None:
    """Not at the first reading, when it would end a service that seemed well."""
    program = (
        "import sys; sys.modules['pvlib'] = None\n"
        "from pvsim.__main__ import main\n"
        "sys.exit(main(['--live-url', 'mqtt://127.0.0.1:1']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'wattbus[pvsim]'" in done.stderr
