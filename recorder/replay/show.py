"""What a person sees of a replay: the files that are left out, a progress bar, and a summary at the end."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec

from recorder.replay.model import DUPLICATE, GAPS, MISSING
from recorder.replay.rows import BELOW_ZERO, LATE, ROWS, SKIPPED
from recorder.replay.service import ReplayService
from recorder.replay.times import AMBIGUOUS
from runtime.clock import Clock

REFRESH_S = 0.25
"""Between two looks at how far it is."""
LEFT_OUT = (DUPLICATE, *SKIPPED)
DECIDED = (LATE, GAPS, MISSING, AMBIGUOUS, BELOW_ZERO)


class Faults:
    """Tells each once, in one line, and counts them."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __len__(self) -> int:
        return len(self._told)

    def tell(self, text: str) -> None:
        """Say what is left out, and why."""
        if text not in self._told:
            self._told.add(text)
            sys.stderr.write(f"wattbus: {text}\n")


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show that something is being done, in a terminal."""
    if not _has_bar():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


@asynccontextmanager
async def progress(replay: ReplayService, clock: Clock) -> AsyncIterator[None]:
    """A bar that fills as rows are played, in a terminal."""
    if not _has_bar():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=replay.survey.rows)

        async def follow() -> None:
            while True:
                bar.update(task, completed=replay.played_of_pass, description=str(replay.last or ""))
                await clock.sleep(REFRESH_S)

        following = asyncio.create_task(follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.wait([following])
            bar.update(task, completed=replay.played_of_pass, description=str(replay.last or ""))


def _has_bar() -> bool:
    return sys.stderr.isatty() and find_spec("rich") is not None


def summary(replay: ReplayService, faults: int, elapsed_s: float) -> str:
    """What was done, line by line."""
    noted, survey = replay.noted, replay.survey
    rate = replay.played / elapsed_s if elapsed_s > 0 else 0.0
    lines = [
        f"run        {survey.run}" + (f", {replay.passes} passes" if replay.passes > 1 else ""),
        f"files      {len(survey.found)} played, {faults} with an error",
        f"rows       {noted[ROWS]} read, {replay.played} played, {rate:.0f}/s in {elapsed_s:.1f} s",
        f"published  {replay.published} readings"
        + (f", {replay.waiting} rows not confirmed" if replay.waiting else ""),
        f"left out   {_listed(noted, LEFT_OUT)}",
        f"noted      {_listed(noted, DECIDED)}",
    ]
    if replay.first is not None:
        lines.append(f"times      {replay.first} to {replay.last}")
    return "\n".join(lines) + "\n"


def _listed(noted: Counter[str], words: tuple[str, ...]) -> str:
    return ", ".join(f"{noted[word]} {word}" for word in words if noted[word]) or "nothing"
