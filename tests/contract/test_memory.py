"""What is the in-memory transport's alone: its bounds."""

import asyncio

import pytest

from broker import memory
from broker.memory import MemoryTransport
from broker.transport import Filter, Outgoing
from contracts.topics import DeliveryClass

ALL = (Filter("wattbus/#", DeliveryClass.READING),)
NAME = "wattbus/house-a/meter/main/reading"


async def test_a_slow_live_subscriber_loses_the_oldest_and_it_is_counted() -> None:
    transport = MemoryTransport()
    async with transport.subscribe(ALL, None) as incoming:
        for number in range(memory.LIVE_QUEUE_MAX + 3):
            await transport.publish(Outgoing(NAME, b"%d" % number, DeliveryClass.LIVE))
        assert transport.dropped == 3
        assert (await anext(incoming)).payload == b"3"


async def test_a_full_durable_queue_makes_its_publishers_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "DURABLE_QUEUE_MAX", 2)
    transport = MemoryTransport()
    async with transport.subscribe(ALL, "reader") as incoming:
        for number in range(2):
            await transport.publish(Outgoing(NAME, b"%d" % number, DeliveryClass.READING))
        waiting = asyncio.create_task(transport.publish(Outgoing(NAME, b"2", DeliveryClass.READING)))
        first = await anext(incoming)
        assert not waiting.done()
        assert transport.backlog("reader") == 2
        await first.ack()
        await waiting
        assert transport.backlog("reader") == 2
        assert [(await anext(incoming)).payload for _ in range(2)] == [b"1", b"2"]


async def test_a_reader_that_is_cancelled_takes_nothing_with_it() -> None:
    transport = MemoryTransport()
    async with transport.subscribe(ALL, "reader") as incoming:
        waiting = asyncio.ensure_future(anext(incoming))
        await asyncio.sleep(0)
        await transport.publish(Outgoing(NAME, b"1", DeliveryClass.READING))
        waiting.cancel()  # woken already, and cancelled before it could run
        await asyncio.wait([waiting])
        assert (await anext(incoming)).payload == b"1"
