"""The validator's house: balance, limits, commands that run out, and the two bills."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.battery import BatterySpec
from energy.errors import SeriesError
from energy.series import Series
from energy.tariff import load_tariff
from optimizer.counterparts.playback import Playback, Recording, open_playback
from optimizer.counterparts.simulator import COMMAND_VALID_S, Simulator
from runtime.errors import UsageError
from tests.conftest import START

EXAMPLE = Path(__file__).parents[2] / "examples" / "data" / "fr_house_30min.csv"
DAY_S = 86400
SPEC = BatterySpec(capacity_kwh=10.0, max_charge_kw=5.0, max_discharge_kw=5.0)


def recording(*watts: float, step_s: float = 1800.0) -> Recording:
    times = tuple(START.after(i * step_s).unix_ms for i in range(len(watts)))
    return Recording(Series(times, watts, START.after(len(watts) * step_s).unix_ms))


def house(
    load_w: float = 1000.0, solar_w: float = 0.0, soc: float = 50.0, export_kw: float = 0.0
) -> Simulator:
    days = 7 * 48
    playback = Playback(recording(*[load_w] * days), recording(*[solar_w] * days))
    return Simulator(SPEC, soc, playback, load_tariff(), export_kw, START)


@given(
    load_w=st.floats(0, 1e4),
    solar_w=st.floats(0, 1e4),
    soc=st.floats(0, 100),
    export_kw=st.floats(0, 10),
    commands=st.lists(st.tuples(st.floats(-5, 5), st.floats(1, 7200)), max_size=6),
)
def test_it_balances_and_keeps_its_limits(
    load_w: float, solar_w: float, soc: float, export_kw: float, commands: list[tuple[float, float]]
) -> None:
    simulator = house(load_w, solar_w, soc, export_kw)
    now = START
    for power_kw, seconds in commands:
        simulator.command(power_kw, now)
        now = now.after(seconds)
        simulator.advance(now)
        flows = simulator.flows
        sources = flows.grid_power_kw + flows.solar_kw - flows.curtailed_kw
        assert sources == pytest.approx(flows.load_kw + flows.battery_power_kw, abs=1e-9)
        assert 0 <= flows.curtailed_kw <= flows.solar_kw
        assert min(soc, 10) - 1e-9 <= simulator.state.soc_percent <= max(soc, 90) + 1e-9
    energy = simulator.energy
    sources = energy.import_kwh - energy.export_kwh + energy.solar_kwh - energy.curtailed_kwh
    assert sources == pytest.approx(energy.load_kwh + energy.charged_kwh - energy.discharged_kwh, abs=1e-6)


def test_a_command_holds_for_half_an_hour() -> None:
    simulator = house()
    simulator.command(-2.0, START)
    simulator.advance(START.after(COMMAND_VALID_S))
    assert simulator.flows.battery_power_kw == -2.0
    simulator.advance(START.after(COMMAND_VALID_S + 60))
    assert simulator.flows.battery_power_kw == 0.0
    assert simulator.energy.discharged_kwh == pytest.approx(1.0)


def test_the_bills_differ_by_what_the_battery_saved() -> None:
    simulator = house()
    # 12:00 UTC is 6 in the morning in Costa Rica: a valley hour.
    simulator.command(-1.0, START)
    simulator.advance(START.after(1800))
    assert simulator.costs_without_battery.energy == pytest.approx(0.5 * 26.0)
    assert simulator.costs_without_battery.demand == pytest.approx(1.0 * 7090.0)
    assert simulator.costs.total == 0.0


def test_what_it_can_not_do_is_refused() -> None:
    simulator = house()
    assert simulator.fault_in(5.0) is None
    for power_kw in (5.1, -5.1, float("nan"), float("inf")):
        assert "outside -5..5" in (simulator.fault_in(power_kw) or "")


def test_time_never_runs_backwards() -> None:
    simulator = house()
    simulator.advance(START.after(60))
    simulator.advance(START)
    assert simulator.energy.load_kwh == pytest.approx(1 / 60)


def test_a_recording_never_ends() -> None:
    played = recording(*[float(i) for i in range(7 * 24)], step_s=3600.0)
    assert played.mean_kw(START.after(3600), 900) == 0.001
    assert played.mean_kw(START.after(7 * DAY_S + 3600), 900) == 0.001
    assert played.mean_kw(START.after(7 * DAY_S - 900), 3600) == 0.167
    assert recording(-5.0, -5.0).mean_kw(START, 900) == 0.0


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UsageError, match="--csv is missing"):
        open_playback(None, "meter_w", "pv_w")
    with pytest.raises(SeriesError, match="no column 'sun_w'"):
        open_playback(EXAMPLE, "meter_w", "sun_w")
    assert open_playback(EXAMPLE, "meter_w", "").solar_kw(START, 900) == 0.0
