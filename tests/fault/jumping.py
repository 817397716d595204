"""A wall clock that somebody sets: SIGUSR1 two hours forward, SIGUSR2 two hours back.

`python -m tests.fault.jumping recorder --data-dir DATA` runs a service on such a clock.
"""

import asyncio
import importlib
import signal
import sys

from contracts.instant import Instant
from runtime.clock import SystemClock
from runtime.logs import configure
from runtime.process import Context, run_process
from runtime.settings import load

JUMP_S = 2 * 3600.0
SIGNALS = {signal.SIGUSR1: JUMP_S, signal.SIGUSR2: -JUMP_S}


class JumpingClock(SystemClock):
    """The machine's clock, and what it was set by; call `listen` in a loop."""

    def __init__(self) -> None:
        self._set_by_s = 0.0

    def now(self) -> Instant:
        return super().now().after(self._set_by_s)

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number, seconds in SIGNALS.items():
            loop.add_signal_handler(number, self._jump, seconds)

    def _jump(self, seconds: float) -> None:
        self._set_by_s += seconds


def main(service: str, *arguments: str) -> int:
    wiring = importlib.import_module(f"{service}.__main__")
    kind = getattr(importlib.import_module(f"{service}.settings"), f"{service.title()}Settings")
    settings = load(service, kind, arguments, description=service, example=service)
    clock = JumpingClock()
    configure((service,), clock, settings.base.log_level, None)

    async def serve(context: Context) -> None:
        clock.listen()
        await wiring.serve(settings, context)

    return run_process(serve, clock)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
