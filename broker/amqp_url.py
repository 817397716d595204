"""What the URL of an AMQP broker says."""

import ssl
from typing import NamedTuple

from aio_pika.connection import make_url
from yarl import URL

from broker.errors import BusUrlError
from broker.tls import FILES, context_of

HEARTBEAT_S = 3
"""aiormq gives up after three missed ones and their grace: a dead peer is seen within 13 s."""


class Target(NamedTuple):
    """What a URL says."""

    url: URL
    tls: ssl.SSLContext | None
    account: str


def read_url(url: str, client: str, where: str) -> Target:
    """Not all that aiormq would take: its `?no_verify_ssl=1` checks nobody.

    Args:
        url: as `broker.amqp.open_amqp` says.
        client: the name the broker shows for the connection.
        where: the broker, for errors.

    Raises:
        BusUrlError: an option or a file that can't be used.
    """
    address = make_url(url)
    files = dict(address.query)
    account = files.pop("account", "")
    if unknown := [option for option in files if option not in FILES]:
        raise BusUrlError(f"{where}: ?{unknown[0]}= is none of ca, cert, key, account")
    is_encrypted = address.scheme == "amqps"
    if files and not is_encrypted:
        raise BusUrlError(f"{where}: ?{next(iter(files))}= is for amqps, which amqp is not")
    options = {"heartbeat": str(HEARTBEAT_S), "name": client}
    if "cert" in files and address.user is None:
        options["auth"] = "external"
    return Target(address.with_query(options), context_of(where, files) if is_encrypted else None, account)
