"""A proxy before a broker that can do more than cut: tear a frame, carry slowly, and stand before a dead broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.broker_life import LOOPBACK
from tests.tcp_proxy import Proxy

SLOW_PIECE = 1 << 10
"""A slow link carries so much at once [bytes]."""


class FaultyProxy(Proxy):
    """One link that breaks in many ways."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._tear = False
        self._pause_s = 0.0

    def tear(self) -> None:
        """Carry a part of the next bytes to the broker, and break the link there; no new one is let through."""
        self._tear = True

    def slow(self, bytes_per_s: float | None) -> None:
        """Carry so much a second each way; None: as much as there is."""
        self._pause_s = 0.0 if bytes_per_s is None else SLOW_PIECE / bytes_per_s

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        to_broker = sink.get_extra_info("peername")[1] == self._target
        await super()._pump(_Faulty(self, source, to_broker=to_broker), sink)  # type: ignore[arg-type]

    async def pace(self) -> None:
        """What a slow link takes for a piece."""
        if self._pause_s:
            await asyncio.sleep(self._pause_s)

    def piece(self, size: int) -> int:
        """How much is carried at once."""
        return SLOW_PIECE if self._pause_s else size

    def torn(self, data: bytes) -> bytes:
        """What of these bytes gets through."""
        if not self._tear or len(data) < 2:
            return data
        self._tear = False
        asyncio.get_running_loop().call_later(0.01, lambda: self.cut(reopen=False))
        return data[: len(data) // 2 + 1]


class _Faulty:
    """What comes out of one end of such a link."""

    def __init__(self, proxy: FaultyProxy, source: asyncio.StreamReader, *, to_broker: bool) -> None:
        self._proxy, self._source, self._to_broker = proxy, source, to_broker
        self._is_torn = False

    async def read(self, size: int) -> bytes:
        data = await self._source.read(self._proxy.piece(size))
        await self._proxy.pace()
        if self._is_torn:
            return b""
        if not self._to_broker:
            return data
        through = self._proxy.torn(data)
        self._is_torn = len(through) < len(data)
        return through


@asynccontextmanager
async def faulty_proxy_to(port: int) -> AsyncIterator[FaultyProxy]:
    """As `proxy_to`, with a proxy that can do more."""
    proxy = FaultyProxy(port)
    async with AsyncExitStack() as stack:
        server = await asyncio.start_server(proxy.serve, LOOPBACK, 0)
        stack.push_async_callback(server.wait_closed)
        stack.push_async_callback(proxy.close)
        stack.callback(server.close)
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
