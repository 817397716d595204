"""The transports under test, each with what it can't do, and buses over them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.amqp import open_amqp
from broker.bus import PlanesBus
from broker.memory import MemoryTransport
from broker.mqtt import open_mqtt
from broker.quarantine import Quarantine
from broker.transport import Transport
from broker.window import Window, open_window
from runtime.clock import SystemClock
from tests.broker_life import free_ports
from tests.brokers import Broker, unique, vhost

Open = Callable[[str], AbstractAsyncContextManager[Transport]]


@dataclass(frozen=True, kw_only=True)
class Place:
    """One transport to one broker, and where it falls short of what the port promises."""

    open: Open
    url: str = ""
    declares: bool = True
    """A durable queue can be made before its reader has come, and nothing else keeps a reading."""
    notices_unrouted: bool = True
    closes: bool = True
    asks_password: bool = False


@contextmanager
def _memory(_: pytest.FixtureRequest) -> Iterator[Place]:
    transport = MemoryTransport()

    @asynccontextmanager
    async def same(_client: str) -> AsyncIterator[Transport]:
        yield transport

    yield Place(open=same, closes=False)


@contextmanager
def _amqp(request: pytest.FixtureRequest) -> Iterator[Place]:
    with vhost(request.getfixturevalue("rabbitmq")) as broker:
        url = broker.amqp_url
        yield Place(open=lambda client: open_amqp(url, client=client, wait_s=0), url=url, asks_password=True)


def _mqtt(url: str) -> Open:
    return lambda client: open_mqtt(url, client=unique(client), wait_s=0, will=None)


@contextmanager
def _hivemq(request: pytest.FixtureRequest) -> Iterator[Place]:
    broker: Broker = request.getfixturevalue("hivemq")
    yield Place(open=_mqtt(broker.mqtt_url), url=broker.mqtt_url, declares=False)


@contextmanager
def _mosquitto(request: pytest.FixtureRequest) -> Iterator[Place]:
    broker: Broker = request.getfixturevalue("mosquitto")
    yield Place(open=_mqtt(broker.mqtt_url), url=broker.mqtt_url, declares=False)


@contextmanager
def _rabbitmq_mqtt(request: pytest.FixtureRequest) -> Iterator[Place]:
    # It sends no retained message to a wildcard subscription: states are asked for.
    with vhost(request.getfixturevalue("rabbitmq")) as broker:
        url = f"{broker.mqtt_url}?retained=ask"
        yield Place(
            open=_mqtt(url),
            url=url,
            declares=False,
            notices_unrouted=False,
            asks_password=True,
        )


@contextmanager
def _window(_: pytest.FixtureRequest) -> Iterator[Place]:
    port, ws_port = free_ports(2)

    @asynccontextmanager
    async def through_the_window(client: str) -> AsyncIterator[Transport]:
        url = f"mqtt://127.0.0.1:{port}"
        async with AsyncExitStack() as stack:
            if not window:  # the first to come opens it, in the test's loop, and is the last to leave
                window.append(
                    await stack.enter_async_context(
                        open_window(MemoryTransport(), SystemClock(), port=port, ws_port=ws_port)
                    )
                )
            yield await stack.enter_async_context(_mqtt(url)(client))

    window: list[Window] = []
    yield Place(open=through_the_window)


PLACES = {
    "memory": _memory,
    "amqp": _amqp,
    "mqtt-hivemq": _hivemq,
    "mqtt-mosquitto": _mosquitto,
    "mqtt-rabbitmq": _rabbitmq_mqtt,
}


WINDOW = {"window": _window}
"""It is no bus: live messages, states and commands pass through it, readings are not kept."""


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Each transport in turn; on RabbitMQ in a virtual host of the test's own."""
    with (PLACES | WINDOW)[request.param](request) as found:
        yield found


@pytest.fixture(autouse=True)
async def _no_task_left() -> AsyncIterator[None]:
    """What a test started has ended with it."""
    before = asyncio.all_tasks()
    yield
    left: set[asyncio.Task[object]] = set()
    for _ in range(100):
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"still running: {left}")


@dataclass
class Client:
    """One participant: its bus, the transport under it, and what it refused."""

    bus: PlanesBus
    transport: Transport
    refused: Path

    def reasons(self) -> str:
        """What stands in its quarantine."""
        return "".join(path.read_text() for path in sorted(self.refused.glob("*.jsonl")))


Connect = Callable[[str], AbstractAsyncContextManager[Client]]


@pytest.fixture
def connect(place: Place, tmp_path: Path) -> Connect:
    """Connects one more participant to the place."""

    @asynccontextmanager
    async def connected(name: str) -> AsyncIterator[Client]:
        async with AsyncExitStack() as stack:
            transport = await stack.enter_async_context(place.open(name))
            clock = SystemClock()
            refused = tmp_path / "quarantine" / name
            bus = PlanesBus(transport, transport, clock, client=name, quarantine=Quarantine(refused, clock))
            stack.push_async_callback(bus.close)
            yield Client(bus, transport, refused)

    return connected


@pytest.fixture
async def one(connect: Connect) -> AsyncIterator[Client]:
    """A participant."""
    async with connect("one") as client:
        yield client


@pytest.fixture
async def other(connect: Connect) -> AsyncIterator[Client]:
    """Another participant, with a connection of its own."""
    async with connect("other") as client:
        yield client


@pytest.fixture
def house() -> str:
    """A house of the test's own: the brokers are shared."""
    return unique("house")


@pytest.fixture
def queue() -> str:
    """A durable reader's name of the test's own."""
    return unique("reader")
