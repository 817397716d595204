"""What stands between a service and the broker in memory: it loses, doubles, delays, reorders and is cut."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any, Protocol

from broker.errors import BusUnavailableError
from broker.memory import MemoryTransport
from broker.transport import Filter, Incoming, Outgoing
from contracts.topics import DeliveryClass
from tests.fault.simulation.life import Life


class Witness(Protocol):
    """Sees what passes."""

    def said(self, life: Life, out: Outgoing) -> None:
        """A service has given something to its link."""

    def at_broker(self, out: Outgoing) -> None:
        """The broker has it."""

    def heard(self, life: Life, incoming: Incoming, *, durable: bool) -> None:
        """A service is given something."""

    def note(self, who: str, what: str, *more: object) -> None:
        """A line of the trace."""


class Network:
    """The one broker, and all that is on its way to it."""

    def __init__(self, witness: Witness) -> None:
        self.broker = MemoryTransport()
        self.witness = witness
        self._under_way: dict[asyncio.Task[None], None] = {}

    async def deliver(self, out: Outgoing) -> None:
        await self.broker.publish(out)
        self.witness.at_broker(out)

    def later(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Do it then, whatever becomes of who asked for it."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            await work()

        task = Context().run(asyncio.create_task, wait())
        self._under_way[task] = None
        task.add_done_callback(self._under_way.pop)
        return task

    async def settled(self) -> None:
        """Wait until nothing is on its way."""
        while self._under_way:
            await asyncio.wait(self._under_way)


class Link:
    """The transport of one life of a service."""

    keeps_state = True

    def __init__(self, network: Network, life: Life) -> None:
        self._network = network
        self._life = life
        self._readers: dict[Reader, None] = {}
        self._up = asyncio.Event()
        self._up.set()
        life.at_crash.append(self.cut)

    @property
    def connected(self) -> bool:
        return self._up.is_set()

    @property
    def dropped(self) -> int:
        """Live messages that subscribers were too slow for."""
        return self._network.broker.dropped

    async def up(self) -> None:
        """Wait until something passes."""
        await self._up.wait()

    def cut(self) -> None:
        """Nothing passes any more; what was not acknowledged goes back to the broker."""
        self._up.clear()
        for reader in self._readers:
            reader.cut()

    def mend(self) -> None:
        """Everything passes again."""
        if not self._life.dead and not self.connected:
            self._up.set()
            for reader in self._readers:
                reader.bind()

    async def publish(self, out: Outgoing) -> None:
        life, network = self._life, self._network
        if life.dead:
            await life.nothing_more()
        network.witness.said(life, out)
        if (fault := life.armed.take("crash", "before publish")) is not None:
            life.crash(fault)
            await life.nothing_more()
        self._check()
        if out.delivery is DeliveryClass.READING:
            await self._confirmed(out)
        else:
            await self._sent(out)
        if (fault := life.armed.take("crash", "after publish")) is not None:
            life.crash(fault)
        if life.dead:
            await life.nothing_more()

    async def _confirmed(self, out: Outgoing) -> None:
        """At the broker when this returns; after an error perhaps, and perhaps twice."""
        armed, network = self._life.armed, self._network
        if (fault := armed.take("drop")) is not None:
            await asyncio.sleep(fault.lasts_s)
            raise BusUnavailableError("lost on its way")
        if (fault := armed.take("unconfirmed")) is not None:
            await network.deliver(out)
            await asyncio.sleep(fault.lasts_s)
            raise BusUnavailableError("no confirm in time")
        if (fault := armed.take("delay")) is not None:
            await asyncio.shield(network.later(fault.lasts_s, lambda: network.deliver(out)))
            self._check()
            return
        if (fault := armed.take("duplicate")) is not None:
            _ = network.later(fault.lasts_s, lambda: network.deliver(out))
        await network.deliver(out)

    async def _sent(self, out: Outgoing) -> None:
        """On its way when this returns; it may arrive late, twice or never."""
        armed, network = self._life.armed, self._network
        if armed.take("drop") is not None:
            return
        if (fault := armed.take("delay")) is not None:
            _ = network.later(fault.lasts_s, lambda: network.deliver(out))
            return
        if (fault := armed.take("duplicate")) is not None:
            _ = network.later(fault.lasts_s, lambda: network.deliver(out))
        await network.deliver(out)

    @asynccontextmanager
    async def subscribe(
        self, filters: tuple[Filter, ...], durable: str | None
    ) -> AsyncIterator[AsyncIterator[Incoming]]:
        await self.up()
        reader = Reader(self._network, self._life, filters, durable)
        self._readers[reader] = None
        reader.bind()
        await asyncio.sleep(0)  # bound
        try:
            yield reader
        finally:
            del self._readers[reader]
            reader.cut()

    async def declare(self, filters: tuple[Filter, ...], durable: str) -> None:
        self._check()
        await self._network.broker.declare(filters, durable)

    def _check(self) -> None:
        if not self.connected:
            raise BusUnavailableError("the link is cut")


class Reader:
    """What one subscription is given: from the broker in its order, or as the faults have it."""

    def __init__(
        self, network: Network, life: Life, filters: tuple[Filter, ...], durable: str | None
    ) -> None:
        self._network = network
        self._life = life
        self._filters = filters
        self.durable = durable
        self.binding = 0
        """Counts the times it was bound to the broker: what was given before a cut can't be acknowledged."""
        self._pump: asyncio.Task[None] | None = None
        self._ready: deque[Arrival] = deque()
        self._some = asyncio.Event()
        self._held: list[Arrival] = []
        self._rng = random.Random(f"{life.name}/{life.number}/{durable}")

    def bind(self) -> None:
        """Begin to hear."""
        self._pump = Context().run(asyncio.create_task, self._hear())

    def cut(self) -> None:
        """Hear no more; the broker takes back what was not acknowledged, and loses what is only live."""
        self.binding += 1
        self._ready.clear()
        self._held.clear()
        if self._pump is not None:
            self._pump.cancel()

    async def _hear(self) -> None:
        binding = self.binding
        async with self._network.broker.subscribe(self._filters, self.durable) as incoming:
            async for one in incoming:
                if binding == self.binding:
                    self._arrive(Arrival(self, one, binding))

    def _arrive(self, arrival: "Arrival") -> None:
        fault = self._life.armed.take("reorder")
        if fault is None:
            self.hand_over(arrival)
            return
        if not self._held:
            asyncio.get_running_loop().call_later(fault.lasts_s, self._mix, self.binding)
        self._held.append(arrival)

    def _mix(self, binding: int) -> None:
        if binding != self.binding:
            return  # of before a cut: what is held now is another's
        held, self._held = self._held, []
        self._rng.shuffle(held)
        for arrival in held:
            self.hand_over(arrival)

    def hand_over(self, arrival: "Arrival") -> None:
        if arrival.binding == self.binding:
            self._ready.append(arrival)
            self._some.set()

    def __aiter__(self) -> AsyncIterator[Incoming]:
        return self

    async def __anext__(self) -> Incoming:
        while self._life.dead or not self._ready:
            self._some.clear()
            await self._some.wait()
        arrival = self._ready.popleft()
        self._network.witness.heard(self._life, arrival, durable=self.durable is not None)
        return arrival

    async def settle(self, arrival: "Arrival", incoming: Incoming) -> None:
        """The service acknowledges."""
        life = self._life
        if life.dead:
            await life.nothing_more()
        if self.durable is None:
            return
        if arrival.binding != self.binding:
            raise BusUnavailableError("the link was cut: it comes again")
        if (fault := life.armed.take("crash", "before ack")) is not None:
            life.crash(fault)
            await life.nothing_more()
        if (fault := life.armed.take("redeliver")) is not None:
            again = Arrival(self, incoming, arrival.binding)
            asyncio.get_running_loop().call_later(fault.lasts_s, self.hand_over, again)
            return
        await incoming.ack()
        if (fault := life.armed.take("crash", "after ack")) is not None:
            life.crash(fault)
            await life.nothing_more()


class Arrival:
    """One message as a service is given it."""

    __slots__ = ("_incoming", "_reader", "binding", "name", "payload", "retained")
    buried = ""

    def __init__(self, reader: Reader, incoming: Incoming, binding: int) -> None:
        self._reader = reader
        self._incoming = incoming
        self.binding = binding
        self.name = incoming.name
        self.payload = incoming.payload
        self.retained = incoming.retained

    async def ack(self) -> None:
        await self._reader.settle(self, self._incoming)
