"""What batteries do: the limits of each, several together, phases, the fuse."""

import pytest

from orchestrator.flow import Flows
from orchestrator.limits import BatteryState, Constraints, EconomicObjectives
from tests.unit.houses import battery, car, check, house, limits, money, physical


def given(flows: Flows) -> list[float]:
    return [verdict.given_kw for verdict in flows.verdicts if verdict.given_a is None]


@pytest.mark.parametrize(
    ("state", "load", "pv", "does", "tier", "limit"),
    [
        (battery(50), 3, 0, -3, "economic", "self-consumption"),
        (battery(50), 8, 0, -5, "physical", "it can't discharge faster"),
        (battery(50), 0, 8, 5, "physical", "it can't charge faster"),
        (battery(10), 3, 0, 0, "safety", "10 % is the least it may hold"),
        (battery(10, min_soc_percent=5.0), 3, 0, -3, "economic", "self-consumption"),
        (battery(10, min_soc_percent=None), 3, 0, 0, "safety", "10 % is the least it may hold"),
        (battery(90), 0, 3, 0, "safety", "90 % is the most it may hold"),
        (battery(50, temperature_c=50.0), 3, 0, -3, "economic", "self-consumption"),
        (battery(50, temperature_c=50.1), 3, 0, 0, "safety", "it is warmer than 50 °C"),
        (battery(50, temperature_c=50.1), 20, 0, 0, "safety", "it is warmer than 50 °C"),
        (battery(50, cycles_today=1.9), 3, 0, -3, "economic", "self-consumption"),
        (battery(50, cycles_today=2.0), 3, 0, 0, "safety", "it has had its 2 cycles of the day"),
        (battery(50, cycles_today=2.0), 0, 3, 0, "safety", "it has had its 2 cycles of the day"),
        (battery(50, cycles_today=2.0), 18, 0, -2, "physical", "the main fuse carries no more"),
        (battery(50, age_s=31.0), 3, 0, 0, "safety", "it has not been heard of lately"),
        (battery(None), 3, 0, 0, "safety", "its charge is not known"),
        (battery(50, max_discharge_kw=None), 3, 0, 0, "physical", "it can't discharge faster"),
    ],
)  # fmt: skip
def test_a_battery_s_limits(
    state: BatteryState, load: float, pv: float, does: float, tier: str, limit: str
) -> None:
    flows = check(house(load, pv, (state,)), limits(), money())
    [verdict] = flows.verdicts
    assert (verdict.given_kw, verdict.tier, verdict.limit) == (pytest.approx(does), tier, limit)


RESERVE = limits(reserve_soc_percent=40.0, reserve_charge_kw=1.0)


@pytest.mark.parametrize(
    ("soc", "load", "pv", "does"),
    [
        (39, 3, 0, 1),  # below: comes back
        (40, 3, 0, 0),  # just above: rests, lest it goes up and down
        (40.9, 3, 0, 0),
        (41, 3, 0, -3),
        (39, 0, 4, 4),  # the sun gives more
        (39, 15.5, 0, 0.5),  # the fuse leaves less
        (39, 18, 0, -2),  # the fuse needs it
        (10, 18, 0, 0),  # but never below the least it may hold
    ],
)
def test_a_reserve(soc: float, load: float, pv: float, does: float) -> None:
    assert given(check(house(load, pv, (battery(soc),)), RESERVE, money())) == [pytest.approx(does)]


def test_a_reserve_is_not_filled_from_another_battery_nor_before_an_urgent_car() -> None:
    two = (battery(20, "a"), battery(80, "b"))
    assert given(check(house(3, 0, two), RESERVE, money())) == [0, -3]
    assert given(check(house(0, 0, two, (car(10, 1),)), RESERVE, money())) == [0, 0]


def test_a_car_that_hurries_but_can_t_charge_is_no_reason_to_pause() -> None:
    flows = check(house(14, 0, (battery(50),), (car(10, 1),)), limits(), money())
    assert [verdict.given_kw for verdict in flows.verdicts] == [0, -5]


def test_reserves_keep_to_the_limit_of_all_together() -> None:
    c = limits(physical(max_battery_charge_kw=1.5), reserve_soc_percent=40.0, reserve_charge_kw=1.0)
    assert given(check(house(0, 0, (battery(20, "a"), battery(20, "b"))), c, money())) == [1, 0.5]


UNEQUAL = (
    battery(50, "a", max_charge_kw=2.0, max_discharge_kw=2.0),
    battery(50, "b", max_charge_kw=6.0, max_discharge_kw=4.0),
)


@pytest.mark.parametrize(
    ("load", "pv", "o", "does"),
    [
        (3, 0, money(), [-1, -2]),  # by what each can
        (9, 0, money(), [-2, -4]),
        (0, 4, money(), [1, 3]),
        (0, 0, money(scheduled_kw={"a": 2.0, "b": 1.0}, scheduled_grid_kw=3.0), [2, 1]),  # by the plan
        (0, 0, money(scheduled_kw={"a": 3.0, "b": 1.0}, scheduled_grid_kw=3.0), [2, 2]),  # what one can't the other does
        (6, 0, money(scheduled_kw={"a": -2.0, "b": -1.0}, scheduled_grid_kw=2.0), [-2, -2]),  # the grid is held
        (2, 0, money(scheduled_kw={"a": -2.0, "b": -1.0}), [-4 / 3, -2 / 3]),  # less than planned: never into the grid
        (15, 0, money(scheduled_kw={"a": 1.0, "b": 1.0}, scheduled_grid_kw=17.0), [0.5, 0.5]),  # the fuse
        (20, 0, money(scheduled_kw={"a": 1.0, "b": 1.0}, scheduled_grid_kw=22.0), [-4 / 3, -8 / 3]),
    ],
)  # fmt: skip
def test_unequal_batteries_share(load: float, pv: float, o: EconomicObjectives, does: list[float]) -> None:
    flows = check(house(load, pv, UNEQUAL), limits(), o)
    assert given(flows) == pytest.approx(does)
    assert flows.snapshot is not None
    assert flows.snapshot.battery_power_kw == pytest.approx(sum(does))


@pytest.mark.parametrize(
    ("state", "limit"),
    [
        ({"temperature_c": 60.0}, "it is warmer than 50 °C"),
        ({"min_soc_percent": 50.0}, "50 % is the least it may hold"),
    ],
)
def test_what_one_can_t_the_other_does_and_it_is_said(state: dict[str, float], limit: str) -> None:
    flows = check(house(3, 0, (battery(50, "a", **state), battery(50, "b"))), limits(), money())
    assert given(flows) == [0, -3]
    assert [verdict.limit for verdict in flows.verdicts] == [limit, "self-consumption"]
    assert flows.verdicts[1].sentence.startswith("This battery discharges with 3.00 kW: ")


def test_the_house_s_battery_limit_is_that_of_all_together() -> None:
    c = limits(physical(max_battery_charge_kw=6.0, max_battery_discharge_kw=4.0))
    two = (battery(50, "a"), battery(50, "b"))
    assert given(check(house(0, 10, two), c, money())) == pytest.approx([3, 3])
    assert given(check(house(10, 0, two), c, money())) == pytest.approx([-2, -2])
    own = (battery(50, max_charge_kw=None, max_discharge_kw=None),)
    assert given(check(house(10, 0, own), c, money())) == [-4]


PHASES = limits(physical(fuse_a=16.0, max_grid_import_kw=11.04))


@pytest.mark.parametrize(
    ("state", "amps", "does", "limit"),
    [
        (battery(50), (20.0, 0.0, 0.0), -0.23 * 12, "the fuse of phase 1 carries no more"),  # 4 A on each
        (battery(50, phase=1), (20.0, 0.0, 0.0), -0.23 * 4, "the fuse of phase 1 carries no more"),
        (battery(50, phase=2), (20.0, 0.0, 0.0), 0, "the fuse of phase 1"),
    ],
)
def test_a_battery_discharges_for_one_phase(
    state: BatteryState, amps: tuple[float, ...], does: float, limit: str
) -> None:
    o = money(scheduled_kw={"battery": 0.0}, scheduled_grid_kw=5.0)
    flows = check(house(4.6, 0, (state,), phase_a=amps), PHASES, o)
    assert given(flows) == [pytest.approx(does)]
    assert bool(flows.overloads) is (does == 0)
    if does:
        assert flows.verdicts[0].limit == limit


def test_a_phase_carries_no_more_the_other_way_either() -> None:
    one = battery(50, phase=1, max_discharge_kw=9.0)
    flows = check(house(9, 0, (one,), phase_a=(2.0, 18.0, 18.0)), PHASES, money())
    assert given(flows) == [pytest.approx(-0.23 * 18)]  # 2 A of its own, 16 A into the others
    assert flows.verdicts[0].limit == "the fuse of its phase carries no more"
    sun = check(house(0.23, 9, (), phase_a=(1.0, 0.0, 0.0), pv_phase=1), PHASES, money())
    assert sun.snapshot is not None
    assert sun.snapshot.curtailed_kw == pytest.approx(9 - 0.23 * 17)
    assert sun.overloads == []


@pytest.mark.parametrize("c", [limits(), PHASES])
def test_the_fuse_takes_from_the_battery_before_the_car_keeps_its_current(c: Constraints) -> None:
    o = money(scheduled_kw={"battery": 5.0, "car": 4.14}, scheduled_grid_kw=12.0)
    flows = check(house(5, 0, (battery(50),), (car(),)), limits(physical(max_grid_import_kw=11.0)), o)
    assert [verdict.given_kw for verdict in flows.verdicts] == pytest.approx([4.14, 1.86])
    assert flows.verdicts[1].sentence.endswith(
        "but the main fuse carries no more: the battery charges with 1.86 kW."
    )
