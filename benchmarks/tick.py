"""One control tick of ten thousand houses on the bus in memory, and the memory one takes for a hundred."""

import asyncio
import importlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import pin_to_one_core, report
from broker.bus import PlanesBus
from broker.memory import MemoryTransport
from broker.quarantine import Quarantine
from contracts import topics
from contracts.instant import Instant
from contracts.messages import DerTelemetry, Message, MeterReading, PriceForecast, PvReading, Schedule
from orchestrator.service import Mark, OrchestratorService
from orchestrator.settings import OrchestratorSettings
from runtime.clock import SystemClock
from runtime.lifecycle import Lifecycle
from runtime.settings import Layered
from runtime.store import Store

HOUSES = 10_000
ROUNDS = 5
LIMIT_S = 2.5
SMALL = 100
LIMIT_MB = 80
STEPS = 192


def _heard(house: str, now: Instant, i: int) -> list[Message]:
    """What one house with PV, a battery, a car (every second house) and a plan has said."""
    start = now.floor(900.0)
    known = {"house": house, "meter": "main", "boot": 1, "seq": 1, "timestamp": now}
    load_w, pv_w = 400.0 + i % 50 * 60.0, i % 40 * 100.0
    der = {
        "house": house,
        "is_online": True,
        "timestamp": now,
        "current_output": 0.0,
        "power_meter_measurement": 0.0,
        "baseline": 0.0,
        "contract_threshold": 5.0,
        "project_id": "P",
        "is_standalone": False,
        "connection_start_at": now,
    }
    battery = DerTelemetry(
        **der,
        der_id="battery",
        type="battery_storage",
        current_soc=20.0 + i % 60,
        nameplate_capacity=5.0,
        capacity_kwh=10.0,
        max_charge_kw=5.0,
        max_discharge_kw=5.0,
        min_soc_percent=10.0,
        max_soc_percent=90.0,
    )
    said: list[Message] = [
        MeterReading(**known, power_w=load_w),
        PvReading(**known, meter_w=load_w, pv_w=pv_w, sum_w=load_w + pv_w),
        battery,
    ]
    if i % 2:
        car = DerTelemetry(
            **der,
            der_id="ev",
            type="electric_vehicle",
            current_soc=40.0,
            nameplate_capacity=3.7,
            capacity_kwh=60.0,
            connected=True,
            min_current_a=6.0,
            max_current_a=16.0,
            phases=1,
            target_soc_percent=80.0,
            departure_at=now.after(36_000),
        )
        said.append(car)
    prices = [0.1 + j % 24 * 0.01 for j in range(STEPS)]
    forecast = PriceForecast(
        house=house,
        tariff="t",
        issued_at=now,
        start=start,
        step_s=900,
        currency="EUR",
        import_price=prices,
        export_price=prices,
        demand_price=[0.0] * STEPS,
    )
    said.append(forecast)
    plan = Schedule(
        house=house,
        der_id="battery",
        issued_at=now,
        valid_until=now.after(1800),
        start=start,
        step_s=900,
        status="optimal",
        battery_power_kw=[-1.0] * STEPS,
        grid_power_kw=[0.5] * STEPS,
        curtailed_kw=[0.0] * STEPS,
        soc_percent=[50.0] * (STEPS + 1),
        load_kw=[1.0] * STEPS,
        pv_kw=[0.0] * STEPS,
        import_price=prices,
        currency="EUR",
        energy_cost=0,
        demand_cost=0,
        total_cost=0,
        peak_kw=1,
    )
    said.append(plan)
    return said


async def _service(houses: int) -> OrchestratorService:
    """An orchestrator that has heard so many houses; its own loop does not run."""
    clock = SystemClock()
    transport = MemoryTransport()
    bus = PlanesBus(transport, transport, clock, client="bench", quarantine=Quarantine(None, clock))
    await bus.declare(topics.ALERT, topics.METER_READING, topics.PV_READING, durable="bench")
    settings = Layered(OrchestratorSettings(reading_fresh_s=3600), {})
    service = OrchestratorService(settings, bus, clock, Lifecycle(), Store(None, Mark, Mark()))
    now = clock.now()
    for i in range(houses):
        house = f"house-{i}"
        model = service.hear_of(house)
        for message in _heard(house, now, i):
            model.known.hear(message, now)
    return service


async def _ticks() -> None:
    service = await _service(HOUSES)
    took, worked = [], []
    for _ in range(ROUNDS + 1):
        began, began_work = time.perf_counter(), time.process_time()
        await service.tick()
        await service.sender.idle()
        took.append(time.perf_counter() - began)
        worked.append(time.process_time() - began_work)
    sent, unsent = service.counts.commands["sent"], service.sender.unsent + service.sender.superseded
    beside = f"to reach: {LIMIT_S}; {sent // (ROUNDS + 1)} commands a tick, {unsent} not published"
    report(f"a tick of {HOUSES} houses, all published", statistics.median(took[1:]), "s", beside)
    report("  the processor's time for it", statistics.median(worked[1:]), "s")


async def _small(*, http: bool) -> None:
    service = await _service(SMALL)
    for _ in range(100):
        await service.tick()
        await service.sender.idle()
    if http:
        from orchestrator.api import orchestrator_api
        from runtime.door import Door
        from runtime.http import serving
        from runtime.logs import get_log

        app = orchestrator_api(service, SystemClock(), Door(), lambda: "")
        async with serving(app, "127.0.0.1", 0, get_log("orchestrator")):
            print(_rss_mb())
        return
    print(_rss_mb())


def _rss_mb() -> float:
    # What its brokers would need counts too.
    for transport in ("broker.connect", "broker.amqp", "broker.mqtt"):
        importlib.import_module(transport)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Print seconds a tick, and megabytes."""
    allowed = os.sched_getaffinity(0)
    pin_to_one_core()
    asyncio.run(_ticks())
    os.sched_setaffinity(0, allowed)
    for how in ("bare", "http"):
        command = [sys.executable, "-m", "benchmarks.tick", how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        megabytes = float(done.stdout.splitlines()[-1])
        what = "with its HTTP API" if how == "http" else "without HTTP"
        report(f"RSS of an orchestrator for {SMALL} houses, {what}", megabytes, "MB", f"to reach: {LIMIT_MB}")


if __name__ == "__main__":
    asyncio.run(_small(http=sys.argv[1] == "http"))
