"""What telemetry, tariff and forecasts make of a house: its batteries, cars, demand periods, and the problem."""

from typing import Any

import msgspec
import pytest

from contracts.instant import Instant
from contracts.messages import DerTelemetry, Forecast, PriceForecast
from energy.tariff import Tariff, load_tariff
from optimizer.history import History
from optimizer.peaks import MonthPeaks, UsualPeaks
from optimizer.posing import (
    NO_DEMAND,
    Ahead,
    Demand,
    Setup,
    as_one,
    battery_of,
    car_of,
    demand_of,
    pose,
)
from optimizer.problem import Battery, fault_in
from optimizer.solver import Solver
from tests.optimizer_cases import battery
from tests.unit.test_optimizer_model import START, der

# START is 06:00 in Costa Rica: valley, until 10:00.
QUARTER_S = 900.0


def setup(tariff: Tariff | None = None, **more: Any) -> Setup:
    fields = {"step_s": QUARTER_S, "steps": 8, "max_grid_import_kw": 16.0, "max_grid_export_kw": 5.0, **more}
    return Setup(tariff=tariff or load_tariff(), **fields)


def telemetry(**more: Any) -> DerTelemetry:
    return der(START, **{"der_id": "der", "nameplate_capacity": 7.0, "capacity_kwh": 40.0, **more})


def car_telemetry(**more: Any) -> DerTelemetry:
    fields: dict[str, Any] = {
        "type": "electric_vehicle",
        "connected": True,
        "target_soc_percent": 80.0,
        "min_current_a": 6.0,
        "phases": 1,
    }
    return telemetry(**{**fields, **more})


# Batteries


def test_what_a_battery_does_not_tell_is_as_the_reference_has_it() -> None:
    known = battery_of(telemetry(), [10.0, 30.0], 0.0)
    assert (known.max_charge_kw, known.max_discharge_kw, known.efficiency_roundtrip) == (7.0, 7.0, 0.9)
    assert (known.min_soc_percent, known.max_soc_percent) == (10.0, 90.0)
    assert known.end_value_per_kwh == pytest.approx(20.0 * 0.9)
    assert known.wear_per_kwh == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("prices", "degradation_cost", "end_value", "wear"),
    [
        ([10.0, 30.0], 5.0, 18.0, 5.0),
        ([0.0, 0.0], 0.0, 0.0, 1e-6),
        ([-30.0, 10.0], 0.0, 0.0, 0.01),
    ],
)
def test_what_stored_energy_and_its_use_are_worth(
    prices: list[float], degradation_cost: float, end_value: float, wear: float
) -> None:
    known = battery_of(telemetry(), prices, degradation_cost)
    assert known.end_value_per_kwh == pytest.approx(end_value)
    assert known.wear_per_kwh == pytest.approx(wear)


def test_a_battery_that_tells_nothing_is_a_fault_by_name() -> None:
    unknown = battery_of(telemetry(capacity_kwh=None, current_soc=None), [10.0], 0.0)
    ahead = Ahead(forecast("load", [1.0] * 8), forecast("pv", [0.0] * 8), price_forecast([10.0] * 8))
    assert fault_in(pose(setup(), ahead, [unknown], [], NO_DEMAND)) == (
        "battery capacity_kwh is 0: it must be above 0 to 1e+06"
    )


def test_one_battery_as_one_is_itself_without_prices() -> None:
    one = battery(end_value_per_kwh=5.0, wear_per_kwh=2.0)
    assert as_one([one]) == msgspec.structs.replace(one, end_value_per_kwh=0.0, wear_per_kwh=0.0)


def test_batteries_as_one() -> None:
    small = battery(capacity_kwh=10.0, max_charge_kw=3.0, max_discharge_kw=2.0, soc_percent=100.0)
    large = battery(
        capacity_kwh=30.0,
        max_charge_kw=5.0,
        max_discharge_kw=6.0,
        efficiency_roundtrip=0.8,
        min_soc_percent=20.0,
        max_soc_percent=80.0,
        soc_percent=40.0,
    )
    one = as_one([small, large])
    assert (one.capacity_kwh, one.max_charge_kw, one.max_discharge_kw) == (40.0, 8.0, 8.0)
    assert one.efficiency_roundtrip == pytest.approx(0.85)
    assert (one.min_soc_percent, one.max_soc_percent) == (pytest.approx(15.0), pytest.approx(85.0))
    assert one.stored_kwh == pytest.approx(small.stored_kwh + large.stored_kwh)


@pytest.mark.parametrize("batteries", [[], [battery(capacity_kwh=0.0)] * 2])
def test_nothing_is_no_battery(batteries: list[Battery]) -> None:
    with pytest.raises(ValueError, match="no batteries, or none that holds anything"):
        as_one(batteries)


# Cars


@pytest.mark.parametrize(
    "more",
    [
        {"connected": False},
        {"connected": None},
        {"current_soc": None},
        {"capacity_kwh": None},
        {"capacity_kwh": 0.0},
        {"current_soc": 80.0},
        {"current_soc": 95.0},
        {"current_soc": 80.0, "target_soc_percent": None},
    ],
)
def test_a_car_that_needs_no_plan(more: dict[str, Any]) -> None:
    assert car_of(car_telemetry(**more), setup(), START) is None


@pytest.mark.parametrize(
    ("after_s", "departure_step"),
    [
        (None, 8),
        (86400.0, 8),
        (8 * QUARTER_S, 8),
        (8 * QUARTER_S - 1, 7),
        (3 * QUARTER_S, 3),
        (2.5 * QUARTER_S, 2),  # the step in which it leaves is not counted on
        (QUARTER_S - 1, 1),  # but the one in hand is all there is
        (0.0, 1),
        (-86400.0, 1),  # overdue: it may go at any time, and is still there
    ],
)
def test_it_is_there_for_whole_steps(after_s: float | None, departure_step: int) -> None:
    leaves = None if after_s is None else START.after(after_s)
    known = car_of(car_telemetry(departure_at=leaves), setup(), START)
    assert known is not None
    assert known.departure_step == departure_step


@pytest.mark.parametrize(
    ("more", "min_kw", "max_kw"),
    [
        ({}, 1.38, 7.0),
        ({"phases": 3}, 4.14, 7.0),
        ({"phases": None, "min_current_a": None}, 1.38, 7.0),
        ({"min_current_a": 10.0, "max_charge_kw": 22.0}, 2.3, 22.0),
        ({"phases": 3, "max_charge_kw": 3.0}, 3.0, 3.0),
    ],
)
def test_six_amperes_a_phase_are_the_least(more: dict[str, Any], min_kw: float, max_kw: float) -> None:
    known = car_of(car_telemetry(**more), setup(), START)
    assert known is not None
    assert (known.min_charge_kw, known.max_charge_kw) == (pytest.approx(min_kw), max_kw)
    assert known.needed_kwh == pytest.approx(12.0)


# Demand


def demand_at(
    start: Instant, of: Setup, peaks: MonthPeaks | None = None, whole: Battery | None = None
) -> Demand:
    load = History(of.step_s)
    usual = UsualPeaks(of.tariff, load, History(of.step_s))
    return demand_of(of, start, peaks or MonthPeaks(of.tariff), usual, load.slot_of(start), whole)


def half_hourly() -> Tariff:
    return msgspec.structs.replace(load_tariff(), demand_interval_s=1800.0)


def test_each_interval_has_its_period() -> None:
    """09:00 to 11:00: valley, then peak."""
    demand = demand_at(START.after(3 * 3600), setup())
    assert [(period.name, period.price_per_kw) for period in demand.demand] == [
        ("2024-07 valley", 7090.0),
        ("2024-07 peak", 10154.0),
    ]
    assert demand.demand_of_interval == [0] * 4 + [1] * 4
    assert (demand.interval_steps, demand.passed_steps, demand.passed_kwh) == (1, 0, 0.0)


def test_an_interval_that_has_begun_before() -> None:
    """06:15: of the half hour from 06:00 a quarter has passed, at 8 kW."""
    tariff, start = half_hourly(), START.after(QUARTER_S)
    peaks = MonthPeaks(tariff)
    peaks.add(START, QUARTER_S, 8.0)
    demand = demand_at(start, setup(tariff), peaks)
    assert (demand.interval_steps, demand.passed_steps, demand.passed_kwh) == (2, 1, pytest.approx(2.0))
    assert demand.demand_of_interval == [0] * 5
    assert demand.demand[0].floor_kw == pytest.approx(4.0)


@pytest.mark.parametrize("step_min", [5, 10, 15, 30, 60])
@pytest.mark.parametrize("interval_min", [15, 30])
@pytest.mark.parametrize("offset", [0, 1])
def test_every_step_goes_with_every_interval(step_min: int, interval_min: int, offset: int) -> None:
    """Also where it is no part of one, as 10 min are none of 15."""
    tariff = msgspec.structs.replace(load_tariff(), demand_interval_s=interval_min * 60.0)
    of = setup(tariff, step_s=step_min * 60.0, steps=9)
    start = START.after(offset * of.step_s)
    ahead = Ahead(
        forecast("load", [1.0] * 9, start, of.step_s),
        forecast("pv", [0.0] * 9, start, of.step_s),
        price_forecast([10.0] * 9),
    )
    case = pose(of, ahead, [battery()], [], demand_at(start, of))
    assert fault_in(case) is None
    assert Solver().plan(case).status == "optimal"
    whole = interval_min % step_min == 0
    assert case.interval_steps == (interval_min // step_min if whole else 1)


def test_two_months_in_one_horizon() -> None:
    """31 July 23:00 in Costa Rica; what July has had is no part of August."""
    tariff = load_tariff()
    start = Instant.parse("2024-08-01T05:00:00Z")
    peaks = MonthPeaks(tariff)
    peaks.add(start.after(-QUARTER_S), QUARTER_S, 3.0)
    demand = demand_at(start, setup(), peaks)
    assert [(period.name, period.floor_kw) for period in demand.demand] == [
        ("2024-07 night", pytest.approx(3.0)),
        ("2024-08 night", 0.0),
    ]
    assert demand.demand_of_interval == [0] * 4 + [1] * 4


def test_peaks_that_cost_nothing_are_no_demand() -> None:
    assert demand_at(START, setup(load_tariff("fontana_tou"))) == NO_DEMAND


def test_nothing_is_expected_of_days_that_nobody_knows() -> None:
    assert demand_at(START, setup(), whole=battery()).demand[0].expected_kw == ()


# The problem


def forecast(kind: Any, kw: list[float], start: Instant = START, step_s: float = QUARTER_S) -> Forecast:
    return Forecast(
        house="house-a", kind=kind, name="test", issued_at=start, start=start, step_s=step_s, power_kw=kw
    )


def price_forecast(prices: list[float]) -> PriceForecast:
    return PriceForecast(
        house="house-a",
        tariff="test",
        issued_at=START,
        start=START,
        step_s=QUARTER_S,
        currency="CRC",
        import_price=prices,
        export_price=[0.0] * len(prices),
        demand_price=[0.0] * len(prices),
    )


@pytest.mark.parametrize(
    ("after_s", "left_s"),
    [(0.0, 900.0), (300.0, 600.0), (899.0, 1.0), (899.9, 1.0), (2000.0, 1.0), (-5.0, 900.0)],
)
def test_of_the_step_in_hand_its_rest_is_planned(after_s: float, left_s: float) -> None:
    issued = msgspec.structs.replace(forecast("load", [1.0] * 8), issued_at=START.after(after_s))
    ahead = Ahead(issued, forecast("pv", [0.0] * 8), price_forecast([10.0] * 8))
    case = pose(setup(), ahead, [battery()], [], NO_DEMAND)
    assert case.hours == pytest.approx([left_s / 3600.0, *[0.25] * 7])
    assert fault_in(case) is None


def test_a_problem_is_what_was_foreseen() -> None:
    load, pv = forecast("load", [float(i) for i in range(8)]), forecast("pv", [9.0] * 8)
    demand = demand_at(START, setup())
    case = pose(setup(), Ahead(load, pv, price_forecast([7.0] * 8)), [battery()], [], demand)
    assert (case.load_kw, case.pv_kw, case.import_price) == (load.power_kw, pv.power_kw, [7.0] * 8)
    assert (case.max_grid_import_kw, case.max_grid_export_kw) == (16.0, 5.0)
    assert case.demand == demand.demand
    assert fault_in(case) is None


def test_what_is_in_store_is_worth_a_demand_price_over_the_next_hours_where_there_is_one() -> None:
    """Valley until 10:00, which is after these two hours: all of them have its price."""
    ahead = Ahead(forecast("load", [1.0] * 8), forecast("pv", [0.0] * 8), price_forecast([10.0] * 8))
    demand = demand_at(START, setup())
    posed = pose(setup(), ahead, [battery(), battery(der_id="other")], [], demand).batteries
    prices = {period.name: period.price_per_kw for period in demand.demand}
    (value,) = {tuple(one.reserve_value) for one in posed}
    assert sum(value) == pytest.approx(prices["2024-07 valley"])
    assert value[0] == max(value)
    assert list(value) == sorted(value, reverse=True)
    assert pose(setup(), ahead, [battery()], [], NO_DEMAND).batteries[0].reserve_value == ()
