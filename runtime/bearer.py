"""Bearer tokens: compared in constant time, and a refusal that says what to send."""

import hmac
from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import Components, SecurityScheme

SCHEME = "bearer"
SECURITY: list[dict[str, list[str]]] = [{SCHEME: []}]
"""What a protected handler says in the OpenAPI."""
COMPONENTS = Components(security_schemes={SCHEME: SecurityScheme(type="http", scheme="bearer")})


class BearerGuard:
    """A litestar guard: only who shows the token gets through.

    Args:
        token: the only one that counts; not empty.
    """

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        """Let it through or refuse.

        Raises:
            NotAuthorizedException: no token, or a wrong one.
        """
        # Async although it waits for nothing: any other guard is run in a thread, which takes longest of all.
        shown = connection.headers.get("authorization", "")
        if not hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), self._expected):
            lacking = "no bearer token" if not shown else "a wrong bearer token"
            raise NotAuthorizedException(
                f"{lacking}: send Authorization: Bearer <token>", headers={"WWW-Authenticate": "Bearer"}
            )
