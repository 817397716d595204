"""What the planner makes of what it hears: means, the battery in hand, the month's peaks."""

from typing import Any, Literal

import msgspec
import pytest

from contracts.codec import decode_hook, encode_hook
from contracts.instant import Instant
from contracts.messages import DerTelemetry, MeterReading, PvReading
from contracts.orders import CarPlan, HeldDer, StandingOrders
from energy.tariff import load_tariff
from optimizer.forecast import Outlook
from optimizer.model import PlanInputs, PlannerModel, Remembered, as_measured, fresh_outlooks
from optimizer.posing import Setup
from optimizer.problem import Problem
from optimizer.schedules import schedules_of
from optimizer.solver import Solver

START = Instant.parse("2024-07-01T12:00:00Z")
SETUP = Setup(tariff=load_tariff(), step_s=900.0, steps=192, max_grid_import_kw=16.0, max_grid_export_kw=0.0)


def model(start: Instant = START, tariff: str = "costa_rica") -> PlannerModel:
    setup = Setup(
        tariff=load_tariff(tariff), step_s=900.0, steps=192, max_grid_import_kw=16.0, max_grid_export_kw=0.0
    )
    return PlannerModel("house-a", setup, None, start)


def meter(
    at: Instant, power_w: float, measures: Literal["load", "grid"] = "load", **more: Any
) -> MeterReading:
    fields = {"house": "house-a", "meter": "main", "boot": 1, "seq": 1, "timestamp": at, "power_w": power_w}
    return MeterReading(**{**fields, "measures": measures, **more})


def pv(at: Instant, meter_w: float, pv_w: float, measures: Literal["load", "grid"] = "load") -> PvReading:
    return PvReading(
        house="house-a",
        meter="main",
        boot=1,
        seq=1,
        timestamp=at,
        meter_w=meter_w,
        pv_w=pv_w,
        sum_w=meter_w + pv_w,
        measures=measures,
    )


def der(at: Instant, **more: Any) -> DerTelemetry:
    fields: dict[str, Any] = {
        "der_id": "battery",
        "house": "house-a",
        "is_online": True,
        "timestamp": at,
        "current_output": 0.0,
        "power_meter_measurement": 0.0,
        "baseline": 0.0,
        "contract_threshold": 0.0,
        "project_id": "PRJ",
        "is_standalone": False,
        "connection_start_at": START,
        "current_soc": 50.0,
        "type": "battery_storage",
        "nameplate_capacity": 5.0,
        "capacity_kwh": 10.0,
    }
    return DerTelemetry(**{**fields, **more})


def car(at: Instant, kw: float) -> DerTelemetry:
    return der(at, der_id="car", type="electric_vehicle", current_output=kw)


def problem_of(inputs: PlanInputs) -> Problem:
    assert inputs.problem is not None
    return inputs.problem


def test_means_of_the_step_in_hand_are_the_first_forecast() -> None:
    house = model()
    for i, watts in enumerate((1000.0, 2000.0, 3000.0)):
        house.hear(meter(START.after(i), watts), START.after(i))
    inputs = house.plan_inputs(START.after(3))
    assert inputs.load.power_kw == [2.0] * 192
    assert inputs.pv.power_kw == [0.0] * 192
    assert inputs.load.start == START
    assert inputs.problem is None


def live(house: PlannerModel, start: Instant, seconds: float, watts: float, **more: Any) -> Instant:
    """A reading every 30 s for a while; returns when it is over."""
    for i in range(round(seconds / 30)):
        at = start.after(i * 30)
        house.hear(meter(at, watts, **more), at)
    return start.after(seconds)


def floors_of(house: PlannerModel, now: Instant) -> dict[str, float]:
    house.hear(der(now), now)
    return {period.name: period.floor_kw for period in problem_of(house.plan_inputs(now)).demand}


def test_a_day_later_the_day_is_repeated() -> None:
    house = model()
    for quarter in range(96):
        for second in range(0, 900, 60):
            at = START.after(quarter * 900 + second)
            house.hear(meter(at, 100.0 * quarter, has_pv=True), at)
            house.hear(pv(at, 100.0 * quarter, 10.0 * quarter), at)
    inputs = house.plan_inputs(START.after(86400))
    assert inputs.load.power_kw == pytest.approx([0.1 * quarter for quarter in range(96)] * 2)
    assert inputs.pv.power_kw == pytest.approx([0.01 * quarter for quarter in range(96)] * 2)
    assert inputs.load.error_kw is None  # no day foretold has passed yet


def test_meters_of_a_house_add_up() -> None:
    house = model()
    for i, watts, name in ((0, 1000.0, "main"), (10, 3000.0, "main"), (0, 500.0, "shed")):
        house.hear(meter(START.after(i), watts, meter=name), START.after(i))
    assert house.plan_inputs(START.after(20)).load.power_kw[0] == pytest.approx(2.5)


def test_of_two_grid_meters_batteries_and_cars_are_taken_out_once() -> None:
    house = model()
    for der_id, kw in (("battery", 1.5), ("garage", -0.5)):
        house.hear(der(START, der_id=der_id, current_output=kw), START)
    house.hear(car(START, 2.0), START)
    house.hear(meter(START, 4000.0, "grid"), START)
    house.hear(meter(START, 1000.0, "grid", meter="second"), START)
    assert house.plan_inputs(START).load.power_kw[0] == pytest.approx(4.0 + 1.0 - 1.5 + 0.5 - 2.0)


def test_a_grid_meter_says_the_load_with_pv_battery_and_car() -> None:
    house = model()
    house.hear(der(START, current_output=1.5), START)
    house.hear(car(START, 2.0), START)
    house.hear(meter(START, 500.0, "grid", has_pv=True), START)
    assert not house.heard_reading
    house.hear(pv(START, 500.0, 4000.0, "grid"), START)
    assert house.plan_inputs(START).load.power_kw[0] == pytest.approx(0.5 + 4.0 - 1.5 - 2.0)


@pytest.mark.parametrize(
    ("reading", "now"),
    [
        (meter(START, 9000.0, historical=True), START),
        (meter(START, 9000.0), START.after(31)),
        (meter(START.after(3600), 9000.0), START),
        (meter(START.after(-1), 9000.0), START),
    ],
)
def test_what_is_not_about_now_does_not_count(reading: MeterReading, now: Instant) -> None:
    house = model()
    house.hear(reading, now)
    assert not house.heard_reading
    assert house.plan_inputs(now).load.power_kw[0] == 0.5


def test_the_battery_is_as_its_telemetry_says() -> None:
    house = model()
    house.hear(
        der(
            START,
            max_charge_kw=3.0,
            max_discharge_kw=4.0,
            efficiency_roundtrip=0.8,
            min_soc_percent=20.0,
            max_soc_percent=95.0,
            current_soc=33.0,
        ),
        START,
    )
    battery = problem_of(house.plan_inputs(START)).batteries[0]
    assert (battery.capacity_kwh, battery.max_charge_kw, battery.max_discharge_kw) == (10.0, 3.0, 4.0)
    assert (battery.min_soc_percent, battery.max_soc_percent, battery.soc_percent) == (20.0, 95.0, 33.0)
    assert battery.efficiency_roundtrip == 0.8


def test_the_fresh_and_complete_batteries_are_planned() -> None:
    house, later = model(), START.after(60)
    house.hear(der(START, der_id="a-stale"), START)
    house.hear(der(later, der_id="b-offline", is_online=False), later)
    house.hear(der(later, der_id="c-reference", capacity_kwh=None), later)
    assert not house.has_ders(later)
    house.hear(der(later, der_id="e"), later)
    house.hear(der(later, der_id="d"), later)
    assert [battery.der_id for battery in problem_of(house.plan_inputs(later)).batteries] == ["d", "e"]
    assert not house.has_ders(later.after(31))


def test_newest_telemetry_wins_but_one_from_the_future_blocks_nobody() -> None:
    house = model()
    house.hear(der(START, current_soc=50.0), START)
    house.hear(der(START.after(-1), current_soc=40.0), START)
    assert problem_of(house.plan_inputs(START)).batteries[0].soc_percent == 50.0
    house.hear(der(START.after(86400), current_soc=60.0), START)
    assert not house.has_ders(START)
    house.hear(der(START.after(1), current_soc=70.0), START.after(1))
    assert problem_of(house.plan_inputs(START.after(1))).batteries[0].soc_percent == 70.0


def test_the_months_peaks_are_the_floors_by_tariff_period() -> None:
    """Noon UTC is 06:00 in Costa Rica, valley; 16:00 UTC is 10:00, peak."""
    house = model()
    for hours, watts in ((0.0, 7000.0), (0.25, 2000.0), (4.0, 3000.0)):
        for second in range(0, 900, 30):
            at = START.after(hours * 3600 + second)
            house.hear(der(at, current_output=1.0), at)
            house.hear(car(at, 2.0), at)
            house.hear(meter(at, watts), at)
    now = START.after(4.25 * 3600)
    house.hear(der(now), now)
    problem = problem_of(house.plan_inputs(now))
    floors = {period.name: period.floor_kw for period in problem.demand}
    assert floors == pytest.approx({"2024-07 valley": 10.0, "2024-07 peak": 6.0, "2024-07 night": 0.0})
    prices = {period.name: period.price_per_kw for period in problem.demand}
    assert prices["2024-07 peak"] == 10154.0
    first = problem.demand[problem.demand_of_interval[0]]
    assert first.name == "2024-07 peak"


def test_a_new_billing_month_starts_at_local_midnight_from_nothing() -> None:
    # 23:45 on 31 July in Costa Rica
    begin = Instant.parse("2024-08-01T05:45:00Z")
    house = model(begin)
    house.hear(meter(begin, 5000.0), begin)
    house.hear(der(begin.after(900)), begin.after(900))
    problem = problem_of(house.plan_inputs(begin.after(900)))
    assert {period.name for period in problem.demand} == {
        f"2024-08 {name}" for name in ("peak", "valley", "night")
    }
    assert not any(period.floor_kw for period in problem.demand)


def test_a_horizon_over_the_end_of_the_month_has_both_months_peaks() -> None:
    begin = Instant.parse("2024-07-31T12:00:00Z")
    house = model(begin)
    house.hear(der(begin), begin)
    names = [period.name for period in problem_of(house.plan_inputs(begin)).demand]
    assert sorted(names) == sorted(f"2024-0{m} {n}" for m in (7, 8) for n in ("peak", "valley", "night"))


def test_of_a_step_counts_what_was_measured_and_no_more() -> None:
    """A peak that is too high would let the plan reach it; one that is too low only makes it careful."""
    house = model()
    live(house, START, 120.0, 9000.0)
    floors = floors_of(house, START.after(900))
    # The last reading, at 90 s, holds for a minute.
    assert floors["2024-07 valley"] == pytest.approx(9.0 * 150 / 900)
    assert house.plan_inputs(START.after(900)).load.power_kw[0] == 0.5, "nothing was learnt of it"
    end = live(house, START.after(900), 900.0, 3000.0)
    assert floors_of(house, end)["2024-07 valley"] == pytest.approx(3.0)
    assert house.plan_inputs(end).load.power_kw[0] == pytest.approx(3.0)


def test_a_slow_meter_is_learnt_once_its_pace_is_known() -> None:
    house = model()
    for i in range(4):
        at = START.after(900 * i)
        house.hear(meter(at, 1000.0 * (i + 1)), at)
    assert floors_of(house, START.after(3600))["2024-07 valley"] == pytest.approx(4.0)
    quick = model()
    for i in (0, 10, 20, 700, 710):  # a quick one that was silent for long is not a slow one
        quick.hear(meter(START.after(i), 5000.0), START.after(i))
    assert floors_of(quick, START.after(900))["2024-07 valley"] == pytest.approx(5.0 * (80 + 70) / 900)


def test_without_its_pv_an_import_is_not_known() -> None:
    house = model()
    live(house, START, 900.0, 6000.0, has_pv=True)
    assert floors_of(house, START.after(900))["2024-07 valley"] == 0.0
    assert house.plan_inputs(START.after(900)).load.power_kw[0] == pytest.approx(6.0)


def test_what_passed_of_the_step_in_hand_is_in_the_problem() -> None:
    house = model()
    live(house, START.after(300), 300.0, 6000.0)
    now = START.after(600)
    house.hear(der(now), now)
    problem = problem_of(house.plan_inputs(now))
    # Of the five minutes that nobody measured, as much as of the others.
    assert problem.passed_kwh == pytest.approx(1.0)
    assert problem.first_step_h == pytest.approx(300 / 3600)


def test_after_a_restart_peaks_and_the_interval_in_hand_go_on() -> None:
    house = model()
    now = live(house, live(house, START, 900.0, 5000.0), 600.0, 8000.0)
    kept = msgspec.json.decode(
        msgspec.json.encode(house.remember(now), enc_hook=encode_hook), type=Remembered, dec_hook=decode_hook
    )
    again = PlannerModel("house-a", SETUP, None, now, kept)
    assert floors_of(again, now)["2024-07 valley"] == pytest.approx(5.0)
    assert problem_of(again.plan_inputs(now)).passed_kwh == pytest.approx(8.0 * 600 / 3600)
    end = live(again, now, 300.0, 8000.0)
    assert floors_of(again, end)["2024-07 valley"] == pytest.approx(8.0)
    later = now.after(86400)
    much_later = PlannerModel("house-a", SETUP, None, later, kept)
    assert floors_of(much_later, later)["2024-07 valley"] == pytest.approx(5.0)
    assert problem_of(much_later.plan_inputs(later)).passed_kwh == 0.0


def recorded(house: PlannerModel, kw: float) -> Outlook:
    """Let it know a day of this load, up to the start and its step; returns the forecast of it."""
    load, pv_ = fresh_outlooks(900.0)
    first = load.history.slot_of(START)
    for slot in range(first - 96, first + 1):
        load.learn(slot, kw)
    house.adopt(load, pv_)
    return load


def test_load_that_is_off_stands_for_the_step_in_hand() -> None:
    house = model()
    recorded(house, 1.0)
    now = live(house, START.after(900), 300.0, 5000.0)
    house.hear(der(now), now)
    inputs = house.plan_inputs(now)
    off = as_measured(inputs, 2.0)
    assert inputs.load.power_kw[0] == pytest.approx(1.0)
    assert off.load.power_kw[0] == pytest.approx(5.0, abs=0.5)
    assert off.load.power_kw[1:] == inputs.load.power_kw[1:]
    assert problem_of(off).load_kw == off.load.power_kw
    assert as_measured(inputs, 9.0) is inputs


def test_recorded_days_are_learnt_before_what_was_heard_since() -> None:
    house = model()
    now = live(house, START, 1800.0, 3000.0)
    history = recorded(house, 1.0).history
    house.plan_inputs(now)
    first = history.slot_of(START)
    assert [history.at(first + i) for i in (-1, 0, 1)] == [1.0, 1.0, 3.0]


def test_a_tariff_without_demand_charge_has_no_peaks() -> None:
    house = model(tariff="fontana_tou")
    house.hear(der(START), START)
    problem = problem_of(house.plan_inputs(START))
    assert problem.demand == []
    assert problem.demand_of_interval == []


def test_a_plan_becomes_a_schedule() -> None:
    house = model()
    house.hear(meter(START, 1000.0), START)
    house.hear(der(START), START)
    inputs = house.plan_inputs(START.after(5))
    problem = problem_of(inputs)
    (schedule,) = schedules_of(
        inputs, problem, Solver().plan(problem), interval_s=3600.0, solver="a solver", solve_time_s=None
    )
    assert schedule.status == "optimal"
    assert (schedule.issued_at, schedule.start) == (START.after(5), START)
    assert schedule.valid_until == START.after(5 + 3600 + 900)
    assert len(schedule.battery_power_kw) == 192
    assert len(schedule.soc_percent) == 193
    assert schedule.soc_percent[0] == pytest.approx(50.0)
    assert schedule.currency == "CRC"
    assert schedule.total_cost == pytest.approx(schedule.energy_cost + schedule.demand_cost)
    assert inputs.prices.import_price[0] == 26.0


def orders(**what: Any) -> StandingOrders:
    return StandingOrders(house="house-a", issued_at=START, **what)


def test_what_a_person_has_stopped_is_not_planned_until_it_ends() -> None:
    house = model()
    for der_id in ("one", "two"):
        house.hear(der(START, der_id=der_id), START)
    until = START.after(10)
    house.hear(orders(held=[HeldDer(der_id="one", mode="pause", user="ana", until=until)]), START)
    assert [battery.der_id for battery in problem_of(house.plan_inputs(START)).batteries] == ["two"]
    assert len(problem_of(house.plan_inputs(until)).batteries) == 2
    house.hear(orders(held=[HeldDer(mode="safe", user="ana")]), START)
    assert not house.has_ders(until)
    house.hear(orders(), START)
    assert house.has_ders(until)


def test_what_a_person_says_of_a_car_stands_in_place_of_its_own_plan() -> None:
    house, leaves = model(), START.after(4 * 3600)
    fields = {"type": "electric_vehicle", "connected": True, "departure_at": START.after(8 * 3600)}
    house.hear(der(START, der_id="ev", target_soc_percent=60.0, **fields), START)

    def planned(now: Instant) -> tuple[float, int]:
        car = problem_of(house.plan_inputs(now)).cars[0]
        return car.target_soc_percent, car.departure_step

    assert planned(START) == (60.0, 32)
    told = CarPlan(der_id="ev", until=START.after(20), departure_at=leaves, target_soc_percent=90.0)
    house.hear(orders(car_plans=[CarPlan(until=leaves, target_soc_percent=70.0), told]), START)
    assert planned(START) == (90.0, 16)
    assert planned(START.after(20)) == (70.0, 32)
