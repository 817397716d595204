"""An HTTP server in a service's own loop: it stops when the service does, and takes no signals of its own."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from runtime.armour import HEADERS_BYTES_MAX, Armour, raw_refusal
from runtime.door import Door, Doorman
from runtime.errors import UsageError
from runtime.logs import Log

BACKLOG = 128
CLOSE_WITHIN_S = 2
"""How long the answers under way may take when the server stops."""
CONNECTIONS_MAX = 400
"""One more ends the one that has waited longest for a request: files must be left for the brokers."""
HEAD_WITHIN_S = 10.0
"""Real seconds: a connection on which no whole request has come in this time is closed."""


class _Server(uvicorn.Server):
    """Leaves the signals to the process, which stops all its parts in order."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()


class _Impatient(H11Protocol):
    """Waits for a request's head only so long; what is no HTTP is refused in our form."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > CONNECTIONS_MAX:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wait_no_more()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words
        """Refuse what can't be read; uvicorn calls this."""
        data, _ = self.conn.trailing_data
        if len(data) > HEADERS_BYTES_MAX:
            self.refuse(431, "too much in the headers")
        else:
            self.refuse(400, "this is no HTTP request")

    def _wait(self) -> None:
        """Give the next head its time, unless a request is being answered."""
        if self._is_answering:
            self._wait_no_more()
        elif self._waiting is None and not self.transport.is_closing():
            self._waiting = self.loop.call_later(HEAD_WITHIN_S, self._give_up)

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _make_room(self) -> None:
        """End the connection that has waited longest for a request: this one, if all others are answered."""
        waiting = [one for one in self.connections if isinstance(one, _Impatient) and one.waits_until_s]
        min(waiting, key=lambda one: one.waits_until_s).refuse(503, "too many connections")

    @property
    def waits_until_s(self) -> float:
        """When it gives up waiting for a request; 0: one is being answered, or it is closed."""
        return 0.0 if self._waiting is None else self._waiting.when()

    def _give_up(self) -> None:
        self.refuse(408, f"no request came within {HEAD_WITHIN_S:g} s")

    def refuse(self, status: int, detail: str) -> None:
        """Say why, and end the connection."""
        if not (self._is_answering and self.cycle.response_started):
            self.transport.write(raw_refusal(status, detail))
        self.transport.close()
        self._wait_no_more()


@contextlib.asynccontextmanager
async def serving(
    app: Any,  # noqa: ANN401 - an ASGI application
    host: str,
    port: int,
    log: Log,
    doorman: Doorman | None = None,
    *,
    port_is: str = "--service-port",
) -> AsyncIterator[int]:
    """Serve an ASGI application as long as the context lasts; gives the port.

    Args:
        app: the application.
        host: the address to bind.
        port: 0 takes a free one.
        log: says where it listens.
        doorman: who may come; None: whoever is on this machine, and no other.
        port_is: where a person sets the port.

    Raises:
        UsageError: the address can't be bound, or others could come of whom nothing is said.
    """
    doorman = doorman or Doorman(Door())
    doorman.door.refuse_strangers(host)
    config = uvicorn.Config(
        Armour(app, host, doorman),
        http=_Impatient,
        h11_max_incomplete_event_size=HEADERS_BYTES_MAX,
        proxy_headers=False,  # whoever comes could say that he is somebody else
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        backlog=BACKLOG,
        timeout_graceful_shutdown=CLOSE_WITHIN_S,
    )
    with _listen(host, port, port_is) as listening:
        bound: int = listening.getsockname()[1]
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        log.info("serving HTTP", url=f"http://{f'[{host}]' if ':' in host else host}:{bound}/")
        try:
            yield bound
        finally:
            server.should_exit = True
            await task


def _listen(host: str, port: int, port_is: str) -> socket.socket:
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
            f"{host}:{port}: can't listen there ({error.strerror}): choose another {port_is}"
        ) from error
    return listening
