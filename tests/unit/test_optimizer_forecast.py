"""Persistence forecasts: which day they repeat, what they fall back on, how far off they say they were."""

import pytest

from contracts.instant import Instant
from energy.series import Series
from optimizer.forecast import KEEP_DAYS, DayPersistence, History, Outlook

STEP_S = 900.0
DAY = 96
NOW = Instant.parse("2024-07-01T12:00:00Z")
NOW_SLOT = History(STEP_S).slot_of(NOW)


def load() -> Outlook:
    return Outlook(STEP_S, blank_kw=0.5, hold_last=True)


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


def test_pv_is_nothing_rather_than_the_last_mean() -> None:
    pv = Outlook(STEP_S, blank_kw=0.0, hold_last=False)
    pv.learn(NOW_SLOT - 1, 3.0)
    assert pv.issue(NOW_SLOT, 1) == [0.0]


def test_repeats_the_last_day_for_both_days_of_the_horizon() -> None:
    outlook = learned({slot: float(slot % DAY) for slot in range(-DAY, 0)})
    expected = [float(slot % DAY) for slot in range(DAY)]
    assert outlook.issue(NOW_SLOT, 2 * DAY) == expected * 2


def test_a_gap_yesterday_is_filled_from_the_same_weekday_then_from_any_day() -> None:
    outlook = learned({-14 * DAY: 5.0, -7 * DAY: 3.0, -3 * DAY: 9.0, -3 * DAY + 1: 8.0, -2 * DAY + 1: 6.0})
    assert outlook.issue(NOW_SLOT, 2) == [4.0, 7.0]


def test_remembers_two_weeks_and_no_more() -> None:
    history = History(STEP_S)
    for slot in range((KEEP_DAYS + 3) * DAY):
        history.add(slot, 1.0)
    assert len(history) == KEEP_DAYS * DAY + 1
    assert DayPersistence().predict(history, 0, 1) is None


def test_error_is_the_mean_absolute_error_of_what_was_foretold() -> None:
    outlook = learned({-DAY: 1.0})
    assert outlook.error_kw is None
    outlook.learn(NOW_SLOT - 1, 3.0)  # foretold: the last mean, 1.0
    outlook.learn(NOW_SLOT, 2.0)  # foretold: a day ago, 1.0
    assert outlook.error_kw == pytest.approx(1.5)


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
