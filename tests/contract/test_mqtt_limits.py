"""MQTT as the readings plane: what waits at the broker, and what a stalled one costs."""

import asyncio
import sys
from pathlib import Path

import pytest

from broker.mqtt import open_mqtt
from broker.transport import Filter, Outgoing
from broker.unsent import UNSENT_BYTES_MAX
from contracts.topics import DeliveryClass
from tests.broker_life import LOOPBACK
from tests.brokers import Broker, Missing, give_up, running, unique

BACKLOG = 5_000
STALLED_MIB_MAX = 40


def rss_mib() -> float:
    """What this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / (1 << 20)


@pytest.mark.parametrize("name", ["hivemq", "mosquitto"])
async def test_a_reader_who_is_away_misses_nothing(name: str, request: pytest.FixtureRequest) -> None:
    """With the settings of docs/bus.md; by default both brokers keep 1,000 and acknowledge the others too."""
    broker: Broker = request.getfixturevalue(name)
    house, reader = unique("house"), unique("reader")
    wanted = (Filter(f"wattbus/{house}/meter/+/reading", DeliveryClass.READING),)
    topic = f"wattbus/{house}/meter/main/reading"
    payload = "%d" + " " * 250
    async with open_mqtt(broker.mqtt_url or "", client=unique("meter"), wait_s=0, will=None) as meter:
        async with meter.subscribe(wanted, reader):
            pass
        for first in range(0, BACKLOG, 100):
            async with asyncio.TaskGroup() as group:
                for number in range(first, first + 100):
                    out = Outgoing(topic, (payload % number).encode(), DeliveryClass.READING)
                    group.create_task(meter.publish(out))
        async with meter.subscribe(wanted, reader) as kept, asyncio.timeout(60):
            arrived = []
            while len(arrived) < BACKLOG:
                incoming = await anext(kept)
                arrived.append(int(incoming.payload))
                await incoming.ack()
    assert sorted(arrived) == list(range(BACKLOG))


async def test_a_stopped_broker_costs_little_memory() -> None:
    """SIGSTOP, and 1 GB of live messages and 200 commands for it."""
    try:
        with running("mosquitto") as broker:
            await _stall(broker)
    except Missing as missing:
        give_up("mosquitto", str(missing))


async def _stall(broker: Broker) -> None:
    live = Outgoing("wattbus/house-a/der/a/telemetry", b"x" * 100_000, DeliveryClass.LIVE)
    command = Outgoing("wattbus/house-a/der/a/command", b"y" * 10_000, DeliveryClass.COMMAND, 5)
    async with open_mqtt(broker.mqtt_url or "", client=unique("client"), wait_s=0, will=None) as transport:
        await transport.publish(live)
        await asyncio.to_thread(broker.freeze)
        try:
            before = rss_mib()
            commands = [asyncio.create_task(transport.publish(command)) for _ in range(200)]
            most = 0.0
            for count in range(10_000):
                await transport.publish(live._replace(payload=live.payload[:-1] + b"%d" % (count % 10)))
                if count % 500 == 0:
                    await asyncio.sleep(0)
                    most = max(most, rss_mib() - before)
            dropped = transport.dropped
        finally:
            await asyncio.to_thread(broker.thaw)
        await asyncio.gather(*commands)
    sys.stdout.write(f"stopped Mosquitto, 1 GB published: {most:.1f} MiB more in memory, {dropped} dropped\n")
    assert dropped > 9_000
    assert most < STALLED_MIB_MAX
    assert UNSENT_BYTES_MAX >> 20 < STALLED_MIB_MAX


async def test_leaving_waits_until_the_broker_has_seen_it() -> None:
    """Else it sends to who has gone, and HiveMQ sends that alone at the next start until it is acknowledged."""
    said: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"\x20\x02\x00\x00")  # CONNACK
        while await reader.readexactly(2) != b"\xe0\x00":  # DISCONNECT
            pass
        await asyncio.sleep(0.2)
        said.append("seen")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, LOOPBACK, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with open_mqtt(f"mqtt://{LOOPBACK}:{port}?version=3", client="one", wait_s=0, will=None):
            pass
        assert said == ["seen"]
