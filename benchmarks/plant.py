"""The plant: its server under load, a thousand loads balanced, and the scenarios with their numbers."""

import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.http import free_ports, paced
from benchmarks.measure import median_s, pin_to_one_core, report
from benchmarks.plant_site import SCENARIOS, START, TOKEN, numbers_of, run_scenario
from energy.flexible import MINER_PRESETS_KW
from orchestrator.balance import BalanceSettings, FlexibleLoad, balance
from plant.settings import PLANT
from runtime.clock import VirtualClock
from runtime.logs import configure

BALANCE_MS = 100.0
BALANCED_LOADS = 1000
REQUESTS_PER_S = 1500.0
CONNECTIONS = 16
FOR_S = 5.0
RATE_PER_S = 200.0
P99_MS = 20.0
HOURS = 1.0
REQUEST = (
    f"GET /data/latest?plant_id={PLANT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
).encode()


@contextmanager
def _server(port: int) -> Iterator[int]:
    """The plant as a process on one core; gives its process id."""
    bounds = ["--gen-min", "0.05", "--gen-max", "0.15", "--cons-min", "0.03", "--cons-max", "0.10"]
    command = [sys.executable, "-m", "wattbus", "plant", *bounds, "--port", str(port), "--interval", "1"]
    environment = {**os.environ, "PLANT_TOKEN": TOKEN}
    with tempfile.TemporaryDirectory() as scratch:
        command += ["--log-level", "WARNING", "--log-dir", f"{scratch}/log", "--state-dir", scratch]
        with subprocess.Popen(command, env=environment) as process:
            os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
            try:
                yield process.pid
            finally:
                process.terminate()


def _processor_s(pid: int) -> float:
    """The processor's time a process has taken [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _ready(port: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(30.0):
        while True:
            try:
                if (await http.get(f"http://127.0.0.1:{port}/health")).is_success:
                    return
            except httpx.TransportError:
                pass  # it has not begun to listen
            await asyncio.sleep(0.1)


async def _flat_out(port: int) -> float:
    """Answers a second, each connection asking again as soon as it has its answer."""
    count = 0
    end = time.perf_counter() + FOR_S

    async def ask() -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            count += 1
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))
    return count / (time.perf_counter() - began)


def _serve() -> None:
    (port,) = free_ports(1)
    with _server(port) as pid:
        asyncio.run(_ready(port))
        began_s = _processor_s(pid)
        rate = asyncio.run(_flat_out(port))
        us = (_processor_s(pid) - began_s) / (rate * FOR_S) * 1e6
        what = f"plant server, {CONNECTIONS} connections flat out, one core"
        report(what, rate, "answers/s", f"to reach: {REQUESTS_PER_S:.0f}")
        report("  the processor's time for an answer", us, "us", f"enough for {1e6 / us:.0f} a second")
        took_ms = asyncio.run(paced(port, REQUEST, RATE_PER_S))
        what = f"plant server, {RATE_PER_S:.0f} a second"
        report(f"{what}: median", statistics.median(took_ms), "ms")
        p99 = statistics.quantiles(took_ms, n=100)[98]
        report(f"{what}: 99th percentile", p99, "ms", f"to reach: {P99_MS:g}")
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        report("plant server, RSS", pages * os.sysconf("SC_PAGE_SIZE") / 1e6, "MB")


def _balance() -> None:
    rng = random.Random("plant/loads")
    options = (0.0, *MINER_PRESETS_KW)
    loads = [
        FlexibleLoad(der_id=f"miner-{i}", presets_kw=MINER_PRESETS_KW, power_kw=rng.choice(options))
        for i in range(BALANCED_LOADS)
    ]
    now_kw = sum(load.power_kw for load in loads)
    for name, delta_kw in (("a little more", 23.0), ("much more", 800.0), ("much less", -800.0)):
        ms = median_s(lambda kw=now_kw + delta_kw: balance(loads, kw, BalanceSettings(), START)) * 1000  # type: ignore[misc]
        report(f"{BALANCED_LOADS} loads balanced, {name}", ms, "ms", f"to reach: {BALANCE_MS:g}")


def _scenarios() -> None:
    configure(("plant", "plant_poller", "orchestrator", "der_controller"), VirtualClock(START), "ERROR", None)
    print(
        "\n| scenario | balanced every | there, kW | drawn, kW | unused, kW | overdrawn, s/h | kW | changes |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for scenario in SCENARIOS:
        for interval_s in (60.0, 10.0):
            n = numbers_of(run_scenario(scenario, HOURS, balancer_interval_s=interval_s))
            print(
                f"| {scenario.name} | {interval_s:.0f} s | {n.available_kw:.1f} | {n.power_kw:.1f} | "
                f"{n.unused_kw:.1f} | {n.overdraw_s_per_hour:.0f} | {n.overdraw_kw:.2f} | "
                f"{n.changes_per_load_per_hour:.1f} |"
            )


def main() -> None:
    """Print answers a second, milliseconds, and the scenarios' table."""
    allowed = os.sched_getaffinity(0)
    _serve()
    pin_to_one_core()
    _balance()
    os.sched_setaffinity(0, allowed)
    _scenarios()
