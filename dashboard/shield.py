"""What the page may load and run, as a header that browsers keep to."""

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from runtime.armour import DOCS

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Shield:
    """Sets the page's content security policy; the documentation has its own, as everywhere.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def shielded(message: Message) -> None:
            if message["type"] == "http.response.start" and not scope["path"].startswith(DOCS):
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self._app(scope, receive, shielded)
