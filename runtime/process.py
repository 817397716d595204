"""One process: loop, signals, stop within 5 s, one line for an error, an exit code."""

import asyncio
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

from contracts.errors import ContractError
from energy.errors import EnergyError
from runtime.clock import Clock, ScaledClock, SystemClock, VirtualClock, VirtualLoop
from runtime.errors import RuntimeFaultError, UsageError
from runtime.lifecycle import Lifecycle
from runtime.logs import configure
from runtime.notify import watched
from runtime.settings import CommonSettings, Layered, load

S = TypeVar("S", bound=CommonSettings)

STOP_WITHIN_S = 4.0
"""After a signal: what has not ended by itself by then is cancelled, so that the process ends within 5 s."""


class Context(NamedTuple):
    """What the process hands to its services."""

    clock: Clock
    life: Lifecycle


def make_clock(settings: CommonSettings) -> Clock:
    """The clock the settings ask for: the system's, or one that runs faster.

    Raises:
        UsageError: a speed without a start that processes could share.
    """
    if settings.start is None:
        if settings.speed != 1.0:
            raise UsageError("--speed needs --start, the same for all processes: else each has its own time")
        return SystemClock()
    return ScaledClock(settings.speed, settings.start)


def launch(
    service: str,
    kind: type[S],
    serve: Callable[[Layered[S], Context], Awaitable[None]],
    argv: Sequence[str] | None,
    *,
    description: str,
    example: str,
) -> int:
    """Run one service as this process: its settings, logs and clock, then `serve`; returns the exit code."""
    try:
        settings = load(service, kind, argv, description=description, example=example)
        clock = make_clock(settings.base)
        configure((service,), clock, settings.base.log_level, settings.base.log_dir)
    except RuntimeFaultError as error:
        sys.stderr.write(f"wattbus: {error}\n")
        return error.exit_code
    return run_process(lambda context: serve(settings, context), clock)


def run_process(main: Callable[[Context], Awaitable[None]], clock: Clock) -> int:
    """Run `main` to its end, or until SIGTERM or SIGINT; returns the exit code.

    0 after a clean end or stop, 2 on bad usage, settings or files, 1 on any other failure we have a word
    for. An error we have no word for is a bug and keeps its traceback.
    """
    factory = VirtualLoop if isinstance(clock, VirtualClock) else asyncio.new_event_loop
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_main(main, clock))
    except (RuntimeFaultError, ContractError, EnergyError, ExceptionGroup) as error:
        root = _root(error)
        if not isinstance(root, (RuntimeFaultError, ContractError, EnergyError)):
            raise
        sys.stderr.write(f"wattbus: {root}\n")
        return root.exit_code if isinstance(root, RuntimeFaultError) else UsageError.exit_code
    return 0


async def _main(main: Callable[[Context], Awaitable[None]], clock: Clock) -> None:
    life = Lifecycle()
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main(Context(clock, life)))

    # On the machine's time, whatever clock the services run on.
    patience = threading.Timer(STOP_WITHIN_S, lambda: loop.call_soon_threadsafe(task.cancel))
    patience.daemon = True

    def stop() -> None:
        if life.stopping:
            return
        life.stop()
        if life.has_begun:
            patience.start()
        else:  # it waits for a broker, say
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        async with watched():
            await task
    except asyncio.CancelledError:
        if not life.stopping:
            raise
    finally:
        patience.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _root(error: Exception) -> Exception:
    """The error a task group wrapped."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
