"""The door of a litestar application: guards that say who asks, and what an OpenAPI tells of them."""

from collections.abc import Mapping
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import Guard

from runtime.door import Door
from runtime.refusals import refusals
from runtime.token import Principal, shown_in

SCHEME = "bearer"
COMPONENTS = Components(security_schemes={SCHEME: SecurityScheme(type="http", scheme="bearer")})
REFUSED = refusals(
    http_401="no token, or a wrong one",
    http_403="a token that may not do this, or none is set",
    http_429="too many requests, or too many wrong tokens",
)

Connection = ASGIConnection[Any, Any, Any, Any]
HttpRequest = Request[Principal, Any, Any]
"""A handler's `request`, behind a guard: what its `user` does not see is for it not there."""


class Guards:
    """Of one server: what its endpoints are given, to say who may ask them.

    Args:
        door: who may come in.
        service: its name, as in its variables.
    """

    def __init__(self, door: Door, service: str) -> None:
        self._door = door
        self._read_only = (
            "no token is set, so nothing can be changed over HTTP: set "
            f"WATTBUS_{service.upper()}_TOKEN, --token-file or --user-tokens"
        )

    def reads(self, answers: Mapping[int, ResponseSpec] | None = None) -> dict[str, Any]:
        """An endpoint for the site, and for a house of what is its own.

        Args:
            answers: its other refusals.
        """
        return self._given(self._reading, answers, told=not self._door.is_open)

    def reads_all(self, answers: Mapping[int, ResponseSpec] | None = None) -> dict[str, Any]:
        """An endpoint that tells of all houses."""
        return self._given(self._reading_all, answers, told=not self._door.is_open)

    def acts(self, answers: Mapping[int, ResponseSpec] | None = None) -> dict[str, Any]:
        """An endpoint that changes something."""
        return self._given(self._acting, answers, told=True)

    def acts_if_guarded(self, answers: Mapping[int, ResponseSpec] | None = None) -> dict[str, Any]:
        """One of a specification that knows no tokens: where none is set, it asks for none."""
        return self.acts(answers) if self._door.tokens else self.reads(answers)

    @staticmethod
    def _given(guard: Guard, answers: Mapping[int, ResponseSpec] | None, *, told: bool) -> dict[str, Any]:
        security = [{SCHEME: list[str]()}] if told else None
        return {"guards": [guard], "responses": {**REFUSED, **(answers or {})}, "security": security}

    # All are async although they wait for nothing: any other guard is run in a thread, which takes longest.

    async def _reading(self, connection: Connection, _: BaseRouteHandler) -> None:
        who = self._door.reader(connection.scope["headers"])
        connection.scope["user"] = _known(who, connection)

    async def _reading_all(self, connection: Connection, handler: BaseRouteHandler) -> None:
        await self._reading(connection, handler)
        if not connection.user.is_site:
            raise PermissionDeniedException("a house's token reads what is that house's alone")

    async def _acting(self, connection: Connection, _: BaseRouteHandler) -> None:
        tokens = self._door.tokens
        if not tokens.has_site:
            raise PermissionDeniedException(self._read_only)
        who = _known(tokens.who(connection.scope["headers"]), connection)
        if not who.is_site:
            raise PermissionDeniedException("a house's token only reads: the site's changes things")
        connection.scope["user"] = who


def signer(who: Principal, named: str | None, other: str) -> str:
    """In whose name something is asked.

    Args:
        who: whose token was shown.
        named: who he says he is; None: he does not.
        other: the name where neither says one.

    Raises:
        PermissionDeniedException: he says that he is somebody else.
    """
    if who.user and named not in (None, who.user):
        raise PermissionDeniedException(f"this token is {who.user}'s: ask in that name, or in none")
    return who.user or named or other


def _known(who: Principal | None, connection: Connection) -> Principal:
    if who is not None:
        return who
    lacking = "a wrong bearer token" if shown_in(connection.scope["headers"]) else "no bearer token"
    raise NotAuthorizedException(
        f"{lacking}: send Authorization: Bearer <token>", headers={"WWW-Authenticate": "Bearer"}
    )
