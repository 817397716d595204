"""A SunSpec meter over Modbus TCP."""

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from contracts.instant import Instant
from meter.errors import MeterSilentError
from meter.source import Measured
from meter.sources.sunspec_map import BASES, END, HEADER, MARK, MODELS_MAX, Model, measured

ANSWER_WITHIN_S = 2.0
PORT = 502


class SunspecSource:
    """Asks the meter each time; finds its registers once it is connected, and again after any failure.

    Args:
        host: of the meter, or of the inverter it is wired to.
        port: 502 as a rule.
        unit: which device behind that port.
    """

    def __init__(self, host: str, port: int, unit: int) -> None:
        self._client = AsyncModbusTcpClient(
            host, port=port, timeout=ANSWER_WITHIN_S, retries=0, reconnect_delay=0
        )
        self._where = f"{host}:{port}, unit {unit}"
        self._unit = unit
        self._meter: Model | None = None

    async def measure(self, at: Instant) -> Measured:
        """See `meter.source.Source`."""
        del at  # a meter knows only what it measures now
        try:
            found = await self._ask()
        except (MeterSilentError, ModbusException, OSError) as error:
            # It may have started anew, with other registers, or be another device.
            self._client.close()
            self._meter = None
            if isinstance(error, MeterSilentError):
                raise
            raise MeterSilentError(f"the meter at {self._where} does not answer: {error}") from error
        if found is None:
            raise MeterSilentError(f"the meter at {self._where} says that it does not know its power")
        return found

    async def close(self) -> None:
        """Disconnect."""
        self._client.close()

    async def _ask(self) -> Measured | None:
        if not self._client.connected and not await self._client.connect():
            raise MeterSilentError(f"the meter at {self._where} can't be reached")
        if self._meter is None:
            self._meter = await self._find()
        return measured(self._meter, await self._read(self._meter.start, self._meter.wanted))

    async def _find(self) -> Model:
        for base in BASES:
            answer = await self._client.read_holding_registers(base, count=2, device_id=self._unit)
            if not answer.isError() and tuple(answer.registers) == MARK:
                return await self._first_meter(base + len(MARK))
        raise MeterSilentError(f"{self._where}: no SunSpec device: its registers don't begin with SunS")

    async def _first_meter(self, at: int) -> Model:
        numbers = []
        for _ in range(MODELS_MAX):
            number, length = await self._read(at, HEADER)
            model = Model(number, at, length)
            if model.is_meter:
                return model
            if number == END:
                break
            numbers.append(str(number))
            at += HEADER + length
        found = ", ".join(numbers) or "none"
        raise MeterSilentError(
            f"{self._where}: no meter among its SunSpec models ({found}): try another unit"
        )

    async def _read(self, at: int, count: int) -> list[int]:
        answer = await self._client.read_holding_registers(at, count=count, device_id=self._unit)
        if answer.isError() or len(answer.registers) != count:
            raise MeterSilentError(
                f"{self._where}: registers {at} to {at + count - 1} can't be read: {answer}"
            )
        return list(answer.registers)
