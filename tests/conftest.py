"""Fixtures for all tests: a virtual event loop, a bus in memory, and no task left behind."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import structlog
from hypothesis import settings

from broker.bus import PlanesBus
from broker.memory import MemoryTransport
from broker.quarantine import Quarantine
from contracts.instant import Instant
from runtime.clock import Clock, VirtualClock, VirtualLoop

# The same examples each time; `pytest --hypothesis-profile=default` looks for new ones.
settings.load_profile("ci")

START = Instant.parse("2024-07-01T12:00:00Z")
T = TypeVar("T")


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A test that sets up a service's logs leaves the others no clock of its own."""
    yield
    structlog.reset_defaults()


def run_virtual(main: Callable[[VirtualClock], Coroutine[Any, Any, T]], start: Instant = START) -> T:
    """Run a coroutine in virtual time; fails if it leaves a task running."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:

        async def checked() -> T:
            result = await main(VirtualClock(start))
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"tasks left running: {left}"
            return result

        return runner.run(checked())


def memory_bus(clock: Clock) -> tuple[PlanesBus, MemoryTransport]:
    """A bus in memory, which keeps no quarantine but counts."""
    transport = MemoryTransport()
    return PlanesBus(
        transport, transport, clock, client="test", quarantine=Quarantine(None, clock)
    ), transport


pytest_plugins = ["tests.brokers", "tests.access_site"]
