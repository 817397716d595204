"""What has arrived for one subscriber and is not read yet."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from broker.transport import LIVE_BYTES_MAX, LIVE_QUEUE_MAX, Incoming


class Inbox:
    """A queue that loses its oldest when it is full; one of what is acknowledged loses nothing.

    Args:
        dropped: told how many were lost; None: the broker sends no more than it wants acknowledged.
    """

    def __init__(self, dropped: Callable[[int], None] | None = None) -> None:
        self._items: deque[Incoming] = deque()
        self._bytes = 0
        self._dropped = dropped
        self._ready = asyncio.Event()
        self._broken: Exception | None = None

    def put(self, incoming: Incoming) -> None:
        """Take what has arrived."""
        self._items.append(incoming)
        self._bytes += len(incoming.payload)
        while self._dropped is not None and self._is_too_much():
            self._bytes -= len(self._items.popleft().payload)
            self._dropped(1)
        self._ready.set()

    def clear(self) -> None:
        """Forget what is not read yet: it comes again from the broker, in its order."""
        self._items.clear()
        self._bytes = 0

    def fail(self, error: Exception) -> None:
        """Nothing more will come: whoever reads is told why."""
        self._broken = error
        self._ready.set()

    def __aiter__(self) -> AsyncIterator[Incoming]:
        return self

    async def __anext__(self) -> Incoming:
        while not self._items:
            if self._broken is not None:
                raise self._broken
            self._ready.clear()
            await self._ready.wait()
        incoming = self._items.popleft()
        self._bytes -= len(incoming.payload)
        return incoming

    def _is_too_much(self) -> bool:
        return len(self._items) > LIVE_QUEUE_MAX or (self._bytes > LIVE_BYTES_MAX and len(self._items) > 1)
