"""Runs one after the other, in processes, or on a Dask cluster: what comes of them is the same."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from typing import NamedTuple

from runtime.errors import RuntimeFaultError, UsageError
from wattbus.backtest.case import Case, Flows, Policy
from wattbus.backtest.errors import BacktestError
from wattbus.backtest.policies import POLICIES
from wattbus.backtest.results import Figures, figures_of

CONNECT_S = 10
HEAVY: tuple[Policy, ...] = ("mpc", "perfect")
"""These take longest, and are begun first, so that no process is left with one at the end."""


class Task(NamedTuple):
    """A case under a policy."""

    case: Case
    policy: Policy


class Outcome(NamedTuple):
    """What came of a task: figures and flows, or why there are none."""

    figures: Figures | None
    flows: Flows | None
    why: str = ""


def work(task: Task) -> Outcome:
    """Run one task."""
    try:
        run = POLICIES[task.policy](task.case)
        return Outcome(figures_of(task.case, task.policy, run), run.flows)
    except BacktestError as error:
        return Outcome(None, None, str(error))


def run_all(
    tasks: Sequence[Task], jobs: int, scheduler: str | None, done: Callable[[], None]
) -> list[Outcome]:
    """What came of each task, in their order.

    Args:
        tasks: what to run.
        jobs: in so many processes; 1: in this one.
        scheduler: the address of a Dask scheduler whose workers run them instead.
        done: called after each task.

    Raises:
        RuntimeFaultError: a process or the cluster is gone.
        UsageError: Dask is not installed, or nobody answers at that address.
    """
    order = sorted(range(len(tasks)), key=lambda i: tasks[i].policy not in HEAVY)
    queue = [tasks[i] for i in order]
    if scheduler is not None:
        ran = _on_cluster(queue, scheduler)
    elif jobs > 1 and len(tasks) > 1:
        ran = _in_processes(queue, min(jobs, len(tasks)))
    else:
        ran = ((i, work(task)) for i, task in enumerate(queue))
    outcomes: dict[int, Outcome] = {}
    for place, outcome in ran:
        outcomes[order[place]] = outcome
        done()
    return [outcomes[i] for i in range(len(tasks))]


def _in_processes(queue: Sequence[Task], jobs: int) -> Iterator[tuple[int, Outcome]]:
    # A process of its own from the start: what is copied from this one could differ from what a worker has.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures: dict[Future[Outcome], int] = {pool.submit(work, task): i for i, task in enumerate(queue)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise RuntimeFaultError("a process ended before its work was done: try fewer --jobs") from error
        except KeyboardInterrupt:
            for process in active_children():
                process.terminate()
            raise


def _on_cluster(queue: Sequence[Task], address: str) -> Iterator[tuple[int, Outcome]]:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise UsageError("--scheduler: dask is not installed: pip install 'wattbus[dask]'") from error
    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(f"--scheduler {address}: no Dask scheduler answers there") from error
    with client:
        futures = [client.submit(work, task, pure=False) for task in queue]
        places = {future.key: i for i, future in enumerate(futures)}
        for future in distributed.as_completed(futures, loop=client.loop):
            try:
                yield places[future.key], future.result()
            except (distributed.CancelledError, distributed.scheduler.KilledWorker) as error:
                raise RuntimeFaultError(f"--scheduler {address}: a worker was lost: {error}") from error
