"""The URL of an MQTT broker."""

import ssl
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from broker.backoff import PORTS, redact
from broker.errors import BusUrlError
from broker.tls import FILES, context_of


class Target(NamedTuple):
    """What a URL says of a broker."""

    where: str
    """host:port, for people."""
    host: str
    port: int
    path: str | None
    """Of the WebSocket; None is plain TCP."""
    tls: ssl.SSLContext | None
    username: str | None
    """`{client}` in it stands for the client id: a durable reader's connection has another."""
    password: str | None
    version: int | None
    """3 or 5; None tries 5 first."""
    keeps_state: bool


def parse_url(url: str) -> Target:
    """The broker a URL names: `mqtt[s]://user:password@host:port?version=3|5&retained=ask&ca=&cert=&key=`.

    `ws` and `wss` are MQTT over WebSocket, on the URL's path or `/mqtt`. In the user, `{client}` stands
    for the client id.

    Raises:
        BusUrlError: a part of it can't be used; the line names it, never the credentials.
    """
    where = redact(url)
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    version = options.pop("version", None)
    if version not in (None, "3", "5"):
        raise BusUrlError(f"{where}: ?version= is 3 or 5")
    retained = options.pop("retained", "keep")
    if retained not in ("keep", "ask"):
        raise BusUrlError(f"{where}: ?retained= is keep or ask")
    files: dict[str, str] = {key: options.pop(key) for key in FILES if key in options}
    is_encrypted = parts.scheme in ("mqtts", "wss")
    if files and not is_encrypted:
        raise BusUrlError(f"{where}: ?{next(iter(files))}= is for mqtts or wss, which {parts.scheme} is not")
    if options:
        raise BusUrlError(f"{where}: ?{next(iter(options))}= is none of version, retained, ca, cert, key")
    return Target(
        where=where,
        host=parts.hostname or "",
        port=parts.port or PORTS[parts.scheme],
        path=(parts.path.rstrip("/") or "/mqtt") if parts.scheme in ("ws", "wss") else None,
        tls=context_of(where, files) if is_encrypted else None,
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        version=None if version is None else int(version),
        keeps_state=retained == "keep",
    )
