"""The bridge between two buses in memory, and between two real brokers."""

import asyncio
from pathlib import Path

import pytest

from broker.amqp import open_amqp
from broker.bridge import BridgeService, houses_of
from broker.bridge import main as bridge
from broker.bus import PlanesBus
from broker.mqtt import open_mqtt
from broker.quarantine import Quarantine
from contracts import topics
from contracts.messages import MeterReading
from runtime.clock import SystemClock, VirtualClock
from runtime.errors import UsageError
from runtime.lifecycle import Lifecycle
from tests.brokers import Broker, unique
from tests.conftest import START, memory_bus, run_virtual
from tests.service.test_meter import Away


def reading(seq: int, house: str = "house-d") -> MeterReading:
    return MeterReading(
        house=house, meter="main", boot=1, seq=seq, timestamp=START.after(seq), power_w=1.0, has_pv=True
    )


def carried(houses: list[str], *readings: MeterReading) -> tuple[list[MeterReading], int]:
    async def main(clock: VirtualClock) -> tuple[list[MeterReading], int]:
        (source, near), (target, far) = memory_bus(clock), memory_bus(clock)
        await source.declare(topics.METER_READING, durable="somebody")
        life = Lifecycle()
        running = asyncio.create_task(BridgeService(houses, source, target, clock, life).run())
        await clock.sleep(0.1)
        for one in readings:
            await source.publish(topics.METER_READING.at(house=one.house, meter=one.meter), one)
        await clock.sleep(1)
        life.stop()
        await running
        async with target.subscribe(topics.METER_READING, durable=topics.RECORDER) as deliveries:
            found = [(await anext(deliveries)).message for _ in range(far.backlog(topics.RECORDER))]
        return found, near.backlog("bridge")

    return run_virtual(main)


def test_readings_arrive_in_order_and_are_acknowledged() -> None:
    readings = [reading(seq) for seq in range(1, 300)]
    assert carried([], *readings) == (readings, 0)


def test_only_the_houses_that_are_named_are_carried() -> None:
    found, _ = carried(["house-d"], reading(1), reading(2, "house-e"), reading(3))
    assert [one.seq for one in found] == [1, 3]


def test_what_can_t_be_carried_yet_is_not_acknowledged() -> None:
    async def main(clock: VirtualClock) -> None:
        (source, near), (target, _) = memory_bus(clock), memory_bus(clock)
        target._readings = target._live = Away()
        life = Lifecycle()
        running = asyncio.create_task(BridgeService([], source, target, clock, life).run())
        await clock.sleep(0.1)
        for seq in range(1, 4):
            await source.publish(topics.METER_READING.at(house="house-d", meter="main"), reading(seq))
        await clock.sleep(10)
        life.stop()
        await running
        assert near.backlog("bridge") == 3

    run_virtual(main)


def test_houses_are_checked() -> None:
    assert houses_of(" house-d, house-e ,") == ["house-d", "house-e"]
    with pytest.raises(UsageError, match="--houses"):
        houses_of("house-d,../x")


def test_it_needs_two_brokers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert bridge(["--live-url", "mqtt://127.0.0.1:1", "--log-dir", str(tmp_path)]) == 2
    assert "it needs two brokers" in capsys.readouterr().err


async def test_from_mosquitto_to_rabbitmq_and_over_a_restart_of_the_bridge(
    mosquitto: Broker, rabbitmq: Broker, tmp_path: Path
) -> None:
    house, clock = unique("house"), SystemClock()
    quarantine = Quarantine(tmp_path, clock)
    address = topics.METER_READING.at(house=house, meter="main")

    async with (
        open_mqtt(str(mosquitto.mqtt_url), client=unique("b"), wait_s=30, will=None) as near,
        open_amqp(str(rabbitmq.amqp_url), client="b", wait_s=30) as far,
    ):
        source = PlanesBus(near, near, clock, client="near", quarantine=quarantine)
        target = PlanesBus(far, far, clock, client="far", quarantine=quarantine)
        async with target.subscribe(
            topics.METER_READING.of(house=house), durable=unique("reader")
        ) as arriving:
            for part in range(2):
                life = Lifecycle()
                bridge = BridgeService([house], source, target, clock, life)
                running = asyncio.create_task(bridge.run())
                if not part:
                    await asyncio.sleep(1)  # its session is there: what follows waits for it
                for seq in range(1 + 50 * part, 51 + 50 * part):
                    await source.publish(address, reading(seq, house))
                async with asyncio.timeout(30):
                    found = [(await anext(arriving)).message.seq for _ in range(50)]
                assert found == list(range(1 + 50 * part, 51 + 50 * part))
                life.stop()
                await running
                assert bridge.carried == 50


def test_without_pv_no_queue_is_made_that_nobody_reads() -> None:
    async def main(clock: VirtualClock) -> None:
        (source, _), (target, far) = memory_bus(clock), memory_bus(clock)
        life = Lifecycle()
        bridge = BridgeService([], source, target, clock, life, has_pv=False)
        running = asyncio.create_task(bridge.run())
        await clock.sleep(0.1)
        await source.publish(topics.METER_READING.at(house="house-d", meter="main"), reading(1))
        await clock.sleep(1)
        life.stop()
        await running
        assert (far.backlog(topics.RECORDER), far.backlog(topics.PVSIM)) == (1, 0)

    run_virtual(main)
