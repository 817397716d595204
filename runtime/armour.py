"""Around every application here: who comes too often, too large or too slow is refused; safe headers."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from runtime.door import Doorman

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
)
"""They keep a browser from being turned against a server."""
POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
DOCS = "/docs"
DOCS_POLICY = (b"content-security-policy", b"frame-ancestors 'none'")
"""Swagger UI starts itself with a script inside its page."""
HEADERS_BYTES_MAX = 16_384
"""A request with more in its headers is refused, 431; a body's limit is `runtime.web.BODY_BYTES_MAX`."""
BODY_WITHIN_S = 10.0
"""Real seconds, from the headers on: a body that takes longer is refused, 408."""


class SlowBodyError(Exception):
    """A body did not come within its time."""


class Armour:
    """Refuses what an application should not see, and sets the headers that it has not set itself.

    Args:
        app: what answers; an ASGI application.
        host: the address it is served at.
        doorman: who may come.
    """

    def __init__(self, app: App, host: str, doorman: Doorman) -> None:
        self._app = app
        self._host = host
        self._doorman = doorman

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401 - ASGI's own
        """Answer one request."""

        async def armoured(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                there = {name.lower() for name, _ in own}
                policy = DOCS_POLICY if scope["path"].startswith(DOCS) else POLICY
                message["headers"] = [*own, *(pair for pair in (*HEADERS, policy) if pair[0] not in there)]
            await send(message)

        refused = self._refused(scope)
        if refused is None:
            await self._app(scope, _Hurried(receive), armoured)
            return
        status, headers, body = refused
        await armoured({"type": "http.response.start", "status": status, "headers": headers})
        await armoured({"type": "http.response.body", "body": body, "more_body": False})

    def _refused(self, scope: Any) -> tuple[int, RawHeaders, bytes] | None:  # noqa: ANN401 - ASGI's own
        headers = scope["headers"]
        if scope["http_version"] not in ("1.0", "1.1"):
            return refusal(400, "ask in HTTP/1.1")
        if sum(len(name) + len(value) for name, value in headers) > HEADERS_BYTES_MAX:
            return refusal(431, "too much in the headers")
        peer = scope["client"][0] if scope["client"] else ""
        told = self._doorman.turned_away(self._host, peer, headers)
        return None if told is None else refusal(told.status, told.why, wait_s=told.wait_s, closing=False)


class _Hurried:
    """What comes of a request, its body within its time; what is waited for afterwards has none."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._until = asyncio.get_running_loop().time() + BODY_WITHIN_S
        self._is_whole = False

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError as error:
            raise SlowBodyError(f"the body did not come within {BODY_WITHIN_S:g} s") from error
        self._is_whole = not message.get("more_body", False)
        return message


def refusal(
    status: int, detail: str, *, wait_s: int = 0, closing: bool = True
) -> tuple[int, RawHeaders, bytes]:
    """A refusal as it is sent: status, headers, body.

    Args:
        status: of HTTP.
        detail: why, in one line.
        wait_s: after which time it is worth to ask again; 0: nothing is said of it.
        closing: whether the connection ends with it.
    """
    body = json.dumps({"status_code": status, "detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if wait_s:
        headers.append((b"retry-after", str(wait_s).encode()))
    return status, [*headers, (b"connection", b"close")] if closing else headers, body


def raw_refusal(status: int, detail: str, *, wait_s: int = 0) -> bytes:
    """The same as bytes, with the headers, where no application answers."""
    _, headers, body = refusal(status, detail, wait_s=wait_s)
    return _raw(status, headers, body)


def raw_answer(status: int, content_type: str, body: bytes) -> bytes:
    """An answer as bytes, with the headers; the connection ends with it."""
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    return _raw(status, headers, body)


def _raw(status: int, headers: RawHeaders, body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
    lines += [name + b": " + value for name, value in (*headers, *HEADERS, POLICY)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
