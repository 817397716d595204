"""A smart meter with a P1 port (the Netherlands, Belgium, Sweden): it says a telegram every second or ten."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import serialx
from dsmr_parser import telegram_specifications as specifications
from dsmr_parser.clients import settings as serial_settings
from dsmr_parser.clients.telegram_buffer import TelegramBuffer
from dsmr_parser.exceptions import InvalidChecksumError, ParseError
from dsmr_parser.parsers import TelegramParser

from contracts.instant import Instant
from meter.errors import MeterSilentError
from meter.source import Measured
from meter.sources.newest import Newest
from runtime.clock import Clock

BUFFER_MAX = 1 << 16
"""So much text without a whole telegram in it holds none."""
AGAIN_S = 2.0
"""Between two attempts to connect."""
SILENT_S = 60.0
"""A port that says nothing for so long is opened anew: of a network that was cut nobody need have told us."""

SPECIFICATIONS: dict[str, dict[str, Any]] = {
    "2": specifications.V2_2,
    "4": specifications.V4,
    "5": specifications.V5,
    "5B": specifications.BELGIUM_FLUVIUS,
    "5S": specifications.SWEDEN,
}
SERIAL: dict[str, dict[str, Any]] = {
    "2": serial_settings.SERIAL_SETTINGS_V2_2,
    "4": serial_settings.SERIAL_SETTINGS_V4,
}

DAMAGED = (ArithmeticError, TypeError, ValueError)
"""What the library lets through of a line that is no longer what the meter said."""

# It tells of each such line with a traceback; whatever matters is said in our words.
logging.getLogger("dsmr_parser").setLevel(logging.CRITICAL)

Opening = Awaitable[tuple[asyncio.StreamReader, Any]]


class Telegrams:
    """Cuts what a P1 port says into telegrams, and reads the power in each.

    Args:
        version: of the telegrams, one of `SPECIFICATIONS`.
    """

    def __init__(self, version: str) -> None:
        self._parser = TelegramParser(SPECIFICATIONS[version])
        self._buffer = TelegramBuffer()
        self._length = 0

    def feed(self, piece: bytes) -> list[Measured]:
        """What the telegrams say that this piece completes, + import / - export.

        Raises:
            MeterSilentError: none of them can be read: damaged, or no power in it.
        """
        self._length += len(piece)
        self._buffer.append(piece.decode("ascii", errors="replace"))
        found: list[Measured] = []
        damage: MeterSilentError | None = None
        for telegram in self._buffer.get_all():
            self._length = 0
            try:
                found.append(self._read(telegram))
            except MeterSilentError as error:
                damage = error
        if self._length > BUFFER_MAX:
            self._buffer, self._length = TelegramBuffer(), 0
            raise MeterSilentError("what is heard holds no telegram: is it a P1 port, at that speed?")
        if damage is not None and not found:
            raise damage
        return found

    def _read(self, text: str) -> Measured:
        try:
            telegram = self._parser.parse(text)
            used, returned = (
                _number(telegram, f"CURRENT_ELECTRICITY_{name}") for name in ("USAGE", "DELIVERY")
            )
            currents = [_number(telegram, f"INSTANTANEOUS_CURRENT_L{i}") for i in (1, 2, 3)]
        except (ParseError, InvalidChecksumError, *DAMAGED) as error:
            raise MeterSilentError(f"a damaged telegram: {error}") from error
        if used is None or returned is None:
            raise MeterSilentError("a telegram without the power used and returned: is it the right version?")
        # They carry no sign: of a house that exports they say nothing.
        phase_a = tuple(current for current in currents if current is not None) if returned == 0 else ()
        return Measured(round((used - returned) * 1000, 3), phase_a)


def _number(telegram: Any, name: str) -> float | None:  # noqa: ANN401 - untyped
    field = getattr(telegram, name, None)
    return None if field is None else float(field.value)


class DsmrSource:
    """Listens to a P1 port, or plays a file of telegrams, one a reading and from the start again.

    Args:
        device: `/dev/ttyUSB0`, `host:port` of a port on the network, or a file's path.
        version: of the telegrams.
        age_max_s: an older telegram is no measurement of now.
        clock: paces attempts, and tells how old a telegram is.
    """

    def __init__(self, device: str, version: str, age_max_s: float, clock: Clock) -> None:
        self._device = device
        self._version = version
        self._clock = clock
        self._newest = Newest(clock, age_max_s, f"the P1 port {device}")
        self._listening: asyncio.Task[None] | None = None
        self._file = Path(device) if Path(device).is_file() else None
        self._played: list[Measured] = []

    async def measure(self, at: Instant) -> Measured:
        """See `meter.source.Source`."""
        del at  # a meter knows only what it measures now
        if self._file is not None:
            return self._play(self._file)
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        return await self._newest.get()

    async def close(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening

    def _play(self, path: Path) -> Measured:
        if not self._played:
            try:
                self._played = Telegrams(self._version).feed(path.read_bytes())
            except OSError as error:
                raise MeterSilentError(f"{path}: can't be read: {error.strerror}") from error
            if not self._played:
                raise MeterSilentError(f"{path}: no whole telegram is in it")
        self._played.append(self._played.pop(0))
        return self._played[-1]

    async def _listen(self) -> None:
        while True:
            telegrams = Telegrams(self._version)
            try:
                async with self._connected() as port:
                    while piece := await self._piece(port):
                        self._hear(telegrams, piece)
                self._newest.trouble("it has closed the connection")
            except OSError as error:
                self._newest.trouble(error.strerror or str(error))
            except serialx.SerialException as error:
                self._newest.trouble(str(error))
            await self._clock.sleep(AGAIN_S)

    async def _piece(self, port: asyncio.StreamReader) -> bytes:
        """What is said next; nothing once the port is closed.

        Raises:
            TimeoutError: nothing is said for too long.
        """
        try:
            async with self._clock.timeout(SILENT_S):
                return await port.read(4096)
        except TimeoutError as error:
            raise TimeoutError(f"it has said nothing for {SILENT_S:g} s") from error

    def _hear(self, telegrams: Telegrams, piece: bytes) -> None:
        try:
            for measured in telegrams.feed(piece):
                self._newest.put(measured)
        except MeterSilentError as error:
            self._newest.trouble(str(error))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncio.StreamReader]:
        host, _, port = self._device.rpartition(":")
        if self._device.startswith("/"):
            settings = SERIAL.get(self._version, serial_settings.SERIAL_SETTINGS_V5)
            options = {key: settings[key] for key in ("baudrate", "bytesize", "parity", "stopbits")}
            opening: Opening = serialx.open_serial_connection(self._device, **options)
        else:
            opening = asyncio.open_connection(host, int(port))
        reader, writer = await opening
        try:
            yield reader
        finally:
            writer.close()
