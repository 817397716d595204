"""One client at the MQTT window: its first packet, its connection's writing side, and what waits for it."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from amqtt.adapters import ReaderAdapter, WebSocketsWriter
from amqtt.errors import AMQTTError, ProtocolHandlerError
from websockets.exceptions import ConnectionClosed

from runtime.clock import Clock

OUTBOX_MAX = 10_000
"""A client that lags further loses the oldest, counted."""
STALLED_S = 20.0
"""A client that takes nothing for so long is put out."""
CONNECT_S = 10.0
"""A connection that says nothing for so long is ended."""
CONNECT_BYTES_MAX = 1 << 17
TURN = 50
"""Messages handled before others get a turn."""
MQTT_3_1_1 = 4
MQTT_5 = 5
_CONNECT = 0x10


class WebSocketWriter(WebSocketsWriter):  # type: ignore[misc] # amqtt is not typed
    """Says that the peer is gone as a TCP stream does: on any other word amqtt leaves tasks behind."""

    async def drain(self) -> None:
        try:
            await super().drain()
        except ConnectionClosed as error:
            raise ConnectionResetError(str(error)) from error


class Replay(ReaderAdapter):  # type: ignore[misc] # amqtt is not typed
    """A reader whose first bytes have been looked at."""

    def __init__(self, seen: bytes, reader: Any) -> None:  # noqa: ANN401
        self._seen = seen
        self._reader = reader

    async def read(self, n: int = -1) -> bytes:
        if not self._seen or n < 0:
            rest: bytes = await self._reader.read(n)
            return rest
        part, self._seen = self._seen[:n], self._seen[n:]
        return part if len(part) == n else part + await self._reader.read(n - len(part))

    def feed_eof(self) -> None:
        self._reader.feed_eof()


async def read_connect(reader: Any) -> bytes:  # noqa: ANN401
    """The first packet of a connection, whole."""
    head: bytes = await reader.read(1)
    length = shift = 0
    while True:
        byte: bytes = await reader.read(1)
        head += byte
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            break
        if length > CONNECT_BYTES_MAX:
            raise ValueError(f"a first packet of more than {CONNECT_BYTES_MAX} bytes")
    if head[0] != _CONNECT or length > CONNECT_BYTES_MAX:
        raise ValueError("the first packet is no CONNECT of a reasonable size")
    body: bytes = await reader.read(length)
    return head + body


def level_of(connect: bytes) -> int:
    """The protocol level in a CONNECT: 4 is MQTT 3.1.1, 5 is MQTT 5."""
    start = next(i for i in range(1, 5) if not connect[i] & 0x80) + 1
    return connect[start + 2 + int.from_bytes(connect[start : start + 2])]


class Outbox:
    """What waits for one client; sent one by one, so that a slow one keeps nobody else waiting."""

    def __init__(
        self,
        handler: Any,  # noqa: ANN401
        clock: Clock,
        dropped: Callable[[], None],
        put_out: Callable[[], None],
    ) -> None:
        self._handler = handler
        self._clock = clock
        self._dropped = dropped
        self._put_out = put_out
        self._messages: deque[tuple[str, bytes, int, bool]] = deque(maxlen=OUTBOX_MAX)
        self._ready = asyncio.Event()
        self._task = asyncio.create_task(self._send_all())

    def put(self, message: tuple[str, bytes, int, bool]) -> None:
        if len(self._messages) == OUTBOX_MAX:
            self._dropped()
        self._messages.append(message)
        self._ready.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _send_all(self) -> None:
        sent = 0
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._messages:
                try:
                    async with asyncio.timeout(STALLED_S):
                        await self._handler.mqtt_publish(*self._messages.popleft())
                except TimeoutError:
                    self._dropped()  # it did not acknowledge
                except (AMQTTError, ProtocolHandlerError, OSError):
                    return self._put_out()
                sent += 1
                if sent % TURN == 0:
                    await self._clock.sleep(0)
