"""The link to the broker is cut, swallows everything, or breaks inside a frame."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker, vhost
from tests.fault.links import faulty_proxy_to
from tests.fault.outbox_trial import judge, trial


@pytest.fixture(params=["rabbitmq", "mosquitto"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    shared: Broker = request.getfixturevalue(request.param)
    if shared.amqp_url is None:
        yield shared
    else:
        with vhost(shared) as own:
            yield own


def urls(broker: Broker) -> tuple[str, int]:
    protocol = "mqtt" if broker.amqp_url is None else "amqp"
    url = broker.amqp_url or broker.mqtt_url
    assert url is not None
    return url, broker.ports[protocol]


@pytest.mark.fault  # on a busy machine the link may break when nothing is on it
@pytest.mark.parametrize("how", ["cut", "torn"])
async def test_a_link_that_breaks(broker: Broker, how: str, tmp_path: Path) -> None:
    fault = f"link to {broker.name} {how} for 2 s"
    url, port = urls(broker)
    async with faulty_proxy_to(port) as proxy, trial(url, tmp_path) as one:
        await one.start(url.replace(f":{port}", f":{proxy.port}"))
        await asyncio.sleep(0.5)
        if how == "cut":
            proxy.cut(reopen=False)
        else:
            proxy.tear()
        await asyncio.sleep(2)
        proxy.reopen()
        one.fault_ends()
        await one.recovered()
        judge(await one.finish(fault), fault)


@pytest.mark.fault
async def test_a_link_that_swallows_everything(broker: Broker, tmp_path: Path) -> None:
    fault = f"link to {broker.name} a black hole for 16 s"
    url, port = urls(broker)
    async with faulty_proxy_to(port) as proxy, trial(url, tmp_path) as one:
        await one.start(url.replace(f":{port}", f":{proxy.port}"))
        await asyncio.sleep(0.5)
        proxy.freeze()
        await asyncio.sleep(15)
        assert "lost" in one.said_by("outbox"), "a black hole is seen within 15 s"
        await asyncio.sleep(1)
        proxy.cut()
        proxy.thaw()
        one.fault_ends()
        await one.recovered()
        judge(await one.finish(fault), fault)
