"""Life-cycle: a service stops between two messages, never inside one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import TypeVar

T = TypeVar("T")


class Lifecycle:
    """Tells a service's loops when to end.

    A loop written `async for message in life.each(deliveries)` finishes the message in hand when
    `stop` is called and then simply ends; one that waits for the next message ends at once.
    """

    def __init__(self) -> None:
        self._stopped = asyncio.Event()
        self._waiting: set[asyncio.Task[object]] = set()
        self.has_begun = False
        """Whether the service has come to its work: before that it has nothing in hand, and may just end."""

    @property
    def stopping(self) -> bool:
        """Whether `stop` has been called."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End every loop at its next safe point."""
        if not self.stopping:
            self._stopped.set()
            for task in self._waiting:
                task.cancel()

    async def wait(self) -> None:
        """Return once `stop` has been called."""
        self.has_begun = True
        await self._stopped.wait()

    async def each(self, source: AsyncIterable[T]) -> AsyncIterator[T]:
        """The items of `source` until it ends or the service stops."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - an async generator runs in a task
        iterator = aiter(source)
        self.has_begun = True
        try:
            while not self.stopping:
                self._waiting.add(task)
                try:
                    item = await anext(iterator)
                except StopAsyncIteration:
                    return
                except asyncio.CancelledError:
                    if not self._stopped.is_set() or task.uncancel() > 0:
                        raise
                    return
                finally:
                    self._waiting.discard(task)
                yield item
        finally:
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()  # else the event loop is left to do it, some time later
