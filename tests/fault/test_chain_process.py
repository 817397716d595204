"""The recorder, the PV simulator and the meter are killed, or stand still, while readings flow."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker, vhost
from tests.fault.chain import PARTS, chain, judge

pytestmark = [pytest.mark.fault, pytest.mark.timeout(400)]
FROZEN_S = 20.0


@pytest.fixture
def broker(rabbitmq: Broker) -> Iterator[Broker]:
    with vhost(rabbitmq) as own:
        yield own


@pytest.mark.parametrize("part", PARTS)
async def test_a_part_that_is_killed_three_times(broker: Broker, tmp_path: Path, part: str) -> None:
    fault = f"three times SIGKILL of the {part}"
    async with chain(broker, tmp_path) as one:
        for _ in range(3):
            if part == "meter":  # with nothing in its outbox a meter has nothing to lose
                one.proxies[part].cut(reopen=False)
                await asyncio.sleep(1)
            await one.kill(part)
            one.proxies[part].reopen()
            await asyncio.sleep(1)
            one.start(part)
            one.fault_ends()
            await one.recovers()
            await one.flows()
        judge(await one.finish(fault), meter_dies=part == "meter")


@pytest.mark.parametrize("part", PARTS)
async def test_a_part_that_stands_still(broker: Broker, tmp_path: Path, part: str) -> None:
    fault = f"SIGSTOP of the {part} for {FROZEN_S:.0f} s"
    async with chain(broker, tmp_path) as one:
        if part == "meter":
            one.proxies[part].cut(reopen=False)
            await asyncio.sleep(1)
            one.proxies[part].reopen()
        one.signal(part, signal.SIGSTOP)
        await asyncio.sleep(FROZEN_S)
        one.signal(part, signal.SIGCONT)
        one.fault_ends()
        await one.recovers()
        await one.flows()
        judge(await one.finish(fault))
