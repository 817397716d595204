"""The optimizer's HTTP API under load: `current_dispatch` at rest, and while it plans without a pause."""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from benchmarks.measure import report

CONTROLLERS = 10
QUESTIONS = 200
RATE_PER_S = 200.0
"""Of all together."""
LIMIT_MS = 20.0
REQUEST = b"GET /api/mpc/current_dispatch HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
CSV = Path(__file__).parents[1] / "examples" / "data" / "fr_house_30min.csv"


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on."""
    with ExitStack() as stack:
        return [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)
        ]


@contextmanager
def service(name: str, port: int, folder: Path, **env: str) -> Iterator[str]:
    """One of the three services, until the context ends; gives its address."""
    environment = {**os.environ, f"WATTBUS_{name.upper()}_SERVICE_PORT": str(port), **env}
    command = [sys.executable, "-m", "wattbus", name, "--log-level", "WARNING"]
    with subprocess.Popen(command, cwd=folder, env=environment) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


async def _ask(port: int, request: bytes, rate_per_s: float, took_ms: list[float], begin: float) -> None:
    """One of so many alike: asks at its rate on one connection.

    A question that the one before has held up counts from when it should have been asked.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for i in range(QUESTIONS):
        due = begin + i * CONTROLLERS / rate_per_s
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        took_ms.append((time.perf_counter() - due) * 1000)
    writer.close()


async def paced(
    port: int, request: bytes, rate_per_s: float, took_ms: list[float] | None = None
) -> list[float]:
    """The times of all answers [ms], at that rate over several connections."""
    took_ms = [] if took_ms is None else took_ms
    begin = time.perf_counter() + 0.2
    spread = [begin + i / rate_per_s for i in range(CONTROLLERS)]
    await asyncio.gather(*(_ask(port, request, rate_per_s, took_ms, at) for at in spread))
    return took_ms


async def _load(port: int, *, planning: bool) -> tuple[list[float], int]:
    """The times of all answers [ms], and how many plans were made meanwhile."""
    took_ms: list[float] = []
    plans = 0

    async def plan() -> None:
        nonlocal plans
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            while len(took_ms) < CONTROLLERS * QUESTIONS:
                plans += (await http.post("/api/mpc/trigger")).is_success

    load = paced(port, REQUEST, RATE_PER_S, took_ms)
    await asyncio.gather(load, *([plan()] if planning else []))
    return took_ms, plans


async def _ready(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http, asyncio.timeout(30.0):
        while True:
            try:
                if (await http.get("/api/mpc/current_dispatch")).json()["status"] == "optimal":
                    return
            except httpx.TransportError:
                pass  # it has not begun to listen
            await asyncio.sleep(0.2)


def main() -> None:
    """Print the median and the 99th percentile, at rest and while plans are made without a pause."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        recorded = {"WATTBUS_REPORTER_CSV": str(CSV), "WATTBUS_VALIDATOR_CSV": str(CSV)}
        battery = {"BATTERY_CAPACITY_KWH": "10", "BATTERY_POWER_MAX_KW": "5"}
        ports = free_ports(3)
        reporter = stack.enter_context(service("reporter", ports[0], folder, **recorded))
        bms = stack.enter_context(service("validator", ports[1], folder, **recorded, **battery))
        urls = {"REPORTER_BASE_URL": reporter, "BMS_BASE_URL": bms}
        url = stack.enter_context(service("optimizer", ports[2], folder, **urls, **battery))
        asyncio.run(_ready(url))
        for planning in (False, True):
            took_ms, plans = asyncio.run(_load(ports[2], planning=planning))
            beside = f"{plans} plans meanwhile" if planning else "at rest"
            what = f"current_dispatch, {RATE_PER_S:.0f} a second"
            report(f"{what}: median", statistics.median(took_ms), "ms", beside)
            p99 = statistics.quantiles(took_ms, n=100)[98]
            report(f"{what}: 99th percentile", p99, "ms", f"to reach: {LIMIT_MS:g}")
