"""A server for tests that call it without a loop of their own."""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

from runtime.lifecycle import Lifecycle

T = TypeVar("T")


@contextmanager
def in_a_thread(serve: Callable[[Lifecycle], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """What `serve` gives, held open by a loop in a thread of its own.

    Args:
        serve: is given the life that ends when this context is left; what it begins ends by it.
    """
    ready: queue.Queue[Any] = queue.Queue()

    async def main() -> None:
        loop, life = asyncio.get_running_loop(), Lifecycle()
        async with serve(life) as given:
            ready.put((given, lambda: loop.call_soon_threadsafe(life.stop)))
            await life.wait()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            ready.put(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    said = ready.get(timeout=30.0)
    if isinstance(said, BaseException):
        raise said
    given, stop = said
    try:
        yield given
    finally:
        stop()
        thread.join(timeout=15.0)
        assert not thread.is_alive()
