"""Persons' requests on the bus in memory: carried out, refused, kept across restarts, and written down."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.transport import Outgoing
from contracts import topics
from contracts.codec import encode
from contracts.instant import Instant
from contracts.orders import ObjectivesChange, OperatorRequest, StandingOrders
from contracts.topics import DeliveryClass
from der_controller.settings import BatteryTable, CarTable
from orchestrator.service import Mark
from orchestrator.settings import OrchestratorSettings
from runtime.clock import VirtualClock
from tests.conftest import START, run_virtual
from tests.service.orchestrated_house import HOUSE, House
from tests.service.test_dispatch import plan

AT_HOME = {"soc_percent": 20, "returns_hour": 10.0, "leaves_hour": 7.0}


def test_a_pause_ends_economic_dispatch_and_a_resume_brings_it_back() -> None:
    devices = {"battery": BatteryTable(), "ev": CarTable(**AT_HOME)}

    async def main(clock: VirtualClock) -> None:
        async with House(clock, devices) as house:
            house.load_kw = 3.0
            for der_id, kw in {"battery": -2.0, "ev": 3.68}.items():
                schedule = msgspec.structs.replace(plan(kw), der_id=der_id, grid_power_kw=[4.68] * 4)
                await house.bus.publish(topics.SCHEDULE.at(house=HOUSE, der_id=der_id), schedule)
            heard = await house.hear(12)
            assert {c.der_id: c.setpoint_kw or c.setpoint_a for c in heard.commands} == {
                "battery": -2,
                "ev": 16,
            }
            await house.ask("pause", until=clock.now().after(6 * 3600), reason="guests")
            heard = await house.hear(15)
            assert heard.told() == [("operator-pause", "info")]
            assert heard.alerts[0].text == "house-a: paused by ana until 2024-07-01 18:00 UTC (guests)"
            assert {c.der_id: c.setpoint_kw or c.setpoint_a for c in heard.commands[-2:]} == {
                "battery": None,
                "ev": 6,
            }
            why = {decision.der_id: decision for decision in heard.decisions}
            assert why["ev"].sentence == "Ana has paused it: the car charges at the least current."
            await house.ask("resume", request_id="r2")
            heard = await house.hear(400)
            assert {c.der_id: c.setpoint_kw or c.setpoint_a for c in heard.commands[-2:]} == {
                "battery": -2,
                "ev": 16,
            }

    run_virtual(main)


def test_a_pause_ends_by_itself_when_it_was_said_to() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            house.load_kw = 3.0
            await house.ask("pause", until=clock.now().after(60))
            assert {c.setpoint_kw for c in (await house.hear(55)).commands} == {0}
            heard = await house.hear(30)
            assert heard.commands[-1].setpoint_kw == -3
            assert heard.told() == [("operator-over", "info")]
            assert house.store.load().orders[HOUSE].holds == {}

    run_virtual(main)


def test_a_paused_battery_still_protects_the_fuse() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, max_grid_import_kw=10.0) as house:
            house.load_kw = 12.0
            await house.ask("pause", der_id="battery")
            await clock.sleep(12)
            await house.ask("pause", der_id="battery", request_id="r2")
            heard = await house.hear(15)
            assert heard.commands[-1].setpoint_kw == -2
            assert heard.snapshots[-1].grid_import_kw == 10

    run_virtual(main)


def test_safe_is_told_to_every_der_until_it_is_released() -> None:
    devices = {"battery": BatteryTable(), "ev": CarTable(**AT_HOME)}

    async def main(clock: VirtualClock) -> None:
        async with House(clock, devices) as house:
            house.load_kw = 3.0
            await clock.sleep(12)
            await house.ask("safe", user="fire-brigade")
            assert {t.current_output for t in (await house.hear(1.5)).telemetry} == {0}
            heard = await house.hear(50)
            assert {(c.setpoint_kw, c.setpoint_a) for c in heard.commands} == {(0, None), (None, 0)}
            assert {d.limit for d in heard.decisions} == {"safe state"}
            assert heard.snapshots[-1].grid_import_kw == 3
            await house.ask("resume", request_id="r2")  # takes back a pause, not this
            assert {c.setpoint_kw for c in (await house.hear(20)).commands} == {0, None}
            await house.ask("release", request_id="r3")
            heard = await house.hear(15)
            assert {c.setpoint_kw for c in heard.commands if c.der_id == "battery"} == {-3}

    run_virtual(main)


def test_one_device_alone_is_put_into_its_safe_state() -> None:
    devices = {"one": BatteryTable(), "two": BatteryTable()}

    async def main(clock: VirtualClock) -> None:
        async with House(clock, devices) as house:
            house.load_kw = 3.0
            await clock.sleep(12)
            await house.ask("safe", der_id="one")
            heard = await house.hear(12)
            assert {c.der_id: c.setpoint_kw for c in heard.commands} == {"one": 0, "two": -3}

    run_virtual(main)


def test_a_car_s_departure_and_target_make_it_urgent() -> None:
    devices = {"ev": CarTable(**AT_HOME, phases=3)}

    async def main(clock: VirtualClock) -> None:
        async with House(clock, devices) as house:
            await house.price(1.0)
            assert (await house.hear(12)).commands[-1].setpoint_a == 6
            await house.ask("ev_plan", departure_at=clock.now().after(3600), target_soc_percent=60)
            heard = await house.hear(12)
            assert heard.commands[-1].setpoint_a == 16
            assert heard.decisions[-1].limit == "departure"
            assert heard.decisions[-1].urgency == 1
            assert "a departure at 2024-07-01 13:00 UTC and a target of 60 %" in heard.alerts[0].text

    run_virtual(main)


def test_objectives_are_set_and_go_back_to_the_settings() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, arbitrage_threshold=0.5) as house:
            house.load_kw = 3.0
            await house.price(1.0)
            assert (await house.hear(12)).commands[-1].setpoint_kw == -3
            change = ObjectivesChange(arbitrage_threshold=2.0, reserve_soc_percent=80.0)
            await house.ask("objectives", objectives=change)
            assert (await house.hear(12)).commands[-1].setpoint_kw > 0
            model = house.orchestrator.houses[HOUSE]
            assert model.constraints.safety.reserve_soc_percent == 80
            back = ObjectivesChange(arbitrage_threshold=None)
            await house.ask("objectives", request_id="r2", objectives=back)
            await clock.sleep(1)
            assert model.objectives(clock.now()).arbitrage_threshold == 0.5
            assert model.constraints.safety.reserve_soc_percent == 80

    run_virtual(main)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("pause", {"issued_at": START.after(3600)}, "a clock is wrong"),
    ("pause", {"issued_at": START.after(-600)}, "too long ago"),
    ("pause", {"until": START.after(-1)}, "it ends at"),
    ("pause", {"der_id": "nothere"}, "house-a has no DER nothere: it has battery"),
    ("resume", {"until": START.after(60)}, "has no end"),
    ("ev_plan", {}, "neither departure_at nor target_soc_percent"),
    ("ev_plan", {"departure_at": START.after(-3600)}, "departure at"),
    ("ev_plan", {"target_soc_percent": 80, "der_id": "battery"}, "battery is no car"),
    ("objectives", {}, "it says no objectives"),
    ("objectives", {"der_id": "battery", "objectives": ObjectivesChange()}, "leave der_id out"),
]


@pytest.mark.parametrize(("action", "more", "why"), REFUSED)
def test_what_can_t_be_is_refused_with_the_reason(action: str, more: dict[str, Any], why: str) -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            await clock.sleep(12)
            before = house.orchestrator.houses[HOUSE].orders
            await house.ask(action, **more)
            heard = await house.hear(1)
            assert heard.told() == [("request-refused", "info")]
            assert why in heard.alerts[0].text
            assert house.orchestrator.houses[HOUSE].orders == before
            assert house.orchestrator.counts.requests == {"refused": 1}

    run_virtual(main)


def test_the_same_request_again_and_an_older_one_change_nothing() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            await clock.sleep(12)
            early = clock.now()
            await clock.sleep(5)
            pause = await house.ask("pause")
            await house.ask("resume", request_id="r2")
            await house.bus.publish(topics.OPERATOR_REQUEST.at(house=HOUSE, user="ana"), pause)
            await house.ask("pause", request_id="r3", issued_at=early)
            heard = await house.hear(1)
            assert heard.told()[-1] == ("request-refused", "info")
            assert house.orchestrator.houses[HOUSE].orders.holds == {}
            assert house.orchestrator.counts.requests == {"done": 2, "repeated": 1, "refused": 1}
            await house.ask("safe", request_id="r4", issued_at=early)  # the safe way is open always
            await clock.sleep(1)
            assert house.orchestrator.houses[HOUSE].orders.holds

    run_virtual(main)


def test_a_retained_request_is_not_carried_out() -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock) as house:
            await clock.sleep(12)
            house.control.stop()
            await clock.sleep(1)
            request = OperatorRequest(
                house=HOUSE, user="ana", request_id="r1", issued_at=clock.now(), action="pause"
            )
            address = topics.OPERATOR_REQUEST.at(house=HOUSE, user="ana")
            # A broker keeps what its publisher asked it to keep, whatever the class says.
            await house.transport.publish(Outgoing(address.name, encode(request), DeliveryClass.STATE))
            async with House(clock, joins=house, issuer="second") as second:
                await clock.sleep(2)
                assert second.orchestrator.houses[HOUSE].orders.holds == {}

    run_virtual(main)


def test_orders_and_epoch_outlive_a_restart_and_all_is_written_down(tmp_path: Path) -> None:
    async def first(clock: VirtualClock) -> Instant:
        async with House(clock, state=tmp_path, mark=Mark()) as house:
            await clock.sleep(12)
            await house.ask("pause", reason="holidays", until=START.after(86400))
            await house.ask(
                "objectives", request_id="r2", objectives=ObjectivesChange(reserve_soc_percent=40.0)
            )
            await house.ask("pause", request_id="r1")
            await house.ask("ev_plan", request_id="r3")
            await clock.sleep(1)
        return clock.now()

    async def second(clock: VirtualClock) -> None:
        async with House(clock, state=tmp_path, mark=Mark()) as house:
            house.load_kw = 3.0
            heard = await house.hear(25)
            assert {command.epoch for command in heard.commands} == {2}
            assert {command.setpoint_kw for command in heard.commands} == {0}
            model = house.orchestrator.houses[HOUSE]
            assert model.constraints.safety.reserve_soc_percent == 40
            await house.ask("pause", request_id="r1")
            await clock.sleep(1)
            assert house.orchestrator.counts.requests == {"repeated": 1}

    stopped = run_virtual(first)
    audit = tmp_path / "orchestrator-main-requests.jsonl"
    lines = [msgspec.json.decode(line) for line in audit.read_bytes().splitlines()]
    assert [(line["outcome"], line["via"], line["request"]["user"]) for line in lines] == [
        ("done", "bus", "ana"), ("done", "bus", "ana"), ("repeated", "bus", "ana"), ("refused", "bus", "ana")
    ]  # fmt: skip
    assert lines[0]["text"].endswith("(holidays)")
    run_virtual(second, stopped.after(30))
    assert len(audit.read_bytes().splitlines()) == 5


def test_what_can_t_be_kept_is_refused_but_a_safe_state_takes_effect(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        async with House(clock, state=tmp_path) as house:
            await clock.sleep(12)
            (tmp_path / "orchestrator-main.json.new").mkdir()  # nothing can be written there any more
            (tmp_path / "orchestrator-main-requests.jsonl").mkdir()
            await house.ask("pause")
            heard = await house.hear(1)
            assert "can't be kept" in heard.alerts[0].text
            assert house.orchestrator.houses[HOUSE].orders.holds == {}
            await house.ask("safe", request_id="r2")
            await clock.sleep(1)
            assert house.orchestrator.houses[HOUSE].orders.holds
            assert house.orchestrator.counts.not_audited == 2

    run_virtual(main)


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_cycles_of_the_day_outlive_a_restart(tmp_path: Path, *, is_killed: bool) -> None:
    """A battery that has had its cycles rests, whatever happened to who counts them."""
    settings: dict[str, Any] = {"state": tmp_path, "max_battery_cycles_per_day": 0.01}
    path = OrchestratorSettings(state_dir=tmp_path).mark_path

    async def first(clock: VirtualClock) -> None:
        async with House(clock, **settings) as house:
            house.load_kw = 3.0
            heard = await house.hear(60)
            assert heard.commands[-1].setpoint_kw == -3.0
            heard = await house.hear(600)
            assert heard.commands[-1].setpoint_kw == 0.0
            left_by_a_kill = path.read_bytes()
        if is_killed:
            path.write_bytes(left_by_a_kill)

    async def second(clock: VirtualClock) -> None:
        async with House(clock, **settings) as house:
            house.load_kw = 3.0
            heard = await house.hear(60)
            assert {command.setpoint_kw for command in heard.commands} == {0.0}

    run_virtual(first)
    run_virtual(second, start=START.after(700))


def test_what_is_in_force_is_told_to_the_others_and_told_again_after_a_restart(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        devices = {"battery": BatteryTable(), "ev": CarTable(**AT_HOME)}
        leaves = clock.now().after(5 * 3600)

        async def told(house: House) -> StandingOrders:
            async with house.bus.subscribe(topics.ORDERS) as deliveries:
                return (await anext(deliveries)).message

        async with House(clock, devices, state=tmp_path) as house:
            await house.hear(12)
            await house.ask("ev_plan", der_id="ev", departure_at=leaves, target_soc_percent=95.0)
            await house.ask("pause", request_id="r2", der_id="battery")
            await house.hear(12)
            orders = await told(house)
            assert orders.holds("battery", clock.now())
            plan = orders.car_plan("ev", clock.now())
            assert plan is not None
            assert (plan.departure_at, plan.target_soc_percent) == (leaves, 95.0)
        async with House(clock, devices, state=tmp_path) as house:
            await house.hear(12)
            assert (await told(house)).holds("battery", clock.now())

    run_virtual(main)
