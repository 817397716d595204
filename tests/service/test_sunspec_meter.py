"""A SunSpec meter over Modbus TCP: a real server, its reboots, and what it can't mean."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from meter.errors import MeterSilentError
from meter.source import Measured
from meter.sources.choose import source_of
from tests.broker_life import free_ports
from tests.service.test_real_meters import CLOCK, own, soon


@asynccontextmanager
async def modbus(port: int, registers: dict[int, list[int]]) -> AsyncIterator[None]:
    device = SimDevice(
        1, [SimData(at, values=values, datatype=DataType.REGISTERS) for at, values in registers.items()]
    )
    server = ModbusTcpServer(device, address=("127.0.0.1", port))
    await server.listen()
    try:
        yield
    finally:
        await server.shutdown()


INVERTER = (103, 50, *[0] * 50)


def chain(power_w: int, before: Sequence[int] = INVERTER, scale: int = 0) -> dict[int, list[int]]:
    """A SunSpec device: common model, an inverter's, then a meter's."""
    meter = [203, 105, *[0] * 105]
    meter[3:7] = [10, 20, 30, 0]
    meter[18], meter[22] = power_w & 0xFFFF, scale & 0xFFFF
    return {40000: [0x5375, 0x6E53, 1, 66, *[0] * 66, *before, *meter, 0xFFFF, 0]}


async def test_a_sunspec_meter_is_found_and_read() -> None:
    (port,) = free_ports(1)
    source = source_of(own(source="sunspec", device=f"127.0.0.1:{port}"), CLOCK)
    with pytest.raises(MeterSilentError, match="can't be reached"):
        await source.measure(CLOCK.now())
    async with modbus(port, chain(-1500)):
        assert await soon(source) == Measured(-1500.0, (10.0, 20.0, 30.0))
    async with modbus(port, chain(700)):  # it was away, and is back
        assert (await soon(source)).power_w == 700.0
    await source.close()
    turned = source_of(own(source="sunspec", device=f"127.0.0.1:{port}", device_inverted=True), CLOCK)
    async with modbus(port, chain(700)):
        assert await soon(turned) == Measured(-700.0, (-10.0, -20.0, -30.0))
        await turned.close()


async def test_a_sunspec_device_that_starts_anew_with_other_registers_is_read_rightly() -> None:
    (port,) = free_ports(1)
    source = source_of(own(source="sunspec", device=f"127.0.0.1:{port}"), CLOCK)
    async with modbus(port, chain(700)):
        assert (await soon(source)).power_w == 700.0
    with pytest.raises(MeterSilentError):
        await source.measure(CLOCK.now())
    async with modbus(port, chain(800, before=())):
        assert (await soon(source)).power_w == 800.0
        await source.close()


@pytest.mark.parametrize(
    ("power", "scale", "words"),
    [
        (0x8000, 0, "says that it does not know its power"),
        (100, 0x8000, "says that it does not know its power"),
        (32767, 9, r"says 3\.2767e\+13 W: that is not believed"),
    ],
)
async def test_what_a_sunspec_meter_can_not_mean_is_one_clear_line(
    power: int, scale: int, words: str
) -> None:
    (port,) = free_ports(1)
    source = source_of(own(source="sunspec", device=f"127.0.0.1:{port}"), CLOCK)
    async with modbus(port, chain(power, scale=scale)):
        with pytest.raises(MeterSilentError, match=words):
            await source.measure(CLOCK.now())
        await source.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(300), b"\xff" * 300, b""])
async def test_what_does_not_speak_modbus_is_one_clear_line(answer: bytes) -> None:
    left = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while answer and await reader.read(4096):
            writer.write(answer)
        writer.close()
        await writer.wait_closed()
        left.set()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    source = source_of(own(source="sunspec", device=f"127.0.0.1:{port}"), CLOCK)
    async with server:
        with pytest.raises(MeterSilentError, match=rf"127\.0\.0\.1:{port}") as caught:
            await source.measure(CLOCK.now())
        await source.close()
        await asyncio.wait_for(left.wait(), 20)
    assert "\n" not in str(caught.value)


async def test_a_device_without_a_meter_is_one_clear_line() -> None:
    (port,) = free_ports(1)
    source = source_of(own(source="sunspec", device=f"127.0.0.1:{port}"), CLOCK)
    async with modbus(port, {40000: [0x5375, 0x6E53, 1, 66, *[0] * 66, 103, 50, *[0] * 50, 0xFFFF, 0]}):
        with pytest.raises(MeterSilentError, match=r"no meter among its SunSpec models \(1, 103\)"):
            await source.measure(CLOCK.now())
        await source.close()
    async with modbus(port, {40000: [1, 2, 3]}):
        with pytest.raises(MeterSilentError, match="no SunSpec device"):
            await source.measure(CLOCK.now())
        await source.close()
