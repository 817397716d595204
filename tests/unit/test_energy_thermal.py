from math import e

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.battery import BatterySpec, BatteryState, heat_share, possible_kw, step
from energy.errors import SpecError
from energy.thermal import ThermalSpec, heat_room_w, home_battery, temperature_after

LUMP = ThermalSpec(heat_capacity_kj_per_k=100.0, cooling_w_per_k=10.0)
SPEC = BatterySpec(capacity_kwh=10.0, max_charge_kw=5.0, max_discharge_kw=5.0, efficiency_roundtrip=0.81)


def test_it_cools_to_its_surroundings_and_settles_at_heat_over_cooling() -> None:
    assert LUMP.time_constant_s == 10_000
    assert temperature_after(LUMP, 40.0, 0.0, 10_000) == pytest.approx(20 + 20 / e)
    assert temperature_after(LUMP, 20.0, 100.0, 1e9) == pytest.approx(30.0)
    assert temperature_after(LUMP, 20.0, 100.0, 1.0) == pytest.approx(20.001, abs=1e-6)  # 100 J into 100 kJ/K


@given(st.floats(-20, 60), st.floats(0, 500), st.floats(0.1, 1e4), st.floats(0.1, 1e4))
def test_two_steps_are_as_good_as_one(start_c: float, heat_w: float, one_s: float, two_s: float) -> None:
    whole = temperature_after(LUMP, start_c, heat_w, one_s + two_s)
    halves = temperature_after(LUMP, temperature_after(LUMP, start_c, heat_w, one_s), heat_w, two_s)
    assert whole == pytest.approx(halves, abs=1e-9)


@given(st.floats(-20, 60), st.floats(0.1, 1e5))
def test_the_room_for_heat_leads_just_to_the_limit(start_c: float, dt_s: float) -> None:
    room_w = heat_room_w(LUMP, start_c, dt_s)
    assert temperature_after(LUMP, start_c, room_w, dt_s) == pytest.approx(60.0, abs=1e-6)


def test_charging_at_5_kw_for_an_hour_warms_by_what_is_lost() -> None:
    thermal = ThermalSpec(heat_capacity_kj_per_k=100.0, cooling_w_per_k=1e-6)
    # 10 % of 5 kWh is 0.5 kWh = 1800 kJ into 100 kJ/K, and nothing gets out.
    after, power_kw = step(SPEC, BatteryState(30), 5.0, 3600, thermal)
    assert (power_kw, after.temperature_c) == (5.0, pytest.approx(38.0, abs=1e-3))
    assert heat_share(SPEC, 5.0) == pytest.approx(0.1)
    assert heat_share(SPEC, -0.9) == pytest.approx(1 / 0.9 - 1)


@given(
    st.floats(20, 60),
    st.lists(st.tuples(st.floats(-50, 50), st.floats(0.1, 7200)), max_size=30),
    st.floats(0.3, 1.0),
)
def test_it_never_gets_hotter_than_its_limit_and_keeps_the_energy(
    start_c: float, course: list[tuple[float, float]], efficiency: float
) -> None:
    spec = BatterySpec(
        capacity_kwh=10, max_charge_kw=50, max_discharge_kw=50, efficiency_roundtrip=efficiency
    )
    thermal, state = home_battery(10.0), BatteryState(50, start_c)
    for setpoint_kw, dt_s in course:
        after, power_kw = step(spec, state, setpoint_kw, dt_s, thermal)
        assert after.temperature_c <= 60 + 1e-6
        assert abs(power_kw) <= abs(setpoint_kw)
        assert power_kw * setpoint_kw >= 0
        cold, _ = step(spec, state, power_kw, dt_s)
        assert after.soc_percent == cold.soc_percent
        state = after


def test_a_hot_battery_holds_its_power_back_and_a_resting_one_cools() -> None:
    thermal = home_battery(10.0)
    hot = BatteryState(50, 60.0)
    held_kw = possible_kw(SPEC, hot, 5.0, 1.0, thermal)
    # What its casing gives off at 40 K above its surroundings: 400 W, a tenth of 4 kW.
    assert held_kw == pytest.approx(4.0, rel=1e-3)
    rested, power_kw = step(SPEC, hot, 0.0, 3600, thermal)
    assert (rested.soc_percent, power_kw) == (50, 0.0)
    assert rested.temperature_c < 60


def test_without_losses_or_without_heat_nothing_changes() -> None:
    ideal = BatterySpec(capacity_kwh=10, max_charge_kw=5, max_discharge_kw=5, efficiency_roundtrip=1.0)
    after, power_kw = step(ideal, BatteryState(50, 60.0), 5.0, 60, home_battery(10.0))
    assert power_kw == 5.0
    assert after.temperature_c < 60
    assert step(SPEC, BatteryState(50, 33.0), 5.0, 60)[0].temperature_c == 33.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"heat_capacity_kj_per_k": 0.0}, "heat_capacity_kj_per_k is 0"),
        ({"cooling_w_per_k": float("nan")}, "cooling_w_per_k is nan"),
        ({"ambient_c": 70.0}, "ambient_c 70 must be below max_c 60"),
    ],
)
def test_impossible_heat_is_named(change: dict[str, float], named: str) -> None:
    with pytest.raises(SpecError, match=named):
        ThermalSpec(**{"heat_capacity_kj_per_k": 100.0, "cooling_w_per_k": 10.0} | change)
