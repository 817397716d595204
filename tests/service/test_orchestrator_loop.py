"""The control loop on the bus in memory: late ticks, retries, silent DERs, violations, two orchestrators, alerts."""

import asyncio
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts import topics
from contracts.messages import CommandAck, PowerSnapshot
from der_controller.settings import BatteryTable, CarTable, InverterTable
from orchestrator.errors import PowerBalanceError
from orchestrator.flow import Flows, compute_flows
from orchestrator.service import Mark, OrchestratorService
from orchestrator.settings import OrchestratorSettings
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from runtime.settings import Layered
from runtime.store import Store
from tests.conftest import memory_bus, run_virtual
from tests.service.orchestrated_house import HOUSE, House
from tests.service.test_dispatch import plan
from tests.unit.test_optimizer_model import meter

REPOSITORY = Path(__file__).parents[2]


def test_a_slow_broker_delays_no_tick_and_only_the_newest_waits() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            house.control_bus.slow_s["command"] = house.control_bus.slow_s["snapshot"] = 25.0
            await clock.sleep(101)
            orchestrator = house.orchestrator
            assert orchestrator.counts.ticks == 11
            assert orchestrator.counts.late_ticks == 0
            assert orchestrator.sender.unsent > 0  # given up after 5 s, for a newer one
            house.control_bus.slow_s.clear()
            heard = await house.hear(20)
            assert 2 <= len({command.command_id for command in heard.commands}) <= 3
            assert heard.telemetry[-1].following == "command"

    run_virtual(main)


def test_a_late_tick_is_skipped_and_counted() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, interval_s=1.0, settle_s=2.5) as house:
            await clock.sleep(30)
            counts = house.orchestrator.counts
            assert counts.ticks == pytest.approx(12, abs=1)
            assert counts.late_ticks == pytest.approx(18, abs=2)

    run_virtual(main)


def test_a_command_without_an_answer_is_tried_three_times_and_the_der_shown_within_three_ticks() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            house.load_kw = 2.0
            house.der_bus.refuses.add("ack")
            begun = clock.now()
            heard = await house.hear(9.5)
            attempts = Counter(command.command_id for command in heard.commands)
            assert list(attempts.values()) == [3]
            heard = await house.hear(20)
            assert clock.now().seconds_since(begun) < 30
            [der] = house.orchestrator.houses[HOUSE].known.ders.values()
            assert house.orchestrator.houses[HOUSE].state_of(der, clock.now()) == "silent"
            assert ("der-silent", "warning") in heard.told()
            assert heard.decisions[-1].sentence == (
                "battery does not answer: nothing counts on it until it obeys again."
            )
            assert heard.snapshots[-1].battery_power_kw == 0
            heard = await house.hear(60)
            assert heard.told() == [("der-silent", "critical")]  # once more at five in a row, then no more
            assert set(Counter(command.command_id for command in heard.commands).values()) == {3}
            house.der_bus.refuses.clear()
            heard = await house.hear(60)
            assert heard.told() == [("der-silent", "info")]
            assert heard.alerts[0].text.startswith("over, since ")
            assert house.orchestrator.houses[HOUSE].state_of(der, der.timestamp) == "answering"
            assert house.orchestrator.counts.commands["unanswered"] >= 5

    run_virtual(main)


def test_what_a_silent_battery_draws_is_load_like_any_other() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            house.load_kw = 2.0
            schedule = msgspec.structs.replace(plan(3.0), grid_power_kw=[5.0] * 4)
            await house.bus.publish(topics.SCHEDULE.at(house=HOUSE, der_id="battery"), schedule)
            assert (await house.hear(12)).snapshots[-1].battery_power_kw == 3
            house.der_bus.refuses.add("ack")
            house.control_bus.hides.add("battery")  # it goes on with its last command, for 30 s
            heard = await house.hear(9)
            assert heard.telemetry[-1].current_output == 3
            assert [s.house_load_kw for s in heard.snapshots] == [2.0]
            house.orchestrator.houses[HOUSE].links["battery"].misses = 2
            heard = await house.hear(10)
            assert heard.snapshots[-1].house_load_kw == 5.0
            heard = await house.hear(20)
            assert heard.telemetry[-1].following == "safe"
            assert heard.snapshots[-1].house_load_kw == 2.0

    run_virtual(main)


@pytest.mark.parametrize("load_kw", [1e7, -1.0])
def test_a_load_no_house_has_gives_the_safe_default_and_an_alert(load_kw: float) -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            house.load_kw = 3.0
            assert (await house.hear(11)).commands[-1].setpoint_kw == -3
            house.load_kw = load_kw
            await clock.sleep(5)
            house.orchestrator.houses[HOUSE].known._meters["main"] = msgspec.structs.replace(
                house.orchestrator.houses[HOUSE].known._meters["main"], power_w=1e9
            )
            house.is_metered = False
            heard = await house.hear(10)
            assert heard.commands[-1].setpoint_kw == 0
            assert ("violation", "critical") in heard.told()
            assert house.orchestrator.counts.violations == 1
            house.load_kw, house.is_metered = 3.0, True
            heard = await house.hear(60)
            assert heard.commands[-1].setpoint_kw == -3
            assert ("violation", "info") in heard.told()

    run_virtual(main)


def test_without_a_balance_the_grid_carries_the_house_for_that_tick_and_nothing_is_optimised_the_next() -> (
    None
):
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            house.load_kw = 3.0
            await clock.sleep(1)
            model = house.orchestrator.houses[HOUSE]
            failing = True

            def flows(*given: Any) -> Flows:
                nonlocal failing
                found = compute_flows(*given)
                if failing:
                    failing = False
                    assert found.snapshot is not None
                    raise PowerBalanceError(msgspec.structs.replace(found.snapshot, pv_kw=99.0))
                return found

            model._flows = flows
            heard = await house.hear(10)
            [snapshot] = heard.snapshots
            assert (snapshot.battery_power_kw, snapshot.grid_import_kw) == (0, 3)
            assert heard.commands[-1].setpoint_kw == 0
            assert heard.told() == [("no-balance", "critical")]
            assert "99" in heard.alerts[0].text  # the snapshot stands in it
            heard = await house.hear(10)
            assert heard.commands[-1].setpoint_kw == 0
            assert "did not add up" in heard.decisions[-1].sentence
            heard = await house.hear(10)
            assert heard.commands[-1].setpoint_kw == -3
            assert (model.balance_errors, house.orchestrator.counts.balance_errors) == (1, 1)

    run_virtual(main)


def test_a_house_that_takes_more_than_its_fuse_is_an_alert_and_no_clip() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, max_grid_import_kw=10.0) as house:
            house.load_kw = 20.0
            heard = await house.hear(31)
            snapshot: PowerSnapshot = heard.snapshots[-1]
            assert (snapshot.house_load_kw, snapshot.battery_power_kw, snapshot.grid_import_kw) == (
                20,
                -5,
                15,
            )
            assert heard.told() == [("fuse", "critical")]
            assert "5.00 kW more than its main fuse carries" in heard.alerts[0].text
            house.load_kw = 5.0
            assert (await house.hear(60)).told() == [("fuse", "info")]

    run_virtual(main)


def test_stale_readings_are_told_once_and_when_they_are_over() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            await clock.sleep(11)
            house.is_metered = False
            heard = await house.hear(120)
            assert heard.told() == [("stale-readings", "warning")]
            assert heard.commands[-1].setpoint_kw == 0
            house.is_metered = True
            heard = await house.hear(60)
            assert heard.told() == [("stale-readings", "info")]
            alerts = [alert for alert in house.said if hasattr(alert, "severity")]
            assert [(alert.boot, alert.seq) for alert in alerts] == [(1, 1), (1, 2)]

    run_virtual(main)


def test_all_batteries_and_cars_are_dispatched_each_by_its_own_plan() -> None:
    devices = {
        "one": BatteryTable(), "two": BatteryTable(),
        "ev-1": CarTable(soc_percent=20, returns_hour=10.0, leaves_hour=7.0),
        "ev-2": CarTable(soc_percent=20, returns_hour=10.0, leaves_hour=7.0),
    }  # fmt: skip

    async def main(clock: VirtualClock) -> None:
        async with House(clock, devices) as house:
            for der_id, kw in {"one": 2.0, "two": 1.0, "ev-1": 2.3, "ev-2": 0.0}.items():
                schedule = msgspec.structs.replace(plan(kw), der_id=der_id, grid_power_kw=[6.3] * 4)
                await house.bus.publish(topics.SCHEDULE.at(house=HOUSE, der_id=der_id), schedule)
            heard = await house.hear(11)
            given = {c.der_id: (c.setpoint_kw, c.setpoint_a) for c in heard.commands}
            assert given == {"one": (2, None), "two": (1, None), "ev-1": (None, 10), "ev-2": (None, 0)}
            assert all(ack.result == "accepted" for ack in heard.acks)
            assert {decision.der_id for decision in heard.decisions} == set(devices)

    run_virtual(main)


def test_a_car_is_not_switched_to_and_fro() -> None:
    devices = {"ev": CarTable(soc_percent=20, returns_hour=10.0, leaves_hour=7.0)}

    async def main(clock: VirtualClock) -> None:
        async with House(clock, devices) as house:
            await house.price(1.0)
            switched: list[float] = []
            was_on = False
            for i in range(120):  # twenty minutes
                schedule = msgspec.structs.replace(
                    plan(3.68 if i % 2 else 0.0, clock.now()), der_id="ev", start=clock.now().floor(900)
                )
                await house.bus.publish(topics.SCHEDULE.at(house=HOUSE, der_id="ev"), schedule)
                heard = await house.hear(10)
                is_on = bool(heard.commands[-1].setpoint_a)
                if is_on is not was_on:
                    switched.append(i * 10.0)
                was_on = is_on
            gaps = [b - a for a, b in pairwise(switched)]
            assert len(switched) >= 3
            assert min(gaps) >= 300
            house.load_kw = 15.9  # the fuse is another matter
            assert not (await house.hear(15)).commands[-1].setpoint_a

    run_virtual(main)


def test_pv_that_finds_no_use_is_held_back_at_the_inverter() -> None:
    devices = {"battery": BatteryTable(soc_percent=90.0), "roof": InverterTable(peak_kw=6.0)}

    async def main(clock: VirtualClock) -> None:
        async with House(clock, devices, max_grid_export_kw=1.0) as house:
            house.load_kw, house.pv_kw = 2.0, 5.0
            heard = await house.hear(12)
            snapshot = heard.snapshots[-1]
            assert (snapshot.curtailed_kw, snapshot.grid_export_kw) == (2, 1)
            by_der = {t.der_id: t for t in heard.telemetry}
            assert by_der["roof"].current_output == 3
            house.pv_kw = 2.5
            heard = await house.hear(12)
            assert {t.der_id: t for t in heard.telemetry}["roof"].current_output == 2.5

    run_virtual(main)


def test_what_is_curtailed_behind_a_grid_meter_is_no_load() -> None:
    devices = {"roof": InverterTable(peak_kw=6.0)}

    async def main(clock: VirtualClock) -> None:
        async with House(clock, devices, max_grid_export_kw=1.0) as house:
            house.more = {"measures": "grid"}
            house.load_kw, house.pv_kw = -3.0, 5.0  # the house takes 2
            assert (await house.hear(12)).snapshots[-1].house_load_kw == 2
            house.load_kw = -1.0  # the inverter is held back to 3
            assert (await house.hear(20)).snapshots[-1].house_load_kw == 2

    run_virtual(main)


def test_phases_are_watched_where_the_meter_tells_them() -> None:
    devices = {"ev": CarTable(soc_percent=20, returns_hour=10.0, leaves_hour=7.0, max_current_a=32)}

    async def main(clock: VirtualClock) -> None:
        async with House(clock, devices, fuse_a=25.0, max_grid_import_kw=17.25) as house:
            await house.price(-0.1)
            house.load_kw, house.more = 4.6, {"phase_a": [15.0, 5.0, 0.0]}
            heard = await house.hear(12)
            assert heard.commands[-1].setpoint_a == 10
            assert heard.decisions[-1].limit == "fuse of phase 1"

    run_virtual(main)


# -- two orchestrators ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["alpha", "beta"])
def test_of_two_in_one_epoch_the_lower_name_stands_down_whoever_comes_first(first: str) -> None:
    second = {"alpha": "beta", "beta": "alpha"}[first]

    async def main(clock: VirtualClock) -> None:
        async with (
            House(clock, issuer=first) as house,
            House(clock, joins=house, issuer=second) as other,
        ):
            await clock.sleep(25)
            services = {first: house.orchestrator, second: other.orchestrator}
            assert services["alpha"].issuer.stands_down
            assert not services["beta"].issuer.stands_down
            heard = await house.hear(60)
            assert {command.issuer for command in heard.commands} == {"beta"}
            assert {ack.result for ack in heard.acks} == {"accepted"}
            assert [alert.name for alert in house.said if hasattr(alert, "severity")] == ["stood-down"]

    run_virtual(main)


def test_the_higher_epoch_wins_and_the_other_takes_over_when_it_is_gone() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, issuer="old") as house:
            await clock.sleep(25)
            async with House(clock, joins=house, issuer="new", mark=Mark(epoch=40)) as other:
                await clock.sleep(25)
                assert house.orchestrator.issuer.stands_down
                heard = await house.hear(60)
                assert {command.issuer for command in heard.commands} == {"new"}
                assert other.orchestrator.issuer.epoch == 41
            heard = await house.hear(80)
            assert not heard.commands
            assert heard.telemetry[-1].following == "safe"
            heard = await house.hear(60)
            assert {(command.issuer, command.epoch) for command in heard.commands} == {("old", 42)}
            assert {ack.result for ack in heard.acks} == {"accepted"}
            assert house.store.load().epoch == 42

    run_virtual(main)


def test_a_newcomer_without_memory_rises_above_the_one_that_is_there() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, issuer="old", mark=Mark(epoch=7)) as house:
            await clock.sleep(25)
            async with House(clock, joins=house, issuer="new", mark=Mark()) as other:
                await clock.sleep(31)
                heard = await house.hear(60)
                assert {command.issuer for command in heard.commands} == {"new"}
                assert other.orchestrator.issuer.epoch == 9

    run_virtual(main)


def test_a_refusal_for_another_reason_than_its_number_raises_no_epoch() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            await clock.sleep(11)
            issuer = house.orchestrator.issuer
            for seq in range(3, 9):
                ack = CommandAck(
                    command_id=f"main-5-{seq}", house=HOUSE, der_id="battery", epoch=5, seq=seq, timestamp=clock.now(),
                    result="rejected", reason="out of range", mark_epoch=5, mark_seq=issuer._obeyed_seq[HOUSE, "battery"],
                )  # fmt: skip
                await house.bus.publish(topics.DER_ACK.at(house=HOUSE, der_id="battery"), ack)
            await clock.sleep(1)
            assert issuer.epoch == 5

    run_virtual(main)


# -- alerts and brokers --------------------------------------------------------------------------------------


def test_an_alert_waits_for_the_broker_and_is_told_once() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, max_grid_import_kw=1.0) as house:
            house.control_bus.refuses.add("raised")
            house.load_kw = 9.0
            assert not (await house.hear(60)).alerts
            house.control_bus.refuses.clear()
            assert (await house.hear(60)).told() == [("fuse", "critical")]

    run_virtual(main)


def test_what_no_broker_takes_at_the_end_is_counted_and_stops_nothing() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, max_grid_import_kw=1.0) as house:
            house.control_bus.refuses.add("raised")
            house.load_kw = 9.0
            await clock.sleep(20)
        assert house.orchestrator.alerting.lost == 1

    run_virtual(main)


def test_the_control_loop_loads_no_solver_and_no_web_server() -> None:
    script = "import orchestrator.service, orchestrator.__main__, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {
        "numpy",
        "cvxpy",
        "pvlib",
        "pandas",
        "scipy",
        "litestar",
        "uvicorn",
        "prometheus_client",
    }


def test_one_that_hears_nothing_any_more_is_not_healthy() -> None:
    async def main(clock: VirtualClock) -> None:
        bus, _ = memory_bus(clock)
        life, began = Lifecycle(), clock.now()
        settings: Layered[OrchestratorSettings] = Layered(OrchestratorSettings(), {})
        service = OrchestratorService(settings, bus, clock, life, Store(None, Mark, Mark()))
        task = asyncio.create_task(service.run())
        await clock.sleep(100.0)
        assert service.ailing(clock.now(), began) == ""  # nobody has spoken yet
        await bus.declare(topics.METER_READING, durable=topics.RECORDER)
        await bus.publish(topics.METER_READING.at(house="house-a", meter="main"), meter(clock.now(), 500.0))
        await clock.sleep(59.0)
        assert service.ailing(clock.now(), began) == ""
        await clock.sleep(2.0)
        assert service.ailing(clock.now(), began) == "nothing has been heard for 61 s"
        life.stop()
        await task

    run_virtual(main)
