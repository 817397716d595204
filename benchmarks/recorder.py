"""The recorder from a real RabbitMQ to the disk, beside aio-pika alone, which decodes and keeps nothing."""

import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from benchmarks.measure import pin_to_one_core, report
from broker.amqp import PREFETCH, open_amqp
from broker.bus import PlanesBus
from broker.quarantine import Quarantine
from broker.topology import EXCHANGE, READINGS, key_of
from broker.transport import Filter
from contracts import topics
from contracts.codec import encode
from contracts.instant import Instant
from contracts.messages import MeterReading
from recorder.service import RecorderService
from recorder.settings import RecorderSettings
from runtime.clock import SystemClock
from runtime.lifecycle import Lifecycle
from runtime.logs import configure
from tests.brokers import Broker, Missing, running, vhost

ROWS = 10_000
ROUNDS = 3
METERS = (100, 1_000, 10_000)
COMPARED = 3
"""So many meters where it is compared with others."""
NEW_METERS = 1_000
"""Of which the first row makes a file, of ten."""
RATIO = 0.6
"""Of the bare consumer's rate, to reach."""
OUTAGE_METERS, DRAINED_PER_S = 100, 2_000
"""After an outage: so many meters' readings wait, to be drained at that rate or faster."""
STEP_S = 10
ACKS = 100
QUEUE = f"{EXCHANGE}.{topics.RECORDER}"
BEGIN = Instant.parse("2024-07-01T00:00:00Z")


def _readings(rows: int, meters: int) -> Iterator[tuple[str, bytes]]:
    for i in range(rows):
        seq, number = divmod(i, meters)
        reading = MeterReading(
            house=f"house-{number}",
            meter="main",
            boot=1,
            seq=seq,
            timestamp=BEGIN.after(STEP_S * seq),
            power_w=500.0 + number % 100 / 8,
        )
        yield key_of(topics.METER_READING.at(house=reading.house, meter="main").name), encode(reading)


async def _fill(url: str, rows: int, meters: int) -> None:
    """Have so many readings wait in the recorder's queue."""
    async with open_amqp(url, client="bench", wait_s=10) as transport:
        wanted = topics.METER_READING
        await transport.declare((Filter(wanted.filter, wanted.delivery),), topics.RECORDER)
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(READINGS)
        waiting: list[asyncio.Task[object]] = []
        for key, payload in _readings(rows, meters):
            message = aio_pika.Message(payload, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            waiting.append(asyncio.create_task(exchange.publish(message, key)))
            if len(waiting) >= PREFETCH:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)


async def _bare(url: str, rows: int) -> float:
    """Rows a second that aio-pika hands over; nothing is decoded, a hundred at a time are acknowledged."""
    done = asyncio.Event()
    count = 0

    async def take(message: AbstractIncomingMessage) -> None:
        nonlocal count
        count += 1
        if count % ACKS == 0:
            await message.ack(multiple=True)
        if count == rows:
            done.set()

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(QUEUE)
        began = time.perf_counter()
        await queue.consume(take)
        await done.wait()
        return rows / (time.perf_counter() - began)


async def _recorded(url: str, rows: int, known: int) -> float:
    """Rows a second that are durable and acknowledged, from the row `known` on."""
    clock, life = SystemClock(), Lifecycle()
    folder = Path(tempfile.mkdtemp(prefix="wattbus-bench-", dir=os.environ.get("WATTBUS_BENCH_DIR")))
    try:
        async with open_amqp(url, client="recorder", wait_s=10) as transport:
            bus = PlanesBus(
                transport, transport, clock, client="recorder", quarantine=Quarantine(None, clock)
            )
            recorder = RecorderService(RecorderSettings(data_dir=folder), bus, clock, life)
            serving = asyncio.create_task(recorder.run())
            await _until(recorder, known, serving)
            began, first = time.perf_counter(), recorder.rows_written
            await _until(recorder, rows, serving)
            took_s = time.perf_counter() - began
            life.stop()
            await serving
            await bus.close()
    finally:
        shutil.rmtree(folder)
    return (rows - first) / took_s


async def _until(recorder: RecorderService, rows: int, serving: asyncio.Task[None]) -> None:
    while recorder.rows_written < rows and not serving.done():  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)


def _rate(broker: Broker, meters: int, rows: int, *, bare: bool, new: bool = False) -> float:
    """Rows a second; the recorder's once each meter has its file, or of a day that is `new`."""
    with vhost(broker) as mine:
        url = mine.amqp_url
        assert url is not None  # noqa: S101 - RabbitMQ speaks AMQP
        asyncio.run(_fill(url, rows, meters))
        allowed = os.sched_getaffinity(0)
        pin_to_one_core()
        try:
            return asyncio.run(_bare(url, rows) if bare else _recorded(url, rows, 1 if new else meters))
        finally:
            os.sched_setaffinity(0, allowed)


def _compare(broker: Broker) -> None:
    pairs = [
        (_rate(broker, COMPARED, ROWS, bare=True), _rate(broker, COMPARED, ROWS, bare=False))
        for _ in range(ROUNDS)
    ]
    bare, recorded = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    report("aio-pika alone, acknowledging 100 at a time", bare, "rows/s")
    beside = f"{recorded / bare:.2f} of aio-pika alone, to reach: {RATIO}"
    report(f"recorder, durable, {COMPARED} meters", recorded, "rows/s", beside)


def main() -> None:
    """Print rows a second, for few meters and for many."""
    configure((), SystemClock(), "ERROR", None)
    try:
        with running("rabbitmq") as broker:
            _compare(broker)
            for meters in METERS:
                rate = _rate(broker, meters, max(ROWS, 2 * meters), bare=False)
                beside = f"to reach after an outage: {DRAINED_PER_S}" if meters == OUTAGE_METERS else ""
                report(f"recorder, durable, {meters} meters", rate, "rows/s", beside)
            bare = _rate(broker, NEW_METERS, ROWS, bare=True)
            rate = _rate(broker, NEW_METERS, ROWS, bare=False, new=True)
            beside = f"{rate / bare:.2f} of aio-pika alone"
            report(f"recorder, durable, {NEW_METERS} meters, making their files", rate, "rows/s", beside)
            print("Telegraf is not measured: it is in none of the package registries that this uses.")
    except Missing as missing:
        report(f"not measured: {missing}", 0.0, "rows/s")
