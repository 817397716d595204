"""/metrics and /health of the services that have no API: asked over a real socket."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from broker.counts import BusCounts
from broker.transport import Outgoing
from contracts.messages import CommandAck, MeterReading, Status
from contracts.topics import DER_ACK as ACK
from contracts.topics import DeliveryClass
from runtime.clock import ManualClock, VirtualClock
from runtime.errors import UsageError
from runtime.logs import get_log
from runtime.metrics import Metric, counter, exposition
from runtime.monitor import ASKING_MAX, monitored
from runtime.settings import MonitoredSettings, load
from tests.brokers import free_ports
from tests.conftest import START, memory_bus, run_virtual

PORT_FLAG = "--metrics-port"


def serving(
    port: int, ailing: Callable[[], str] = str, counts: Callable[[], Iterator[Metric]] | None = None
) -> AbstractAsyncContextManager[None]:
    def three() -> Iterator[Metric]:
        yield counter("wattbus_rows", "Rows.", 3)

    settings = MonitoredSettings(metrics_port=port)
    return monitored(settings, [counts or three], ailing, get_log("meter"))


async def ask(port: int, request: bytes) -> tuple[str, str]:
    """The answer's first line, and its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        answer = (await reader.read()).decode()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return head.split("\r\n")[0], body


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def test_metrics_and_health() -> None:
    (port,) = free_ports(1)
    why = ""
    async with serving(port, lambda: why):
        first, body = await ask(port, get("/metrics"))
        assert first == "HTTP/1.1 200 OK"
        assert "wattbus_rows_total 3.0\n" in body
        assert await ask(port, get("/health")) == (
            "HTTP/1.1 200 OK",
            '{"live": true, "ready": true, "why": ""}',
        )
        why = "a broker is away"
        assert await ask(port, get("/health")) == (
            "HTTP/1.1 503 Service Unavailable",
            '{"live": true, "ready": false, "why": "a broker is away"}',
        )
        assert (await ask(port, get("/health", "HEAD")))[1] == ""
    with pytest.raises(ConnectionRefusedError):
        await ask(port, get("/health"))


@pytest.mark.parametrize(
    ("request_bytes", "first"),
    [
        (get("/"), "HTTP/1.1 404 Not Found"),
        (get("/metrics", "POST"), "HTTP/1.1 405 Method Not Allowed"),
        (get("/metrics?x=1"), "HTTP/1.1 200 OK"),
        (b"\xff\xfe no HTTP\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"GET\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 421 Misdirected Request"),
    ],
)
async def test_what_is_asked_badly(request_bytes: bytes, first: str) -> None:
    (port,) = free_ports(1)
    async with serving(port):
        assert (await ask(port, request_bytes))[0] == first
        assert (await ask(port, get("/health")))[0] == "HTTP/1.1 200 OK"


async def test_those_who_say_nothing_keep_nobody_from_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.monitor.READ_WITHIN_S", 0.3)
    (port,) = free_ports(1)
    async with serving(port):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(ASKING_MAX + 5)]
        await asyncio.sleep(0.6)
        assert (await ask(port, get("/health")))[0] == "HTTP/1.1 200 OK"
        for _, writer in silent:
            writer.close()
            await writer.wait_closed()


async def test_no_port_no_server() -> None:
    async with serving(0):
        pass


async def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="choose another --metrics-port"):
            async with serving(taken.getsockname()[1]):
                pass


def test_it_is_off_and_on_loopback_unless_told_otherwise() -> None:
    settings = load("recorder", MonitoredSettings, [], environ={}).base
    assert (settings.metrics_host, settings.metrics_port) == ("127.0.0.1", 0)
    assert load("recorder", MonitoredSettings, [PORT_FLAG, "9100"], environ={}).base.metrics_port == 9100


def test_the_bus_counts_what_goes_through_it() -> None:
    async def main(clock: VirtualClock) -> str:
        bus, transport = memory_bus(clock)
        async with bus.subscribe(ACK) as deliveries:
            ack = CommandAck(
                command_id="c",
                house="house-a",
                der_id="battery",
                epoch=1,
                seq=1,
                timestamp=clock.now().after(-2),
                result="accepted",
            )
            await bus.publish(ACK.at(house="house-a", der_id="battery"), ack)
            await transport.publish(
                Outgoing("wattbus/house-a/der/battery/ack", b"rubbish", DeliveryClass.LIVE)
            )
            await bus.publish(ACK.at(house="house-a", der_id="battery"), ack)
            for _ in range(2):
                await anext(deliveries)
            await clock.sleep(3)
            return exposition(bus.metrics())

    lines = run_virtual(main).splitlines()
    assert 'wattbus_published_total{message="CommandAck"} 2.0' in lines
    assert 'wattbus_heard_total{message="CommandAck"} 2.0' in lines
    assert 'wattbus_lag_seconds{message="CommandAck"} 2.0' in lines
    assert 'wattbus_age_seconds{message="CommandAck"} 3.0' in lines
    assert 'wattbus_rejected_total{plane="live"} 1.0' in lines
    assert "wattbus_connected 1.0" in lines


@pytest.mark.parametrize("lag_s", [-5.0, 40.0])
def test_what_is_retained_or_replayed_says_nothing_of_lags(lag_s: float) -> None:
    clock = ManualClock(START)
    counts = BusCounts(clock)
    status = Status(house="house-a", device="meter", online=True, timestamp=START.after(-lag_s))
    reading = MeterReading(
        house="house-a", meter="main", boot=1, seq=1, timestamp=START, power_w=1.0, historical=True
    )
    counts.note_heard(status, retained=True)
    counts.note_heard(reading, retained=False)
    assert "wattbus_lag_seconds{" not in exposition(counts.metrics())
    counts.note_heard(status, retained=False)
    assert f'wattbus_lag_seconds{{message="Status"}} {lag_s}' in exposition(counts.metrics())
