"""Who may come in to a server, and how often: its settings, and what they mean."""

import math
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta

from runtime.clock import Clock, SystemClock
from runtime.errors import UsageError
from runtime.limit import Limit, peer_of
from runtime.settings import REQUESTS_PER_S, CommonSettings
from runtime.token import SITE, Headers, Principal, Tokens, read_tokens, shown_in

BURST_S = 10.0
"""As much as may come in so many seconds may come at once."""
GUESS_COST = 100.0
"""A wrong token counts as so many requests: five at once by default, then one every two seconds."""
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
OWN_PAGE = (b"same-origin", b"none")
"""Of Sec-Fetch-Site: a page of the server's own asks, or a person who has typed the address."""


class ServedSettings(CommonSettings, frozen=True, kw_only=True):
    """What a service with an HTTP API can be told of who may come."""

    service_host: Annotated[str, Meta(min_length=1, description="address of the HTTP API")] = "127.0.0.1"
    token: Annotated[
        str,
        Meta(
            max_length=500,
            description="the site's: who shows it reads all, and may change things",
            extra={"secret": "no flag: others see a process's"},
        ),
    ] = ""
    token_file: Annotated[
        Path | None, Meta(description="where the site's token stands instead, alone in a file")
    ] = None
    user_tokens: Annotated[
        Path | None,
        Meta(description="a folder of files named like persons, in each a token: the site's, in that name"),
    ] = None
    house_tokens: Annotated[
        Path | None,
        Meta(description="a folder of files named like houses, in each a token: it reads that house"),
    ] = None
    open_reading: Annotated[
        bool,
        Meta(description="whoever reaches the address reads all: containers' network, or a proxy that asks"),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Door:
    """Who may come in.

    Args:
        tokens: that count.
        is_open: whether reading needs none.
        is_local: whether nobody may come but who is on this machine: nothing says who else might.
    """

    tokens: Tokens = field(default_factory=Tokens)
    is_open: bool = True
    is_local: bool = True

    def reader(self, headers: Headers) -> Principal | None:
        """Who reads; None: nobody may so."""
        return self.tokens.who(headers) or (SITE if self.is_open else None)

    def refuse_strangers(self, host: str) -> None:
        """Refuse to be bound where others come, unless that was said.

        Raises:
            UsageError: they could.
        """
        if self.is_local and not is_loopback(host):
            raise UsageError(
                f"{host}: whoever reaches this address could read all: set a token in token_file, "
                "or 127.0.0.1 as the address"
            )

    def answers_to(self, host: str, headers: Headers) -> bool:
        """Whether a request's name for this server is one of its own.

        A page elsewhere whose name is made to mean 127.0.0.1 is so kept from reading what is open here.

        Args:
            host: the address it is served at.
            headers: the request's.
        """
        if not (self.is_open and is_loopback(host)):
            return True
        named = [value for name, value in headers if name == b"host"]
        return len(named) == 1 and _bare(named[0].decode("latin-1").lower()) in (*LOCAL_NAMES, host)


def open_door(settings: ServedSettings) -> Door:
    """The door of a service's settings.

    Raises:
        UsageError: a token can't be read or could be guessed; or others could come, and need none.
    """
    tokens = read_tokens(settings.token, settings.token_file, settings.user_tokens, settings.house_tokens)
    is_open = settings.house_tokens is None and (is_loopback(settings.service_host) or settings.open_reading)
    door = Door(tokens=tokens, is_open=is_open, is_local=not tokens and not settings.open_reading)
    door.refuse_strangers(settings.service_host)
    return door


class TurnedAway(NamedTuple):
    """Why somebody is not let in."""

    status: int
    """Of HTTP."""
    why: str
    wait_s: int = 0
    """How long, where waiting helps."""


class Doorman:
    """Counts who comes: by the token shown, else by the address; wrong tokens count apart, and for more.

    Args:
        door: whose tokens count.
        per_s: requests, by each.
        clock: real time, whatever the service runs on.
    """

    def __init__(self, door: Door, per_s: float = REQUESTS_PER_S, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self.door = door
        self._tokens = door.tokens
        self._requests = Limit(per_s, BURST_S, clock)
        self._guesses = Limit(per_s / GUESS_COST, BURST_S, clock)

    def turned_away(self, host: str, address: str, headers: Headers) -> TurnedAway | None:
        """Why somebody is not let in; None: he is.

        Args:
            host: the address it is served at.
            address: where he comes from.
            headers: his request's.
        """
        headers = list(headers)
        who = self._tokens.who(headers)
        if wait := self._wait(who, address, headers):
            return wait
        if not self.door.answers_to(host, headers):
            return TurnedAway(421, "this is served on this machine alone: ask for http://127.0.0.1")
        if who is None and self.door.is_open and is_from_a_page_elsewhere(headers):
            return TurnedAway(403, "another site's page asks for this: without a token it may not")
        return None

    def _wait(
        self, who: Principal | None, address: str, headers: list[tuple[bytes, bytes]]
    ) -> TurnedAway | None:
        # A right token never waits for others' wrong ones: behind a proxy all have one address, and
        # nobody guesses 16 characters, however fast.
        if self._tokens and who is None and shown_in(headers):
            wait_s = self._guesses.take(peer_of(address))
            if wait_s:
                return _until("too many wrong tokens", wait_s)
        if wait_s := self._requests.take(counted_as(who, address)):
            return _until("too many requests", wait_s)
        return None


def counted_as(who: Principal | None, address: str) -> str:
    """As whom somebody is counted where each has a limit: by his token, else by his address.

    Args:
        who: whose right token was shown; None: none was.
        address: where he comes from.
    """
    return peer_of(address) if who is None else f"{who.user}@{who.house}"


def is_from_a_page_elsewhere(headers: Headers) -> bool:
    """Whether a browser sends this for another site's page, which could so change what needs no token here.

    A link to a page of ours is none: whoever follows it sees ours. Browsers send an Origin with all that may
    change something, and Sec-Fetch-Site to an address of this machine or with TLS; no page can forge them.

    Args:
        headers: the request's.

    Source: W3C, Fetch Metadata Request Headers; https://web.dev/articles/fetch-metadata.
    """
    told = dict(headers)
    site, origin = told.get(b"sec-fetch-site"), told.get(b"origin")
    if site in OWN_PAGE:
        return False
    if site is None:
        return origin is not None and origin.partition(b"://")[2] != told.get(b"host")
    return origin is not None or told.get(b"sec-fetch-mode") != b"navigate"


def _until(why: str, wait_s: float) -> TurnedAway:
    whole_s = math.ceil(wait_s)
    return TurnedAway(429, f"{why}: come again in {whole_s} s", whole_s)


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bare(named: str) -> str:
    name, _, port = named.rpartition(":")
    return name if port.isdigit() else named
