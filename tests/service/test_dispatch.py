"""Orchestrator and DER controller together on the bus in memory: commands are obeyed, answered, and end."""

import asyncio
from contextlib import suppress
from typing import Any, Self

import pytest

from broker.bus import PlanesBus
from contracts import topics
from contracts.codec import decode, encode
from contracts.errors import BadMessageError
from contracts.instant import Instant
from contracts.messages import (
    Alert,
    CommandAck,
    Decision,
    DerTelemetry,
    DispatchCommand,
    MeterReading,
    PowerSnapshot,
    PvReading,
    Schedule,
)
from contracts.topics import Topic
from der_controller.__main__ import build
from der_controller.service import DerControllerService
from der_controller.settings import BatteryTable, CarTable, DerControllerSettings
from orchestrator.service import Mark, OrchestratorService
from orchestrator.settings import OrchestratorSettings
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from runtime.settings import Layered
from runtime.store import Store
from tests.conftest import START, memory_bus, run_virtual


class House:
    """A house whose meter the test plays."""

    def __init__(self, clock: VirtualClock, devices: dict[str, Any] | None = None) -> None:
        self.clock = clock
        self.bus, self.transport = memory_bus(clock)
        self.life, self.control = Lifecycle(), Lifecycle()
        own = DerControllerSettings(house="house-a", devices=devices or {"battery": BatteryTable()})
        self.controller = DerControllerService(
            "house-a", build(own, clock, None), 1.0, self.bus, clock, self.life
        )
        settings = Layered(OrchestratorSettings(), {})
        self.store = Store(None, Mark, Mark(epoch=4))
        self.orchestrator = OrchestratorService(settings, self.bus, clock, self.control, self.store)
        self.seq = 0

    async def __aenter__(self) -> Self:
        self.tasks = [
            asyncio.create_task(self.controller.run()),
            asyncio.create_task(self.orchestrator.run()),
        ]
        await self.clock.sleep(0.01)
        await self.bus.declare(topics.METER_READING, topics.PV_READING, durable=topics.RECORDER)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.control.stop()
        self.life.stop()
        await asyncio.gather(*self.tasks)

    async def measure(self, load_kw: float, pv_kw: float = 0.0, measures: str = "load") -> None:
        self.seq += 1
        known: dict[str, Any] = {"house": "house-a", "meter": "main", "boot": 1, "seq": self.seq}
        now = self.clock.now()
        reading = MeterReading(timestamp=now, power_w=load_kw * 1000, measures=measures, **known)  # type: ignore[arg-type]
        await self.bus.publish(topics.METER_READING.at(house="house-a", meter="main"), reading)
        pv = PvReading(timestamp=now, meter_w=load_kw * 1000, pv_w=pv_kw * 1000, sum_w=0.0, **known)
        await self.bus.publish(topics.PV_READING.at(house="house-a", meter="main"), pv)


async def heard(bus: PlanesBus, topic: Topic[Any], clock: VirtualClock, seconds: float) -> list[Any]:
    """Everything that arrives on a topic within so many seconds."""
    found: list[Any] = []

    async def collect() -> None:
        async with bus.subscribe(topic) as deliveries:
            async for delivery in deliveries:
                found.extend([] if delivery.retained else [delivery.message])

    with suppress(TimeoutError):
        async with clock.timeout(seconds):
            await collect()
    return found


def plan(kw: float, start: Instant = START, status: str = "optimal") -> Schedule:
    n = 4
    return Schedule(
        house="house-a", der_id="battery", issued_at=start, valid_until=start.after(1800), start=start, step_s=900,
        status=status, battery_power_kw=[kw] * n, grid_power_kw=[1.0] * n, curtailed_kw=[0.0] * n,  # type: ignore[arg-type]
        soc_percent=[50.0] * (n + 1), load_kw=[1.0] * n, pv_kw=[0.0] * n, import_price=[1.0] * n, currency="EUR",
        energy_cost=0, demand_cost=0, total_cost=0, peak_kw=1,
    )  # fmt: skip


def test_a_fresh_plan_becomes_commands_that_are_obeyed_and_acknowledged() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            await house.measure(3.0)
            await house.bus.publish(topics.SCHEDULE.at(house="house-a", der_id="battery"), plan(-2.0))
            acks: list[CommandAck]
            acks, snapshots, decisions, telemetry = await asyncio.gather(
                heard(house.bus, topics.DER_ACK, clock, 15),
                heard(house.bus, topics.SNAPSHOT, clock, 15),
                heard(house.bus, topics.DECISION, clock, 15),
                heard(house.bus, topics.DER_TELEMETRY, clock, 15),
            )
            assert [ack.result for ack in acks] == ["accepted"] * 2
            assert {ack.epoch for ack in acks} == {5}  # above what was stored
            snapshot: PowerSnapshot = snapshots[-1]
            assert snapshot.verify_power_balance()
            assert (snapshot.battery_power_kw, snapshot.grid_import_kw) == (-2, 1)
            decision: Decision = decisions[-1]
            assert (decision.tier, decision.limit) == ("economic", "schedule")
            assert decision.sentence
            last: DerTelemetry = telemetry[-1]
            assert (last.current_output, last.following) == (-2, "command")

    run_virtual(main)


def test_without_a_fresh_reading_everything_rests() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            await house.measure(3.0)
            await clock.sleep(15)
            assert any(
                command.setpoint_kw for command in await heard(house.bus, topics.DER_COMMAND, clock, 10)
            )
            await clock.sleep(20)
            commands = await heard(house.bus, topics.DER_COMMAND, clock, 30)
            assert commands
            assert all(command.setpoint_kw == 0 for command in commands)

    run_virtual(main)


@pytest.mark.parametrize("ttl_s", [30])
def test_when_commands_stop_the_der_is_safe_within_ttl_and_a_second(ttl_s: float) -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            await house.measure(3.0)
            await clock.sleep(11)
            house.control.stop()
            await clock.sleep(ttl_s + 1)
            telemetry = await heard(house.bus, topics.DER_TELEMETRY, clock, 5)
            assert {(t.current_output, t.following) for t in telemetry} == {(0.0, "safe")}

    run_virtual(main)


def test_a_failed_plan_is_no_plan() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            await house.measure(1.0, pv_kw=3.0)
            await house.bus.publish(
                topics.SCHEDULE.at(house="house-a", der_id="battery"), plan(-2, status="fallback")
            )
            commands: list[DispatchCommand] = await heard(house.bus, topics.DER_COMMAND, clock, 12)
            assert commands[-1].setpoint_kw == pytest.approx(2.0)  # the rule: store the surplus

    run_virtual(main)


def test_a_grid_meter_s_load_is_worked_out() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            await house.measure(-1.0, pv_kw=3.0, measures="grid")  # exports 1 kW of 3: the house takes 2
            snapshots: list[PowerSnapshot] = await heard(house.bus, topics.SNAPSHOT, clock, 2)
            assert snapshots[-1].house_load_kw == pytest.approx(2.0)

    run_virtual(main)


def test_a_car_gets_whole_amps_or_nothing() -> None:
    async def main(clock: VirtualClock) -> None:
        devices = {"ev": CarTable(soc_percent=20, returns_hour=16.0, leaves_hour=7.0)}
        async with House(clock, devices) as house:
            house.seq = 0
            await house.measure(1.0)
            commands: list[DispatchCommand] = await heard(house.bus, topics.DER_COMMAND, clock, 20)
            acks = await heard(house.bus, topics.DER_ACK, clock, 10)
            assert commands
            for command in commands:
                assert command.setpoint_kw is None
                assert command.setpoint_a is not None
                assert command.setpoint_a == 0 or command.setpoint_a >= 6
            assert all(ack.result == "accepted" for ack in acks)

    run_virtual(main, Instant.parse("2024-07-01T22:00:00Z"))


def test_a_command_for_a_der_that_is_not_there_is_answered() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            command = DispatchCommand(
                command_id="x-1-1", house="house-a", der_id="nothere", issuer="x", epoch=1, seq=1,
                issued_at=clock.now(), valid_until=clock.now().after(30), setpoint_kw=1.0,
            )  # fmt: skip
            listening = asyncio.create_task(heard(house.bus, topics.DER_ACK, clock, 2))
            await clock.sleep(0.1)
            await house.bus.publish(topics.DER_COMMAND.at(house="house-a", der_id="nothere"), command)
            [ack] = [ack for ack in await listening if ack.der_id == "nothere"]
            assert (ack.result, ack.reason) == ("rejected", "house-a has no DER nothere: it has battery")

    run_virtual(main)


def command_of(issuer: str, epoch: int, seq: int, now: Instant, kw: float = 1.0) -> DispatchCommand:
    return DispatchCommand(
        command_id=f"{issuer}-{epoch}-{seq}", house="house-a", der_id="battery", issuer=issuer, epoch=epoch, seq=seq,
        issued_at=now, valid_until=now.after(30), setpoint_kw=kw,
    )  # fmt: skip


COMMANDS = topics.DER_COMMAND.at(house="house-a", der_id="battery")


def test_an_orchestrator_that_lost_its_memory_is_obeyed_again() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            # Another life of it had come to epoch 90 with this very DER.
            await house.bus.publish(COMMANDS, command_of("main", 90, 100, clock.now()))
            await house.measure(1.0)
            await clock.sleep(25)
            acks: list[CommandAck] = await heard(house.bus, topics.DER_ACK, clock, 20)
            assert {(ack.epoch, ack.result) for ack in acks} == {(91, "accepted")}
            assert house.store.load().epoch == 91

    run_virtual(main)


def test_of_two_orchestrators_the_later_commands_and_the_other_takes_over_when_it_is_gone() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            await house.measure(1.0)
            await clock.sleep(21)
            for seq in range(1, 6):
                await house.bus.publish(COMMANDS, command_of("other", 50, seq, clock.now()))
                await clock.sleep(10)
            assert house.orchestrator.issuer.epoch == 5
            commands = await heard(house.bus, topics.DER_COMMAND, clock, 60)
            assert commands == []
            commands = await heard(house.bus, topics.DER_COMMAND, clock, 60)
            assert {command.epoch for command in commands} == {51}
            kept = (topics.ALERT, topics.METER_READING, topics.PV_READING)
            async with house.bus.subscribe(*kept, durable=topics.RECORDER) as deliveries:
                waiting = house.transport.backlog(topics.RECORDER)
                messages = [(await anext(deliveries)).message for _ in range(waiting)]
            names = [message.name for message in messages if isinstance(message, Alert)]
            assert "stood-down" in names

    run_virtual(main)


def test_an_absurd_epoch_in_an_ack_does_not_spoil_ours() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            ack = CommandAck(
                command_id="main-5-1", house="house-a", der_id="battery", epoch=5, seq=1, timestamp=clock.now(),
                result="rejected", mark_epoch=2**62,
            )  # fmt: skip
            await house.bus.publish(topics.DER_ACK.at(house="house-a", der_id="battery"), ack)
            await house.measure(1.0)
            commands = await heard(house.bus, topics.DER_COMMAND, clock, 12)
            assert {command.epoch for command in commands} == {5}

    run_virtual(main)


def test_one_reading_from_the_future_stops_nothing() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            future = MeterReading(
                house="house-a", meter="main", boot=1, seq=99, timestamp=clock.now().after(1e8), power_w=1.0
            )
            await house.bus.publish(topics.METER_READING.at(house="house-a", meter="main"), future)
            await clock.sleep(1)
            await house.measure(2.0)
            snapshots = await heard(house.bus, topics.SNAPSHOT, clock, 12)
            assert snapshots
            assert snapshots[-1].house_load_kw == 2.0

    run_virtual(main)


def test_half_a_house_s_meters_are_no_load_to_decide_from() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            second = MeterReading(
                house="house-a", meter="heating", boot=1, seq=1, timestamp=clock.now(), power_w=12_000.0
            )
            await house.bus.publish(topics.METER_READING.at(house="house-a", meter="heating"), second)
            await house.measure(1.0)
            assert (await heard(house.bus, topics.SNAPSHOT, clock, 5))[-1].house_load_kw == 13.0
            await clock.sleep(60)
            await house.measure(1.0)  # the heating's meter is silent
            commands = await heard(house.bus, topics.DER_COMMAND, clock, 12)
            assert commands
            assert all(command.setpoint_kw == 0 for command in commands)
            assert await heard(house.bus, topics.SNAPSHOT, clock, 12) == []

    run_virtual(main)


def test_a_plan_whose_lists_differ_in_length_is_refused_at_the_door() -> None:
    good = encode(plan(1.0))
    for bad in (b'"grid_power_kw":[1.0]', b'"grid_power_kw":[]'):
        payload = good.replace(b'"grid_power_kw":[1.0,1.0,1.0,1.0]', bad)
        assert payload != good
        with pytest.raises(BadMessageError, match="as long"):
            decode(Schedule, payload)


def test_the_telemetry_has_the_reference_s_fourteen_fields_first() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, {"battery": BatteryTable(), "ev": CarTable()}) as house:
            messages = await heard(house.bus, topics.DER_TELEMETRY, clock, 3.5)
            assert len(messages) == 2 * 3
            fields = messages[0].__struct_fields__[:14]
            assert fields == (
                "der_id", "is_online", "timestamp", "current_output", "power_meter_measurement", "baseline",
                "contract_threshold", "units", "project_id", "is_standalone", "connection_start_at", "current_soc",
                "type", "nameplate_capacity",
            )  # fmt: skip

    run_virtual(main)
