"""The broker is killed, or stops answering, while meters publish."""

import asyncio
from pathlib import Path

import pytest

from tests.brokers import Broker, Missing, give_up, running
from tests.fault.outbox_trial import Ledger, Trial, judge, trial

RATES = {"hivemq": 40}
"""HiveMQ keeps 1,000 messages for a reader that is away and drops what follows, acknowledged: unless
its `max-queue-size` is raised, an outage must not be longer than that. The others take more."""


def url_of(broker: Broker) -> str:
    url = broker.amqp_url or broker.mqtt_url
    assert url is not None
    return url


async def cut_power(one: Trial, broker: Broker, away_s: float = 1) -> None:
    await asyncio.to_thread(broker.kill)
    await asyncio.sleep(away_s)
    await asyncio.to_thread(broker.start)
    one.fault_ends()


async def cut_power_of(
    name: str, folder: Path, fault: str, *, frozen_s: float = 0, times: int = 1, rate: float = 200
) -> dict[str, Ledger]:
    try:
        with running(name) as broker:
            async with trial(url_of(broker), folder, rate) as one:
                await one.start(url_of(broker))
                for _ in range(times):
                    await asyncio.sleep(1)
                    if frozen_s:
                        await asyncio.to_thread(broker.freeze)
                        await asyncio.sleep(frozen_s)
                    await cut_power(one, broker)
                    await one.recovered()
                return await one.finish(fault)
    except Missing as missing:
        give_up(name, str(missing))
        raise


@pytest.mark.parametrize("name", ["rabbitmq", "mosquitto"])
async def test_a_broker_that_hangs_and_is_killed(name: str, tmp_path: Path) -> None:
    fault = f"SIGSTOP 1 s, then SIGKILL of {name}"
    judge(await cut_power_of(name, tmp_path, fault, frozen_s=1), fault)


@pytest.mark.fault
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["rabbitmq", "mosquitto", "hivemq"])
async def test_a_broker_that_is_killed_three_times(name: str, tmp_path: Path) -> None:
    fault = f"three times SIGKILL of {name}"
    judge(await cut_power_of(name, tmp_path, fault, times=3, rate=RATES.get(name, 400)), fault)


@pytest.mark.fault
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["rabbitmq", "mosquitto", "hivemq"])
async def test_a_broker_that_hangs_for_longer_than_one_waits(name: str, tmp_path: Path) -> None:
    """It goes on after its clients have left it, so that much comes twice; then its power is cut."""
    fault = f"SIGSTOP 18 s, thaw, then SIGKILL of {name}"
    with running(name) as broker:
        async with trial(url_of(broker), tmp_path, RATES.get(name, 200)) as one:
            await one.start(url_of(broker))
            await asyncio.to_thread(broker.freeze)
            await asyncio.sleep(18)
            assert "lost" in one.said_by("outbox")
            await asyncio.to_thread(broker.thaw)
            await asyncio.sleep(8)
            await cut_power(one, broker)
            await one.recovered()
            judge(await one.finish(fault), fault)
