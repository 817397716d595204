"""What a house will consume and produce, from what was measured: forecasters, and how well they do."""

from collections import deque
from itertools import pairwise
from math import fsum
from statistics import fmean
from typing import NamedTuple, Protocol

from contracts.instant import Instant
from energy.series import Series

DAY_S = 86400.0
KEEP_DAYS = 15
"""How far back is remembered: two weeks, and the day in hand."""
W_PER_KW = 1000.0


class Recorded(NamedTuple):
    """A house's days before the start, as recorded [W]."""

    load: Series
    pv: Series | None = None


class History:
    """Means of one quantity by step [kW], of the last `KEEP_DAYS` days.

    A step is counted since the epoch: slot s runs from s * step_s.
    """

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self.slots_a_day = round(DAY_S / step_s)
        self._means: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._means)

    def at(self, slot: int) -> float | None:
        """The mean in a slot; None if nothing was measured."""
        return self._means.get(slot)

    def add(self, slot: int, mean_kw: float) -> None:
        """Keep a slot's mean, the slots in rising order, and forget what is too old."""
        self._means[slot] = mean_kw
        oldest = slot - KEEP_DAYS * self.slots_a_day
        while (first := next(iter(self._means))) < oldest:
            del self._means[first]

    def slot_of(self, at: Instant) -> int:
        """The slot that holds an instant."""
        return at.unix_ms // round(self.step_s * 1000)

    def start_of(self, slot: int) -> Instant:
        """When a slot begins."""
        return Instant.at_ms(slot * round(self.step_s * 1000))


class Forecaster(Protocol):
    """Says the mean of a slot to come, from the slots before `now_slot` alone."""

    name: str

    def predict(self, history: History, slot: int, now_slot: int) -> float | None:
        """The mean [kW]; None if the history does not say."""


class DayPersistence:
    """The same time a day ago; where that is missing, the mean of the other days held at that time.

    Of those, the days a whole number of weeks away count alone, if there are any.
    """

    name = "persistence-1d"

    def predict(self, history: History, slot: int, now_slot: int) -> float | None:
        day = history.slots_a_day
        nearest = max(1, -((now_slot - 1 - slot) // day))
        yesterday = history.at(slot - nearest * day)
        if yesterday is not None:
            return yesterday
        held = [(days, history.at(slot - days * day)) for days in range(nearest + 1, KEEP_DAYS + 1)]
        known = [(days, kw) for days, kw in held if kw is not None]
        same_weekday = [kw for days, kw in known if days % 7 == 0]
        values = same_weekday or [kw for _, kw in known]
        return fmean(values) if values else None


class Outlook:
    """One quantity of one house: its history, its forecaster, and how far that one was off.

    Args:
        step_s: length of a slot [s]; a whole number of them makes a day.
        blank_kw: what is expected when nothing was ever measured.
        hold_last: expect the last mean rather than `blank_kw` where the forecaster has no answer.
    """

    def __init__(self, step_s: float, *, blank_kw: float, hold_last: bool) -> None:
        self.history = History(step_s)
        self.forecaster: Forecaster = DayPersistence()
        self._blank_kw = blank_kw
        self._hold_last = hold_last
        self._last_kw: float | None = None
        self._errors: deque[float] = deque(maxlen=(KEEP_DAYS - 1) * self.history.slots_a_day)

    @property
    def error_kw(self) -> float | None:
        """Mean absolute error over the last days [kW], each slot foretold at the one before it."""
        return fsum(self._errors) / len(self._errors) if self._errors else None

    def learn(self, slot: int, mean_kw: float) -> None:
        """Take in what was measured; slots in rising order."""
        if self._last_kw is not None:
            self._errors.append(abs(self._expect(slot, slot, self._last_kw) - mean_kw))
        self.history.add(slot, mean_kw)
        self._last_kw = mean_kw

    def issue(self, now_slot: int, n: int, running_kw: float | None = None) -> list[float]:
        """The means of `n` slots from the one in hand on [kW].

        Args:
            now_slot: the slot in hand: what is known of it is no mean yet.
            n: how many.
            running_kw: the mean of the slot in hand so far.
        """
        last_kw = self._last_kw if running_kw is None else running_kw
        return [self._expect(slot, now_slot, last_kw) for slot in range(now_slot, now_slot + n)]

    def _expect(self, slot: int, now_slot: int, last_kw: float | None) -> float:
        predicted = self.forecaster.predict(self.history, slot, now_slot)
        if predicted is not None:
            return predicted
        return last_kw if self._hold_last and last_kw is not None else self._blank_kw

    def seed(self, recorded: Series, now: Instant) -> None:
        """Learn from recorded means [W] what had passed by `now`; a record after that is not looked at."""
        first = self.history.slot_of(now.after(-(KEEP_DAYS - 1) * DAY_S))
        slots = range(first, self.history.slot_of(now))
        starts = [self.history.start_of(slot) for slot in (*slots, slots.stop)]
        for slot, (start, end) in zip(slots, pairwise(starts), strict=True):
            if recorded.start <= start and end <= recorded.end:
                self.learn(slot, max(0.0, recorded.mean(start, self.history.step_s)) / W_PER_KW)
