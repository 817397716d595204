"""Ways to say what a house will consume or produce: each from the slots before now, and from nothing else."""

from typing import Protocol

import numpy as np

from optimizer.history import KEEP_DAYS, FloatArray, History

WEEK_DAYS = 7
FADE_S = 7200.0
"""After so long a deviation from the usual has faded to 1/e."""
CARRIED_ON = 0.5
"""The share of the last deviation that is expected to go on at all."""


class Forecaster(Protocol):
    """Says the means of slots to come."""

    name: str

    def predict(self, history: History, now_slot: int, n: int) -> FloatArray:
        """The means of `n` slots from `now_slot` on [kW], shape (n,); NaN where it does not know.

        Only slots before `now_slot` are looked at.
        """


class DayPersistence:
    """The same time a day ago; where that is missing, the mean of the other days held at that time.

    Of those, the days a whole number of weeks away count alone, if there are any.
    """

    name = "persistence-1d"

    def predict(self, history: History, now_slot: int, n: int) -> FloatArray:
        days = history.days_before(now_slot, n)
        nearest = np.arange(n) // history.slots_a_day
        yesterday = days[nearest, np.arange(n)]
        for others in (days[WEEK_DAYS - 1 :: WEEK_DAYS], days):
            yesterday = np.where(np.isnan(yesterday), _mean(others, np.ones(len(others))), yesterday)
        return yesterday


class WeekdayMean:
    """The mean of the days held at that time, the nearer ones and the same weekday counting more.

    What the last hour was above or below that mean fades out.
    """

    name = "weekday-mean"
    _KEPT_BY_DAY = 0.85
    _SAME_WEEKDAY = 2.0

    def predict(self, history: History, now_slot: int, n: int) -> FloatArray:
        age = np.arange(1, KEEP_DAYS + 1, dtype=np.float64)
        weight: FloatArray = self._KEPT_BY_DAY**age * np.where(age % WEEK_DAYS == 0, self._SAME_WEEKDAY, 1.0)
        usual = _mean(history.days_before(now_slot, n), weight)
        off = history.window(now_slot - 1, 1) - _mean(history.days_before(now_slot - 1, 1), weight)
        carried = 0.0 if np.isnan(off[0]) else CARRIED_ON * float(off[0])
        return np.maximum(usual + carried * _fade(history, n), 0.0)


class ClearDays:
    """Clear-sky production, scaled by what of it came through in the last days and hours.

    For a clear sky stands nearly the best of the days held at each time of day.
    """

    name = "clear-days"
    _RECENT_DAYS = 3
    _HOURS = 3
    _DAY_FADE = 1.5
    """Days after which a day's weight has faded to 1/e."""
    _MIN_CLEAR_KWH = 0.1
    """Below this the last hours say nothing about the sky."""

    def predict(self, history: History, now_slot: int, n: int) -> FloatArray:
        past = self._RECENT_DAYS * history.slots_a_day
        clear = self._clear(history, now_slot, past, n)
        measured = history.window(now_slot - past, past)
        seen = np.where(np.isnan(measured), 0.0, clear[:past])
        weight = np.exp(-np.arange(past, 0, -1) / (self._DAY_FADE * history.slots_a_day))
        if not (total := float(np.nansum(weight * seen))) > 0:
            return np.full(n, np.nan)
        days = float(np.nansum(weight * measured)) / total
        hours = round(self._HOURS * 3600 / history.step_s)
        recent_clear = float(np.nansum(seen[-hours:]))
        through = np.full(n, days)
        if recent_clear * history.step_s / 3600 > self._MIN_CLEAR_KWH:
            recent = float(np.nansum(measured[-hours:])) / recent_clear
            through = days + (recent - days) * _fade(history, n)
        expected: FloatArray = clear[past:] * through
        return expected

    def _clear(self, history: History, now_slot: int, past: int, n: int) -> FloatArray:
        """Clear-sky production of the `past` slots before now, whole days, and the `n` from now on."""
        days = history.days_before(now_slot, history.slots_a_day)
        known = int(np.count_nonzero(~np.isnan(days).all(axis=1)))
        best = np.sort(np.nan_to_num(days, nan=0.0), axis=0)[-1 - known // 10]
        return np.resize(best, past + n)


def _mean(days: FloatArray, weight: FloatArray) -> FloatArray:
    """The weighted mean of each column over the rows that are known; NaN where none is."""
    known = np.where(np.isnan(days), 0.0, weight[:, None])
    total = known.sum(axis=0)
    summed = (known * np.nan_to_num(days, nan=0.0)).sum(axis=0)
    return np.where(total > 0, summed / np.where(total > 0, total, 1.0), np.nan)


def _fade(history: History, n: int) -> FloatArray:
    fade: FloatArray = np.exp(-np.arange(n, dtype=np.float64) * history.step_s / FADE_S)
    return fade
