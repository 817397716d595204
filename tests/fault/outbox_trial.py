"""One trial: sources that publish through a fault, a reader that keeps count, and what it comes to."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker.bus import PlanesBus
from broker.quarantine import Quarantine
from contracts import topics
from contracts.messages import MeterReading
from runtime.clock import SystemClock
from tests.fault.outbox_source import power_of, transport_of

REPOSITORY = Path(__file__).parents[2]
QUIET_S, QUIET_MAX_S = 0.5, 10.0
"""The reader is done when nothing came for so long; if something is missing, it waits longer."""
AT_RISK_S = 0.5
"""The commit's 200 ms, and a busy machine."""

Key = tuple[int, int]


@dataclass
class Ledger:
    """What became of the readings of one source."""

    client: str
    attempted: set[Key] = field(default_factory=set)
    acknowledged: set[Key] = field(default_factory=set)
    arrived: Counter[Key] = field(default_factory=Counter)
    after_fault: set[Key] = field(default_factory=set)
    """Those that arrived only after the fault had ended, and were made before."""
    unexpected: list[str] = field(default_factory=list)
    fault_ended_s: float | None = None
    first_confirm_s: float | None = None

    @property
    def lost(self) -> int:
        """Readings the client said were safe, or went on living to deliver, and that never arrived."""
        return len(self.acknowledged - self.arrived.keys())

    @property
    def unacknowledged(self) -> int:
        """What died with its source before it was safe."""
        return len(self.attempted - self.acknowledged)

    def report(self, fault: str) -> str:
        confirm = "never" if self.first_confirm_s is None else f"{self.first_confirm_s:.1f} s"
        return (
            f"fault={fault!r} client={self.client} attempted={len(self.attempted)} "
            f"acknowledged={len(self.acknowledged)} lost={self.lost} "
            f"duplicated={sum(self.arrived.values()) - len(self.arrived)} recovered={len(self.after_fault)} "
            f"unexpected={len(self.unexpected)} first_confirm={confirm}"
        )


class Source:
    """A process that makes readings."""

    def __init__(self, ledger: Ledger, house: str, folder: Path, rate: float) -> None:
        self.ledger, self.house, self.folder, self.rate = ledger, house, folder, rate
        self.boot = 0
        self.process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, url: str) -> None:
        self.boot += 1
        command = [sys.executable, "-m", "tests.fault.outbox_source", self.ledger.client, "--url", url,
                   "--house", self.house, "--boot", str(self.boot), "--rate", str(self.rate),
                   "--folder", str(self.folder)]  # fmt: skip
        with (self.folder / f"{self.ledger.client}.err").open("ab") as err:
            self.process = await asyncio.create_subprocess_exec(
                *command, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE, stderr=err, env=dict(os.environ)
            )
        self._reading = asyncio.create_task(self._read(self.process))

    async def kill(self) -> None:
        """As a power cut does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Once it has delivered what it has."""
        assert await self._end(signal.SIGTERM) == 0, (self.folder / f"{self.ledger.client}.err").read_text()

    async def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        assert self._reading is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self._reading
        return await self.process.wait()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        ledger = self.ledger
        async for line in process.stdout:
            kind, boot, seq, *_ = line.split()
            key = (int(boot), int(seq))
            match kind:
                case b"a":
                    ledger.attempted.add(key)
                case b"k":
                    ledger.acknowledged.add(key)
                case b"c" if ledger.fault_ended_s is not None and ledger.first_confirm_s is None:
                    ledger.first_confirm_s = time.monotonic() - ledger.fault_ended_s


class Trial:
    """A reader, and two sources that publish at once: the outbox and the naive client."""

    def __init__(self, folder: Path, rate: float) -> None:
        self.ledgers = {"house-o": Ledger("outbox"), "house-n": Ledger("naive")}
        self.sources = [Source(ledger, house, folder, rate) for house, ledger in self.ledgers.items()]

    async def start(self, url: str) -> None:
        """Start both, and wait until both have something at the broker."""
        before = {house: len(ledger.arrived) for house, ledger in self.ledgers.items()}
        for source in self.sources:
            await source.start(url)
        async with asyncio.timeout(20):
            while any(len(ledger.arrived) <= before[house] for house, ledger in self.ledgers.items()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        for source in self.sources:
            await source.kill()

    def fault_ends(self) -> None:
        """From here on is recovery."""
        for ledger in self.ledgers.values():
            ledger.fault_ended_s, ledger.first_confirm_s = time.monotonic(), None
            ledger.after_fault = ledger.attempted - ledger.arrived.keys()

    async def recovered(self) -> None:
        """Wait until the outbox has had a confirm again, and a little for the naive client."""
        box = self.ledgers["house-o"]
        async with asyncio.timeout(30):
            while box.first_confirm_s is None:  # noqa: ASYNC110 - it is a line of another process
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)

    def said_by(self, client: str) -> str:
        """What a source has on its stderr."""
        source = next(one for one in self.sources if one.ledger.client == client)
        return (source.folder / f"{client}.err").read_text()

    async def finish(self, fault: str) -> dict[str, Ledger]:
        """Let them deliver, then count; the report is printed and asserted."""
        await asyncio.gather(*(source.stop() for source in self.sources))
        box, seen, since = self.ledgers["house-o"], -1, time.monotonic()
        while time.monotonic() - since < (QUIET_MAX_S if box.lost else QUIET_S):
            total = sum(ledger.arrived.total() for ledger in self.ledgers.values())
            if total != seen:
                seen, since = total, time.monotonic()
            await asyncio.sleep(0.1)
        for ledger in self.ledgers.values():
            ledger.after_fault &= ledger.arrived.keys()
            sys.stdout.write(f"{ledger.report(fault)}\n")
        return {ledger.client: ledger for ledger in self.ledgers.values()}

    def hear(self, reading: MeterReading) -> None:
        ledger, key = self.ledgers[reading.house], (reading.boot, reading.seq)
        if reading.power_w != power_of(*key):
            ledger.unexpected.append(f"{key} says {reading.power_w}")
        ledger.arrived[key] += 1


def judge(ledgers: dict[str, Ledger], fault: str, *, source_dies: bool = False) -> None:
    """The outbox loses nothing where the naive client does."""
    box, control = ledgers["outbox"], ledgers["naive"]
    # A source that lives has all the time to deliver: then every reading it made counts.
    never_made = box.arrived.keys() - box.attempted
    assert not never_made, f"{box.report(fault)}: {sorted(never_made)[:5]} were never made"
    assert not box.unexpected, f"{box.report(fault)}: {box.unexpected[:5]}"
    assert box.lost == 0, f"{box.report(fault)}: {sorted(box.acknowledged - box.arrived.keys())[:5]}"
    if not source_dies:
        assert box.unacknowledged == 0, box.report(fault)
    assert box.after_fault, f"{box.report(fault)}: the fault was none"
    assert control.lost > 0, (
        f"the control lost nothing, so this fault proves nothing: {control.report(fault)}"
    )


@asynccontextmanager
async def trial(url: str, folder: Path, rate: float = 200) -> AsyncIterator[Trial]:
    """A reader at the broker itself, and sources that are ended with it."""
    one, clock = Trial(folder, rate), SystemClock()

    async def read() -> None:
        async with transport_of(url, "reader") as transport:
            bus = PlanesBus(transport, transport, clock, client="reader", quarantine=Quarantine(None, clock))
            async with bus.subscribe(topics.METER_READING, durable=topics.RECORDER) as deliveries:
                ready.set()
                async for delivery in deliveries:
                    one.hear(delivery.message)
                    await delivery.ack()

    ready = asyncio.Event()
    reader = asyncio.create_task(read())
    try:
        async with asyncio.timeout(30):
            await ready.wait()
        yield one
    finally:
        for source in one.sources:
            if source.process is not None:
                await source.kill()
        reader.cancel()
        await asyncio.wait([reader])
