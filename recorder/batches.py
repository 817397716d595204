"""Batches: what arrives one by one is handed on together, soon and in its order."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from runtime.clock import Clock

T = TypeVar("T")


class Batches(Generic[T]):
    """A batch is full at `size_max` items, or goes `window_s` after somebody began to wait for its rest.

    While the last batch is being worked on, the next one gathers; when that is full too, `put` waits.
    """

    def __init__(self, clock: Clock, size_max: int, window_s: float) -> None:
        self._clock = clock
        self._size_max = size_max
        self._window_s = window_s
        self._items: list[T] = []
        self._closed = False
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._note()

    async def put(self, item: T) -> None:
        """Add an item, as soon as there is room; after `close` it is let go."""
        while not self._room.is_set():
            await self._room.wait()
        if not self._closed:
            self._items.append(item)
            if len(self._items) == 1 or len(self._items) >= self._size_max:
                self._note()

    async def take(self) -> list[T]:
        """The next batch; an empty one when closed and all are taken."""
        await self._some.wait()
        if not self._full.is_set():
            with suppress(TimeoutError):
                async with self._clock.timeout(self._window_s):
                    await self._full.wait()
        batch, self._items = self._items, []
        self._note()
        return batch

    def give_back(self, items: Sequence[T]) -> None:
        """Put items before all others: they are taken again."""
        self._items[:0] = items
        self._note()

    def close(self) -> None:
        """Let nothing more in, and hand over at once what is here."""
        self._closed = True
        self._note()

    def _note(self) -> None:
        full = len(self._items) >= self._size_max
        for event, holds in (
            (self._some, bool(self._items) or self._closed),
            (self._full, full or self._closed),
            (self._room, not full or self._closed),
        ):
            if holds:
                event.set()
            else:
                event.clear()
