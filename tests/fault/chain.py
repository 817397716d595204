"""The real chain as real processes: meters, PV simulator, recorder; and beside it the naive one, as the control.

    meter (an outbox on the disk) -> broker -> pvsim -> broker -> recorder -> CSV
    naive meter                   -> broker -> naive pvsim -> broker -> naive recorder -> CSV

Each part reaches the broker through a proxy of its own, which it shares with its naive twin: what befalls the one
befalls the other.
"""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from energy.zones import zone_of
from tests.broker_life import answers
from tests.brokers import READY_S, Broker
from tests.fault.account import Account, Files, Verdict, files_of, rows_in, verdict
from tests.fault.links import FaultyProxy, faulty_proxy_to
from tests.fault.naive import HOUSE as NAIVE_HOUSE
from tests.fault.naive import METER as NAIVE_TOPIC

REPOSITORY = Path(__file__).parents[2]
PARTS = ("meter", "pvsim", "recorder")
SETTLED_S, SETTLED_MAX_S = 2.0, 60.0
"""The files are complete when no row came for so long; if something is missing, one waits longer."""
RECOVERY_MAX_S = 60.0


class Part:
    """A process that can be killed, frozen and started again."""

    def __init__(self, name: str, command: list[str], folder: Path, out: Path | None = None) -> None:
        self.name, self.command, self.folder = name, command, folder
        self.boot = 0
        self._out = out
        self._process: subprocess.Popen[bytes] | None = None
        self._shall_run = False
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self.boot += 1
        self._shall_run = True
        boot = ["--boot", str(self.boot)] if self._out else []
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "WATTBUS_STATE_DIR": str(self.folder / "state")}
        with (self.folder / f"{self.name}.err").open("ab") as err, (self._out or self.folder / f"{self.name}.out").open("ab") as out:  # fmt: skip
            self._process = subprocess.Popen(
                [*self.command, *boot],
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """As a power cut does."""
        self._shall_run = False
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def stop(self, within_s: float = 300) -> None:
        """As an administrator does."""
        assert self._process is not None
        self._shall_run = False
        self._process.terminate()
        code = await asyncio.to_thread(self._process.wait, within_s)
        assert code == 0, f"{self.name} ended with {code}: {self.said[-2000:]}"

    def limit_files(self, size: int | None) -> None:
        """From now on no file of it grows past `size` bytes; None: as large as it likes."""
        hard = resource.RLIM_INFINITY
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    @property
    def said(self) -> str:
        path = self.folder / f"{self.name}.err"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def losses(self) -> int:
        """How often it has said that its connection is lost."""
        return self.said.count("broker lost")

    def assert_alive(self) -> None:
        """It ends only when it is told to."""
        ended = self._shall_run and self._process is not None and self._process.poll() is not None
        assert not ended, f"{self.name} ended by itself: {self.said[-2000:]}"


@dataclass
class Source:
    """One house's meter."""

    house: str
    rate: float = 200
    pv: bool = True
    client: str = "outbox"
    start: str | None = None
    step_s: float = 1.0
    window: int | None = None

    def options(self) -> list[str]:
        given = {"--house": self.house, "--rate": self.rate, "--step-s": self.step_s, "--start": self.start,
                 "--window": self.window}  # fmt: skip
        flat = [str(x) for key, value in given.items() if value is not None for x in (key, value)]
        return [self.client, *flat, *(["--pv"] if self.pv else [])]


@dataclass
class Setup:
    """What the chain is made of."""

    sources: list[Source] = field(default_factory=lambda: [Source("house-a")])
    control: Source | None = field(default_factory=lambda: Source(NAIVE_HOUSE, client="naive", pv=False))
    timezone: str = "UTC"
    naive_by_24h: bool = False
    options: dict[str, list[str]] = field(default_factory=dict)
    """What a part is told besides."""
    wrap: dict[str, list[str]] = field(default_factory=dict)
    """What a part's command is prefixed with, such as strace."""
    modules: dict[str, list[str]] = field(default_factory=dict)
    """What is run in a part's place."""
    data: Path | None = None


class Chain:
    """Both chains, and what is known of them."""

    def __init__(
        self, folder: Path, setup: Setup, url: str, port: int, proxies: dict[str, FaultyProxy]
    ) -> None:
        self.setup, self.proxies = setup, proxies
        self.data = setup.data or folder / "DATA"
        self.naive_data = self.data.parent / "NAIVE"
        self.folder = folder
        self.zone = zone_of(setup.timezone)
        self._urls = {part: url.replace(f":{port}", f":{proxy.port}") for part, proxy in proxies.items()}
        self.parts: dict[str, list[Part]] = {
            "meter": [self._source(source) for source in setup.sources],
            "pvsim": [self._service("pvsim", "--cloudiness", "0")],
            "recorder": [
                self._service("recorder", "--data-dir", str(self.data), "--day-timezone", setup.timezone)
            ],
        }
        if setup.control is not None:
            self.parts["meter"].append(self._source(setup.control))
            self.parts["pvsim"].append(self._naive("pvsim"))
            by_24h = ["--by-24h"] if setup.naive_by_24h else []
            self.parts["recorder"].append(
                self._naive(
                    "recorder", "--data-dir", str(self.naive_data), "--day-timezone", setup.timezone, *by_24h
                )
            )
        self.accounts = {source.house: Account(self._ledger(source.house)) for source in setup.sources}
        self.control = None if setup.control is None else Account(self._ledger(setup.control.house))
        self.recovered, self.naive_recovered = 0, 0
        self._ended_s: float | None = None
        self._size_then = 0
        self.first_row_s: float | None = None
        self.first_confirm_s: float | None = None

    # --- the processes ---

    def _ledger(self, house: str) -> Path:
        return self.folder / f"{house}.ledger"

    def _source(self, source: Source) -> Part:
        topic = ["--topic", NAIVE_TOPIC] if source.client.startswith("naive") else []
        command = [sys.executable, "-m", "tests.fault.outbox_source", *source.options(), *topic,
                   "--url", self._urls["meter"], "--folder", str(self.folder)]  # fmt: skip
        return Part(f"meter-{source.house}", command, self.folder, self._ledger(source.house))

    def _service(self, part: str, *options: str) -> Part:
        module = self.setup.modules.get(part, [part])
        url = self._urls[part]
        option = "--readings-url" if url.startswith("amqp") else "--live-url"
        command = [*self.setup.wrap.get(part, []), sys.executable, "-m", *module, *options, option, url]
        command += ["--wait-s", "300", *self.setup.options.get(part, [])]
        return Part(part, command, self.folder / part)

    def _naive(self, part: str, *options: str) -> Part:
        command = [sys.executable, "-m", "tests.fault.naive", part, "--url", self._urls[part], *options]
        return Part(
            f"naive-{part}", [*self.setup.wrap.get(part, []), *command], self.folder / f"naive-{part}"
        )

    def start(self, *parts: str) -> None:
        for part in parts or reversed(PARTS):
            for one in self.parts[part]:
                one.start()

    async def kill(self, part: str) -> None:
        await asyncio.gather(*(one.kill() for one in self.parts[part]))

    def signal(self, part: str, number: signal.Signals) -> None:
        for one in self.parts[part]:
            one.signal(number)

    # --- what they have done ---

    @property
    def houses(self) -> list[str]:
        return list(self.accounts)

    def update(self) -> None:
        """Hear what the sources have said since."""
        for account in (*self.accounts.values(), *([self.control] if self.control else [])):
            account.update()

    @property
    def attempted(self) -> int:
        return sum(len(account.attempted) for account in self.accounts.values())

    @property
    def rows(self) -> int:
        return rows_in(self.data, self.houses)

    @property
    def naive_rows(self) -> int:
        return rows_in(self.naive_data, [NAIVE_HOUSE])

    @property
    def size(self) -> int:
        """Of all rows [bytes]: it grows when one comes."""
        return sum(
            path.stat().st_size for house in self.houses for path in (self.data / house).glob("main/*.csv")
        )

    async def flows(self, more: int = 50, within_s: float = 60) -> None:
        """Wait until so many more rows are in the files; whether the control comes back is its own affair."""
        wanted = self.rows + more
        await self.until(lambda: self.rows >= wanted, within_s, "no rows come")

    async def until(self, holds: Callable[[], bool], within_s: float, what: str) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, f"{what} in {within_s} s: {self.said()}"
            self._assert_alive()
            await asyncio.sleep(0.02)

    def _assert_alive(self) -> None:
        for parts in self.parts.values():
            for one in parts:
                if not one.name.startswith("naive"):
                    one.assert_alive()

    def said(self) -> str:
        return "\n".join(
            f"--- {one.name}: {one.said[-1500:]}" for parts in self.parts.values() for one in parts
        )

    def fault_ends(self) -> None:
        """From here on is recovery."""
        self._ended_s = time.monotonic()
        self.update()
        self._size_then = self.size
        self.recovered += max(0, self.attempted - self.rows)
        if self.control is not None:
            self.naive_recovered += max(0, len(self.control.attempted) - self.naive_rows)

    async def recovers(self) -> None:
        """Wait for the first confirm and the first row after the fault."""
        assert self._ended_s is not None
        ended_s, row_s, confirm_s = self._ended_s, None, None
        while row_s is None or confirm_s is None:
            now_s = time.monotonic()
            self._assert_alive()
            assert now_s < ended_s + RECOVERY_MAX_S, f"no recovery: {self.said()}"
            if row_s is None and self.size > self._size_then:
                row_s = now_s - ended_s
            if confirm_s is None:
                self.update()
                since = [account.first_confirm_after(ended_s) for account in self.accounts.values()]
                confirm_s = min((at for at in since if at is not None), default=None)
            await asyncio.sleep(0.02)
        self.first_row_s = max(self.first_row_s or 0, row_s)
        self.first_confirm_s = max(self.first_confirm_s or 0, confirm_s)

    async def finish(self, fault: str) -> tuple[Verdict, Verdict | None]:
        """Let all be delivered, stop everything, and compare; the reports are printed."""
        await asyncio.gather(*(one.stop() for one in self.parts["meter"]))
        await self._settled()
        for part in ("pvsim", "recorder"):
            await asyncio.gather(*(one.stop() for one in self.parts[part]))
        self.update()
        found = {house: files_of(self.data, house, self.zone) for house in self.houses}
        times = (self.first_confirm_s, self.first_row_s)
        ours = verdict(fault, "wattbus", self.accounts, found, recovered=self.recovered, times_s=times)
        sys.stdout.write(f"{ours}\n")
        if self.control is None:
            return ours, None
        naive = self._verdict_of_control(fault)
        sys.stdout.write(f"{naive}\n")
        return ours, naive

    def _verdict_of_control(self, fault: str) -> Verdict:
        assert self.control is not None
        found: dict[str, Files] = {NAIVE_HOUSE: files_of(self.naive_data, NAIVE_HOUSE, self.zone)}
        accounts = {NAIVE_HOUSE: self.control}
        one = verdict(fault, "naive", accounts, found, recovered=self.naive_recovered, times_s=(None, None))
        one.recovered = max(0, one.recovered - one.lost)
        return one

    async def _settled(self) -> None:
        self.update()
        wanted = self.attempted
        seen, since_s = -1, time.monotonic()
        while time.monotonic() - since_s < (SETTLED_S if self.rows >= wanted else SETTLED_MAX_S):
            self._assert_alive()
            rows = self.rows
            if rows != seen:
                seen, since_s = rows, time.monotonic()
            await asyncio.sleep(0.5)

    async def close(self) -> None:
        """Whatever still runs is ended."""
        for parts in self.parts.values():
            for one in parts:
                await one.kill()


def url_of(broker: Broker) -> tuple[str, int]:
    """Its readings plane, and the port of that."""
    if broker.amqp_url is not None:
        return broker.amqp_url, broker.ports["amqp"]
    assert broker.mqtt_url is not None
    return broker.mqtt_url, broker.ports["mqtt"]


async def cut_power(broker: Broker, away_s: float) -> None:
    """Kill it, and start it again; it is back at the moment when its port answers, and this returns."""
    url, port = url_of(broker)
    protocol = "amqp" if url.startswith("amqp") else "mqtt"
    await asyncio.to_thread(broker.kill)
    await asyncio.sleep(away_s)
    broker.life.start()
    async with asyncio.timeout(READY_S):
        while not await asyncio.to_thread(answers, protocol, port):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.02)


@asynccontextmanager
async def chain(broker: Broker, folder: Path, setup: Setup | None = None) -> AsyncIterator[Chain]:
    """Both chains at work; they end with the context."""
    url, port = url_of(broker)
    async with AsyncExitStack() as stack:
        proxies = {part: await stack.enter_async_context(faulty_proxy_to(port)) for part in PARTS}
        one = Chain(folder, setup or Setup(), url, port, proxies)
        stack.push_async_callback(one.close)
        one.start("recorder")
        await one.until(lambda: "recorder started" in one.parts["recorder"][0].said, 60, "no recorder")
        one.start("pvsim")
        await one.until(lambda: "pv simulator started" in one.parts["pvsim"][0].said, 60, "no pvsim")
        one.start("meter")
        await one.flows()
        await one.until(lambda: one.control is None or one.naive_rows > 0, 60, "no control")
        yield one


def judge(verdicts: tuple[Verdict, Verdict | None], *, meter_dies: bool = False, delays: bool = True) -> None:
    """Nothing is lost, nothing stands twice, nothing is torn; and the fault costs the control something.

    Args:
        meter_dies: what was not safe yet may die with it.
        delays: the fault keeps readings from coming.
    """
    ours, naive = verdicts
    assert ours.harm == 0, ours.details()
    if not meter_dies:
        assert ours.acknowledged == ours.attempted, ours.details()
    if delays:
        assert ours.recovered > 0, f"the fault was none: {ours}"
    if naive is not None:
        assert naive.harm > 0, f"the control lost nothing, so this fault proves nothing: {naive}"
