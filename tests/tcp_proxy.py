"""A TCP proxy before a broker: the link can be cut, refused or frozen without touching the broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.broker_life import LOOPBACK


class Proxy:
    """One port that leads to another."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._flows = asyncio.Event()
        self._flows.set()
        self._open = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self, *, reopen: bool = True) -> None:
        """Break every connection; a new one is let through only if `reopen`."""
        self._open = reopen
        for writer in self._writers:
            writer.transport.abort()

    def reopen(self) -> None:
        self._open = True

    def lead_to(self, port: int) -> None:
        """Let new connections through to another port."""
        self._target = port

    def freeze(self) -> None:
        """Leave the connections open and carry nothing."""
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        self._writers.add(writer)  # before the other half is there: a cut meanwhile cuts this one too
        try:
            there_reader, there_writer = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:  # the broker is away: who connects must see it
            self._writers.discard(writer)
            writer.transport.abort()
            return
        self._writers.add(there_writer)
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass  # that is what a cut looks like
        finally:
            self._writers.discard(sink)
            sink.close()

    async def close(self) -> None:
        self.cut(reopen=False)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """A proxy to a port of this machine, on a free port."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, LOOPBACK, 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
