"""The backtest: a plan in closed loop with all that belongs to it, a tick of 10 s, and a second process."""

import os
import time

from benchmarks.measure import pin_to_one_core, report
from wattbus.backtest.options import parse_options
from wattbus.backtest.parallel import Task, run_all, work
from wattbus.backtest.sweep import plan_of

HOUSES = [
    f"examples/data/{name}.csv"
    for name in ("fr_house_30min", "ca_house1_60min", "ca_house2_60min", "ca_house4_60min")
]
SITE = ("--site", "examples/backtest.toml", "--tariff", "costa_rica", "--policy", "mpc")
PLANS_A_YEAR = 35_040
YEAR_S, SPEED_UP = 240.0, 1.7


def main() -> None:
    """Fourteen days of one house at 15 min, one at 10 s; then four houses in one process and in two."""
    cores = os.sched_getaffinity(0)
    _alone()
    os.sched_setaffinity(0, cores)
    _together()


def _tasks(*flags: str) -> list[Task]:
    return [Task(case, "mpc") for case in plan_of(parse_options([*SITE, *flags])).cases]


def _took_s(task: Task) -> float:
    """Of the processor: it is one thread, and others may be at work."""
    began_s = time.process_time()
    work(task)
    return time.process_time() - began_s


def _alone() -> None:
    pin_to_one_core()
    days = "--from", "2024-05-01", "--to"
    (short,), (long,) = _tasks(HOUSES[0], *days, "2024-05-02"), _tasks(HOUSES[0], *days, "2024-05-15")
    # What a run begins with, such as compiling the program, is not a plan's.
    begins_s = _took_s(short)
    plan_s = (_took_s(long) - begins_s) / (13 * 96)
    report("a plan in closed loop, all included, one core", 1000 * plan_s, "ms", "to reach: 6.8")
    report("a year of 15 min at that pace", plan_s * PLANS_A_YEAR, "s", f"to reach: {YEAR_S:g}")
    (fine,) = _tasks(HOUSES[0], *days, "2024-05-02", "--tick", "10")
    report("a day at a tick of 10 s", _took_s(fine), "s")


def _together() -> None:
    tasks = [task for house in HOUSES for task in _tasks(house, *_fortnight_of(house))]
    took = []
    for jobs in (1, 2):
        began_s = time.perf_counter()
        run_all(tasks, jobs, None, lambda: None)
        took.append(time.perf_counter() - began_s)
    beside = f"to reach: {SPEED_UP:g}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    report("four houses, a fortnight each, in two processes", took[0] / took[1], "times", beside)


def _fortnight_of(house: str) -> tuple[str, ...]:
    year = "2024" if "fr_" in house else "2017"
    return "--from", f"{year}-05-01", "--to", f"{year}-05-15"
