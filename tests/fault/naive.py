"""The control: a client as one writes it at first. Transient messages, no confirm, no outbox, errors ignored."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import paho.mqtt.client as paho
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from broker.amqp import READINGS

Send = Callable[[str, bytes], None]


@asynccontextmanager
async def open_naive(url: str) -> AsyncIterator[Send]:
    """What publishes, and takes for sent what it was given."""
    opened = _open_amqp if url.startswith("amqp") else _open_mqtt
    async with opened(url) as send:
        yield send


@asynccontextmanager
async def _open_amqp(url: str) -> AsyncIterator[Send]:
    connection = await aio_pika.connect_robust(url, reconnect_interval=1)
    channel = await connection.channel(publisher_confirms=False)
    exchange = await channel.get_exchange(READINGS, ensure=False)
    sending: set[asyncio.Task[None]] = set()

    async def publish(name: str, payload: bytes) -> None:
        try:
            await exchange.publish(aio_pika.Message(payload), name.replace("/", "."))
        except (*CONNECTION_EXCEPTIONS, asyncio.CancelledError):
            pass  # the next one may go through

    def send(name: str, payload: bytes) -> None:
        task = asyncio.create_task(publish(name, payload))
        sending.add(task)
        task.add_done_callback(sending.discard)

    yield send
    if sending:
        await asyncio.wait(sending, timeout=2)
    await connection.close()


@asynccontextmanager
async def _open_mqtt(url: str) -> AsyncIterator[Send]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    client: Any = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.reconnect_delay_set(1, 1)
    client.connect(parts.hostname, parts.port)
    client.loop_start()

    def send(name: str, payload: bytes) -> None:
        client.publish(name, payload)

    yield send
    await asyncio.sleep(1)
    client.disconnect()
    client.loop_stop()
