"""/metrics and /health of a service that has no HTTP API of its own; by the standard library alone.

It answers in the service's own event loop: that it answers shows that the service lives.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from runtime.armour import HEADERS_BYTES_MAX, raw_answer, raw_refusal
from runtime.door import Door, Doorman
from runtime.errors import UsageError
from runtime.logs import Log
from runtime.metrics import CONTENT_TYPE, Source, exposition
from runtime.settings import MonitoredSettings

READ_WITHIN_S = 5.0
"""Real seconds: who asks does not know how fast our clock runs."""
ASKING_MAX = 32
"""So many at once are answered; others are turned away."""
JSON = "application/json"


class _Request(NamedTuple):
    method: str
    path: str
    headers: list[tuple[bytes, bytes]]


class _RefusedError(Exception):
    """A request that is refused: its status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Monitor:
    """What is asked and answered.

    Args:
        sources: the service, its bus: what they count is read when it is asked for.
        ailing: why it can't do its work right now; empty: it does.
        host: the address it is served at.
        doorman: who may come, and how often.
    """

    def __init__(
        self, sources: Sequence[Source], ailing: Callable[[], str], host: str, doorman: Doorman
    ) -> None:
        self._sources = sources
        self._ailing = ailing
        self._host = host
        self._doorman = doorman
        self._asking = 0

    def answer(self, path: str) -> bytes:
        """The answer to one question."""
        match path.partition("?")[0]:
            case "/metrics":
                metrics = (metric for source in self._sources for metric in source())
                return raw_answer(200, CONTENT_TYPE, exposition(metrics).encode())
            case "/health":
                why = self._ailing()
                told = {"live": True, "ready": not why, "why": why}
                return raw_answer(503 if why else 200, JSON, json.dumps(told).encode())
            case _:
                return raw_refusal(404, "there are /metrics and /health")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one question, then close."""
        self._asking += 1
        try:
            with suppress(ConnectionError, TimeoutError):  # nothing is owed to who has gone
                async with asyncio.timeout(2 * READ_WITHIN_S):
                    writer.write(await self._answered(reader, writer.get_extra_info("peername")[0]))
                    await writer.drain()
        finally:
            self._asking -= 1
            writer.close()

    async def _answered(self, reader: asyncio.StreamReader, peer: str) -> bytes:
        if self._asking > ASKING_MAX:
            return raw_refusal(503, "too many connections")
        try:
            request = await _read(reader)
        except _RefusedError as error:
            return raw_refusal(error.status, str(error))
        if told := self._doorman.turned_away(self._host, peer, request.headers):
            return raw_refusal(told.status, told.why, wait_s=told.wait_s)
        if request.method not in ("GET", "HEAD"):
            return raw_refusal(405, "GET alone")
        answer = self.answer(request.path)
        return answer if request.method == "GET" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


async def _read(reader: asyncio.StreamReader) -> _Request:
    """A request's head.

    Raises:
        _RefusedError: it is none, too long, or too slow.
    """
    try:
        async with asyncio.timeout(READ_WITHIN_S):
            head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        method, path, version = first.decode("ascii").split(" ")
        named = [line.partition(b":") for line in lines]
    except asyncio.LimitOverrunError as error:
        raise _RefusedError(431, "too much in the headers") from error
    except TimeoutError as error:
        raise _RefusedError(408, f"no request came within {READ_WITHIN_S:g} s") from error
    except (ValueError, asyncio.IncompleteReadError) as error:
        raise _RefusedError(400, "this is no HTTP request") from error
    if not version.startswith("HTTP/1."):
        raise _RefusedError(400, "this is no HTTP request")
    return _Request(method, path, [(name.lower(), value.strip()) for name, _, value in named])


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
    monitor = Monitor(sources, ailing, host, Doorman(Door(), settings.requests_per_s))
    try:
        server = await asyncio.start_server(monitor.serve, host, port, limit=HEADERS_BYTES_MAX)
    except OSError as error:
        raise UsageError(
            f"{host}:{port}: can't listen there ({error.strerror}): choose another --metrics-port"
        ) from error
    log.info("serving metrics", url=f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics")
    async with server:
        yield
