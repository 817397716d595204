"""What the dashboard makes of the bus: flows, a day, money, states; and that nothing in it grows without end."""

from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from contracts.instant import Instant
from contracts.messages import PlantReading, PowerSnapshot, Status
from contracts.orders import HeldDer, StandingOrders
from dashboard.flows import BINS_MAX
from dashboard.house import COMMANDS_MAX, DERS_MAX, House
from dashboard.model import ALERTS_MAX, HOUSES_MAX, Fleet
from dashboard.views import alerts_of, commands_of, day_of, row_of, services_of
from tests.conftest import START
from tests.dashboard_house import (
    HOUSE,
    a_house,
    alert,
    answer,
    command,
    decision,
    prices,
    pv_reading,
    reading,
    schedule,
    telemetry,
)

ZONE = ZoneInfo("Europe/Madrid")


def fleet_of(*messages: Any, max_export_kw: float = 16.0, now: Instant = START) -> Fleet:
    fleet = Fleet(ZONE, lambda _: max_export_kw)
    hear(fleet, *messages, now=now)
    return fleet


def hear(fleet: Fleet, *messages: Any, now: Instant = START) -> House | None:
    for message in messages:
        fleet.hear({"house": message.house, "class": "x", "device": "main"}, message, now)
    return fleet.houses.get(HOUSE)


def test_the_grid_gives_what_the_house_lacks() -> None:
    fleet = fleet_of(*a_house(START, load_w=1500, pv_w=500, battery_kw=-0.6), telemetry(START, 2.0, der="ev"))
    row = row_of(fleet.houses[HOUSE], START)
    assert (row.load, row.pv, row.battery, row.ev) == (1.5, 0.5, -0.6, 2.0)
    assert row.grid == pytest.approx(1.5 + 2.0 - 0.6 - 0.5)
    assert (row.soc, row.online) == (64.0, True)


def test_a_meter_at_the_grid_tells_the_load() -> None:
    fleet = fleet_of(reading(START, -400, measures="grid"), pv_reading(START, 3000), telemetry(START, 1.0))
    row = row_of(fleet.houses[HOUSE], START)
    assert row.grid == -0.4
    assert row.load == pytest.approx(-0.4 + 3.0 - 1.0)


def test_what_is_curtailed_is_not_exported() -> None:
    snapshot = PowerSnapshot(
        house=HOUSE, timestamp=START, pv_kw=3, house_load_kw=1, battery_power_kw=0, ev_power_kw=0,
        grid_import_kw=0, grid_export_kw=0, curtailed_kw=2,
    )  # fmt: skip
    fleet = fleet_of(reading(START, 1000), pv_reading(START, 3000), snapshot)
    flows = fleet.houses[HOUSE].flows()
    assert flows is not None
    assert (flows.grid, flows.curtailed) == (0.0, 2.0)
    hear(fleet, reading(START.after(60), 1000))  # a snapshot so old says nothing of now
    flows = fleet.houses[HOUSE].flows()
    assert flows is not None
    assert flows.grid == -2.0


def test_a_plant_is_a_house_that_produces() -> None:
    plant = PlantReading(house="plant-1", boot=1, seq=1, timestamp=START, generation_w=5e6, consumption_w=1e6)
    row = row_of(fleet_of(plant).houses["plant-1"], START)
    assert (row.pv, row.load, row.grid) == (5000, 1000, -4000)


def test_a_replay_and_what_comes_late_are_not_now() -> None:
    fleet = fleet_of(reading(START, 1000))
    hear(fleet, reading(START.after(-10), 5000), reading(START.after(10), 7000, historical=True))
    assert row_of(fleet.houses[HOUSE], START).load == 1.0


def test_a_meter_that_spoke_from_the_future_does_not_silence_itself() -> None:
    fleet = fleet_of(reading(START.after(3600), 5000))
    hear(fleet, reading(START.after(1), 1000), now=START.after(1))
    row = row_of(fleet.houses[HOUSE], START.after(2))
    assert (row.load, row.at) == (1.0, START.after(1).unix_ms)


def test_a_clock_that_runs_ahead_does_not_look_fresh() -> None:
    fleet = fleet_of(telemetry(START.after(600), 1.0))
    assert row_of(fleet.houses[HOUSE], START).devices[0].at == START.unix_ms


def drive(
    fleet: Fleet, hours: float, *, load_w: float, pv_w: float, battery_kw: float, start: Instant = START
) -> Instant:
    """Readings every ten seconds."""
    at, soc = start, 50.0
    for i in range(int(hours * 360) + 1):
        at = start.after(10 * i)
        hear(fleet, reading(at, load_w), pv_reading(at, pv_w), telemetry(at, battery_kw, soc), now=at)
        soc += battery_kw / 360 / 10 * 100
    return at


def test_cost_and_saving_of_an_hour() -> None:
    fleet = fleet_of(prices(START, buy=0.3, sell=0.1, steps=2))  # 0.3, then 0.6
    now = drive(fleet, 0.5, load_w=2000, pv_w=0, battery_kw=-1.0)
    row = row_of(fleet.houses[HOUSE], now)
    assert row.cost == pytest.approx(0.25 * 0.3 + 0.25 * 0.6, rel=0.01)
    # 0.225 not bought; but half a kWh less is stored, worth 0.45 a kWh on the mean.
    assert row.saved == pytest.approx(0.225 - 0.5 * 0.45, abs=0.01)
    assert (row.currency, row.since) == ("EUR", START.unix_ms)


def test_without_a_battery_no_more_is_exported_than_may_be() -> None:
    fleet = fleet_of(prices(START, buy=0.3, sell=0.1), max_export_kw=0.0)
    now = drive(fleet, 0.25, load_w=1000, pv_w=3000, battery_kw=2.0)
    row = row_of(fleet.houses[HOUSE], now)
    assert row.cost == pytest.approx(0.0, abs=1e-3)
    assert row.saved == pytest.approx(0.5 * 0.45, rel=0.02)  # what is stored; nothing would have been sold


def test_the_bill_begins_again_at_midnight_on_the_house_s_clocks() -> None:
    evening = Instant.parse("2024-07-01T21:55:00Z")  # 23:55 in Madrid
    fleet = fleet_of(prices(evening))
    now = drive(fleet, 0.25, load_w=2000, pv_w=0, battery_kw=0.0, start=evening)
    row = row_of(fleet.houses[HOUSE], now)
    assert row.since == Instant.parse("2024-07-01T22:00:00Z").unix_ms
    assert row.cost == pytest.approx(2.0 * (10 / 60) * 0.3, rel=0.02)
    assert day_of(fleet.houses[HOUSE], fleet, now).midnight == row.since


def test_a_day_stands_against_its_plan() -> None:
    fleet = fleet_of(telemetry(START, 0.0), prices(START), schedule(START))
    now = drive(fleet, 0.5, load_w=1200, pv_w=300, battery_kw=0.6)
    house = fleet.houses[HOUSE]
    day = day_of(house, fleet, now)
    assert len(day.start) == 6
    assert day.start[1] - day.start[0] == 300_000
    assert day.load == pytest.approx([1.2] * 6)
    assert day.grid == pytest.approx([1.5] * 6)
    assert (day.planned_load, day.planned_grid) == ([1.5] * 6, [2.0] * 6)
    assert day.price[0] == 0.3
    assert day.plan is not None
    assert (len(day.plan.grid), len(day.plan.soc or [])) == (192, 193)
    assert day.prices is not None
    assert len(day.prices.buy) == 192


def test_a_gap_is_not_made_up() -> None:
    fleet = fleet_of(prices(START), reading(START, 1000), reading(START.after(7200), 1000))
    house = fleet.houses[HOUSE]
    assert (len(house.day.bins), house.ledger.since) == (0, None)


def test_a_plan_that_came_before_its_battery_is_told_apart_when_that_speaks() -> None:
    fleet = fleet_of(schedule(START), schedule(START, der="ev"))
    house = fleet.houses[HOUSE]
    assert house.plan is not None
    assert house.plan.soc is None
    hear(fleet, telemetry(START, 0.0), telemetry(START, 0.0, der="ev"))
    assert house.plan.soc is not None
    assert house.plan.battery[0] == 1.0  # the car's power is not the battery's


def test_a_price_for_all_holds_where_no_house_has_its_own() -> None:
    fleet = fleet_of(reading(START, 1000), msgspec.structs.replace(prices(START, buy=0.5), house="site"))
    assert row_of(fleet.houses[HOUSE], START).price == 0.5
    hear(fleet, prices(START, buy=0.2))
    hear(fleet, msgspec.structs.replace(prices(START, buy=0.7), house="site"))
    assert row_of(fleet.houses[HOUSE], START).price == 0.2
    assert list(fleet.houses) == [HOUSE]


def test_a_command_and_what_became_of_it() -> None:
    fleet = fleet_of(telemetry(START, 0.0), command(START, 1.5, 1), command(START.after(10), 2.0, 2))
    hear(fleet, answer(START.after(1), 1), answer(START.after(11), 2, "rejected", reason="too hot"))
    house = fleet.houses[HOUSE]
    newest, first = commands_of(house)
    assert (first.value, first.unit, first.result) == (1.5, "kW", "accepted")
    assert (newest.result, newest.why, newest.answered) == ("rejected", "too hot", START.after(11).unix_ms)
    assert row_of(house, START).devices[0].command == newest


def test_why_and_what_is_held_stand_in_the_row() -> None:
    held = StandingOrders(
        house=HOUSE, issued_at=START,
        held=[HeldDer(mode="pause", user="ana"), HeldDer(mode="safe", user="ana", until=START.after(-1))],
    )  # fmt: skip
    fleet = fleet_of(telemetry(START, 0.0), decision(START, "The battery waits for noon."), held)
    row = row_of(fleet.houses[HOUSE], START)
    assert [one.sentence for one in row.why] == ["The battery waits for noon."]
    assert [(one.mode, one.user) for one in row.held] == [("pause", "ana")]


@pytest.mark.parametrize(
    ("online", "age_s", "expected"), [(True, 10, True), (False, 10, False), (True, 120, False)]
)
def test_who_says_that_it_is_gone_or_says_nothing_any_more_is_offline(
    *, online: bool, age_s: float, expected: bool
) -> None:
    status = Status(house=HOUSE, device="battery", online=online, timestamp=START.after(-age_s))
    fleet = fleet_of(telemetry(START, 0.0), status)
    assert row_of(fleet.houses[HOUSE], START).devices[0].online is expected


def test_services_of_no_house() -> None:
    fleet = Fleet(ZONE, lambda _: 16.0)
    for kind, online in (("optimizer", True), ("recorder", False), ("dashboard", True)):
        status = Status(house="site", device="main", online=online, timestamp=START)
        fleet.hear({"house": "site", "class": kind, "device": "main"}, status, START)
    assert [(one.name, one.online) for one in services_of(fleet, START)] == [
        ("optimizer", True),
        ("recorder", False),
    ]


def test_an_alert_stands_until_it_is_said_to_be_over() -> None:
    fleet = fleet_of(reading(START, 1.0), alert(START, "no news of the meter"))
    assert [one.text for one in row_of(fleet.houses[HOUSE], START).troubles] == ["no news of the meter"]
    hear(fleet, alert(START.after(60), "over: no news of the meter", "info"))
    assert row_of(fleet.houses[HOUSE], START).troubles == []
    assert [one.severity for one in alerts_of(fleet)] == ["info", "warning"]


def test_nothing_grows_without_end() -> None:
    fleet = Fleet(ZONE, lambda _: 16.0)
    for i in range(HOUSES_MAX + 5):
        fleet.hear({"house": f"h{i}"}, reading(START, 1.0, house=f"h{i}"), START)
    assert (len(fleet.houses), fleet.refused) == (HOUSES_MAX, 5)
    house = House(HOUSE, ZONE, 16.0)
    for i in range(400):
        at = START.after(300 * i)
        for message in (
            reading(at, 1.0), telemetry(at, 0.0, der=f"d{i}"), command(at, 0.0, i, der=f"d{i}"), decision(at, "x", der=f"d{i}"),
            schedule(at, der=f"d{i}", steps=2), alert(at, "x", name=f"n{i}"),
        ):  # fmt: skip
            house.hear(message, at)
    assert len(house.day.bins) == BINS_MAX
    assert len(house.sent) == COMMANDS_MAX
    for known in (house.ders, house.decisions, house.schedules, house.last_sent, house.standing):
        assert len(known) <= DERS_MAX
    for i in range(ALERTS_MAX + 10):
        fleet.hear({"house": "h0"}, alert(START, str(i), house="h0"), START)
    assert len(fleet.alerts) == ALERTS_MAX
