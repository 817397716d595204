"""An HTTP server in a service's own loop: it stops when the service does, and takes no signals of its own."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn

from runtime.armour import Armour
from runtime.errors import UsageError
from runtime.logs import Log

BACKLOG = 512
CLOSE_WITHIN_S = 2
"""How long the answers under way may take when the server stops."""


class _Server(uvicorn.Server):
    """Leaves the signals to the process, which stops all its parts in order."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()


@contextlib.asynccontextmanager
async def serving(
    app: Any,  # noqa: ANN401 - an ASGI application
    host: str,
    port: int,
    log: Log,
) -> AsyncIterator[int]:
    """Serve an ASGI application as long as the context lasts; gives the port.

    Args:
        app: the application.
        host: the address to bind.
        port: 0 takes a free one.
        log: says where it listens.

    Raises:
        UsageError: the address can't be bound.
    """
    config = uvicorn.Config(
        Armour(app),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=CLOSE_WITHIN_S,
    )
    with _listen(host, port) as listening:
        bound: int = listening.getsockname()[1]
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        log.info("serving HTTP", url=f"http://{f'[{host}]' if ':' in host else host}:{bound}/")
        try:
            yield bound
        finally:
            server.should_exit = True
            await task


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket: from here on nobody is refused, even before the first request is read."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
        # With the protocol named, asyncio sends answers at once; else they wait 40 ms for an acknowledgement.
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise UsageError(
            f"{host}:{port}: can't listen there ({error.strerror}): choose another port"
        ) from error
    return listening
