"""What is behind a controller: batteries, cars, inverters, and their safe states."""

from typing import Any

import pytest

from contracts.messages import PvReading
from der_controller.devices import DeviceSpec
from energy.errors import SpecError
from tests.unit.der_rig import BATTERY, CAR, INVERTER, MIDNIGHT, TTL_S, Rig


def test_a_full_battery_accepts_and_says_what_it_can_apply() -> None:
    rig = Rig(soc=90.0)
    ack = rig.send(rig.order(1, 5.0))
    assert (ack.result, ack.applied_kw) == ("accepted", 0.0)
    assert rig.wait(1.0).current_output == 0.0


@pytest.mark.parametrize(
    ("device", "safe", "order", "told_kw", "safe_kw"),
    [
        (BATTERY, -1.5, {"kw": 3.0}, 3.0, -1.5),
        (CAR, 6.0, {"setpoint_a": 16.0}, 11.04, 4.14),
        (CAR, 0.0, {"setpoint_a": 16.0}, 11.04, 0.0),
    ],
)
def test_each_der_has_a_safe_state_of_its_own(
    device: DeviceSpec, safe: float, order: dict[str, Any], told_kw: float, safe_kw: float
) -> None:
    rig = Rig(device, safe=safe)
    first = rig.tick()
    assert (first.following, first.current_output) == ("safe", pytest.approx(safe_kw))
    rig.send(rig.order(1, **order))
    told = rig.wait(TTL_S - 0.5)
    assert (told.following, told.current_output) == ("command", pytest.approx(told_kw))
    fallen = rig.wait(1.0)
    assert (fallen.following, fallen.current_output) == ("safe", pytest.approx(safe_kw))
    assert rig.send(rig.order(2, **order)).result == "accepted"
    assert rig.wait(1.0).following == "command"
    after = rig.restarted(rig.der.memory(rig.now)).tick()
    assert (after.following, after.current_output) == ("safe", pytest.approx(safe_kw))


@pytest.mark.parametrize(
    ("device", "safe"), [(BATTERY, 6.0), (CAR, 3.0), (CAR, 17.0), (INVERTER, -1.0), (BATTERY, float("nan"))]
)
def test_a_safe_state_that_the_device_cannot_take_is_named(device: DeviceSpec, safe: float) -> None:
    with pytest.raises(SpecError, match=r"house-a/der-1: its safe state: .*out of range"):
        Rig(device, safe=safe)


def test_a_battery_gets_warm_says_so_and_remembers_it() -> None:
    rig = Rig()
    assert rig.tick().temperature_c == 20.0
    rig.send(rig.order(1, 5.0, valid_until=rig.now.after(3000)))
    warm = rig.wait(3000.0).temperature_c
    assert warm is not None
    assert 25 < warm < 40
    stored = rig.der.memory(rig.now)
    assert rig.restarted(stored).tick().temperature_c == warm
    rig.passed_s += 6 * 3600
    cooled = rig.restarted(stored).tick().temperature_c
    assert cooled is not None
    assert 20 < cooled < 22


def test_an_inverter_curtails_what_the_pv_reading_says_and_makes_nothing_of_its_own() -> None:
    rig = Rig(INVERTER, safe=4.0)

    def sun(watts: float | None, *, historical: bool = False) -> None:
        reading = PvReading(
            house="house-a", meter="main", boot=1, seq=1, timestamp=rig.now, meter_w=0.0, pv_w=watts, sum_w=watts,
            historical=historical,
        )  # fmt: skip
        rig.der.hear(reading, rig.now, rig.monotonic_s)

    assert rig.send(rig.order(1, 4.0)).applied_kw == 0.0
    assert rig.wait(1.0).current_output == 0.0
    sun(3000.0)
    assert rig.wait(1.0).current_output == 3.0
    ack = rig.send(rig.order(2, 1.2))
    assert (ack.result, ack.applied_kw) == ("accepted", 1.2)
    curtailed = rig.wait(1.0)
    assert (curtailed.current_output, curtailed.type, curtailed.current_soc) == (1.2, "solar_pv", None)
    sun(800.0)
    sun(9000.0, historical=True)
    assert rig.wait(1.0).current_output == 0.8
    assert rig.send(rig.order(3, 4.1)).result == "rejected"
    sun(3000.0)
    free = rig.wait(29.9)
    assert (free.following, free.current_output) == ("safe", 3.0)
    assert rig.wait(1.0).current_output == 0.0  # nobody knows what the sun gives now


@pytest.mark.parametrize(
    ("limit_a", "result"),
    [
        (0.0, "accepted"),
        (6.0, "accepted"),
        (16.0, "accepted"),
        (5.9, "rejected"),
        (6.5, "rejected"),
        (17.0, "rejected"),
    ],
)
def test_a_charge_point_takes_zero_or_six_whole_amperes_and_up(limit_a: float, result: str) -> None:
    rig = Rig(CAR)
    ack = rig.send(rig.order(1, setpoint_a=limit_a))
    assert ack.result == result
    if result == "accepted":
        assert ack.applied_kw == pytest.approx(0.69 * limit_a)
        assert ack.applied_a == limit_a
        telemetry = rig.wait(1.0)
        assert telemetry.current_output == pytest.approx(0.69 * limit_a)
        assert telemetry.current_a == limit_a


def test_a_charge_point_takes_no_kilowatts() -> None:
    rig = Rig(CAR)
    assert "wrong kind" in rig.send(rig.order(1, 4.14)).reason


def test_a_car_charges_leaves_comes_back_emptier_also_over_a_restart() -> None:
    rig = Rig(CAR, soc=60.0)
    home = rig.tick()
    assert home.connected
    assert home.departure_at is not None
    leaves_s = home.departure_at.seconds_since(MIDNIGHT)
    rig.wait(leaves_s - 3000)
    rig.send(rig.order(1, setpoint_a=16.0, valid_until=rig.now.after(3600)))
    before = rig.wait(2940)
    assert before.current_soc is not None
    assert before.current_soc > 60
    away = rig.wait(61.0)
    assert (away.connected, away.current_output, away.current_soc) == (False, 0.0, None)
    stored = rig.der.memory(rig.now)
    rig.passed_s = 23 * 3600.0
    back = rig.restarted(stored).tick()
    assert back.connected
    assert back.current_soc is not None
    assert 15 <= stored.soc_percent - back.current_soc <= 40
    assert rig.tick().connected
