"""How soon a broker is found again, and a silent one missed; the figures are printed."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from broker.bus import PlanesBus
from broker.connect import _open
from broker.outbox import Outbox
from broker.quarantine import Quarantine
from broker.transport import Transport
from contracts import topics
from contracts.messages import MeterReading
from runtime.clock import SystemClock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from tests.brokers import Broker, unique, vhost
from tests.tcp_proxy import Proxy, proxy_to

FIRST_CONFIRM_S = 2.0
FIRST_ROW_S = 5.0
BLACK_HOLE_S = 15.0


@pytest.fixture(params=["rabbitmq", "mosquitto", "hivemq"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    shared: Broker = request.getfixturevalue(request.param)
    if shared.amqp_url is None:
        yield shared
    else:
        with vhost(shared) as own:
            yield own


class Link:
    """A meter and a reader on one connection each, through one proxy."""

    def __init__(self, meter: Transport, reader: Transport) -> None:
        self.clock = SystemClock()
        self.house = unique("house")
        self.buses = [
            PlanesBus(one, one, self.clock, client=name, quarantine=Quarantine(None, self.clock))
            for one, name in ((meter, "meter"), (reader, "reader"))
        ]
        self.transports = [meter, reader]
        address = topics.METER_READING.at(house=self.house, meter="main")
        self.outbox = Outbox(address, self.buses[0], self.clock, Lifecycle(), get_log("meter"))
        self.seq = 0

    def add(self) -> None:
        self.seq += 1
        self.outbox.add(
            MeterReading(
                house=self.house, meter="main", boot=1, seq=self.seq, timestamp=self.clock.now(), power_w=1
            )
        )

    async def lost(self) -> None:
        while any(transport.connected for transport in self.transports):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@asynccontextmanager
async def linked(broker: Broker, proxy: Proxy) -> AsyncIterator[tuple[Link, asyncio.Queue[int]]]:
    """A link in use, and the numbers that arrive at the reader."""
    port = broker.ports["amqp" if broker.amqp_url else "mqtt"]
    url = (broker.amqp_url or broker.mqtt_url or "").replace(f":{port}", f":{proxy.port}")
    async with _open(url, unique("meter"), 0, None) as meter, _open(url, unique("reader"), 0, None) as reader:
        link, arrived = Link(meter, reader), asyncio.Queue[int]()

        async def read() -> None:
            async for delivery in deliveries:
                await delivery.ack()
                arrived.put_nowait(delivery.message.seq)

        wanted = topics.METER_READING.of(house=link.house)
        async with link.buses[1].subscribe(wanted, durable=unique("reader")) as deliveries:
            reading = asyncio.create_task(read())
            publishing = asyncio.create_task(link.outbox.publish())
            link.add()
            async with asyncio.timeout(10):
                assert await arrived.get() == 1
            yield link, arrived
            link.outbox.close()
            async with asyncio.timeout(10):
                await publishing
            reading.cancel()
            await asyncio.wait([reading])


async def found_again(link: Link, arrived: "asyncio.Queue[int]") -> tuple[float, float]:
    """From now on: how long until the broker confirms, and until the reader has it [s]."""
    begun, before = monotonic(), link.outbox.published
    async with asyncio.timeout(30):
        while link.outbox.published == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        confirm_s = monotonic() - begun
        while await arrived.get() != link.seq:
            pass
    return confirm_s, monotonic() - begun


async def test_a_broker_that_is_back_is_found_soon(broker: Broker) -> None:
    confirms, rows = [], []
    port = broker.ports["amqp" if broker.amqp_url else "mqtt"]
    async with proxy_to(port) as proxy, linked(broker, proxy) as (link, arrived):
        for away_s in (0.3, 3.0, 1.7):
            proxy.cut(reopen=False)
            async with asyncio.timeout(5):
                await link.lost()
            link.add()
            await asyncio.sleep(away_s)
            proxy.reopen()
            confirm_s, row_s = await found_again(link, arrived)
            confirms.append(confirm_s)
            rows.append(row_s)
    told = ", ".join(f"{c:.2f}/{r:.2f}" for c, r in zip(confirms, rows, strict=True))
    sys.stdout.write(f"{broker.name}: first confirm/first delivery after its return [s]: {told}\n")
    assert max(confirms) < FIRST_CONFIRM_S, told
    assert max(rows) < FIRST_ROW_S, told


@pytest.mark.fault
@pytest.mark.parametrize("busy", [True, False])
async def test_a_black_hole_is_seen(broker: Broker, *, busy: bool) -> None:
    """Busy: a reading waits for its confirm. Idle: nobody has anything to say."""
    port = broker.ports["amqp" if broker.amqp_url else "mqtt"]
    async with proxy_to(port) as proxy, linked(broker, proxy) as (link, arrived):
        proxy.freeze()
        begun = monotonic()
        if busy:
            link.add()
        async with asyncio.timeout(BLACK_HOLE_S + 5):
            await link.lost()
        seen_s = monotonic() - begun
        if not busy:
            link.add()
        proxy.cut(reopen=False)
        await asyncio.sleep(1)
        proxy.thaw()
        proxy.reopen()
        confirm_s, row_s = await found_again(link, arrived)
    how = "busy" if busy else "idle"
    told = f"{broker.name}, {how}: black hole seen after {seen_s:.1f} s; then {confirm_s:.2f}/{row_s:.2f} s"
    sys.stdout.write(f"{told}\n")
    assert seen_s < BLACK_HOLE_S, told
    assert confirm_s < FIRST_CONFIRM_S, told
    assert row_s < FIRST_ROW_S, told
