import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.instant import Instant
from energy.bill import Bill
from energy.tariff import load_tariff
from tests.backtest_cases import case_of
from wattbus.backtest.bill import months_of, prices_of
from wattbus.backtest.calendar import CalendarTariff
from wattbus.backtest.case import Case


@pytest.mark.parametrize("tariff", ["costa_rica", "fontana_tou"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), first_day=st.integers(0, 300))
def test_the_months_add_up_to_the_bill(tariff: str, seed: int, first_day: int) -> None:
    case = case_of(3, first_day=first_day, tariff=tariff)
    grid_kw = np.random.default_rng(seed).uniform(-5.0, 8.0, case.ticks)
    bill = Bill(case.tariff)
    for tick, kw in enumerate(grid_kw.tolist()):
        bill.add(case.at(tick), case.days.tick_s, kw)
    costs, months = bill.costs(), months_of(case, prices_of(case), grid_kw, grid_kw)
    assert sum(month.energy for month in months) == pytest.approx(costs.energy)
    assert sum(month.export for month in months) == pytest.approx(costs.export)
    assert sum(month.demand for month in months) == pytest.approx(costs.demand)
    assert sum(month.import_kwh for month in months) == pytest.approx(costs.import_kwh)
    assert max(peak.kw for month in months for peak in month.peaks) == pytest.approx(costs.peak_kw)


def test_a_finer_tick_has_the_same_bill() -> None:
    coarse, fine = (case_of(1, tick_s=tick_s) for tick_s in (900.0, 10.0))

    def bill(case: Case) -> list[float]:
        months = months_of(case, prices_of(case), case.days.load_kw, np.zeros(case.ticks))
        return [month.total for month in months]

    assert bill(fine) == pytest.approx(bill(coarse))


def test_wear_is_what_goes_through_the_battery() -> None:
    case = case_of(1)
    worn = case._replace(settings=type(case.settings)(degradation_cost=2.0))
    (month,) = months_of(worn, prices_of(worn), np.zeros(96), np.full(96, -1.0))
    assert month.degradation == pytest.approx(2.0 * 24)
    assert month.total == pytest.approx(48.0)


@settings(max_examples=50, deadline=None)
@given(quarter=st.integers(0, 4 * 35_040), step_s=st.sampled_from([300.0, 900.0, 3600.0]))
def test_a_tariff_that_remembers_says_the_same(quarter: int, step_s: float) -> None:
    for name in ("costa_rica", "fontana_tou"):
        tariff = load_tariff(name)
        known = CalendarTariff.of(tariff)
        at = Instant.parse("2022-01-01T00:00Z").after(900.0 * quarter)
        for _ in range(2):
            assert known.series(at, step_s, 5) == tariff.series(at, step_s, 5)
            assert known.period_at(at) == tariff.period_at(at)
            assert known.billing_month(at) == tariff.billing_month(at)
