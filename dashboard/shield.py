"""Keeps a browser from being turned against the page: headers on every answer, and the names it goes by."""

from ipaddress import ip_address

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from runtime.armour import HEADERS

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DOCS = "/docs"
DOCS_POLICY = "frame-ancestors 'none'"
"""Swagger UI starts itself with a script inside its page."""
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Shield:
    """Sets the headers; served on this machine alone, it answers to this machine's names alone.

    A page elsewhere whose name is made to mean 127.0.0.1 is so kept from reading what is shown here.

    Args:
        app: what answers.
        host: the address it is served at.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._names = (*LOCAL_NAMES, host) if is_loopback(host) else ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._names and _host_of(scope) not in self._names:
            await _refuse(send)
            return
        policy = DOCS_POLICY if scope["path"].startswith(DOCS) else POLICY

        async def shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in HEADERS}
                kept = [pair for pair in message["headers"] if pair[0] not in own]
                message["headers"] = [*kept, *HEADERS, (b"content-security-policy", policy.encode())]
            await send(message)

        await self._app(scope, receive, shielded)


def _host_of(scope: Scope) -> str:
    named = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
    name, _, port = named.rpartition(":")
    return name if port.isdigit() else named


async def _refuse(send: Send) -> None:
    body = b"this page is served on this machine alone: ask for http://127.0.0.1\n"
    headers = [(b"content-type", b"text/plain"), *HEADERS]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
