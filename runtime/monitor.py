"""/metrics and /health of a service that has no HTTP API of its own; by the standard library alone.

It answers in the service's own event loop: that it answers shows that the service lives.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from runtime.errors import UsageError
from runtime.logs import Log
from runtime.metrics import CONTENT_TYPE, Source, exposition
from runtime.settings import MonitoredSettings

READ_WITHIN_S = 5.0
"""Real seconds: who asks does not know how fast our clock runs."""
HEAD_MAX = 8192
ASKING_MAX = 32
"""So many at once are answered; others are turned away."""
JSON = "application/json"


class Answer(NamedTuple):
    """An HTTP answer."""

    status: str
    content_type: str
    body: str


class Monitor:
    """What is asked and answered.

    Args:
        sources: the service, its bus: what they count is read when it is asked for.
        ailing: why it can't do its work right now; empty: it does.
    """

    def __init__(self, sources: Sequence[Source], ailing: Callable[[], str]) -> None:
        self._sources = sources
        self._ailing = ailing
        self._asking = 0

    def answer(self, method: str, path: str) -> Answer:
        """The answer to one question."""
        if method not in ("GET", "HEAD"):
            return Answer("405 Method Not Allowed", JSON, '{"detail": "GET alone"}')
        match path.partition("?")[0]:
            case "/metrics":
                metrics = (metric for source in self._sources for metric in source())
                return Answer("200 OK", CONTENT_TYPE, exposition(metrics))
            case "/health":
                why = self._ailing()
                told = {"live": True, "ready": not why, "why": why}
                return Answer("503 Service Unavailable" if why else "200 OK", JSON, json.dumps(told))
            case _:
                return Answer("404 Not Found", JSON, '{"detail": "there are /metrics and /health"}')

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one question, then close."""
        self._asking += 1
        try:
            # Who is slow, or speaks no HTTP, gets no answer; nor is one owed to who has gone.
            with suppress(TimeoutError, ConnectionError, ValueError, asyncio.IncompleteReadError):
                async with asyncio.timeout(READ_WITHIN_S):
                    await self._answer(reader, writer)
        finally:
            self._asking -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._asking > ASKING_MAX:
            return
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return
        method, path, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
        answer = self.answer(method, path)
        body = answer.body.encode()
        writer.write(
            f"HTTP/1.1 {answer.status}\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + (b"" if method == "HEAD" else body)
        )
        await writer.drain()


@asynccontextmanager
async def monitored(
    settings: MonitoredSettings,
    sources: Sequence[Source],
    ailing: Callable[[], str],
    log: Log,
) -> AsyncIterator[None]:
    """Answer /metrics and /health as long as the context lasts, if the settings name a port.

    Raises:
        UsageError: the address can't be bound.
    """
    host, port = settings.metrics_host, settings.metrics_port
    if port == 0:
        yield
        return
    monitor = Monitor(sources, ailing)
    try:
        server = await asyncio.start_server(monitor.serve, host, port, limit=HEAD_MAX)
    except OSError as error:
        raise UsageError(
            f"{host}:{port}: can't listen there ({error.strerror}): choose another --metrics-port"
        ) from error
    log.info("serving metrics", url=f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics")
    async with server:
        yield
