"""How a benchmark is measured: one pinned core, several rounds, the median."""

import os
import statistics
import time
from collections.abc import Callable

ROUNDS = 7


def pin_to_one_core() -> None:
    """Stay on one core from here on."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def median_s(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median duration of `work` [s], after one round that does not count."""
    work()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def report(what: str, value: float, unit: str, beside: str = "") -> None:
    """One line of the result."""
    print(f"{what:58} {value:12.2f} {unit:12} {beside}")
