"""The in-memory transport: all services in one process, the same promises as a broker's."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from broker.errors import NotRoutedError
from broker.transport import LIVE_QUEUE_MAX, Filter, Incoming, Outgoing, matches
from contracts.topics import DeliveryClass

DURABLE_QUEUE_MAX = 100_000
"""A durable queue that is longer makes its publishers wait."""
_ROUTES_MAX = 100_000
"""Names remembered; a hostile flood of names clears the memory, never fills it."""


class _MemoryIncoming:
    __slots__ = ("_settle", "name", "payload", "retained")
    buried = ""

    def __init__(
        self, out: Outgoing, *, retained: bool, settle: Callable[["_MemoryIncoming"], None] | None
    ) -> None:
        self.name = out.name
        self.payload = out.payload
        self.retained = retained
        self._settle = settle

    async def ack(self) -> None:
        if self._settle is not None:
            self._settle(self)


class _Queue:
    """What waits for one subscriber, or for the readers of one durable queue."""

    def __init__(self, filters: tuple[Filter, ...], *, durable: bool) -> None:
        self.filters = set(filters)
        self.durable = durable
        self.dropped = 0
        self._ready: deque[_MemoryIncoming] = deque()
        self._unacknowledged: dict[int, _MemoryIncoming] = {}
        self._readers: deque[asyncio.Future[None]] = deque()
        self._has_room = asyncio.Event()
        self._has_room.set()

    def __len__(self) -> int:
        return len(self._ready) + len(self._unacknowledged)

    def takes(self, name: str) -> bool:
        return any(matches(f.pattern, name) for f in self.filters)

    async def room(self) -> None:
        while self.durable and len(self) >= DURABLE_QUEUE_MAX:
            self._has_room.clear()
            await self._has_room.wait()

    def put(self, out: Outgoing, *, retained: bool = False) -> None:
        self._ready.append(
            _MemoryIncoming(out, retained=retained, settle=self._settle if self.durable else None)
        )
        if not self.durable and len(self._ready) > LIVE_QUEUE_MAX:
            self._ready.popleft()
            self.dropped += 1
        self._wake()

    async def get(self) -> _MemoryIncoming:
        while not self._ready:
            reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._readers.append(reader)
            try:
                await reader
            except asyncio.CancelledError:
                if reader.done() and not reader.cancelled():
                    self._wake()  # it was our turn: pass it on
                raise
        incoming = self._ready.popleft()
        if self.durable:
            self._unacknowledged[id(incoming)] = incoming
        return incoming

    def give_back(self) -> None:
        """What was read and not acknowledged comes again, in its order."""
        self._ready.extendleft(reversed(self._unacknowledged.values()))
        self._unacknowledged.clear()

    def _settle(self, incoming: _MemoryIncoming) -> None:
        self._unacknowledged.pop(id(incoming), None)
        self._has_room.set()

    def _wake(self) -> None:
        while self._readers:
            reader = self._readers.popleft()
            if not reader.done():
                reader.set_result(None)
                return


class _Reader:
    def __init__(self, queue: _Queue) -> None:
        self._queue = queue

    def __aiter__(self) -> AsyncIterator[Incoming]:
        return self

    async def __anext__(self) -> Incoming:
        return await self._queue.get()


class MemoryTransport:
    """One broker inside the process."""

    keeps_state = True
    connected = True

    def __init__(self) -> None:
        self._live: list[_Queue] = []
        self._durable: dict[str, _Queue] = {}
        self._states: dict[str, Outgoing] = {}
        self._routes: dict[str, tuple[_Queue, ...]] = {}

    async def publish(self, out: Outgoing) -> None:
        queues = self._routes.get(out.name)
        if queues is None:
            queues = self._route(out.name)
        if out.delivery is DeliveryClass.READING:
            durable = [queue for queue in queues if queue.durable]
            if not durable:
                raise NotRoutedError(
                    f"{out.name}: no durable queue takes it; start the recorder, or declare its queue"
                )
            for queue in durable:
                await queue.room()
        elif out.delivery is DeliveryClass.STATE:
            self._keep(out)
        for queue in queues:
            if out.is_news or queue.durable:
                queue.put(out)

    def _keep(self, out: Outgoing) -> None:
        """Keep a state; an empty one is forgotten, as by an MQTT broker."""
        self._states[out.name] = out
        if not out.payload:
            del self._states[out.name]

    @asynccontextmanager
    async def subscribe(
        self, filters: tuple[Filter, ...], durable: str | None
    ) -> AsyncIterator[AsyncIterator[Incoming]]:
        if durable is not None:
            await self.declare(filters, durable)
            queue = self._durable[durable]
            try:
                yield _Reader(queue)
            finally:
                queue.give_back()
            return
        queue = _Queue(filters, durable=False)
        for name, out in self._states.items():
            if queue.takes(name):
                queue.put(out, retained=True)
        self._live.append(queue)
        self._routes.clear()
        try:
            yield _Reader(queue)
        finally:
            self._live.remove(queue)
            self._routes.clear()

    async def declare(self, filters: tuple[Filter, ...], durable: str) -> None:
        queue = self._durable.setdefault(durable, _Queue((), durable=True))
        queue.filters.update(filters)
        self._routes.clear()

    def backlog(self, durable: str) -> int:
        """How many messages of a durable queue are not acknowledged yet."""
        return len(self._durable.get(durable, ()))

    @property
    def dropped(self) -> int:
        """How many live messages its present subscribers were too slow for."""
        return sum(queue.dropped for queue in self._live)

    def _route(self, name: str) -> tuple[_Queue, ...]:
        queues = tuple(queue for queue in (*self._durable.values(), *self._live) if queue.takes(name))
        if len(self._routes) >= _ROUTES_MAX:
            self._routes.clear()
        self._routes[name] = queues
        return queues
