"""The link of one part to RabbitMQ is cut, breaks inside a frame, is slow, or swallows everything."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker, vhost
from tests.fault.chain import PARTS, chain, judge

pytestmark = [pytest.mark.fault, pytest.mark.timeout(400)]
SEEN_MAX_S = 15.0
SLOW = 8_000
"""Of a slow link: a tenth of what flows [bytes/s]."""


@pytest.fixture
def broker(rabbitmq: Broker) -> Iterator[Broker]:
    with vhost(rabbitmq) as own:
        yield own


@pytest.mark.parametrize("how", ["cut", "cut inside a frame"])
@pytest.mark.parametrize("part", PARTS)
async def test_a_link_that_breaks(broker: Broker, tmp_path: Path, part: str, how: str) -> None:
    async with chain(broker, tmp_path) as one:
        proxy = one.proxies[part]
        if how == "cut":
            proxy.cut(reopen=False)
        else:
            proxy.tear()
            await asyncio.sleep(1)
            proxy.cut(reopen=False)  # the other of the two clients
        await asyncio.sleep(3)
        proxy.reopen()
        one.fault_ends()
        await one.recovers()
        await one.flows()
        judge(await one.finish(f"link of the {part} {how} for 3 s"))


@pytest.mark.parametrize("part", PARTS)
async def test_a_link_that_is_slow(broker: Broker, tmp_path: Path, part: str) -> None:
    async with chain(broker, tmp_path) as one:
        one.proxies[part].slow(SLOW)
        await asyncio.sleep(20)
        one.proxies[part].cut()
        one.proxies[part].slow(None)
        one.fault_ends()
        await one.recovers()
        await one.flows()
        judge(await one.finish(f"link of the {part} slow for 20 s, then cut"))


@pytest.mark.parametrize("part", PARTS)
async def test_a_link_that_swallows_everything(broker: Broker, tmp_path: Path, part: str) -> None:
    async with chain(broker, tmp_path) as one:
        ours = one.parts[part][0]
        frozen_s, losses = time.monotonic(), ours.losses
        one.proxies[part].freeze()
        await one.until(lambda: ours.losses > losses, SEEN_MAX_S, "a black hole is not seen")
        seen_s = time.monotonic() - frozen_s
        await asyncio.sleep(max(0.0, SEEN_MAX_S + 1 - seen_s))
        one.proxies[part].cut()
        one.proxies[part].thaw()
        one.fault_ends()
        await one.recovers()
        await one.flows()
        judge(await one.finish(f"link of the {part} a black hole for 16 s, seen after {seen_s:.1f} s"))
