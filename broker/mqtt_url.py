"""The URL of an MQTT broker."""

import ssl
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from broker.backoff import PORTS, redact
from broker.errors import BusUrlError

_FILES = ("ca", "cert", "key")


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
    password: str | None
    version: int | None
    """3 or 5; None tries 5 first."""
    keeps_state: bool


def parse_url(url: str) -> Target:
    """The broker a URL names: `mqtt[s]://user:password@host:port?version=3|5&retained=ask&ca=&cert=&key=`.

    `ws` and `wss` are MQTT over WebSocket, on the URL's path or `/mqtt`.

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
    files: dict[str, str] = {key: options.pop(key) for key in _FILES if key in options}
    if options:
        raise BusUrlError(f"{where}: ?{next(iter(options))}= is none of version, retained, ca, cert, key")
    return Target(
        where=where,
        host=parts.hostname or "",
        port=parts.port or PORTS[parts.scheme],
        path=(parts.path.rstrip("/") or "/mqtt") if parts.scheme in ("ws", "wss") else None,
        tls=_tls(where, files) if parts.scheme in ("mqtts", "wss") else None,
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        version=None if version is None else int(version),
        keeps_state=retained == "keep",
    )


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when its handshake fails: paho forgets it then."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's signature
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _tls(where: str, files: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
        context.sslsocket_class = _TlsSocket
        if "cert" in files:
            context.load_cert_chain(files["cert"], files.get("key"))
    except OSError as error:
        raise BusUrlError(f"{where}: ?ca=, ?cert= or ?key= can't be used: {error.strerror}") from error
    return context
