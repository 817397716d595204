"""Forecasts: what they are made from, what they fall back on, how far off they say they were."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from energy.series import Series
from optimizer.forecast import Outlook
from optimizer.forecasters import ClearDays, DayPersistence, Forecaster, WeekdayMean
from optimizer.history import KEEP_DAYS, History

STEP_S = 900.0
DAY = 96
NOW = Instant.parse("2024-07-01T12:00:00Z")
NOW_SLOT = History(STEP_S).slot_of(NOW)


def load() -> Outlook:
    return Outlook.of_load(STEP_S, 0.5)


def learned(values: dict[int, float]) -> Outlook:
    """An outlook that has heard means, keyed by slots before now."""
    outlook = load()
    for slot in sorted(values):
        outlook.learn(NOW_SLOT + slot, values[slot])
    return outlook


def test_nothing_known_gives_the_blank() -> None:
    assert load().issue(NOW_SLOT, 2) == [0.5, 0.5]


def test_the_last_mean_holds_until_a_day_is_known() -> None:
    outlook = learned({-2: 1.0, -1: 3.0})
    assert outlook.issue(NOW_SLOT, 2) == [3.0, 3.0]
    assert outlook.issue(NOW_SLOT, 2, running_kw=4.0) == [4.0, 4.0]


def test_pv_goes_on_for_a_step_and_is_nothing_then_where_nothing_is_known() -> None:
    pv = Outlook.of_pv(STEP_S)
    pv.learn(NOW_SLOT - 1, 3.0)
    assert pv.issue(NOW_SLOT, 2) == [3.0, 0.0]
    assert pv.issue(NOW_SLOT, 2, running_kw=2.0) == [2.0, 0.0]


def test_repeats_the_last_day_for_both_days_of_the_horizon() -> None:
    outlook = learned({slot: float(slot % DAY) for slot in range(-DAY, 0)})
    expected = [float(slot % DAY) for slot in range(DAY)]
    assert outlook.issue(NOW_SLOT, 2 * DAY) == expected * 2


def test_a_gap_yesterday_is_filled_from_the_same_weekday_then_from_any_day() -> None:
    outlook = learned({-14 * DAY: 5.0, -7 * DAY: 3.0, -3 * DAY: 9.0, -3 * DAY + 1: 8.0, -2 * DAY + 1: 6.0})
    assert outlook.issue(NOW_SLOT, 2) == [4.0, 7.0]


def test_remembers_four_weeks_and_no_more() -> None:
    history = History(STEP_S)
    for slot in range((KEEP_DAYS + 3) * DAY):
        history.add(slot, float(slot))
    assert len(history) == KEEP_DAYS * DAY
    assert history.at(3 * DAY - 1) is None
    assert history.at(3 * DAY) == 3 * DAY
    assert history.at((KEEP_DAYS + 3) * DAY) is None


def test_a_gap_in_the_history_is_no_old_value() -> None:
    history = History(STEP_S)
    for slot in range(KEEP_DAYS * DAY):
        history.add(slot, 1.0)
    history.add(KEEP_DAYS * DAY + 5, 2.0)
    assert [history.at(KEEP_DAYS * DAY + i) for i in (-1, 0, 4, 5)] == [1.0, None, None, 2.0]
    history.add(3 * KEEP_DAYS * DAY, 3.0)
    assert len(history) == 1


FORECASTERS = (DayPersistence(), WeekdayMean(), ClearDays())


@pytest.mark.parametrize("forecaster", FORECASTERS, ids=lambda f: f.name)
@given(
    st.lists(st.floats(0, 20) | st.none(), min_size=1, max_size=40),
    st.lists(st.floats(0, 20), min_size=1, max_size=20),
)
def test_no_forecaster_looks_ahead(
    forecaster: Forecaster, past: list[float | None], future: list[float]
) -> None:
    """With hours for slots: what comes later changes nothing of what was foretold."""
    history = History(3600.0)
    for slot, kw in enumerate(past):
        if kw is not None:
            history.add(slot, kw)
    now = len(past)
    before = forecaster.predict(history, now, 48)
    assert before.shape == (48,)
    for slot, kw in enumerate(future, start=now):
        history.add(slot, kw)
    np.testing.assert_array_equal(forecaster.predict(history, now, 48), before)
    known = before[~np.isnan(before)]
    assert np.isfinite(known).all()
    assert (known >= 0).all()


def weeks(usual: Callable[[int], float], slots: int) -> Outlook:
    outlook = load()
    for slot in range(-slots, 0):
        outlook.learn(NOW_SLOT + slot, usual(NOW_SLOT + slot))
    return outlook


def test_the_best_of_the_last_days_is_used_and_says_how_far_off_it_was() -> None:
    noise = random.Random("forecast")
    outlook = weeks(lambda _: 1.0 + noise.choice((-0.5, 0.5)), 10 * DAY)
    assert outlook.forecaster.name == "weekday-mean"
    assert outlook.error_kw == pytest.approx(0.5, rel=0.1)
    assert outlook.errors_kw["weekday-mean"] < outlook.errors_kw["persistence-1d"]
    assert outlook.errors_kw["persistence-1d"] == pytest.approx(0.5 * 2**0.5, rel=0.1)
    # From one day to the next everything is different: then yesterday is the better guess.
    for slot in range(16 * DAY):
        outlook.learn(NOW_SLOT + slot, 1.0 + slot // DAY)
    assert outlook.forecaster.name == "persistence-1d"


def test_no_error_is_claimed_before_a_day_was_foretold() -> None:
    assert weeks(lambda _: 1.0, DAY // 2).error_kw is None
    assert weeks(lambda _: 1.0, 3 * DAY).error_kw == pytest.approx(0.0)


def test_the_same_weekday_counts_more() -> None:
    outlook = weeks(lambda slot: 5.0 if slot // DAY % 7 == NOW_SLOT // DAY % 7 else 1.0, 28 * DAY)
    tuned = WeekdayMean().predict(outlook.history, NOW_SLOT, DAY)
    assert tuned[-1] > 1.0 + 4.0 / 7


def test_a_deviation_fades_out() -> None:
    outlook = weeks(lambda slot: 3.0 if slot == NOW_SLOT - 1 else 1.0, 7 * DAY)
    ahead = WeekdayMean().predict(outlook.history, NOW_SLOT, DAY)
    assert ahead[0] == pytest.approx(2.0, abs=0.05)
    assert ahead[8] == pytest.approx(1.0 + np.exp(-1), abs=0.05)
    assert ahead[-2] == pytest.approx(1.0, abs=0.05)


def test_the_best_days_are_scaled_by_what_came_through_in_the_last_days_then_hours() -> None:
    history = History(STEP_S)
    noon = DAY * 100 + DAY // 4
    for slot in range(noon - 10 * DAY, noon):
        cloud = 0.4 if slot >= noon - 12 else 0.8
        history.add(slot, 3.0 * cloud * max(0.0, np.sin(2 * np.pi * (slot % DAY) / DAY)))
    ahead = ClearDays().predict(history, noon, 2 * DAY)
    assert ahead[0] == pytest.approx(3.0 * 0.4, rel=0.02)
    assert 3.0 * 0.65 < ahead[DAY] < 3.0 * 0.8  # the last hours count among the last days
    assert ahead[DAY // 2] == 0.0


def test_the_best_days_stand_for_the_clear_sky() -> None:
    history = History(STEP_S)
    for slot in range(NOW_SLOT - 20 * DAY, NOW_SLOT):
        history.add(slot, (1.0 if slot // DAY % 4 else 4.0) * (slot % DAY > DAY // 2))
    assert ClearDays()._clear(history, NOW_SLOT, 3 * DAY, DAY).max() == 4.0
    assert np.isnan(ClearDays().predict(History(STEP_S), NOW_SLOT, 4)).all()


def test_a_record_teaches_only_what_had_passed() -> None:
    begin = NOW.after(-86400)
    steps = range(2 * 24)
    recorded = Series(
        tuple(begin.after(i * 3600).unix_ms for i in steps),
        tuple(1000.0 * i for i in steps),
        begin.after(len(steps) * 3600).unix_ms,
    )
    outlook = load()
    outlook.seed(recorded, NOW)
    assert len(outlook.history) == DAY
    assert outlook.issue(NOW_SLOT, 2 * DAY) == [float(i // 4) for i in range(DAY)] * 2
    assert outlook.history.at(NOW_SLOT) is None


def test_a_record_that_ends_long_ago_teaches_nothing() -> None:
    begin = NOW.after(-40 * 86400)
    outlook = load()
    outlook.seed(Series((begin.unix_ms,), (1.0,), begin.after(86400).unix_ms), NOW)
    assert len(outlook.history) == 0
