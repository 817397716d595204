"""A backtest from its options to its files."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from runtime.errors import RuntimeFaultError
from wattbus.backtest.case import TITLES, Case
from wattbus.backtest.charts import Shown
from wattbus.backtest.options import Options
from wattbus.backtest.parallel import Outcome, Task, run_all
from wattbus.backtest.report import write_report
from wattbus.backtest.summary import (
    FineWeek,
    House,
    Results,
    as_csv,
    as_json,
    house_of,
    local_text,
    results_of,
)
from wattbus.backtest.sweep import Failure, Plan, plan_of
from wattbus.backtest.table import table_of


def run(options: Options) -> int:
    """Run all cases, show and write what came of them; returns the exit code."""
    if options.report is not None:
        _check_place(options.report)
    plan = plan_of(options)
    results, shown = _run(plan, options)
    if results.houses:
        Console(highlight=False).print(table_of(results))
    for failure in results.failures:
        sys.stderr.write(f"wattbus backtest: {failure['why']}\n")
    if options.out is not None:
        _write(options.out / "results.json", as_json(results))
        _write(options.out / "results.csv", as_csv(results).encode())
    if options.report is not None and results.houses:
        _write(options.report, write_report(results, shown).encode())
    return 1 if results.failures or results.violations else 0


def _run(plan: Plan, options: Options) -> tuple[Results, list[Shown]]:
    tasks = [Task(case, policy) for case in plan.cases for policy in options.policies]
    weekly = [Task(case, "mpc") for pair in plan.weeks for case in pair]
    with _progress(len(tasks) + len(weekly)) as done:
        outcomes = run_all([*tasks, *weekly], options.jobs, options.scheduler, done)
    failures = [*plan.failures, *_failures([*tasks, *weekly], outcomes)]
    weeks = {}
    for i, (coarse, _) in enumerate(plan.weeks):
        first = len(tasks) + 2 * i
        weeks[coarse.house] = _week(coarse, outcomes[first], outcomes[first + 1])
    houses, shown = list[House](), list[Shown]()
    for i, case in enumerate(plan.cases):
        own = outcomes[i * len(options.policies) : (i + 1) * len(options.policies)]
        if figures := [outcome.figures for outcome in own if outcome.figures is not None]:
            houses.append(house_of(case, figures, weeks.get(case.house)))
            flows = zip(options.policies, (outcome.flows for outcome in own), strict=True)
            shown.append(Shown(case, {policy: flow for policy, flow in flows if flow is not None}))
    return results_of(houses, failures), shown


def _failures(tasks: Sequence[Task], outcomes: Sequence[Outcome]) -> list[Failure]:
    """The policies that came to nothing; the others of their house did not."""
    return [
        Failure(case.name, policy, f"{case.name}: {TITLES[policy]}: {outcome.why}")
        for (case, policy), outcome in zip(tasks, outcomes, strict=True)
        if outcome.why
    ]


def _week(case: Case, coarse: Outcome, fine: Outcome) -> FineWeek | None:
    if coarse.figures is None or fine.figures is None:
        return None
    return FineWeek(
        begin=local_text(case, case.days.start),
        total=coarse.figures.total,
        fine_total=fine.figures.total,
        violations=sum(fine.figures.violations.values()),
    )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on the terminal; none where nobody looks."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("runs", total=total)
        yield lambda: bar.advance(task)


def _check_place(path: Path) -> None:
    """Whether it can be written to: said before a year is computed, not after; nothing is left of the try.

    Raises:
        RuntimeFaultError: it can't.
    """
    is_new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
        if is_new:
            path.unlink()
    except OSError as error:
        raise _unwritten(path, error) from error


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> RuntimeFaultError:
    return RuntimeFaultError(f"{path}: can't be written: {error.strerror}")
