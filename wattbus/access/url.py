"""The brokers' URLs that a bundle may carry: encrypted, and of nobody yet, since each account is its own."""

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

from broker.mqtt_url import parse_url
from broker.tls import FILES
from runtime.errors import UsageError

SHAPE = "give amqps://HOST[:PORT], mqtts://HOST[:PORT] or wss://HOST[:PORT]/PATH"
_TEXT = re.compile(r"\A[!-~]{1,1000}\Z")
"""No blanks and no line ends: a URL stands in a line of a file."""
_HOST = re.compile(r"\A(?:[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9])?|[0-9a-f:.]{2,45})\Z")
"""A name, in letters that DNS takes, or an address; `urlsplit` has made it small."""
_PATH = re.compile(r"\A(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?\Z")


def check_url(url: str, what: str) -> None:
    """Whether a broker's URL may stand in a bundle; the words never quote it: a password may be in it.

    Raises:
        UsageError: it is not encrypted, names a user or a file, or is no broker's URL at all.
        BusUrlError: an option of it is none of MQTT's.
    """
    parts = _split(url)
    if parts is None:
        raise UsageError(f"{what}: no host, or no port, that can be one: {SHAPE}")
    if parts.scheme not in ("amqps", "mqtts", "wss"):
        raise UsageError(f"{what}: {SHAPE}: an unencrypted link shows all")
    if "@" in parts.netloc:
        raise UsageError(f"{what}: {SHAPE}, without a user: each account is its own")
    is_path = _PATH.match(parts.path) and (parts.scheme == "wss" or parts.path in ("", "/"))
    if parts.fragment or not is_path:
        raise UsageError(f"{what}: nothing goes behind the host but a WebSocket's path: {SHAPE}")
    options = {key for key, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if own := sorted(options & {*FILES}):
        raise UsageError(f"{what}: ?{own[0]}= is what `wattbus install` adds: leave it out")
    if parts.scheme != "amqps":
        parse_url(url)
    elif options:
        raise UsageError(f"{what}: amqps takes no options here: leave out what is behind the ?")


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        is_address = _TEXT.match(url) and _HOST.match(parts.hostname or "") and parts.port != 0
    except ValueError:
        return None
    return parts if is_address else None
