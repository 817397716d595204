"""The month's peaks: what they are, what a day's could have been, and what the rest of the month makes of them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from energy.tariff import load_tariff
from optimizer.history import History
from optimizer.peaks import KNOWN_DAYS, MonthPeaks, UsualPeaks, expected_kw, lowest_peak
from optimizer.problem import SHARES
from tests.optimizer_cases import battery

STEP_H = 0.25
TARIFF = load_tariff()
# 06:00 in Costa Rica, valley; peak from 10:00, which is 16:00 UTC.
MORNING = Instant.parse("2024-07-10T12:00:00Z")
powers = st.lists(st.floats(0, 12).map(lambda kw: round(kw, 2)), min_size=1, max_size=30)


@given(
    powers,
    st.floats(0.5, 20),
    st.floats(0.5, 8),
    st.floats(0.7, 1.0),
)
def test_a_full_battery_holds_a_day_to_its_lowest_peak_and_no_lower(
    net: list[float], capacity_kwh: float, max_kw: float, efficiency: float
) -> None:
    """Held to that level it gives neither more than it has nor more than it can; a little lower, it would."""
    full = battery(
        capacity_kwh=capacity_kwh,
        max_discharge_kw=max_kw,
        efficiency_roundtrip=efficiency,
        min_soc_percent=10.0,
        max_soc_percent=90.0,
        soc_percent=90.0,
    )
    level = lowest_peak(np.array(net), full, STEP_H)
    usable_kwh = (full.stored_kwh - full.kwh(10.0)) * full.efficiency

    def given_kw(held: float) -> list[float]:
        return [max(0.0, kw - held) for kw in net]

    assert sum(given_kw(level)) * STEP_H <= usable_kwh + 1e-6
    assert max(given_kw(level)) <= max_kw + 1e-9
    lower = level - 1e-3
    if lower > 0:
        cut = given_kw(lower)
        assert sum(cut) * STEP_H > usable_kwh - 1e-6 or max(cut) > max_kw - 1e-9


@given(st.lists(st.floats(0, 10), min_size=KNOWN_DAYS, max_size=28), st.floats(0.5, 30))
def test_the_longer_the_rest_of_the_month_the_higher_it_will_go(lowest: list[float], days: float) -> None:
    lowest = sorted(lowest)
    levels = expected_kw(lowest, days)
    assert len(levels) == SHARES
    assert all(low <= high for low, high in pairwise(levels))
    assert set(levels) <= set(lowest)
    assert all(now <= later for now, later in zip(levels, expected_kw(lowest, days + 1), strict=True))


def test_with_few_days_known_or_none_left_nothing_is_expected() -> None:
    assert expected_kw([1.0] * (KNOWN_DAYS - 1), 10.0) == ()
    assert expected_kw([1.0] * 28, 0.0) == ()


def test_a_step_counts_with_its_mean_and_the_highest_stays() -> None:
    peaks = MonthPeaks(TARIFF)
    for i, kw in enumerate((2.0, 5.0, 3.0)):
        peaks.add(MORNING.after(900.0 * i), 900.0, kw)
    assert peaks.kw(((2024, 7), "valley")) == pytest.approx(5.0)
    assert peaks.kw(((2024, 7), "peak")) == 0.0
    assert [(p.year, p.month, p.group) for p in peaks.kept] == [(2024, 7, "valley")]
    again = MonthPeaks(TARIFF, peaks.kept)
    assert again.kw(((2024, 7), "valley")) == pytest.approx(5.0)


def test_a_new_month_forgets_the_old_one() -> None:
    peaks = MonthPeaks(TARIFF)
    peaks.add(MORNING, 900.0, 9.0)
    peaks.add(Instant.parse("2024-08-02T12:00:00Z"), 900.0, 1.0)
    assert {(p.year, p.month) for p in peaks.kept} == {(2024, 8)}


def test_a_days_groups_are_told_apart_by_the_places_clock() -> None:
    load, pv = History(900.0), History(900.0)
    first = load.slot_of(Instant.parse("2024-07-10T00:00:00Z"))
    for slot in range(first, first + 96):
        hour = load.start_of(slot).local(TARIFF.zone).hour
        load.add(slot, 9.0 if hour == 11 else 1.0)  # in the peak period
        pv.add(slot, 0.0)
    usual = UsualPeaks(TARIFF, load, pv)
    weak = battery(capacity_kwh=1.0, max_discharge_kw=0.5)
    lowest = usual.lowest_kw(first + 96, weak)
    assert {group: [pytest.approx(kw) for kw in kws] for group, kws in lowest.items()} == {
        "peak": [8.5],
        "valley": [pytest.approx(lowest["valley"][0])],
        "night": [pytest.approx(lowest["night"][0])],
    }
    assert lowest["valley"][0] < 1.0
