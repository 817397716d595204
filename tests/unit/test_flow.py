"""compute_flows: the balance and the limits hold whatever comes in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.messages import BALANCE_TOLERANCE_KW
from orchestrator.flow import compute_flows, urgency_of, whole_amps
from orchestrator.limits import (
    BatteryState,
    Constraints,
    EconomicObjectives,
    EvState,
    PhysicalConstraints,
    PowerFlowInputs,
    SafetyConstraints,
)
from tests.conftest import START

power = st.one_of(st.just(0.0), st.floats(0, 20), st.floats(0, 1e5))
percent = st.floats(0, 100)
amps = st.floats(0, 80)

physicals = st.builds(
    PhysicalConstraints,
    max_grid_import_kw=power,
    max_grid_export_kw=power,
    max_battery_charge_kw=power,
    max_battery_discharge_kw=power,
    evse_min_current_a=st.floats(1, 10),
    evse_max_current_a=amps,
    phases=st.sampled_from([1, 3]),
)
constraints = st.builds(
    Constraints,
    physical=physicals,
    safety=st.builds(SafetyConstraints, battery_min_soc_percent=percent, battery_max_soc_percent=percent),
)
power_or_export = st.one_of(power, st.floats(-1e5, 0))
prices = st.one_of(st.none(), st.floats(-10, 100))
objectives = st.builds(
    EconomicObjectives,
    import_price=prices,
    arbitrage_threshold=prices,
    scheduled_battery_kw=st.one_of(st.none(), st.floats(-1e5, 1e5)),
    scheduled_grid_kw=power_or_export,
    demand_priced=st.booleans(),
)
inputs = st.builds(
    PowerFlowInputs,
    house=st.just("house-a"),
    timestamp=st.just(START),
    house_load_kw=power,
    pv_kw=power,
    battery=st.one_of(st.none(), st.builds(BatteryState, der_id=st.just("battery"), soc_percent=percent)),
    ev=st.one_of(
        st.none(),
        st.builds(
            EvState,
            der_id=st.just("ev"),
            connected=st.booleans(),
            soc_percent=percent,
            target_soc_percent=percent,
            capacity_kwh=power,
            departure_at=st.one_of(st.none(), st.floats(-7200, 86400).map(START.after)),
        ),
    ),
)


@settings(max_examples=2000, deadline=None)
@given(inputs, constraints, objectives)
def test_balance_and_every_limit(i: PowerFlowInputs, c: Constraints, o: EconomicObjectives) -> None:
    snapshot, verdicts = compute_flows(i, c, o)
    physical, safety = c.physical, c.safety
    assert abs(snapshot.imbalance_kw()) <= BALANCE_TOLERANCE_KW
    assert (snapshot.house_load_kw, snapshot.pv_kw) == (i.house_load_kw, i.pv_kw)
    assert -physical.max_battery_discharge_kw <= snapshot.battery_power_kw <= physical.max_battery_charge_kw
    assert 0 <= snapshot.grid_export_kw <= physical.max_grid_export_kw
    assert min(snapshot.grid_import_kw, snapshot.grid_export_kw) == 0
    assert 0 <= snapshot.curtailed_kw <= i.pv_kw + max(-snapshot.battery_power_kw, 0) + 1e-9
    if i.battery is None:
        assert snapshot.battery_power_kw == 0
    else:
        if i.battery.soc_percent <= safety.battery_min_soc_percent:
            assert snapshot.battery_power_kw >= 0
        if i.battery.soc_percent >= safety.battery_max_soc_percent:
            assert snapshot.battery_power_kw <= 0
    for verdict in verdicts:
        if verdict.given_a is not None:
            assert (
                verdict.given_a == 0
                or physical.evse_min_current_a <= verdict.given_a <= physical.evse_max_current_a
            )
            assert verdict.given_a == int(verdict.given_a)
    # Beyond the fuse only the house's own load may go: nothing that can be controlled adds to it.
    uncontrolled_kw = max(i.house_load_kw - i.pv_kw, 0.0)
    assert snapshot.grid_import_kw <= max(physical.max_grid_import_kw, uncontrolled_kw) + 1e-9
    assert all(verdict.sentence for verdict in verdicts)


def physical(**changes: float) -> PhysicalConstraints:
    known = {"max_battery_charge_kw": 5.0, "max_battery_discharge_kw": 5.0, "max_grid_export_kw": 10.0}
    return PhysicalConstraints(**{"max_grid_import_kw": 16.0, "phases": 3, **known, **changes})  # type: ignore[arg-type]


def house(load_kw: float, pv_kw: float, soc: float = 50.0, ev: EvState | None = None) -> PowerFlowInputs:
    battery = BatteryState(der_id="battery", soc_percent=soc)
    return PowerFlowInputs(
        house="h", timestamp=START, house_load_kw=load_kw, pv_kw=pv_kw, battery=battery, ev=ev
    )


def car(soc: float, target: float, hours: float) -> EvState:
    return EvState(
        der_id="ev", connected=True, soc_percent=soc, target_soc_percent=target, capacity_kwh=20,
        departure_at=START.after(hours * 3600),
    )  # fmt: skip


SAFE = SafetyConstraints(battery_min_soc_percent=10, battery_max_soc_percent=90)


def test_scenario_1_solar_self_consumption_with_the_ev_at_its_least() -> None:
    c = Constraints(physical=physical(), safety=SAFE)
    o = EconomicObjectives(import_price=2.0, arbitrage_threshold=1.0, currency="SEK")
    snapshot, _ = compute_flows(house(2, 8, ev=car(40, 80, 5)), c, o)
    assert snapshot.ev_power_kw == pytest.approx(4.14)
    assert snapshot.battery_power_kw == pytest.approx(1.86)
    assert snapshot.grid_import_kw == pytest.approx(0)


def test_scenario_3_an_urgent_car_pauses_the_battery() -> None:
    c = Constraints(physical=physical(), safety=SAFE)
    o = EconomicObjectives(import_price=2.0, arbitrage_threshold=1.0, scheduled_battery_kw=3.0)
    snapshot, verdicts = compute_flows(house(2, 2, ev=car(25, 80, 1)), c, o)
    assert snapshot.ev_power_kw == pytest.approx(11.04)
    assert snapshot.battery_power_kw == 0
    assert snapshot.grid_import_kw == pytest.approx(11.04)
    assert verdicts[0].urgency is not None
    assert verdicts[0].urgency > 0.8


def test_the_fuse_cuts_the_car_then_the_battery() -> None:
    c = Constraints(physical=physical(), safety=SAFE)
    o = EconomicObjectives(scheduled_battery_kw=5.0, import_price=0.5, arbitrage_threshold=1.0)
    snapshot, verdicts = compute_flows(house(8, 0, ev=car(25, 80, 1)), c, o)
    assert snapshot.ev_power_kw <= 8
    assert snapshot.grid_import_kw <= 16
    assert verdicts[0].limit == "main fuse"
    assert "A instead of" in verdicts[0].sentence


def plan(battery_kw: float, grid_kw: float, *, demand: bool = False) -> EconomicObjectives:
    return EconomicObjectives(
        scheduled_battery_kw=battery_kw, scheduled_grid_kw=grid_kw, demand_priced=demand
    )


@pytest.mark.parametrize(
    ("planned", "grid", "demand", "load", "does", "why"),
    [
        (-3.0, 0.0, False, 3.0, -3.0, "schedule"),
        (-3.0, 0.0, False, 1.0, -1.0, "schedule"),  # less load than planned: never into the grid unasked
        (-3.0, 0.0, False, 4.0, -4.0, "schedule"),  # more: the grid stays where the plan has it
        (-3.0, -2.0, False, 1.0, -3.0, "schedule"),  # an export on purpose
        (2.0, 3.0, False, 5.0, 2.0, "schedule"),  # charging at a low price, whatever the load
        (2.0, 3.0, True, 1.0, 2.0, "schedule"),
        (2.0, 3.0, True, 2.0, 1.0, "planned peak"),  # a demand charge: no new peak for the sake of charging
        (0.0, 2.0, True, 3.0, -1.0, "planned peak"),
        (0.0, 2.0, False, 3.0, 0.0, "schedule"),
    ],
)
def test_a_plan_meets_another_load_than_it_foresaw(
    *, planned: float, grid: float, demand: bool, load: float, does: float, why: str
) -> None:
    c = Constraints(physical=physical(), safety=SAFE)
    snapshot, verdicts = compute_flows(house(load, 0), c, plan(planned, grid, demand=demand))
    assert snapshot.battery_power_kw == pytest.approx(does)
    assert verdicts[0].limit == why


def test_what_can_neither_be_stored_nor_exported_is_curtailed() -> None:
    c = Constraints(physical=physical(max_grid_export_kw=0.0), safety=SAFE)
    snapshot, _ = compute_flows(house(1, 9, soc=95), c, EconomicObjectives())
    assert snapshot.curtailed_kw == pytest.approx(8)
    assert snapshot.battery_power_kw == 0


def test_urgency_of_the_reference() -> None:
    assert urgency_of(car(25, 80, 1), START, 11.04) == pytest.approx(0.996, abs=0.001)
    assert urgency_of(car(80, 80, 1), START, 11.04) == 0
    assert urgency_of(car(25, 80, -1), START, 11.04) == 1
    assert urgency_of(car(25, 80, 1), START, 0) == 1


@pytest.mark.parametrize(("kw", "expected"), [(4.14, 6), (4.13, 0), (11.04, 16), (99, 16), (0, 0), (4.9, 7)])
def test_whole_amps_round_down(kw: float, expected: float) -> None:
    assert whole_amps(kw, physical()) == expected
