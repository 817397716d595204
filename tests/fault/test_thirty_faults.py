"""200,000 readings through 30 real faults, one after the other: none lost, none twice, no row torn."""

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker, Missing, give_up, running
from tests.fault.chain import Chain, Setup, Source, chain, cut_power, judge

READINGS = 200_000
START = "2026-03-01T12:00:00Z"
STEP_S = 2.0
"""The readings' own times: a hundred thousand of them are more than two days of files."""
SOURCES = [
    Source("house-a", rate=300, pv=True, start=START, step_s=STEP_S, window=3000),
    Source("house-b", rate=2000, pv=False, start=START, step_s=STEP_S, window=3000),
]
CONTROL_RATE = 50

Fault = Callable[[Chain, Broker], Awaitable[None]]


async def power_cut(one: Chain, broker: Broker) -> None:
    await cut_power(broker, away_s=0)


async def hang(one: Chain, broker: Broker) -> None:
    await asyncio.to_thread(broker.freeze)
    await asyncio.sleep(2)
    await asyncio.to_thread(broker.thaw)


def killed(part: str) -> Fault:
    async def fault(one: Chain, broker: Broker) -> None:
        await one.kill(part)
        await asyncio.sleep(0.2)
        one.start(part)

    return fault


def frozen(part: str) -> Fault:
    async def fault(one: Chain, broker: Broker) -> None:
        one.signal(part, signal.SIGSTOP)
        await asyncio.sleep(2)
        one.signal(part, signal.SIGCONT)

    return fault


def cut(part: str) -> Fault:
    async def fault(one: Chain, broker: Broker) -> None:
        one.proxies[part].cut(reopen=False)
        await asyncio.sleep(0.5)
        one.proxies[part].reopen()

    return fault


def torn(part: str) -> Fault:
    async def fault(one: Chain, broker: Broker) -> None:
        one.proxies[part].tear()
        await asyncio.sleep(0.5)
        one.proxies[part].cut()
        one.proxies[part].reopen()

    return fault


def slowed(part: str) -> Fault:
    async def fault(one: Chain, broker: Broker) -> None:
        one.proxies[part].slow(50_000)
        await asyncio.sleep(2)
        one.proxies[part].slow(None)

    return fault


def swallowed(part: str) -> Fault:
    async def fault(one: Chain, broker: Broker) -> None:
        one.proxies[part].freeze()
        await asyncio.sleep(2)
        one.proxies[part].cut()
        one.proxies[part].thaw()

    return fault


async def full_disk(one: Chain, broker: Broker) -> None:
    """No file of the recorder grows any more: what is written then ends within a line, and with an error."""
    recorder = one.parts["recorder"][0]
    largest = max(path.stat().st_size for path in one.data.rglob("*") if path.is_file())
    recorder.limit_files(largest + 1000)
    await asyncio.sleep(2)
    recorder.limit_files(None)


FAULTS: list[tuple[str, Fault]] = [
    ("SIGKILL recorder", killed("recorder")),
    ("cut meter", cut("meter")),
    ("SIGKILL pvsim", killed("pvsim")),
    ("SIGKILL meter", killed("meter")),
    ("disk", full_disk),
    ("cut pvsim", cut("pvsim")),
    ("SIGSTOP recorder", frozen("recorder")),
    ("SIGKILL broker", power_cut),
    ("torn meter", torn("meter")),
    ("SIGKILL recorder", killed("recorder")),
    ("slowed meter", slowed("meter")),
    ("SIGSTOP pvsim", frozen("pvsim")),
    ("torn pvsim", torn("pvsim")),
    ("SIGKILL meter", killed("meter")),
    ("SIGSTOP broker", hang),
    ("cut recorder", cut("recorder")),
    ("SIGKILL pvsim", killed("pvsim")),
    ("disk", full_disk),
    ("black hole recorder", swallowed("recorder")),
    ("SIGKILL recorder", killed("recorder")),
    ("torn recorder", torn("recorder")),
    ("SIGKILL broker", power_cut),
    ("SIGSTOP meter", frozen("meter")),
    ("black hole meter", swallowed("meter")),
    ("SIGKILL meter", killed("meter")),
    ("slowed recorder", slowed("recorder")),
    ("SIGKILL recorder", killed("recorder")),
    ("cut pvsim", cut("pvsim")),
    ("SIGSTOP broker", hang),
    ("SIGKILL pvsim", killed("pvsim")),
]


@pytest.fixture
def broker() -> Iterator[Broker]:
    try:
        with running("rabbitmq") as own:
            yield own
    except Missing as missing:
        give_up("rabbitmq", str(missing))


@pytest.mark.timeout(1800)
async def test_readings_through_thirty_faults(broker: Broker, tmp_path: Path) -> None:
    assert len(FAULTS) == 30
    control = Source("house-n", rate=CONTROL_RATE, client="naive", pv=False, start=START, step_s=STEP_S)
    setup = Setup(sources=SOURCES, control=control, naive_by_24h=True)
    async with chain(broker, tmp_path, setup) as one:
        begun_s = time.monotonic()
        for number, (name, fault) in enumerate(FAULTS, start=1):
            await _made(one, number * READINGS // (len(FAULTS) + 1))
            before_s = time.monotonic()
            await fault(one, broker)
            one.fault_ends()
            await one.recovers()
            sys.stdout.write(
                f"{time.monotonic() - begun_s:6.1f} s {number:2} {name}: {time.monotonic() - before_s:.1f} s, "
                f"{one.attempted} made, {one.rows} rows, slowest {one.first_confirm_s:.2f} {one.first_row_s:.2f}\n"
            )
        await _made(one, READINGS)
        verdicts = await one.finish("30 faults")
        took_s = time.monotonic() - begun_s
        ours = verdicts[0]
        sys.stdout.write(f"{took_s:.0f} s, {ours.attempted / took_s:.0f} readings/s\n")
    judge(verdicts, meter_dies=True)
    assert ours.attempted >= READINGS


async def _made(one: Chain, wanted: int) -> None:
    def enough() -> bool:
        one.update()
        return one.attempted >= wanted

    await one.until(enough, 600, f"not {wanted} readings")
