"""The meter itself is killed, while the broker is there and while it is away."""

import asyncio
from pathlib import Path

from tests.brokers import Broker
from tests.fault.links import faulty_proxy_to
from tests.fault.outbox_trial import AT_RISK_S, judge, trial
from tests.fault.test_outbox_link import broker, urls

__all__ = ["broker"]

RATE = 200


async def test_a_meter_that_is_killed_again_and_again(broker: Broker, tmp_path: Path) -> None:
    fault = f"three times SIGKILL of the meter, {broker.name} out of reach"
    url, port = urls(broker)
    async with faulty_proxy_to(port) as proxy, trial(url, tmp_path, RATE) as one:
        through = url.replace(f":{port}", f":{proxy.port}")
        await one.start(through)
        await one.kill()
        for _ in range(2):
            await one.start(through)
            await asyncio.sleep(0.5)
            proxy.cut(reopen=False)
            await asyncio.sleep(1)
            await one.kill()
            proxy.reopen()
            one.fault_ends()
        await one.start(through)
        await one.recovered()
        ledgers = await one.finish(fault)
    judge(ledgers, fault, source_dies=True)
    box = ledgers["outbox"]
    assert box.unacknowledged <= 3 * RATE * AT_RISK_S, box.report(fault)
    assert {boot for boot, _ in box.arrived} == {1, 2, 3, 4}
