"""What a house will consume and produce: of several forecasters, the one that has done best of late."""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from math import inf, isnan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from contracts.instant import Instant
from energy.series import Series
from optimizer.forecasters import ClearDays, DayPersistence, Forecaster, WeekdayMean
from optimizer.history import DAY_S, KEEP_DAYS, FloatArray, History

W_PER_KW = 1000.0
TRIALS_A_DAY = 4
"""How often each forecaster foretells the next 24 h, to be held against what came."""
SCORED_DAYS = 14


class Recorded(NamedTuple):
    """A house's days before the start, as recorded [W]."""

    load: Series
    pv: Series | None = None


ABSOLUTE, SQUARED, SLOTS = range(3)
"""What is kept of a trial: by how much it was off [kW] and [kW^2], added up over so many slots."""


class _Trial(NamedTuple):
    """The next 24 h, foretold by each forecaster."""

    now_slot: int
    predictions: npt.NDArray[np.float32]
    """A row for each forecaster."""


class Outlook:
    """One quantity of one house: its history, its forecasters, and how far each was off.

    Args:
        step_s: length of a slot [s]; a whole number of them makes a day.
        forecasters: the first is used until there is something to choose by.
        blank_kw: what is expected when nothing was ever measured.
        hold_last: expect the last mean rather than `blank_kw` where the forecaster has no answer.
    """

    def __init__(
        self, step_s: float, forecasters: Sequence[Forecaster], *, blank_kw: float, hold_last: bool
    ) -> None:
        self.history = History(step_s)
        self._forecasters = tuple(forecasters)
        # By trial, forecaster and what is kept: the last days' trials, the oldest in turn replaced.
        self._scores = np.zeros((SCORED_DAYS * TRIALS_A_DAY, len(self._forecasters), 3), dtype=np.float32)
        self._scored = 0
        self._trials: deque[_Trial] = deque()
        self._best = 0
        self._blank_kw = blank_kw
        self._hold_last = hold_last
        self._last_kw: float | None = None

    @classmethod
    def of_load(cls, step_s: float, blank_kw: float) -> "Outlook":
        """Of what a house consumes."""
        return cls(step_s, (DayPersistence(), WeekdayMean()), blank_kw=blank_kw, hold_last=True)

    @classmethod
    def of_pv(cls, step_s: float) -> "Outlook":
        """Of what its PV produces."""
        return cls(step_s, (DayPersistence(), WeekdayMean(), ClearDays()), blank_kw=0.0, hold_last=False)

    @property
    def forecaster(self) -> Forecaster:
        """The one in use: of the least mean squared error over the last days.

        Squared, since a plan is made for the mean: the least absolute error goes to the median.
        """
        return self._forecasters[self._best]

    @property
    def error_kw(self) -> float | None:
        """Mean absolute error over 24 h of the forecaster in use, measured over the last days [kW]."""
        total = self._totals[self._best]
        return float(total[ABSOLUTE] / total[SLOTS]) if total[SLOTS] else None

    @property
    def errors_kw(self) -> dict[str, float]:
        """Root mean squared error of every forecaster that was tried [kW], by name."""
        squares = {f.name: _squared(s) for f, s in zip(self._forecasters, self._totals, strict=True)}
        return {name: squared**0.5 for name, squared in squares.items() if squared < inf}

    def learn(self, slot: int, mean_kw: float) -> None:
        """Take in what was measured; slots in rising order."""
        self.history.add(slot, mean_kw)
        self._last_kw = mean_kw
        every = self.history.slots_a_day // TRIALS_A_DAY
        if not self._trials or (slot + 1) // every > self._trials[-1].now_slot // every:
            self._judge(slot)
            day = self.history.slots_a_day
            predictions = [f.predict(self.history, slot + 1, day) for f in self._forecasters]
            self._trials.append(_Trial(slot + 1, np.array(predictions, dtype=np.float32)))

    def issue(self, now_slot: int, n: int, running_kw: float | None = None) -> list[float]:
        """The means of `n` slots from the one in hand on [kW].

        Args:
            now_slot: the slot in hand: what is known of it is no mean yet.
            n: how many.
            running_kw: the mean of the slot in hand so far.
        """
        last_kw = self._last_kw if running_kw is None else running_kw
        otherwise = last_kw if self._hold_last and last_kw is not None else self._blank_kw
        predicted = self.forecaster.predict(self.history, now_slot, n)
        if last_kw is not None and isnan(predicted[0]):
            predicted[0] = last_kw  # the slot in hand goes on as it is, even where nothing is held
        return [otherwise if isnan(kw) else kw for kw in map(float, predicted)]

    def seed(self, recorded: Series, now: Instant) -> None:
        """Learn from recorded means [W] what had passed by `now`; a record after that is not looked at."""
        first = self.history.slot_of(now.after(-(KEEP_DAYS - 1) * DAY_S))
        slots = range(first, self.history.slot_of(now))
        starts = [self.history.start_of(slot) for slot in (*slots, slots.stop)]
        for slot, (start, end) in zip(slots, pairwise(starts), strict=True):
            if recorded.start <= start and end <= recorded.end:
                self.learn(slot, max(0.0, recorded.mean(start, self.history.step_s)) / W_PER_KW)

    def _judge(self, slot: int) -> None:
        """Hold the trials that are over against what came, and choose anew."""
        day = self.history.slots_a_day
        while self._trials and self._trials[0].now_slot + day <= slot + 1:
            trial = self._trials.popleft()
            came = self.history.window(trial.now_slot, day)
            off = trial.predictions - came
            known = ~np.isnan(off)
            off = np.where(known, off, 0.0)
            kept = np.stack([np.abs(off).sum(axis=1), (off**2).sum(axis=1), known.sum(axis=1)], axis=1)
            self._scores[self._scored % len(self._scores)] = kept
            self._scored += 1
        squares = [_squared(total) for total in self._totals]
        self._best = squares.index(min(squares))

    @property
    def _totals(self) -> FloatArray:
        """Of each forecaster, its scores of the last days added up, shape (forecasters, 3)."""
        total: FloatArray = self._scores.sum(axis=0, dtype=np.float64)
        return total


def _squared(total: FloatArray) -> float:
    """Mean squared error [kW^2]; infinite if none was measured."""
    return float(total[SQUARED] / total[SLOTS]) if total[SLOTS] else inf
