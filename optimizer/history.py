"""What was measured, step by step, of one quantity of one house."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from contracts.instant import Instant

FloatArray = npt.NDArray[np.float64]

DAY_S = 86400.0
KEEP_DAYS = 29
"""How far back is remembered: four weeks, and the day in hand."""


class History:
    """Means by step [kW], of the last `KEEP_DAYS` days; NaN stands for what was not measured.

    A step is counted since the epoch: slot s runs from s * step_s.
    """

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self.slots_a_day = round(DAY_S / step_s)
        self._size = KEEP_DAYS * self.slots_a_day
        # Rounded to 7 digits, more than any meter has, in half the room.
        self._ring = np.full(self._size, np.nan, dtype=np.float32)
        self._next: int | None = None
        """The slot after the newest one held."""

    def __len__(self) -> int:
        return int(np.count_nonzero(~np.isnan(self._ring)))

    def add(self, slot: int, mean_kw: float) -> None:
        """Keep a slot's mean, the slots in rising order; what is too old is forgotten."""
        first = slot if self._next is None else max(self._next, slot - self._size + 1)
        self._ring[np.arange(first, slot + 1) % self._size] = np.nan
        self._ring[slot % self._size] = mean_kw
        self._next = slot + 1

    @property
    def newest(self) -> int:
        """The newest slot held; -1 if there is none."""
        return -1 if self._next is None else self._next - 1

    def known(self) -> Iterator[tuple[int, float]]:
        """What was measured, slot by slot, in rising order."""
        first = self.newest - self._size + 1
        for slot, kw in enumerate(self.window(first, self._size), start=first):
            if not np.isnan(kw):
                yield slot, float(kw)

    def at(self, slot: int) -> float | None:
        """The mean in a slot; None if nothing was measured."""
        value = float(self.window(slot, 1)[0])
        return None if np.isnan(value) else value

    def window(self, first: int, n: int) -> FloatArray:
        """The means of `n` consecutive slots, shape (n,)."""
        return self._take(np.arange(first, first + n))

    def days_before(self, now_slot: int, n: int) -> FloatArray:
        """What was measured at the same times of earlier days, shape (KEEP_DAYS, n).

        Row d - 1 holds the slots d days before each of the `n` from `now_slot` on, so far as these lie before
        `now_slot`: of what is to come nothing is said.
        """
        ahead = np.arange(now_slot, now_slot + n)
        slots = ahead[None, :] - self.slots_a_day * np.arange(1, KEEP_DAYS + 1)[:, None]
        return np.where(slots < now_slot, self._take(slots), np.nan)

    def _take(self, slots: npt.NDArray[np.int64]) -> FloatArray:
        held = (slots <= self.newest) & (slots > self.newest - self._size)
        return np.where(held, self._ring[slots % self._size].astype(np.float64), np.nan)

    def slot_of(self, at: Instant) -> int:
        """The slot that holds an instant."""
        return at.unix_ms // round(self.step_s * 1000)

    def start_of(self, slot: int) -> Instant:
        """When a slot begins."""
        return Instant.at_ms(slot * round(self.step_s * 1000))
