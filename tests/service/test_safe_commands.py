"""100,000 commands on a hostile course: none is obeyed that must not be, and the DER is safe in time."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from broker.transport import Outgoing
from contracts import topics
from contracts.codec import encode
from contracts.messages import PvReading
from contracts.topics import DeliveryClass
from der_controller.__main__ import main as der_controller_main
from der_controller.settings import BatteryTable, CarTable, InverterTable
from runtime.clock import VirtualClock
from tests.conftest import START, run_virtual
from tests.service.commands_trial import Course, JumpingClock, Trial
from tests.service.der_house import House

COMMANDS = 100_000


@pytest.fixture(autouse=True)
def few_words() -> Iterator[None]:
    """Tens of thousands of refusals are logged nowhere."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.reset_defaults()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where every save is a real file but no slow disk: what is tried here is the order of things."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def course(folder: Path, commands: int, seed: str, *, naive: bool = False) -> Trial:
    async def main(clock: VirtualClock) -> Trial:
        return await Course(clock, folder, commands, seed, naive=naive).run()

    return run_virtual(main)


def test_100_000_commands_on_a_hostile_course(folder: Path) -> None:
    trial = course(folder, COMMANDS, "1")
    assert +trial.breaches == {}
    seen = trial.seen
    assert seen["delivered"] > COMMANDS
    assert min(seen["accepted"], seen["rejected"], seen["expired"]) > 1000
    assert seen["safe again"] > 50
    assert min(seen[f"restart: {how}"] for how in ("stopped", "killed", "before", "after")) >= 5
    assert seen["orchestrator or clock"] > 50


def test_the_course_finds_a_naive_der_out(folder: Path) -> None:
    breaches = course(folder, 10_000, "1", naive=True).breaches
    for kind in ("expired", "future", "replayed", "out of order", "out of range", "unknown issuer"):
        assert breaches[kind] > 0, kind
    assert breaches["safe too late"] > 0
    assert breaches["on after a restart"] > 0


# One rule each, through the service.


def test_a_der_that_speaks_seldom_still_tells_at_once_that_it_fell_back_and_came_back() -> None:
    async def main(clock: VirtualClock) -> None:
        devices = {"car": CarTable(safe_current_a=6, phases=3)}
        async with House(clock, devices=devices, interval_s=600.0) as house:
            assert (await house.send(der_id="car", setpoint_a=16.0)).result == "accepted"
            accepted_at = clock.now()
            await clock.sleep(100)
            said = [
                (t.following, t.current_a, t.timestamp.seconds_since(accepted_at)) for t in house.telemetry
            ]
            assert [(following, amperes) for following, amperes, _ in said] == [
                ("safe", 6.0),
                ("command", 16.0),
                ("safe", 6.0),
            ]
            assert 29 < said[-1][2] <= 31  # TTL + 1 s
            assert (await house.send(der_id="car", setpoint_a=0.0)).result == "accepted"
            await clock.sleep(1.1)
            assert (house.telemetry[-1].following, house.telemetry[-1].current_a) == ("command", 0.0)

    run_virtual(main, START.after(-10 * 3600))  # the car is at home


def test_telemetry_is_said_at_whole_seconds_and_never_of_a_moment_to_come() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, devices={"battery": BatteryTable()}, interval_s=2.5) as house:
            for _ in range(200):
                await clock.sleep(0.1)
                assert all(t.timestamp <= clock.now() for t in house.telemetry)
            said = [t.timestamp.seconds_since(START) for t in house.telemetry]
            assert said == [0.0, 3.0, 5.0, 8.0, 10.0, 13.0, 15.0, 18.0, 20.0]

    run_virtual(main)


def test_a_der_that_speaks_seldom_stores_its_charge_each_minute(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, tmp_path, devices={"battery": BatteryTable()}, interval_s=600.0) as house:
            (store,) = (der.store for der in house.service._ders.values())
            for _ in range(20):
                await clock.sleep(30)
                assert clock.now().seconds_since(store.load().at) <= 61
            assert len(house.telemetry) == 2

    run_virtual(main)


def test_only_known_issuers_are_obeyed_and_the_others_are_told() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, devices={"battery": BatteryTable()}, issuers=["main", "backup"]) as house:
            stranger = await house.send(issuer="mallory", epoch=99, setpoint_kw=5.0)
            assert stranger.result == "rejected"
            assert stranger.reason == "unknown issuer mallory: this DER obeys backup, main"
            assert (await house.send(setpoint_kw=1.0)).result == "accepted"
            elsewhere = await house.send(der_id="heater", setpoint_kw=1.0)
            assert (elsewhere.result, elsewhere.reason) == (
                "rejected",
                "house-a has no DER heater: it has battery",
            )

    run_virtual(main)


def test_a_command_that_cannot_be_stored_is_not_obeyed(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        state = tmp_path / "state"
        async with House(clock, state, devices={"battery": BatteryTable()}) as house:
            state.write_text("a file where the folder was")
            refused = await house.send(setpoint_kw=2.0)
            assert (refused.result, "can't be stored" in refused.reason) == ("rejected", True)
            await clock.sleep(1.1)
            assert house.telemetry[-1].following == "safe"
            state.unlink()
            assert (await house.send(setpoint_kw=2.0)).result == "accepted"

    run_virtual(main)


def test_settings_and_marks_survive_a_restart_and_the_setpoint_does_not(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        settings: dict[str, Any] = {
            "devices": {"battery": BatteryTable(safe_power_kw=-0.5)},
            "issuers": ["main"],
        }
        async with House(clock, tmp_path, **settings) as house:
            assert (await house.send(setpoint_kw=2.0)).result == "accepted"
            again = house.order(seq=1, command_id="main-1-1", setpoint_kw=2.0)
        async with House(clock, tmp_path, **settings) as house:
            await clock.sleep(1.1)
            assert (house.telemetry[-1].following, house.telemetry[-1].current_output) == ("safe", -0.5)
            await house.bus.publish(topics.DER_COMMAND.at(house="house-a", der_id="battery"), again)
            await clock.sleep(0.001)
            assert house.acks[-1].result == "rejected"
            assert (house.acks[-1].mark_epoch, house.acks[-1].mark_seq) == (1, 1)
            assert (await house.send(issuer="mallory", seq=9, setpoint_kw=2.0)).result == "rejected"
            assert (await house.send(seq=2, setpoint_kw=2.0)).result == "accepted"

    run_virtual(main)


@pytest.mark.parametrize("jump_s", [-86400.0, -20.0, 20.0, 86400.0])
def test_a_wall_clock_that_jumps_neither_prolongs_a_command_nor_silences_the_der(jump_s: float) -> None:
    async def main(clock: VirtualClock) -> None:
        jumping = JumpingClock(START)
        async with House(jumping, devices={"battery": BatteryTable()}) as house:
            await house.send(setpoint_kw=2.0)
            await clock.sleep(10.3)
            jumping.off_s = jump_s
            await clock.sleep(19.5)
            count = len(house.telemetry)
            assert house.telemetry[-1].following == "command"
            await clock.sleep(1.2)
            assert (house.telemetry[-1].following, house.telemetry[-1].current_output) == ("safe", 0.0)
            await clock.sleep(10)
            assert len(house.telemetry) >= count + 10
            refused = await house.send(setpoint_kw=2.0)
            if abs(jump_s) > 30:
                assert refused.result == ("rejected" if jump_s < 0 else "expired")
            jumping.off_s = 0.0
            assert (await house.send(setpoint_kw=2.0)).result == "accepted"

    run_virtual(main)


@pytest.mark.parametrize(
    "bad",
    [b'"setpoint_kw":1e999', b'"setpoint_kw":NaN', b'"setpoint_kw":1e6', b'"setpoint_kw":"2"', b'"epoch":-1'],
)
def test_what_is_no_command_at_all_goes_to_quarantine(bad: bytes) -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, devices={"battery": BatteryTable()}) as house:
            good = encode(house.order(setpoint_kw=2.0))
            name = topics.DER_COMMAND.at(house="house-a", der_id="battery").name
            old = b'"setpoint_kw":2.0' if b"setpoint" in bad else b'"epoch":1'
            assert old in good
            await house.bus._live.publish(Outgoing(name, good.replace(old, bad), DeliveryClass.COMMAND))
            await clock.sleep(1.1)
            assert house.bus.refused == 1
            assert (house.acks, house.telemetry[-1].following) == ([], "safe")
            assert (await house.send(setpoint_kw=2.0)).result == "accepted"

    run_virtual(main)


def test_an_inverter_on_the_bus_curtails_what_the_pv_readings_say() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, devices={"pv": InverterTable(peak_kw=4.0)}) as house:
            await house.bus.declare(topics.PV_READING, durable=topics.RECORDER)
            for seq, watts in enumerate((3000.0, 1000.0)):
                await house.send(der_id="pv", setpoint_kw=2.0)
                reading = PvReading(
                    house="house-a", meter="main", boot=1, seq=seq, timestamp=clock.now(), meter_w=500.0,
                    pv_w=watts, sum_w=watts + 500.0,
                )  # fmt: skip
                await house.bus.publish(topics.PV_READING.at(house="house-a", meter="main"), reading)
                await clock.sleep(1.1)
                assert house.telemetry[-1].current_output == min(2.0, watts / 1000)
            assert house.telemetry[-1].type == "solar_pv"

    run_virtual(main)


def test_a_safe_state_out_of_range_is_refused_at_start(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    site = tmp_path / "site.toml"
    site.write_text(
        "[house.house-a.der_controller.devices.car]\ntype = 'electric_vehicle'\nsafe_current_a = 5\n"
    )
    arguments = ["--config", str(site), "--house", "house-a", "--live-url", "mqtt://127.0.0.1:1"]
    assert der_controller_main([*arguments, "--state-dir", str(tmp_path), "--log-dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "house-a/car: its safe state: out of range: 5 A" in said[0]
