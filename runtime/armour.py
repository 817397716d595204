"""Of every server here: headers that keep a browser from being turned against it; a limit on a request's."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Send], Awaitable[None]]

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
)
HEADERS_BYTES_MAX = 16_384
"""A request with more in its headers is refused, 431; a body's limit is `runtime.web.BODY_BYTES_MAX`."""


class Armour:
    """Sets the headers that the application has not set itself; refuses a request with too much in its own.

    Args:
        app: what answers; an ASGI application.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:  # noqa: ANN401 - ASGI's own
        """Answer one request."""

        async def armoured(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                there = {name.lower() for name, _ in own}
                message["headers"] = [*own, *(pair for pair in HEADERS if pair[0] not in there)]
            await send(message)

        asked = sum(len(name) + len(value) for name, value in scope.get("headers", ()))
        await (_refuse(armoured) if asked > HEADERS_BYTES_MAX else self._app(scope, receive, armoured))


async def _refuse(send: Send) -> None:
    body = b'{"status_code":431,"detail":"too much in the headers"}'
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 431, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
