"""What cars get: urgency, currents, prices, plans, phases, and who comes first."""

import pytest

from contracts.messages import PowerSnapshot
from orchestrator.ev import charge_point_of, urgency_of, whole_amps
from orchestrator.limits import Constraints, EconomicObjectives, EvState, PowerFlowInputs, Verdict
from tests.conftest import START
from tests.unit.houses import battery, car, check, house, limits, money, physical


def run(
    cars: EvState | tuple[EvState, ...],
    o: EconomicObjectives | None = None,
    load_kw: float = 0.0,
    c: Constraints | None = None,
    **changes: object,
) -> list[Verdict]:
    some = (cars,) if isinstance(cars, EvState) else cars
    i: PowerFlowInputs = house(load_kw, 0, (), some, **changes)
    return check(i, c or limits(), o or money()).verdicts


def test_urgency_is_the_rate_needed_over_the_rate_possible() -> None:
    hurried = car(25, 1, capacity_kwh=20.0)
    assert urgency_of(hurried, START, 11.04) == pytest.approx(0.996, abs=0.001)
    assert urgency_of(car(80, 1), START, 11.04) == 0
    assert urgency_of(car(25, -1), START, 11.04) == 1
    assert urgency_of(hurried, START, 0) == 1
    assert urgency_of(car(25), START, 11.04) == 0


def test_a_car_s_own_charger_makes_it_urgent_sooner() -> None:
    def urgency(**own: float) -> float | None:
        return run(car(30, 5, **own))[0].urgency

    assert urgency() == pytest.approx(20 / 5 / 11.04)
    assert urgency(max_charge_kw=4.6) == pytest.approx(20 / 5 / 4.6)
    assert urgency(max_charge_kw=22.0) == pytest.approx(20 / 5 / 11.04)  # the point gives no more


@pytest.mark.parametrize(("kw", "expected"), [(4.14, 6), (4.13, 0), (11.04, 16), (99, 16), (0, 0), (4.9, 7)])
def test_whole_amps_round_down(kw: float, expected: int) -> None:
    assert whole_amps(kw, charge_point_of(car(), physical())) == expected


@pytest.mark.parametrize(
    ("changes", "least", "most"),
    [
        ({}, 6, 16),
        ({"min_current_a": 2.0}, 6, 16),  # IEC 61851
        ({"min_current_a": 6.5, "max_current_a": 15.9}, 7, 15),
        ({"max_charge_kw": 11.0}, 6, 16),  # 15 A would be too little
        (
            {"max_charge_kw": 3.0},
            6,
            6,
        ),  # a car may take less than it is offered, never be offered less than 6 A
        ({"max_charge_kw": 7.4, "phases": 1, "max_current_a": 40.0}, 6, 33),
    ],
)
def test_what_point_and_car_can_do(changes: dict[str, float], least: int, most: int) -> None:
    point = charge_point_of(car(**changes), physical())
    assert (point.least_a, point.most_a) == (least, most)


@pytest.mark.parametrize(
    ("ev", "o", "amps", "limit"),
    [
        (car(connected=False), money(), 0, "unplugged"),
        (car(80), money(), 0, "target reached"),
        (car(age_s=31.0), money(), 0, "stale telemetry"),
        (car(max_current_a=5.0), money(), 0, "charging point"),
        (car(10, 1), money(), 16, "departure"),
        (car(), EconomicObjectives(), 6, "no price"),
        (car(), money(), 6, "dear price"),
        (car(), money(import_price=0.9), 12, "cheap price"),  # 0.8 of 16
        (car(max_current_a=7.0), money(import_price=0.9), 6, "cheap price"),  # 0.8 of 7 would be too little
        (car(), money(import_price=-0.1), 16, "negative price"),
        (car(), money(scheduled_kw={"car": 7.0}), 10, "schedule"),  # 10.1 A
        (car(), money(scheduled_kw={"car": 2.5}), 6, "schedule"),
        (car(), money(scheduled_kw={"car": 1.5}), 0, "schedule"),
        (car(10, 1), money(scheduled_kw={"car": 0.0}), 16, "departure"),
        (car(None), money(), 6, "dear price"),
        (car(), money(ev_target_soc_percent=30.0), 0, "target reached"),
        (car(80), money(ev_target_soc_percent=90.0), 6, "dear price"),
        (car(), money(ev_departure_at=START.after(3600)), 16, "departure"),
        (car(charging=False, held_s=299.0), money(), 0, "switching"),
        (car(charging=True, held_s=299.0), money(scheduled_kw={"car": 0.0}), 6, "switching"),
        (car(charging=True, held_s=299.0), money(import_price=0.9), 12, "cheap price"),
        (car(80, charging=True, held_s=10.0), money(), 0, "target reached"),
        (car(charging=False, held_s=300.0), money(), 6, "dear price"),
    ],
)  # fmt: skip
def test_what_a_car_gets_and_why(ev: EvState, o: EconomicObjectives, amps: int, limit: str) -> None:
    [verdict] = run(ev, o)
    assert (verdict.given_a, verdict.limit) == (amps, limit)
    assert verdict.import_price == o.import_price


def test_the_fuse_switches_a_car_off_however_lately_it_was_switched_on() -> None:
    [verdict] = run(car(charging=True, held_s=10.0), load_kw=12.0)
    assert (verdict.given_a, verdict.tier, verdict.limit) == (0, "physical", "main fuse")
    assert verdict.alternative == "charge with 6 A once the house takes less"


def test_of_several_cars_the_most_urgent_comes_first_and_one_that_charges_goes_on() -> None:
    hurried, calm = car(10, 1, "b"), car(30, 12, "a")
    [first, second] = run((calm, hurried), money(import_price=0.9), 3.0)
    assert (first.der_id, first.given_a, second.given_a) == ("a", 0, 16)  # 13 kW: 16 A, and 2 kW are left
    [one, other] = run((car(der_id="a"), car(der_id="b", charging=True)), load_kw=10.0)
    assert (one.given_a, other.given_a) == (0, 6)
    [one, other] = run((car(der_id="a"), car(der_id="b", phases=1)), load_kw=10.0)
    assert (one.given_a, other.given_a) == (6, 6)  # 4.14 and 1.38 of 6 kW


def test_each_phase_has_its_fuse() -> None:
    c = limits(physical(max_grid_import_kw=17.25, fuse_a=25.0))
    [three] = run(car(10, 1), c=c, phase_a=(16.5, 3.0, 2.0))
    assert (three.given_a, three.limit) == (8, "fuse of phase 1")
    assert three.sentence == "The fuse of phase 1 leaves 5.9 kW: the car gets 8 A instead of 16 A."
    alone = {"phases": 1, "max_current_a": 32.0}
    [busy] = run(car(10, 1, **alone), c=c, phase_a=(16.5, 3.0, 2.0))
    [free] = run(car(10, 1, phase=2, **alone), c=c, phase_a=(16.5, 3.0, 2.0))
    assert (busy.given_a, free.given_a) == (8, 22)
    [even] = run(car(10, 1), c=limits(physical(max_grid_import_kw=13.8)), phase_a=(10.0, 0.0, 0.0))
    assert even.given_a == 10  # without fuse_a: 20 A on each of three phases


def test_pv_that_may_be_curtailed_relieves_no_phase() -> None:
    c = limits(physical(fuse_a=16.0, max_grid_export_kw=0.0))
    i = house(2.3, 13.8, (), (car(10, 1),), phase_a=(10.0, 0.0, 0.0))
    flows = check(i, c, money())
    assert flows.verdicts[0].given_a == 9  # 16 - 10 A, and a third of 2.3 kW of sun that is surely used
    assert flows.overloads == []


def energy(snapshot: PowerSnapshot | None) -> tuple[float, float]:
    assert snapshot is not None
    return snapshot.ev_power_kw, snapshot.battery_power_kw


def test_house_priority_keeps_what_is_stored_from_the_car() -> None:
    i = house(3, 0, (battery(50),), (car(10, 1),))
    small = physical(max_grid_import_kw=11.04)
    assert energy(check(i, limits(small), money()).snapshot) == pytest.approx((7.59, 0))
    assert energy(check(i, limits(small, house_priority=False), money()).snapshot) == pytest.approx(
        (11.04, -3)
    )
    calm = house(3, 0, (battery(50),), (car(),))
    assert energy(check(calm, limits(), money()).snapshot) == pytest.approx((4.14, -3))
    assert energy(check(calm, limits(house_priority=False), money()).snapshot) == pytest.approx((4.14, -5))
    sunny = house(1, 2, (battery(50),), (car(),))
    flows = check(sunny, limits(), money())
    assert energy(flows.snapshot) == pytest.approx((4.14, 0))
    assert flows.verdicts[1].limit == "house priority"


def test_a_battery_makes_up_for_no_car_that_the_plan_did_not_foresee() -> None:
    o = money(scheduled_kw={"battery": -2.0, "car": 4.14}, scheduled_grid_kw=5.14)
    for cars in ((car(),), ()):
        flows = check(house(3, 0, (battery(50),), cars), limits(), o)
        assert flows.verdicts[-1].given_kw == pytest.approx(-2)
    unforeseen = money(scheduled_kw={"battery": -2.0}, scheduled_grid_kw=1.0)
    flows = check(house(3, 0, (battery(50),), (car(),)), limits(), unforeseen)
    assert energy(flows.snapshot) == pytest.approx((4.14, -2))
