"""One process: loop, signals, stop within 5 s, one line for an error, an exit code."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from contracts.errors import ContractError
from runtime.clock import Clock, ScaledClock, SystemClock, VirtualClock, VirtualLoop
from runtime.errors import RuntimeFaultError
from runtime.lifecycle import Lifecycle
from runtime.settings import CommonSettings

STOP_WITHIN_S = 4.0
"""After a signal: what has not ended by itself by then is cancelled, so that the process ends within 5 s."""


class Context(NamedTuple):
    """What the process hands to its services."""

    clock: Clock
    life: Lifecycle


def make_clock(settings: CommonSettings) -> Clock:
    """The clock the settings ask for: the system's, or one that runs faster."""
    if settings.speed == 1.0 and settings.start is None:
        return SystemClock()
    return ScaledClock(settings.speed, settings.start or SystemClock().now())


def run_process(main: Callable[[Context], Awaitable[None]], clock: Clock) -> int:
    """Run `main` to its end, or until SIGTERM or SIGINT; returns the exit code.

    0 after a clean end or stop, 2 on bad usage or settings, 1 on any other failure we have a word
    for. An error we have no word for is a bug and keeps its traceback.
    """
    factory = VirtualLoop if isinstance(clock, VirtualClock) else asyncio.new_event_loop
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_main(main, clock))
    except (RuntimeFaultError, ContractError, ExceptionGroup) as error:
        root = _root(error)
        if not isinstance(root, (RuntimeFaultError, ContractError)):
            raise
        sys.stderr.write(f"wattbus: {root}\n")
        return root.exit_code if isinstance(root, RuntimeFaultError) else 1
    return 0


async def _main(main: Callable[[Context], Awaitable[None]], clock: Clock) -> None:
    life = Lifecycle()
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main(Context(clock, life)))

    def stop() -> None:
        life.stop()
        # On the machine's time, whatever clock the services run on.
        loop.call_later(STOP_WITHIN_S, task.cancel)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not life.stopping:
            raise
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _root(error: Exception) -> Exception:
    """The error a task group wrapped."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
