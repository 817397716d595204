"""The role table as RabbitMQ takes it: users, their permissions, and the exchanges and queues they find.

Whoever declares may delete as well: so nobody but the operator declares, and the definitions hold all that
`broker.topology` would. Every name stands in them literally, in patterns anchored at both ends.
"""

import base64
import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit

from broker.topology import DEAD, DURABLE, EXCHANGE, KEEPING, READINGS, key_of, queue_of
from contracts import topics
from contracts.topics import DeliveryClass, Topic
from runtime.errors import RuntimeFaultError, UsageError
from wattbus.access.password import Verifier
from wattbus.access.roles import NAME, QUEUES, Account, Rights, Users, checked

ANSWER_S = 20.0
KEPT = (topics.RECORDER, topics.PVSIM)
"""Durable readers that RabbitMQ keeps a queue for; the bridge's is at the MQTT broker."""

_ID = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_NOTHING = "(?!)"
"""Matches no name; an empty pattern or a missing one would allow every name on some versions."""
_OWN_QUEUE = r"amq\.gen-[A-Za-z0-9_-]+"
"""A queue that the broker names for one connection alone: what is live comes through these."""


class ManagementError(RuntimeFaultError):
    """RabbitMQ's management did not do what it was asked; exit code 1."""


def definitions(users: Users, *, vhost: str = "/") -> bytes:
    """For `rabbitmqctl import_definitions`, `load_definitions` or `Management.load`: no secret, but hashes.

    Raises:
        BadIdError: two accounts would be one client.
    """
    verifiers = dict(users)
    accounts = checked(verifiers)
    content = {
        "vhosts": [{"name": vhost}],
        "users": [_user(account.name, verifiers[account]) for account in accounts],
        "permissions": [_permission(account, vhost) for account in accounts],
        "topic_permissions": [
            _topic_permission(account, vhost, exchange)
            for account in accounts
            for exchange in (EXCHANGE, READINGS)
        ],
        **_topology(vhost),
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def _user(name: str, verifier: Verifier) -> dict[str, Any]:
    return {
        "name": name,
        "password_hash": verifier.rabbitmq,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": [],
    }


def _permission(account: Account, vhost: str) -> dict[str, str]:
    rights = account.rights
    queues = [queue_of(durable) for durable in rights.reads if durable in KEPT]
    read = [EXCHANGE, *queues, *([DEAD] if queues else [])]
    write = [EXCHANGE, *([READINGS] if _readings(rights) else [])]
    return {
        "user": account.name,
        "vhost": vhost,
        "configure": _any_of([_OWN_QUEUE]),
        "write": _any_of([*map(re.escape, write), _OWN_QUEUE]),
        "read": _any_of([*map(re.escape, read), _OWN_QUEUE]),
    }


def _topic_permission(account: Account, vhost: str, exchange: str) -> dict[str, str]:
    """Without one for an exchange, RabbitMQ allows every routing key there."""
    rights = account.rights
    live = exchange == EXCHANGE
    return {
        "user": account.name,
        "vhost": vhost,
        "exchange": exchange,
        "write": _any_of([_key(topic, _ID) for topic in (rights.publish if live else _readings(rights))]),
        # What is asked about is the key of the binding, in which an open slot may stay open.
        "read": _any_of([_key(topic, rf"(?:\*|{_ID})") for topic in (rights.hear if live else ())]),
    }


def _readings(rights: Rights) -> list[Topic[Any]]:
    return [topic for topic in rights.publish if topic.delivery is DeliveryClass.READING]


def _key(topic: Topic[Any], slot: str) -> str:
    """The routing keys of a topic."""
    return r"\.".join(slot if level.startswith("{") else re.escape(level) for level in topic.levels)


def _any_of(patterns: list[str]) -> str:
    # \z and not $, which lets a final newline through.
    return rf"\A(?:{'|'.join(patterns)})\z" if patterns else _NOTHING


def _topology(vhost: str) -> dict[str, list[dict[str, Any]]]:
    """As `broker.topology` declares it."""
    here: dict[str, Any] = {"vhost": vhost, "durable": True, "auto_delete": False}
    kinds = {EXCHANGE: "topic", READINGS: "topic", DEAD: "fanout"}
    queues = {DEAD: KEEPING, **{queue_of(durable): DURABLE for durable in KEPT}}
    bindings = [(DEAD, DEAD, "")]
    bindings += [
        (READINGS, queue_of(durable), key_of(topic.filter)) for durable in KEPT for topic in QUEUES[durable]
    ]
    return {
        "exchanges": [
            {**here, "name": name, "type": kind, "internal": False, "arguments": {}}
            for name, kind in kinds.items()
        ],
        "queues": [{**here, "name": name, "arguments": arguments} for name, arguments in queues.items()],
        "bindings": [
            {
                "vhost": vhost,
                "source": source,
                "destination": queue,
                "destination_type": "queue",
                "routing_key": key,
                "arguments": {},
            }
            for source, queue, key in bindings
        ],
    }


class Management:
    """RabbitMQ's management API, as an administrator. It blocks.

    Args:
        url: `https://user:password@host:15671`, or `http://` on this machine alone.
        tls: who vouches for it; None is the system's authorities.

    Raises:
        UsageError: a URL that can't be used.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not parts.username:
            # Not quoted: a password may stand in it.
            raise UsageError("RabbitMQ's management: give its URL as https://user:password@host:15671")
        self._where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        self._login = base64.b64encode(login.encode()).decode()
        self._tls = tls or ssl.create_default_context()

    def load(self, content: bytes) -> None:
        """Import definitions; what they do not name stays.

        Raises:
            ManagementError: it could not be done.
        """
        self._ask("POST", "definitions", content)

    def accounts(self) -> set[str]:
        """Those of the role table that it has, whether they still count or not.

        Raises:
            ManagementError: it could not be asked.
        """
        names = {user["name"] for user in json.loads(self._ask("GET", "users?columns=name"))}
        return {name for name in names if NAME.match(name)}

    def remove(self, account: str) -> None:
        """Forget an account; the broker ends its connections. One that is not there is no error.

        Raises:
            ManagementError: it could not be done.
        """
        try:
            self._ask("DELETE", f"users/{quote(account, safe='')}")
        except _NotThereError:
            return

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Authorization": f"Basic {self._login}", "Content-Type": "application/json"}
        request = urllib.request.Request(  # noqa: S310 - http or https, checked above
            f"{self._where}/api/{path}", method=method, data=body, headers=headers
        )
        where = f"RabbitMQ's management at {self._where}"
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S, context=self._tls) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(500).decode(errors="replace")
            if error.code == http.client.NOT_FOUND:
                raise _NotThereError(f"{where} knows no {path}") from error
            raise ManagementError(f"{where} refused {method} {path}: {error.code} {said}") from error
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise ManagementError(f"{where} can't be reached: {reason}") from error


class _NotThereError(ManagementError):
    pass
