"""Replay at full speed onto the in-memory bus, beside a loop with pandas, json and paho."""

import asyncio
import contextlib
import json
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pandas as pd

from benchmarks.measure import pin_to_one_core, report
from broker.bus import PlanesBus
from broker.memory import MemoryTransport
from broker.quarantine import Quarantine
from broker.transport import Filter, Incoming
from contracts import archive, topics
from contracts.instant import Instant
from recorder.replay.options import parse_options
from recorder.replay.service import ReplayService
from recorder.replay.survey import survey
from runtime.clock import SystemClock
from runtime.lifecycle import Lifecycle

START = Instant.parse("2024-07-01T00:00:00Z")
HOUSES = 4
ROWS = 8640
"""A day at one every 10 s."""
LIMIT = 20_000.0
ROUNDS = 3


def main() -> None:
    """Print rows a second of one core's time."""
    allowed = os.sched_getaffinity(0)
    pin_to_one_core()
    with tempfile.TemporaryDirectory() as folder:
        for pv in (False, True):
            root = Path(folder) / f"pv-{pv}"
            write_days(root, pv=pv)
            times = [asyncio.run(replayed(root)) for _ in range(ROUNDS)]
            looked, played = (HOUSES * ROWS / min(each) for each in zip(*times, strict=True))
            naive = max(iterated(root) for _ in range(ROUNDS))
            what = "meter and PV: two readings" if pv else "meter alone: one reading"
            report("replay, looking at the files first", looked, "rows/s")
            report(f"replay, rows of {what}", played, "rows/s", f"to reach: {LIMIT:.0f}")
            beside = f"the replay: {played / naive:.1f} x"
            report("  pandas iterrows, json, paho at QoS 0 into nothing", naive, "rows/s", beside)
    os.sched_setaffinity(0, allowed)


def write_days(root: Path, *, pv: bool) -> None:
    """A day of each house, as the recorder writes it."""
    rng = random.Random("replay")
    for house in range(HOUSES):
        path = root / archive.day_file(f"house-{house}", "main", START.date())
        path.parent.mkdir(parents=True)
        rows = []
        for i in range(ROWS):
            meter_w, pv_w = round(rng.uniform(0, 9000), 1), round(rng.uniform(0, 4000), 1)
            powers = (meter_w, pv_w, meter_w + pv_w) if pv else (meter_w, None, None)
            rows.append(archive.format_row(archive.Row(START.after(10 * i), *powers, 1, i + 1)))
        path.write_text("\n".join([archive.HEADER, *rows, ""]))


async def replayed(root: Path) -> tuple[float, float]:
    """Seconds for looking at the files, and for bringing their rows onto the bus and off it."""
    clock, life, transport = SystemClock(), Lifecycle(), MemoryTransport()
    bus = PlanesBus(transport, transport, clock, client="replay", quarantine=Quarantine(None, clock))
    faults: list[str] = []
    began = time.process_time()
    found = survey(parse_options([str(root)]), 0, faults.append, lambda: False)
    looked = time.process_time()
    wanted = [Filter(topic.filter, topic.delivery) for topic in (topics.METER_READING, topics.PV_READING)]
    async with transport.subscribe(tuple(wanted), topics.RECORDER) as incoming:
        taking = asyncio.create_task(take(incoming))
        replay = ReplayService(
            found, bus, clock, life, speed=None, loop=False, rebase=False, fault=faults.append
        )
        await replay.run()
        ended = time.process_time()
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await taking
    if faults or replay.played != HOUSES * ROWS:
        raise RuntimeError(f"{replay.played} rows played; {faults}")
    return looked - began, ended - looked


async def take(incoming: AsyncIterator[Incoming]) -> None:
    """Acknowledge what arrives, as a recorder does."""
    async for reading in incoming:
        await reading.ack()


def iterated(root: Path) -> float:
    """Rows a second of the loop most people write, onto a client without a broker: QoS 0, into nothing."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    began = time.process_time()
    frames = [pd.read_csv(path).assign(house=path.parts[-3]) for path in sorted(root.rglob("*.csv"))]
    frame = pd.concat(frames).sort_values("timestamp")
    for _, row in frame.iterrows():
        text = json.dumps({name: row[name] for name in ("timestamp", "meter_w", "pv_w", "sum_w")})
        client.publish(f"wattbus/{row['house']}/meter/main/reading", text)
    return HOUSES * ROWS / (time.process_time() - began)


if __name__ == "__main__":
    main()
