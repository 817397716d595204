"""The clients in examples/ hear what travels: on a real MQTT broker, on a run's window, and on a real RabbitMQ."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.bus import PlanesBus
from broker.connect import open_spectator
from broker.errors import BusError
from broker.window import open_broker
from contracts import topics
from contracts.messages import Decision, MeterReading
from runtime.clock import SystemClock
from tests.brokers import Broker, free_ports, unique, vhost
from tests.system.test_run import CLEAN, REPOSITORY

CLIENTS = REPOSITORY / "examples" / "clients"
CLOCK = SystemClock()
WITHIN_S = 30.0


@pytest.mark.parametrize("path", sorted(CLIENTS.glob("*.py")), ids=lambda path: path.stem)
def test_a_client_is_twenty_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 20


@contextlib.asynccontextmanager
async def client(name: str, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CLIENTS / name), *arguments, stdout=subprocess.PIPE, env=CLEAN
    )
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        process.terminate()
        await process.communicate()


async def publish(bus: PlanesBus, house: str) -> None:
    """A reading and a decision, again and again: whoever begins to listen hears them soon."""
    seq = 0
    while True:
        seq += 1
        now = CLOCK.now()
        reading = MeterReading(house=house, meter="main", boot=1, seq=seq, timestamp=now, power_w=512.5)
        decision = Decision(
            house=house, der_id="battery", timestamp=now, tier="economic", limit="price", asked_kw=1.0, given_kw=1.0,
            sentence="It charges, because power is cheap.",
        )  # fmt: skip
        with contextlib.suppress(BusError):  # nobody takes it yet
            await bus.publish(topics.METER_READING.at(house=house, meter="main"), reading)
        await bus.publish(topics.DECISION.at(house=house, der_id="battery"), decision)
        await asyncio.sleep(0.1)


async def hears(url: str, name: str, *arguments: str) -> None:
    house = unique("client")
    wanted = {f"{house} 512.5 W", f"{house} It charges, because power is cheap."}
    async with open_spectator(url, CLOCK, client=house, wait_s=10) as bus:
        await bus.declare(topics.METER_READING, durable=topics.RECORDER)
        publishing = asyncio.create_task(publish(bus, house))
        try:
            async with client(name, *arguments) as out, asyncio.timeout(WITHIN_S):
                while wanted:
                    line = (await out.readline()).decode().strip()
                    assert line, "the client has ended"
                    wanted.discard(line)
        finally:
            publishing.cancel()
            await asyncio.wait([publishing])


async def test_the_mqtt_client_on_mosquitto(mosquitto: Broker) -> None:
    assert mosquitto.mqtt_url is not None
    await hears(mosquitto.mqtt_url, "mqtt_client.py", "127.0.0.1", str(mosquitto.ports["mqtt"]))


async def test_the_mqtt_client_on_the_embedded_broker() -> None:
    port, ws_port = free_ports(2)
    async with open_broker(CLOCK, port=port, ws_port=ws_port):
        await hears(f"mqtt://127.0.0.1:{port}", "mqtt_client.py", "127.0.0.1", str(port))


async def test_the_amqp_client_on_rabbitmq(rabbitmq: Broker) -> None:
    with vhost(rabbitmq) as mine:
        assert mine.amqp_url is not None
        await hears(mine.amqp_url, "amqp_client.py", mine.amqp_url)
