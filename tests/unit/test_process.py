"""One process: exit codes, one line for an error, stopped within 5 s."""

import os
import signal
import time

import pytest

from contracts.errors import BadIdError
from energy.errors import SeriesError
from runtime.clock import SystemClock, VirtualClock
from runtime.errors import RuntimeFaultError, UsageError
from runtime.process import STOP_WITHIN_S, Context, run_process
from tests.conftest import START


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeFaultError("the disk is full"), 1),
        (UsageError("the disk is full"), 2),
        (BadIdError("the disk is full"), 2),
        (SeriesError("the disk is full"), 2),
        (ExceptionGroup("tasks", [ExceptionGroup("more", [UsageError("the disk is full")])]), 2),
    ],
)
def test_an_error_is_one_line_and_a_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail(_context: Context) -> None:
        raise error

    assert run_process(fail, SystemClock()) == code
    assert capsys.readouterr().err == "wattbus: the disk is full\n"


def test_a_bug_keeps_its_traceback() -> None:
    async def bug(_context: Context) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_process(bug, SystemClock())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(number: signal.Signals) -> None:
    async def serve(context: Context) -> None:
        os.kill(os.getpid(), number)
        await context.life.wait()

    assert run_process(serve, SystemClock()) == 0


def test_what_does_not_end_by_itself_is_ended() -> None:
    async def stubborn(context: Context) -> None:
        async for _ in context.life.each(context.clock.every(0.01)):
            os.kill(os.getpid(), signal.SIGTERM)
            await context.clock.sleep(60)

    began = time.monotonic()
    assert run_process(stubborn, SystemClock()) == 0
    assert time.monotonic() - began < 10


def test_who_only_waits_for_a_broker_ends_at_once() -> None:
    """Without the patience that is had with what is in hand; but it cleans up."""
    cleaned = False

    async def waits(context: Context) -> None:
        nonlocal cleaned
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await context.clock.sleep(60)
        finally:
            cleaned = True

    began = time.monotonic()
    assert run_process(waits, SystemClock()) == 0
    assert cleaned
    assert time.monotonic() - began < STOP_WITHIN_S


def test_the_virtual_clock_gets_its_loop() -> None:
    async def sleep(context: Context) -> None:
        await context.clock.sleep(1e6)

    assert run_process(sleep, VirtualClock(START)) == 0
