"""What grid power costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from energy.bill import Bill
from energy.tariff import Period, Tariff, TariffFile, compile_tariff, load_tariff

CRC = load_tariff("costa_rica")


def test_a_day_under_the_reference_tariff() -> None:
    bill = Bill(CRC)
    start = Instant.parse("2024-07-01T06:00:00Z")  # midnight in Costa Rica
    for quarter in range(96):
        bill.add(start.after(quarter * 900), 900, 2.0)
    costs = bill.costs()
    # 7 h at 70, 9 h at 26, 8 h at 16, all at 2 kW; three peaks of 2 kW.
    assert costs.energy == pytest.approx(2 * (7 * 70 + 9 * 26 + 8 * 16))
    assert costs.demand == pytest.approx(2 * (10154 + 7090 + 4541))
    assert costs.import_kwh == pytest.approx(48)
    assert costs.peak_kw == pytest.approx(2)
    assert costs.total == pytest.approx(costs.energy + costs.demand)


def test_a_peak_is_a_quarter_hour_s_mean_and_each_month_has_its_own() -> None:
    bill = Bill(CRC)
    july = Instant.parse("2024-07-31T18:00:00Z")
    for i in range(90):
        bill.add(july.after(i * 10), 10, 10.0 if i < 9 else 0.0)  # 10 kW for a tenth of the quarter
    bill.add(july.after(86400), 900, 3.0)
    assert bill.costs().demand == pytest.approx(10154 * (1.0 + 3.0))


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=50))
def test_energy_is_kept_apart_by_direction(powers_kw: list[float]) -> None:
    tariff = load_tariff("fontana_tou")
    bill = Bill(tariff)
    start = Instant.parse("2024-07-01T00:00:00Z")
    for i, power in enumerate(powers_kw):
        bill.add(start.after(900 * i), 900, power)
    costs = bill.costs()
    assert costs.import_kwh - costs.export_kwh == pytest.approx(sum(powers_kw) / 4, abs=1e-9)
    assert costs.export == pytest.approx(0.06 * costs.export_kwh)
    assert costs.peak_kw == pytest.approx(max(0.0, *powers_kw, 0.0))


def half_hourly() -> Tariff:
    """All hours alike but in price; one peak for both, the billing month from the 15th."""
    periods = tuple(
        Period(name=name, hours=((start, end),), import_price=price, demand_price=10.0, demand_group="any")
        for name, start, end, price in (("day", 8, 20, 2.0), ("night", 20, 8, 1.0))
    )
    return compile_tariff(
        TariffFile(
            name="t",
            currency="EUR",
            timezone="Europe/Paris",
            demand_interval_min=30,
            billing_day=15,
            periods=periods,
        )
    )


def test_a_half_hour_meter_takes_the_mean_of_two_quarters_and_a_group_has_one_peak() -> None:
    bill = Bill(half_hourly())
    start = Instant.parse("2024-07-01T12:00:00Z")
    for quarter, kw in enumerate((0.0, 8.0, 8.0, 0.0, 3.0, 3.0)):
        bill.add(start.after(900 * quarter), 900, kw)
    bill.add(start.after(12 * 3600), 900, 6.0)
    assert bill.costs().demand == pytest.approx(10 * 4.0)
    assert bill.costs().peak_kw == pytest.approx(4.0)


def test_a_billing_month_begins_on_its_day() -> None:
    bill = Bill(half_hourly())
    midnight = Instant.parse("2024-07-14T22:00:00Z")
    for days, kw in ((-14, 9.0), (-1, 2.0), (0, 4.0), (20, 3.0)):
        bill.add(midnight.after(days * 86400.0), 900, kw)
        bill.add(midnight.after(days * 86400.0 + 900), 900, kw)
    assert bill.costs().demand == pytest.approx(10 * (9.0 + 4.0))
