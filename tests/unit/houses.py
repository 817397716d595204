"""Houses for the tests of the power flow: a plain one to change, and every one hypothesis can think of."""

from typing import overload

import pytest
from hypothesis import strategies as st

from contracts.messages import BALANCE_TOLERANCE_KW
from orchestrator.ev import charge_point_of
from orchestrator.flow import Flows, compute_flows
from orchestrator.limits import (
    KW_PER_A,
    BatteryState,
    Constraints,
    EconomicObjectives,
    EvState,
    PhysicalConstraints,
    PowerFlowInputs,
    SafetyConstraints,
)
from tests.conftest import START

EPS_KW = 1e-9


def physical(**changes: object) -> PhysicalConstraints:
    known = {"max_grid_import_kw": 16.0, "max_grid_export_kw": 10.0, "phases": 3}
    return PhysicalConstraints(**{**known, **changes})  # type: ignore[arg-type]


def limits(physical: PhysicalConstraints | None = None, **safety: object) -> Constraints:
    return Constraints(physical=physical or globals()["physical"](), safety=SafetyConstraints(**safety))  # type: ignore[arg-type]


def battery(soc: float | None = 50.0, der_id: str = "battery", **changes: object) -> BatteryState:
    known = {"max_charge_kw": 5.0, "max_discharge_kw": 5.0, "min_soc_percent": 10.0, "max_soc_percent": 90.0}
    return BatteryState(der_id=der_id, soc_percent=soc, **{**known, **changes})  # type: ignore[arg-type]


def car(
    soc: float | None = 40.0, hours: float | None = None, der_id: str = "car", **changes: object
) -> EvState:
    known = {"connected": True, "target_soc_percent": 80.0, "capacity_kwh": 40.0}
    departure = None if hours is None else START.after(hours * 3600)
    return EvState(der_id=der_id, soc_percent=soc, departure_at=departure, **{**known, **changes})  # type: ignore[arg-type]


def house(
    load_kw: float | None,
    pv_kw: float = 0.0,
    batteries: tuple[BatteryState, ...] | None = None,
    cars: tuple[EvState, ...] = (),
    **changes: object,
) -> PowerFlowInputs:
    return PowerFlowInputs(
        house="h",
        timestamp=START,
        house_load_kw=load_kw,
        pv_kw=pv_kw,
        batteries=(battery(),) if batteries is None else batteries,
        cars=cars,
        **changes,  # type: ignore[arg-type]
    )


def money(**changes: object) -> EconomicObjectives:
    """Dear electricity, and no plan."""
    known = {"import_price": 2.0, "arbitrage_threshold": 1.0, "currency": "SEK"}
    return EconomicObjectives(**{**known, **changes})  # type: ignore[arg-type]


def plan(kw: float, grid_kw: float, *, demand: bool = False) -> EconomicObjectives:
    return EconomicObjectives(scheduled_kw={"battery": kw}, scheduled_grid_kw=grid_kw, demand_priced=demand)


# Everything there is, contradictions and gaps included.


def _maybe(strategy: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    return st.one_of(st.none(), strategy)


power = st.one_of(st.sampled_from([0.0, 1e5]), st.floats(0, 20), st.floats(0, 1e5))
signed = st.one_of(st.floats(-20, 20), st.floats(-1e5, 1e5))
percent = st.one_of(st.sampled_from([0.0, 10.0, 90.0, 100.0]), st.floats(0, 100))
price = _maybe(st.one_of(st.sampled_from([0.0, -1.0]), st.floats(-10, 10)))
age_s = st.sampled_from([0.0, 0.0, 0.0, 30.0, 31.0])
phase = st.sampled_from([None, 1, 2, 3])

physicals = st.builds(
    PhysicalConstraints,
    max_grid_import_kw=power,
    max_grid_export_kw=power,
    fuse_a=_maybe(st.floats(0, 100)),
    max_battery_charge_kw=_maybe(power),
    max_battery_discharge_kw=_maybe(power),
    evse_min_current_a=st.floats(0, 10),
    evse_max_current_a=st.floats(0, 80),
    phases=st.sampled_from([1, 3]),
)
safeties = st.builds(
    SafetyConstraints,
    battery_min_soc_percent=percent,
    battery_max_soc_percent=percent,
    house_priority=st.booleans(),
    reserve_soc_percent=st.sampled_from([0.0, 0.0, 30.0, 100.0]),
    reserve_charge_kw=power,
    max_battery_cycles_per_day=st.sampled_from([0.0, 1.0, 2.0]),
)
objectives = st.builds(
    EconomicObjectives,
    import_price=price,
    export_price=price,
    prefer_self_consumption=st.booleans(),
    arbitrage_threshold=price,
    demand_priced=st.booleans(),
    ev_departure_at=st.sampled_from([None, None, START.after(3600)]),
    ev_target_soc_percent=_maybe(percent),
    scheduled_kw=st.dictionaries(
        st.sampled_from(["battery-0", "battery-1", "battery-2", "car-0", "car-1"]), signed
    ),
    scheduled_grid_kw=signed,
)


@st.composite
def batteries(draw: st.DrawFn) -> tuple[BatteryState, ...]:
    return tuple(
        BatteryState(
            der_id=f"battery-{i}",
            soc_percent=draw(_maybe(percent)),
            max_charge_kw=draw(_maybe(power)),
            max_discharge_kw=draw(_maybe(power)),
            min_soc_percent=draw(_maybe(percent)),
            max_soc_percent=draw(_maybe(percent)),
            temperature_c=draw(st.sampled_from([None, 20.0, 80.0])),
            cycles_today=draw(st.sampled_from([0.0, 0.0, 1.5])),
            phase=draw(phase),
            age_s=draw(age_s),
            paused=draw(st.sampled_from(["", "", "ana has paused it"])),
        )
        for i in range(draw(st.integers(0, 3)))
    )


@st.composite
def cars(draw: st.DrawFn) -> tuple[EvState, ...]:
    return tuple(
        EvState(
            der_id=f"car-{i}",
            connected=draw(st.sampled_from([True, True, False])),
            soc_percent=draw(_maybe(percent)),
            target_soc_percent=draw(percent),
            capacity_kwh=draw(st.floats(0, 200)),
            departure_at=draw(
                st.sampled_from([None, *(START.after(hours * 3600) for hours in (-1, 1, 3, 12))])
            ),
            max_charge_kw=draw(_maybe(st.floats(0, 30))),
            min_current_a=draw(_maybe(st.floats(0, 12))),
            max_current_a=draw(_maybe(st.floats(0, 80))),
            phases=draw(st.sampled_from([None, 1, 3])),
            phase=draw(st.sampled_from([1, 2, 3])),
            charging=draw(st.booleans()),
            held_s=draw(st.sampled_from([0.0, 299.0, 300.0, 1e9])),
            age_s=draw(age_s),
            paused=draw(st.sampled_from(["", "", "ana has paused it"])),
        )
        for i in range(draw(st.integers(0, 3)))
    )


def _inputs(
    load: st.SearchStrategy[float | None], age: st.SearchStrategy[float]
) -> st.SearchStrategy[PowerFlowInputs]:
    return st.builds(
        PowerFlowInputs,
        house=st.just("h"),
        timestamp=st.just(START),
        house_load_kw=load,
        pv_kw=power,
        batteries=batteries(),
        cars=cars(),
        phase_a=st.one_of(
            st.none(),
            st.tuples(st.floats(0, 60)),
            st.tuples(st.floats(0, 60), st.floats(0, 60), st.floats(0, 60)),
        ),
        pv_phase=phase,
        age_s=age,
    )


inputs = _inputs(power, st.sampled_from([0.0, 30.0]))
unknown = st.one_of(_inputs(st.none(), age_s), _inputs(power, st.floats(30, 1e9, exclude_min=True)))


def check(i: PowerFlowInputs, c: Constraints, o: EconomicObjectives) -> Flows:
    """Run a house and look at everything that must hold whatever it is; returns what came out."""
    flows = compute_flows(i, c, o)
    ders = [*i.cars, *i.batteries]
    assert [verdict.der_id for verdict in flows.verdicts] == [der.der_id for der in ders]
    assert all(verdict.sentence and verdict.limit for verdict in flows.verdicts)
    for der, verdict in zip(ders, flows.verdicts, strict=True):
        if isinstance(der, EvState):
            _check_car(der, verdict.given_a, verdict.given_kw, c)
        else:
            _check_battery(der, verdict.given_kw, c)
    if i.house_load_kw is None or i.age_s > c.safety.stale_after_s:
        assert flows.snapshot is None
        assert {verdict.given_kw for verdict in flows.verdicts} <= {0.0}
        return flows
    _check_connection(flows, i, c, o)
    _check_phases(flows, i, c, o)
    return flows


def _check_car(car: EvState, amps: float | None, kw: float, c: Constraints) -> None:
    point = charge_point_of(car, c.physical)
    assert amps is not None
    assert amps == int(amps)
    assert kw == point.kw(amps)
    if amps:
        assert car.connected
        assert car.age_s <= c.safety.stale_after_s
        low = c.physical.evse_min_current_a if car.min_current_a is None else car.min_current_a
        high = c.physical.evse_max_current_a if car.max_current_a is None else car.max_current_a
        assert max(6, low) <= amps <= high


def _check_battery(state: BatteryState, kw: float, c: Constraints) -> None:
    p, s = c.physical, c.safety
    assert kw <= (_or(state.max_charge_kw, p.max_battery_charge_kw) or 0.0)
    assert -kw <= (_or(state.max_discharge_kw, p.max_battery_discharge_kw) or 0.0)
    warm = state.temperature_c is not None and state.temperature_c > s.max_battery_temp_c
    if state.soc_percent is None or warm or state.age_s > s.stale_after_s:
        assert kw == 0
        return
    if state.soc_percent <= (_or(state.min_soc_percent, s.battery_min_soc_percent) or 0.0):
        assert kw >= 0
    if state.soc_percent >= (_or(state.max_soc_percent, s.battery_max_soc_percent) or 0.0):
        assert kw <= 0
    if state.cycles_today >= s.max_battery_cycles_per_day:
        assert kw <= 0


def _able_kw(state: BatteryState, c: Constraints, *, charging: bool) -> float:
    """What a battery can do for the fuse, or with solar power that would be lost."""
    p, s = c.physical, c.safety
    warm = state.temperature_c is not None and state.temperature_c > s.max_battery_temp_c
    if state.soc_percent is None or warm or state.age_s > s.stale_after_s:
        return 0.0
    if charging:
        idle = state.paused or state.cycles_today >= s.max_battery_cycles_per_day
        full = state.soc_percent >= _or(state.max_soc_percent, s.battery_max_soc_percent)
        return 0.0 if idle or full else _or(_or(state.max_charge_kw, p.max_battery_charge_kw), 0.0)
    empty = state.soc_percent <= _or(state.min_soc_percent, s.battery_min_soc_percent)
    return 0.0 if empty else _or(_or(state.max_discharge_kw, p.max_battery_discharge_kw), 0.0)


@overload
def _or(own: float | None, house: float) -> float: ...
@overload
def _or(own: float | None, house: float | None) -> float | None: ...
def _or(own: float | None, house: float | None) -> float | None:
    return house if own is None else own


def _check_connection(flows: Flows, i: PowerFlowInputs, c: Constraints, o: EconomicObjectives) -> None:
    snapshot, p = flows.snapshot, c.physical
    assert snapshot is not None
    assert i.house_load_kw is not None
    assert abs(snapshot.imbalance_kw()) <= BALANCE_TOLERANCE_KW
    assert (snapshot.house_load_kw, snapshot.pv_kw) == (i.house_load_kw, i.pv_kw)
    given = [verdict.given_kw for verdict in flows.verdicts]
    assert snapshot.ev_power_kw == sum(given[: len(i.cars)])
    assert snapshot.battery_power_kw == sum(given[len(i.cars) :])
    stored = given[len(i.cars) :]
    assert min(stored, default=0.0) >= 0 or max(stored, default=0.0) <= 0 or i.phase_a is not None
    assert sum(stored) <= (1e5 if p.max_battery_charge_kw is None else p.max_battery_charge_kw) + EPS_KW
    assert (
        -sum(stored) <= (1e5 if p.max_battery_discharge_kw is None else p.max_battery_discharge_kw) + EPS_KW
    )
    assert min(snapshot.grid_import_kw, snapshot.grid_export_kw) == 0
    assert 0 <= snapshot.grid_export_kw <= p.max_grid_export_kw + EPS_KW
    assert -EPS_KW <= snapshot.curtailed_kw <= i.pv_kw + EPS_KW
    if o.export_price is not None and o.export_price < 0:
        assert snapshot.grid_export_kw <= EPS_KW
    if snapshot.grid_export_kw > EPS_KW and snapshot.battery_power_kw < -EPS_KW:
        assert o.scheduled_grid_kw < 0 or i.phase_a is not None
    # Beyond the fuse only the house's own load may go: nothing that can be controlled adds to it.
    alone_kw = i.house_load_kw - i.pv_kw
    assert snapshot.grid_import_kw <= max(p.max_grid_import_kw, alone_kw) + EPS_KW
    if snapshot.grid_import_kw > p.max_grid_import_kw + 1e-5:
        assert flows.overloads
        assert snapshot.ev_power_kw == 0
        assert snapshot.battery_power_kw <= 0
        if i.phase_a is None:  # all that batteries have goes into the fuse's protection
            able_kw = sum(_able_kw(state, c, charging=False) for state in i.batteries)
            assert -snapshot.battery_power_kw == pytest.approx(
                min(able_kw, _or(p.max_battery_discharge_kw, 1e5)), abs=EPS_KW
            )
    if snapshot.curtailed_kw > 1e-6 and i.phase_a is None and (o.import_price is None or o.import_price >= 0):
        # Nothing is curtailed while it can be exported or stored.
        export_kw = 0.0 if o.export_price is not None and o.export_price < 0 else p.max_grid_export_kw
        assert snapshot.grid_export_kw == pytest.approx(export_kw, abs=EPS_KW)
        able_kw = sum(_able_kw(state, c, charging=True) for state in i.batteries)
        assert snapshot.battery_power_kw == pytest.approx(
            min(able_kw, _or(p.max_battery_charge_kw, 1e5)), abs=EPS_KW
        )


def _check_phases(flows: Flows, i: PowerFlowInputs, c: Constraints, o: EconomicObjectives) -> None:
    snapshot = flows.snapshot
    assert snapshot is not None
    if i.phase_a is None:
        return
    n = len(i.phase_a)
    fuse_a = c.physical.max_grid_import_kw / KW_PER_A / n if c.physical.fuse_a is None else c.physical.fuse_a
    export_kw = 0.0 if o.export_price is not None and o.export_price < 0 else c.physical.max_grid_export_kw
    certain_kw = min(i.pv_kw, snapshot.house_load_kw + export_kw)
    used_kw = i.pv_kw - snapshot.curtailed_kw
    for at, load_a in enumerate(i.phase_a, 1):
        ders_a = 0.0
        for der, verdict in zip([*i.cars, *i.batteries], flows.verdicts, strict=True):
            alone = (
                der.phase
                if isinstance(der, BatteryState) or charge_point_of(der, c.physical).phases == 1
                else None
            )
            ders_a += verdict.given_kw / KW_PER_A * _share(at, n, alone)
        solar = _share(at, n, i.pv_phase) / KW_PER_A
        draws_a = load_a - used_kw * solar + ders_a
        assert draws_a <= max(fuse_a, load_a - certain_kw * solar) + 1e-6
        # The other way: what batteries feed never adds to what is too much already.
        if ders_a < -1e-6:
            assert draws_a >= -fuse_a - 1e-6
        if abs(draws_a) > fuse_a + 1e-5:
            assert flows.overloads


def _share(at: int, n: int, phase: int | None) -> float:
    if n == 1:
        return 1.0
    return 1 / n if phase is None else float(phase == at)
