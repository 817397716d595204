"""When a plan no longer fits the house: each way to depart from it, and none that does not matter."""

from typing import Any

import pytest
from msgspec.structs import replace

from contracts.instant import Instant
from contracts.messages import Schedule
from optimizer.household import Household
from optimizer.model import PlannerModel
from optimizer.watch import CarState, Seen, Tolerance, departure, soc_at
from tests.contract.test_optimizer_api import schedule
from tests.unit.test_optimizer_model import SETUP, START, der, live, meter

PLAN = schedule(
    START,
    start=START,
    soc_percent=[50.0, 60.0, *[60.0] * 191],
    load_kw=[3.0, 4.0, *[4.0] * 190],
    pv_kw=[1.0] * 192,
)
CAR = CarState(connected=True, departure_at=START.after(7200), target_soc_percent=80.0)
THEN = Seen(
    batteries=frozenset({"battery"}), cars={"car": CAR}, soc_percent={"battery": 50.0}, recent_kw=None
)


def seen(**more: Any) -> Seen:
    return replace(THEN, **{"soc_percent": {}, **more})


@pytest.mark.parametrize(
    ("now", "cause"),
    [
        (seen(), None),
        (seen(batteries=frozenset({"battery", "garage"})), "device"),
        (seen(batteries=frozenset()), "device"),
        (seen(cars={}), "car"),
        (seen(cars={"car": CAR._replace(connected=False)}), "car"),
        (seen(cars={"car": CAR._replace(departure_at=START.after(3600))}), "car"),
        (seen(cars={"car": CAR._replace(target_soc_percent=90.0)}), "car"),
        (seen(soc_percent={"battery": 59.9}), None),
        (seen(soc_percent={"battery": 60.1}), "soc"),
        (seen(soc_percent={"battery": 49.9}), "soc"),
        (seen(recent_kw=(4.9, 1.0)), None),
        (seen(recent_kw=(5.6, 1.6)), None),
        (seen(recent_kw=(5.6, 1.5)), "power"),
        (seen(recent_kw=(1.0, 1.1)), "power"),
    ],
)
def test_a_departure_is_named(now: Seen, cause: str | None) -> None:
    # Half of the first step has passed: 55 % are planned, and 2 kW net.
    assert departure([PLAN], THEN, now, Tolerance(5.0, 2.0), START.after(450)) == cause


def test_the_plan_is_followed_from_when_it_was_made() -> None:
    late = replace(PLAN, issued_at=START.after(600))
    assert soc_at(late, START.after(600)) == 50.0
    assert soc_at(late, START.after(750)) == 55.0
    assert soc_at(PLAN, START.after(900)) == 60.0
    assert soc_at(PLAN, START.after(192 * 900)) is None
    assert departure([PLAN], THEN, seen(recent_kw=(9.0, 0.0)), Tolerance(), START.after(192 * 900)) is None


def household(now: Instant = START) -> Household:
    model = PlannerModel("house-a", SETUP, None, now)
    return Household(model, 900.0, Tolerance(), now)


def planned(house: Household, now: Instant, **more: Any) -> None:
    plan: list[Schedule] = [schedule(now, start=now.floor(900.0), soc_percent=[50.0] * 193, **more)]
    house.note(house.model.plan_inputs(now), plan)


def test_out_of_its_turn_a_house_is_planned_once_a_minute_at_most() -> None:
    house = household()
    house.model.hear(der(START), START)
    assert house.due(START) == "interval"
    planned(house, START)
    for seconds, due in ((30, None), (59, None), (60, "soc"), (80, "soc")):
        at = START.after(seconds)
        house.model.hear(der(at, current_soc=90.0), at)
        assert house.due(at) == due
    planned(house, START.after(80))
    house.model.hear(der(START.after(139), current_soc=90.0), START.after(139))
    assert house.due(START.after(139)) is None
    assert house.due(START.after(900)) == "interval"


def test_a_house_whose_readings_waver_is_left_alone() -> None:
    house = household()
    live(house.model, START, 300.0, 1000.0)
    now = START.after(300)
    house.model.hear(der(now), now)
    planned(house, now, load_kw=[1.0] * 192)
    for i in range(60):
        at = now.after(10 * i)
        house.model.hear(der(at), at)
        house.model.hear(meter(at, 4000.0 if i % 4 == 0 else 500.0), at)
        assert house.due(at) is None


def test_turns_that_passed_without_a_plan_are_counted() -> None:
    house = household()
    assert house.missed(START) == 0
    planned(house, START.after(5))
    assert [house.missed(START.after(s)) for s in (10, 905, 1799, 1800, 3600)] == [0, 0, 0, 1, 3]


def test_a_house_with_only_a_full_car_is_not_planned_over_and_over() -> None:
    house = household()
    house.model.hear(
        der(START, der_id="car", type="electric_vehicle", connected=True, current_soc=99.0), START
    )
    inputs = house.model.plan_inputs(START)
    assert inputs.problem is None
    house.note(inputs, [])
    house.model.hear(
        der(START.after(60), der_id="car", type="electric_vehicle", connected=True, current_soc=99.0),
        START.after(60),
    )
    assert house.due(START.after(60)) is None


def test_a_house_is_forgotten_after_a_day() -> None:
    house = household()
    assert not house.is_forgotten(START.after(86400))
    assert house.is_forgotten(START.after(86401))
