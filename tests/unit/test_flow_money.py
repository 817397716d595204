"""What is worth doing: self-consumption, export, arbitrage, negative prices, plans."""

import pytest

from contracts.messages import PowerSnapshot
from orchestrator.limits import EconomicObjectives
from tests.unit.houses import battery, car, check, house, limits, money, physical


def flows(
    load_kw: float, pv_kw: float, o: EconomicObjectives, soc: float = 50.0, export_kw: float = 10.0
) -> tuple[float, float, float, str]:
    """Battery, grid (+ import), curtailed, and what decided."""
    c = limits(physical(max_grid_export_kw=export_kw))
    snapshot, verdicts, _ = check(house(load_kw, pv_kw, (battery(soc),)), c, o)
    assert snapshot is not None
    grid_kw = snapshot.grid_import_kw - snapshot.grid_export_kw
    return snapshot.battery_power_kw, grid_kw, snapshot.curtailed_kw, verdicts[-1].limit


SELL = {"prefer_self_consumption": False}


@pytest.mark.parametrize(
    ("o", "expected"),
    [
        (money(), (3, 0, 0, "solar surplus")),
        (money(**SELL, export_price=1.5), (0, -3, 0, "export pays")),
        (money(**SELL, export_price=1.0), (0, -3, 0, "export pays")),
        (money(**SELL, export_price=0.9), (3, 0, 0, "solar surplus")),  # less than it is worth stored
        (money(**SELL), (0, -3, 0, "export pays")),
        (money(**SELL, arbitrage_threshold=None, export_price=0.0), (3, 0, 0, "solar surplus")),
        (money(export_price=1.5), (3, 0, 0, "solar surplus")),
    ],
)
def test_self_consumption_against_export(
    o: EconomicObjectives, expected: tuple[float, float, float, str]
) -> None:
    assert flows(1, 4, o) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("o", "soc", "export_kw", "expected"),
    [
        (money(), 95, 10, (0, -3, 0)),  # full: sold
        (money(export_price=-0.1), 95, 10, (0, 0, 3)),  # rather curtailed than paid for
        (money(export_price=-0.1), 50, 10, (3, 0, 0)),
        (money(**SELL, export_price=-0.1), 50, 10, (3, 0, 0)),
        (money(), 95, 0, (0, 0, 3)),
        (money(**SELL), 50, 0, (3, 0, 0)),  # no export: stored, not lost
        (money(**SELL), 50, 1, (2, -1, 0)),
        (money(scheduled_kw={"battery": -4.0}, scheduled_grid_kw=-3.0), 50, 0, (3, 0, 0)),
        (money(scheduled_kw={"battery": -4.0}, scheduled_grid_kw=-7.0), 50, 10, (-4, -7, 0)),
        (money(scheduled_kw={"battery": -4.0}, scheduled_grid_kw=-7.0, export_price=-1.0), 50, 10, (3, 0, 0)),
    ],
)
def test_what_is_left_over(
    o: EconomicObjectives, soc: float, export_kw: float, expected: tuple[float, float, float]
) -> None:
    assert flows(1, 4, o, soc, export_kw)[:3] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("o", "expected"),
    [
        (money(), (-2, 0, 0, "self-consumption")),
        (money(import_price=1.0), (-2, 0, 0, "self-consumption")),  # not below the threshold
        (money(import_price=0.99), (5, 7, 0, "cheap price")),
        (money(import_price=0.99, demand_priced=True), (-2, 0, 0, "self-consumption")),  # no new peak
        (money(arbitrage_threshold=None), (-2, 0, 0, "self-consumption")),
        (EconomicObjectives(), (-2, 0, 0, "self-consumption")),
        (
            money(import_price=0.5, scheduled_kw={"battery": -1.0}, scheduled_grid_kw=1.0),
            (-1, 1, 0, "schedule"),
        ),
        (money(import_price=-0.5), (5, 7, 0, "negative price")),
    ],
)
def test_arbitrage(o: EconomicObjectives, expected: tuple[float, float, float, str]) -> None:
    assert flows(2, 0, o) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("load", "pv", "soc", "export_price", "expected"),
    [
        (2, 3, 50, None, (5, 7, 3)),  # the battery fills from the grid, the sun is not used
        (2, 3, 95, None, (0, 2, 3)),
        (2, 9, 95, 0.5, (0, -7, 0)),  # 7 kW sold for 0.5 are worth more than 2 kW used at -0.5
        (2, 3, 95, 0.5, (0, -1, 0)),
        (2, 3, 95, 0.1, (0, 2, 3)),
        (20, 3, 95, None, (-1, 16, 0)),  # the fuse carries no more as it is
        (14, 3, 95, None, (0, 14, 3)),
        (15, 3, 95, None, (0, 15, 3)),
        (17, 3, 95, None, (0, 16, 2)),
    ],
)
def test_a_negative_price_is_used(
    load: float, pv: float, soc: float, export_price: float | None, expected: tuple[float, float, float]
) -> None:
    o = money(import_price=-0.5 if pv != 3 or export_price != 0.5 else -0.2, export_price=export_price)
    assert flows(load, pv, o, soc)[:3] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("planned_kw", "ceiling_kw", "battery_kw"),
    [
        (0.0, 0.0, -1.0),  # the plan's purchase is held: a peak above it would cost
        (0.0, 2.5, -0.5),  # a peak of 2.5 kW is paid for: only what is above it is made up for
        (0.0, 4.0, 0.0),  # nothing is saved below it
        (1.0, 4.0, 1.0),
        (2.0, 4.0, 1.0),  # and the battery charges up to it, no further
    ],
)
def test_the_grid_is_held_at_the_peak_that_is_paid_for(
    planned_kw: float, ceiling_kw: float, battery_kw: float
) -> None:
    o = money(
        scheduled_kw={"battery": planned_kw},
        scheduled_grid_kw=2.0 + planned_kw if planned_kw else 2.0,
        demand_priced=True,
        grid_ceiling_kw=ceiling_kw,
    )
    assert flows(3, 0, o)[0] == pytest.approx(battery_kw)


def test_more_sun_than_the_plan_foresaw_is_stored() -> None:
    assert flows(1, 4, money(scheduled_kw={"battery": 2.0}, scheduled_grid_kw=0.0))[0] == pytest.approx(3)
    assert flows(1, 4, money(scheduled_kw={"battery": 0.001}, scheduled_grid_kw=0.0))[0] == pytest.approx(3)
    assert flows(1, 4, money(scheduled_kw={"battery": 4.0}, scheduled_grid_kw=1.0))[0] == pytest.approx(4)


def told(snapshot: PowerSnapshot | None, sentence: str, alternative: str) -> str:
    assert snapshot is not None
    return f"{sentence} Or: {alternative}."


@pytest.mark.parametrize(
    ("load", "pv", "o", "says"),
    [
        (3, 0, money(scheduled_kw={"battery": -3.0}), "The plan uses the battery now at 2 SEK/kWh. Or: rest, and take 3.00 kW from the grid."),
        (0, 0, money(scheduled_kw={"battery": -3.0}), "The house needs nothing from the battery now. Or: ."),
        (1, 0, money(import_price=0.5), "Electricity is cheap at 0.5 SEK/kWh: the battery charges. Or: rest, and take 1.00 kW from the grid."),
        (1, 4, money(), "The battery stores 3.00 kW of solar power. Or: rest, and leave 3.00 kW of solar power over."),
        (8, 0, money(), "There is no fresh plan and the house takes 8.00 kW, but it can't discharge faster: the battery discharges with 5.00 kW. Or: rest, and take 8.00 kW from the grid."),
        (3, 0, money(scheduled_kw={"battery": 0.0}, scheduled_grid_kw=3.0), "The plan keeps the battery's energy for later at 2 SEK/kWh. Or: cover the house's 3.00 kW."),
    ],
)  # fmt: skip
def test_a_sentence_a_householder_understands(
    load: float, pv: float, o: EconomicObjectives, says: str
) -> None:
    snapshot, [verdict], _ = check(house(load, pv), limits(), o)
    assert told(snapshot, verdict.sentence, verdict.alternative) == says


def test_a_car_s_sentence_and_its_next_best() -> None:
    _, [verdict], _ = check(house(1, 0, (), (car(10, 1),)), limits(), money())
    assert verdict.sentence == "The car leaves soon: it charges at full power."
    assert verdict.alternative == "charge slower, and leave with less"
