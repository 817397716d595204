"""The dashboard's server with fifty houses at 1 Hz and ten open pages: CPU, and how old a push is."""

import asyncio
import resource
import socket
import statistics
import time
from typing import Any

import msgspec

from benchmarks.measure import report
from broker.bus import PlanesBus
from broker.memory import MemoryTransport
from broker.quarantine import Quarantine
from contracts import topics
from contracts.instant import Instant
from contracts.messages import DerTelemetry, MeterReading, PvReading
from dashboard.__main__ import page
from dashboard.settings import DashboardSettings
from runtime.clock import SystemClock
from runtime.lifecycle import Lifecycle

HOUSES = 50
PAGES = 10
SECONDS = 20


def _said(house: str, at: Instant, seq: int) -> list[Any]:
    known: dict[str, Any] = {"house": house, "meter": "main", "boot": 1, "seq": seq, "timestamp": at}
    battery = DerTelemetry(
        der_id="battery", is_online=True, timestamp=at, current_output=1.0, power_meter_measurement=1.0,
        baseline=0, contract_threshold=5, project_id="P", is_standalone=False, connection_start_at=at,
        current_soc=50.0, type="battery_storage", nameplate_capacity=5, house=house, capacity_kwh=10,
    )  # fmt: skip
    return [
        MeterReading(**known, power_w=1500),
        PvReading(**known, meter_w=1500, pv_w=500, sum_w=2000),
        battery,
    ]


async def _talk(bus: PlanesBus, clock: SystemClock, life: Lifecycle, spent_s: list[float]) -> None:
    """Every house says everything once a second; what saying it costs is not the dashboard's."""
    seq = 0
    async for _ in life.each(clock.every(1.0)):
        seq += 1
        began = time.process_time()
        for i in range(HOUSES):
            house = f"house-{i}"
            meter, pv, battery = _said(house, clock.now(), seq)
            await bus.publish(topics.METER_READING.at(house=house, meter="main"), meter)
            await bus.publish(topics.PV_READING.at(house=house, meter="main"), pv)
            await bus.publish(topics.DER_TELEMETRY.at(house=house, der_id="battery"), battery)
        spent_s.append(time.process_time() - began)


async def _look(url: str, clock: SystemClock, ages_s: list[float], sizes: list[int]) -> None:
    """A page: takes every event, over HTTP."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    writer.write(f"GET /api/stream?house=house-0 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    is_fleet = False
    while line := await reader.readline():
        if is_fleet and line.startswith(b"data: "):
            sizes.append(len(line))
            told = msgspec.json.decode(line.removeprefix(b"data: "))
            if newest := max((row["at"] or 0 for row in told["houses"]), default=0):
                ages_s.append(clock.now().seconds_since(Instant.at_ms(newest)))
        is_fleet = line == b"event: fleet\n"
    writer.close()


async def _run() -> None:
    clock, life = SystemClock(), Lifecycle()
    transport = MemoryTransport()
    bus = PlanesBus(transport, transport, clock, client="benchmark", quarantine=Quarantine(None, clock))
    await bus.declare(topics.METER_READING, topics.PV_READING, durable="nobody")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    spent_s, ages_s, sizes = list[float](), list[float](), list[int]()
    settings = DashboardSettings(service_port=port)
    served = page(settings, bus, lambda: True, clock, life, lambda _: 16.0)
    async with asyncio.TaskGroup() as group, served:
        url = f"http://127.0.0.1:{port}"
        for _ in range(PAGES):
            group.create_task(_look(url, clock, ages_s, sizes))
        group.create_task(_talk(bus, clock, life, spent_s))
        await clock.sleep(2.0)
        before = resource.getrusage(resource.RUSAGE_SELF)
        skipped, began = len(spent_s), time.perf_counter()
        await clock.sleep(SECONDS)
        after, took_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        cpu_s -= sum(spent_s[skipped:])
    what = f"{HOUSES} houses at 1 Hz, {PAGES} pages"
    report(f"{what}: share of a core", 100 * cpu_s / took_s, "%", "to reach: 10; with what the pages cost")
    report(f"{what}: age of the news, median", 1000 * statistics.median(ages_s), "ms", "to reach: 1000")
    report(f"{what}: age of the news, longest", 1000 * max(ages_s), "ms", "to reach: 1000")
    report(f"{what}: a push", max(sizes) / 1000, "kB")


def main() -> None:
    """Print the server's share of a core, and how old what it pushes is."""
    asyncio.run(_run())
