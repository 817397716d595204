"""The reference's three scenarios, with the settings that give its numbers to its rounding."""

import pytest

from contracts.messages import PowerSnapshot
from orchestrator.limits import Constraints, EconomicObjectives, PowerFlowInputs
from tests.unit.houses import battery, car, check, house, limits, money, physical


def numbers(snapshot: PowerSnapshot | None) -> tuple[float, ...]:
    assert snapshot is not None
    s = snapshot
    return s.house_load_kw, s.ev_power_kw, s.battery_power_kw, s.grid_import_kw - s.grid_export_kw


def rounded(i: PowerFlowInputs, c: Constraints, o: EconomicObjectives) -> tuple[float, ...]:
    return tuple(round(kw) for kw in numbers(check(i, c, o).snapshot))


def test_1_solar_self_consumption() -> None:
    """12:00, three phases of 6 to 16 A, dear electricity, a car of 40 kWh that leaves at 17:00."""
    i = house(2, 8, (battery(50),), (car(40, 5, capacity_kwh=40.0),))
    c, o = limits(physical(phases=3)), money(import_price=2.0, arbitrage_threshold=1.0)
    assert numbers(check(i, c, o).snapshot) == pytest.approx((2, 4.14, 1.86, 0))
    assert rounded(i, c, o) == (2, 4, 2, 0)
    leaving, _ = check(i, c, o).verdicts
    assert leaving.limit == "dear price"
    assert leaving.urgency == pytest.approx(16 / 5 / 11.04)


@pytest.mark.parametrize(("demand_priced", "battery_kw"), [(True, 1.0), (False, 1.1)])
def test_2_fuse_protection(*, demand_priced: bool, battery_kw: float) -> None:
    """18:00, cheap electricity, a point of 32 A and a car of 11.04 kW: wants 11; a reserve of 1 kW below 40 %.

    Where a peak costs nothing the battery takes what the car's whole amperes leave of the fuse as well.
    """
    wants_11 = car(40, 14, max_charge_kw=11.04, max_current_a=32.0, phases=3, capacity_kwh=40.0)
    i = house(8, 0, (battery(30),), (wants_11,))
    c = limits(physical(max_grid_import_kw=16.0), reserve_soc_percent=40.0, reserve_charge_kw=1.0)
    o = money(import_price=0.5, arbitrage_threshold=1.0, demand_priced=demand_priced)
    flows = check(i, c, o)
    assert numbers(flows.snapshot) == pytest.approx((8, 6.9, battery_kw, 14.9 + battery_kw))
    assert rounded(i, c, o) == (8, 7, 1, 16)
    verdict = flows.verdicts[0]
    assert verdict.asked_kw == pytest.approx(11.04)
    assert (verdict.tier, verdict.limit, verdict.given_a) == ("physical", "main fuse", 10)
    assert verdict.sentence == "The main fuse leaves 7.0 kW: the car gets 10 A instead of 16 A."
    limit = "40 % is its reserve" if demand_priced else "the main fuse carries no more"
    assert flows.verdicts[1].limit == limit


def test_3_urgent_ev_charging() -> None:
    """16:00, a car of 19 kWh from 25 to 80 % in an hour; the battery pauses, whatever the plan wants."""
    i = house(2, 2, (battery(50),), (car(25, 1, capacity_kwh=19.0),))
    c, o = limits(physical(phases=3)), money(scheduled_kw={"battery": 3.0}, scheduled_grid_kw=3.0)
    flows = check(i, c, o)
    assert numbers(flows.snapshot) == pytest.approx((2, 11.04, 0, 11.04))
    assert rounded(i, c, o) == (2, 11, 0, 11)
    assert flows.verdicts[0].urgency == pytest.approx(0.95, abs=0.005)
    assert flows.verdicts[1].limit == "urgent car"
