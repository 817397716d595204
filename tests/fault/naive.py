"""The controls: clients as one writes them at first. Each fault must cost them something, or it proves nothing.

The source: transient messages, no confirm, no outbox, errors ignored. The relay and the recorder: whatever the
library's first example does, so that a message is acknowledged as it arrives; the recorder's file is named after
its own clock's day, buffered, and takes what comes, again and again.
`python -m tests.fault.naive pvsim|recorder --url URL ...` runs the last two.
"""

import argparse
import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, timedelta
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import aio_pika
import paho.mqtt.client as paho
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from broker.topology import READINGS
from contracts import archive
from contracts.codec import decode
from contracts.messages import MeterReading
from energy.zones import zone_of
from tests.fault.jumping import JumpingClock

METER, PV = "naive/meter", "naive/pv"
"""Where the controls meet, apart from everybody else."""
HOUSE = "house-n"
BEAT_S = 5
FLUSH_S = 1.0

Send = Callable[[str, bytes], None]


@asynccontextmanager
async def open_naive(url: str) -> AsyncIterator[Send]:
    """What publishes, and takes for sent what it was given."""
    opened = _send_amqp if url.startswith("amqp") else _send_mqtt
    async with opened(url) as send:
        yield send


@asynccontextmanager
async def hear_naive(url: str, topic: str, hear: Callable[[bytes], None]) -> AsyncIterator[None]:
    """Whatever arrives is taken for dealt with."""
    heard = _hear_amqp if url.startswith("amqp") else _hear_mqtt
    async with heard(url, topic, hear):
        yield


@asynccontextmanager
async def _send_amqp(url: str) -> AsyncIterator[Send]:
    connection = await aio_pika.connect_robust(url, reconnect_interval=1, heartbeat=BEAT_S)
    channel = await connection.channel(publisher_confirms=False)
    exchange = await channel.declare_exchange(READINGS, aio_pika.ExchangeType.TOPIC, durable=True)
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
async def _hear_amqp(url: str, topic: str, hear: Callable[[bytes], None]) -> AsyncIterator[None]:
    connection = await aio_pika.connect_robust(url, reconnect_interval=1, heartbeat=BEAT_S)
    channel = await connection.channel()
    exchange = await channel.declare_exchange(READINGS, aio_pika.ExchangeType.TOPIC, durable=True)
    queue = await channel.declare_queue(topic.replace("/", "."), auto_delete=True)
    await queue.bind(exchange, topic.replace("/", "."))

    async def take(message: Any) -> None:
        hear(message.body)

    await queue.consume(take, no_ack=True)
    yield
    await connection.close()


def _client(url: str) -> Any:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    client: Any = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.reconnect_delay_set(1, 1)
    client.connect(parts.hostname, parts.port, keepalive=BEAT_S)
    client.loop_start()
    return client


@asynccontextmanager
async def _send_mqtt(url: str) -> AsyncIterator[Send]:
    client = _client(url)

    def send(name: str, payload: bytes) -> None:
        client.publish(name, payload)

    yield send
    await asyncio.sleep(1)
    client.disconnect()
    client.loop_stop()


@asynccontextmanager
async def _hear_mqtt(url: str, topic: str, hear: Callable[[bytes], None]) -> AsyncIterator[None]:
    loop, client = asyncio.get_running_loop(), _client(url)
    client.on_message = lambda _client, _data, message: loop.call_soon_threadsafe(hear, message.payload)
    client.on_connect = lambda _client, *_: client.subscribe(topic)
    client.subscribe(topic)
    yield
    client.disconnect()
    client.loop_stop()


class NaiveFile:
    """Appends to the file of the day it is by its own clock, or whose day ends every 24 h.

    Args:
        by_24h: the readings' own days, each 24 h after the first one's midnight.
    """

    def __init__(self, folder: Path, timezone: str, clock: JumpingClock, *, by_24h: bool) -> None:
        self._folder, self._zone, self._clock, self._by_24h = folder, zone_of(timezone), clock, by_24h
        self._midnight: Any = None
        self._path: Path | None = None
        self._file: IO[str] | None = None

    def write(self, payload: bytes) -> None:
        reading = decode(MeterReading, payload)
        day = self._day(reading)
        path = self._folder / archive.day_file(HOUSE, "main", day)
        with suppress(OSError):  # the next one may be written
            if path != self._path:
                self._open(path)
            assert self._file is not None
            row = archive.Row(reading.timestamp, reading.power_w, None, None, reading.boot, reading.seq)
            self._file.write(f"{archive.format_row(row)}\n")

    def flush(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.flush()

    def _open(self, path: Path) -> None:
        self.flush()
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        self._file = path.open("a")
        self._path = path
        if is_new:
            self._file.write(f"{archive.HEADER}\n")

    def _day(self, reading: MeterReading) -> Any:
        if not self._by_24h:
            return self._clock.now().astimezone(self._zone).date()
        at = reading.timestamp.astimezone(self._zone)
        if self._midnight is None:
            self._midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        days = (at.astimezone(UTC) - self._midnight.astimezone(UTC)) // timedelta(days=1)
        return self._midnight.date() + timedelta(days=days)


async def relay(own: argparse.Namespace, stop: asyncio.Event, _clock: JumpingClock) -> None:
    """In pvsim's place."""
    async with open_naive(own.url) as send, hear_naive(own.url, METER, lambda payload: send(PV, payload)):
        await stop.wait()


async def record(own: argparse.Namespace, stop: asyncio.Event, clock: JumpingClock) -> None:
    """In the recorder's place."""
    file = NaiveFile(own.data_dir, own.day_timezone, clock, by_24h=own.by_24h)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(hear_naive(own.url, PV, file.write))
        while not stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await stop.wait()
            file.flush()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("pvsim", "recorder"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--day-timezone", default="UTC")
    parser.add_argument("--by-24h", action="store_true")
    own = parser.parse_args()
    clock, stop = JumpingClock(), asyncio.Event()
    clock.listen()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await {"pvsim": relay, "recorder": record}[own.part](own, stop, clock)


if __name__ == "__main__":
    asyncio.run(main())
