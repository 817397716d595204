"""A quarantine whose disk is full: nothing of it is lost, and good readings go on."""

import asyncio
from pathlib import Path

from broker.bus import PlanesBus
from broker.memory import MemoryTransport
from broker.quarantine import Quarantine
from broker.transport import Filter, Incoming, Outgoing
from contracts import topics
from contracts.codec import encode
from contracts.messages import MeterReading
from contracts.topics import DeliveryClass
from runtime.clock import Clock, VirtualClock
from tests.conftest import START, run_virtual

ADDRESS = topics.METER_READING.at(house="house-a", meter="main")


class Full(Quarantine):
    """A disk without room until it gets some."""

    has_room = False

    async def put(self, incoming: Incoming, reason: str) -> None:
        if not self.has_room:
            raise OSError(28, "No space left on device")
        await super().put(incoming, reason)


def outgoing(payload: bytes) -> Outgoing:
    return Outgoing(ADDRESS.name, payload, DeliveryClass.READING)


def good(seq: int) -> Outgoing:
    own = {"house": "house-a", "meter": "main", "boot": 1, "timestamp": START}
    return outgoing(encode(MeterReading(seq=seq, power_w=1.0, **own)))  # type: ignore[arg-type]


async def stand(clock: Clock, folder: Path) -> tuple[PlanesBus, MemoryTransport, Full]:
    transport, quarantine = MemoryTransport(), Full(folder, clock)
    await transport.declare((Filter(topics.METER_READING.filter, DeliveryClass.READING),), topics.RECORDER)
    return PlanesBus(transport, transport, clock, client="x", quarantine=quarantine), transport, quarantine


def test_good_readings_go_on_and_the_bad_ones_are_kept_once_there_is_room(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        bus, transport, quarantine = await stand(clock, tmp_path)
        for seq in range(1, 4):
            await transport.publish(outgoing(b"bad"))
            await transport.publish(good(seq))
        async with bus.subscribe(topics.METER_READING, durable=topics.RECORDER) as deliveries:
            for seq in range(1, 4):
                delivery = await anext(deliveries)
                assert delivery.message.seq == seq
                await delivery.ack()
            assert transport.backlog(topics.RECORDER) == 3
            quarantine.has_room = True
            await transport.publish(good(4))
            await (await anext(deliveries)).ack()
        assert (transport.backlog(topics.RECORDER), quarantine.count) == (0, 3)

    run_virtual(main)


def test_a_flood_of_bad_ones_waits_for_the_disk_and_not_for_ever(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        bus, transport, quarantine = await stand(clock, tmp_path)
        for _ in range(500):
            await transport.publish(outgoing(b"bad"))
        await transport.publish(good(1))
        async with bus.subscribe(topics.METER_READING, durable=topics.RECORDER) as deliveries:
            hearing = asyncio.ensure_future(anext(deliveries))
            await clock.sleep(60)
            assert not hearing.done()
            quarantine.has_room = True
            await clock.sleep(5)
            assert (await hearing).message.seq == 1
        assert quarantine.count == 500

    run_virtual(main)
