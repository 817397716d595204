"""Every reading is delivered twice, and in any order."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker, vhost
from tests.fault.chain import Setup, Source, chain, judge
from tests.fault.naive import HOUSE as NAIVE_HOUSE


@pytest.fixture
def broker(rabbitmq: Broker) -> Iterator[Broker]:
    with vhost(rabbitmq) as own:
        yield own


@pytest.mark.fault
@pytest.mark.timeout(400)
async def test_readings_that_come_twice_and_in_any_order(broker: Broker, tmp_path: Path) -> None:
    setup = Setup(
        sources=[Source("house-a", client="shuffled"), Source("house-b", client="shuffled", pv=False)],
        control=Source(NAIVE_HOUSE, client="naive-shuffled", pv=False),
    )
    async with chain(broker, tmp_path, setup) as one:
        await one.flows(2000)
        judge(await one.finish("every reading twice and shuffled"), delays=False)
