import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.battery import BatterySpec, BatteryState, possible_kw, step
from energy.errors import SpecError

HOME = BatterySpec(capacity_kwh=6.4, max_charge_kw=5.0, max_discharge_kw=5.0)


@st.composite
def specs(draw: st.DrawFn) -> BatterySpec:
    low = draw(st.floats(0, 90))
    return BatterySpec(
        capacity_kwh=draw(st.floats(0.1, 1000)),
        max_charge_kw=draw(st.floats(0, 500)),
        max_discharge_kw=draw(st.floats(0, 500)),
        efficiency_roundtrip=draw(st.floats(0.5, 1)),
        min_soc_percent=low,
        max_soc_percent=draw(st.floats(low + 1, 100)),
    )


setpoints = st.floats(-1000, 1000)
durations = st.floats(0.001, 86400)


@given(specs(), st.floats(0, 1), st.lists(st.tuples(setpoints, durations), max_size=20))
def test_the_charge_never_leaves_its_limits(
    spec: BatterySpec, where: float, course: list[tuple[float, float]]
) -> None:
    state = BatteryState(spec.min_soc_percent + where * (spec.max_soc_percent - spec.min_soc_percent))
    for setpoint_kw, dt_s in course:
        state, power_kw = step(spec, state, setpoint_kw, dt_s)
        assert spec.min_soc_percent <= state.soc_percent <= spec.max_soc_percent
        assert -spec.max_discharge_kw <= power_kw <= spec.max_charge_kw
        assert power_kw * setpoint_kw >= 0
        assert abs(power_kw) <= abs(setpoint_kw)


@given(specs(), st.floats(0, 100), setpoints, durations)
def test_outside_its_limits_it_only_moves_back(
    spec: BatterySpec, soc: float, setpoint_kw: float, dt_s: float
) -> None:
    after, _ = step(spec, BatteryState(soc), setpoint_kw, dt_s)
    if soc > spec.max_soc_percent:
        assert after.soc_percent <= soc
    if soc < spec.min_soc_percent:
        assert after.soc_percent >= soc


@given(specs(), st.floats(0, 1), setpoints, durations)
def test_energy_is_conserved_with_losses(
    spec: BatterySpec, where: float, setpoint_kw: float, dt_s: float
) -> None:
    before = BatteryState(spec.min_soc_percent + where * (spec.max_soc_percent - spec.min_soc_percent))
    after, power_kw = step(spec, before, setpoint_kw, dt_s)
    stored_kwh = (after.soc_percent - before.soc_percent) / 100 * spec.capacity_kwh
    crossed_kwh = power_kw * dt_s / 3600
    eta = spec.efficiency_roundtrip**0.5
    expected_kwh = crossed_kwh * eta if crossed_kwh > 0 else crossed_kwh / eta
    assert stored_kwh == pytest.approx(expected_kwh, rel=1e-9, abs=1e-9 * spec.capacity_kwh)


def test_a_round_trip_returns_its_efficiency() -> None:
    spec = BatterySpec(capacity_kwh=10, max_charge_kw=5, max_discharge_kw=5, efficiency_roundtrip=0.81)
    state, charged_kw = step(spec, BatteryState(50), 1.0, 3600)
    assert state.soc_percent == pytest.approx(59)
    state, discharged_kw = step(spec, state, -0.81, 3600)
    assert (charged_kw, discharged_kw) == (1.0, -0.81)
    assert state.soc_percent == pytest.approx(50)


def test_a_full_battery_takes_nothing_and_an_empty_one_gives_nothing() -> None:
    assert possible_kw(HOME, BatteryState(90), 3.0, 1.0) == 0
    assert step(HOME, BatteryState(10), -3.0, 1.0) == (BatteryState(10), 0.0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"capacity_kwh": 0.0}, "capacity_kwh is 0"),
        ({"capacity_kwh": float("nan")}, "capacity_kwh is nan"),
        ({"max_charge_kw": -1.0}, "max_charge_kw is -1"),
        ({"efficiency_roundtrip": 1.1}, "efficiency_roundtrip is 1.1"),
        ({"min_soc_percent": 90.0}, "min_soc_percent 90 must be below"),
    ],
)
def test_an_impossible_nameplate_is_named(change: dict[str, float], named: str) -> None:
    with pytest.raises(SpecError, match=named):
        BatterySpec(**{"capacity_kwh": 6.4, "max_charge_kw": 5.0, "max_discharge_kw": 5.0} | change)
