"""The role table as RabbitMQ takes it: users, their permissions, and the exchanges and queues they find.

Whoever declares may delete as well: so nobody but the operator declares, and the definitions hold all that
`broker.topology` would. Every name stands in them literally, in patterns anchored at both ends. What an
account may say is held twice: by topic permissions, which refuse aloud, and by what its exchanges lead to.
"""

import base64
import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from broker.topology import DEAD, DURABLE, EXCHANGE, KEEPING, READINGS, key_of, publishes_to, queue_of
from broker.transport import LIVE_BYTES_MAX, LIVE_QUEUE_MAX
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
_LEFT_ALONE_S = 60
"""A queue that the broker named goes when nobody has read it for so long, however it was declared."""
_CONNECTIONS_SPARE = 8
_CHANNELS = 50
"""Of each connection."""
_QUEUES, _QUEUES_SPARE = 10, 1000
"""Of each client; and to spare: a stolen account that declares them without end must not fill the memory."""
_OWN_EXCHANGE = tuple(publishes_to(exchange, "ID").removesuffix("ID") for exchange in (EXCHANGE, READINGS))
"""How the name of an account's exchange begins."""


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
        "users": [_user(account, verifiers[account]) for account in accounts],
        "permissions": [_permission(account, vhost) for account in accounts],
        "topic_permissions": [one for account in accounts for one in _topic_permissions(account, vhost)],
        "parameters": [_queue_policy(vhost), _queue_limit(accounts, vhost)],
        **_topology({account.owner: account.rights for account in accounts}, vhost),
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def _user(account: Account, verifier: Verifier) -> dict[str, Any]:
    connections = 2 * len(account.clients) + _CONNECTIONS_SPARE
    return {
        "name": account.name,
        "password_hash": verifier.rabbitmq,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": [],
        "limits": {"max-connections": connections, "max-channels": connections * _CHANNELS},
    }


def _permission(account: Account, vhost: str) -> dict[str, str]:
    rights = account.rights
    queues = [queue_of(durable) for durable in rights.reads if durable in KEPT]
    read = [EXCHANGE, *queues, *([DEAD] if queues else [])]
    # Not the exchanges that are heard: whoever may write there can have a queue of theirs bury its messages
    # there under any key, which RabbitMQ does not look at.
    write = [name for name, _, _ in _own_exchanges(account.owner, rights)]
    return {
        "user": account.name,
        "vhost": vhost,
        "configure": _any_of([_OWN_QUEUE]),
        "write": _any_of([*map(re.escape, write), _OWN_QUEUE]),
        "read": _any_of([*map(re.escape, read), _OWN_QUEUE]),
    }


def _own_exchanges(owner: str, rights: Rights) -> list[tuple[str, str, list[Topic[Any]]]]:
    """What an account publishes to: its name, where it goes on to, and what of it."""
    found = [(publishes_to(EXCHANGE, owner), EXCHANGE, list(rights.publish))]
    if readings := [topic for topic in rights.publish if topic.delivery is DeliveryClass.READING]:
        found.append((publishes_to(READINGS, owner), READINGS, readings))
    return found


def _topic_permissions(account: Account, vhost: str) -> list[dict[str, str]]:
    """Without one for an exchange, RabbitMQ allows every routing key there."""
    # What is asked about is the key of the binding, in which an open slot may stay open.
    hears = _any_of([_key(topic, rf"(?:\*|{_ID})") for topic in account.rights.hear])
    found = [(EXCHANGE, _NOTHING, hears)]
    for name, _, published in _own_exchanges(account.owner, account.rights):
        # What its bindings would drop without a word is refused aloud.
        found.append((name, _any_of([_key(topic, _ID) for topic in published]), _NOTHING))
    return [
        {"user": account.name, "vhost": vhost, "exchange": exchange, "write": write, "read": read}
        for exchange, write, read in found
    ]


def _queue_policy(vhost: str) -> dict[str, Any]:
    """However a queue is declared that the broker names, it is bounded, and does not stay."""
    limits = {
        "expires": _LEFT_ALONE_S * 1000,
        "max-length": LIVE_QUEUE_MAX,
        "max-length-bytes": LIVE_BYTES_MAX,
    }
    policy = {"pattern": r"^amq\.gen-", "apply-to": "queues", "priority": 0, "definition": limits}
    return {"vhost": vhost, "component": "operator_policy", "name": "wattbus", "value": policy}


def _queue_limit(accounts: list[Account], vhost: str) -> dict[str, Any]:
    """At the limit readings and whoever listens go on; nobody can start to listen until it is put right."""
    queues = _QUEUES * sum(len(account.clients) for account in accounts) + _QUEUES_SPARE
    return {"vhost": vhost, "component": "vhost-limits", "name": "limits", "value": {"max-queues": queues}}


def _key(topic: Topic[Any], slot: str) -> str:
    """The routing keys of a topic."""
    return r"\.".join(slot if level.startswith("{") else re.escape(level) for level in topic.levels)


def _any_of(patterns: list[str]) -> str:
    # \z and not $, which lets a final newline through.
    return rf"\A(?:{'|'.join(patterns)})\z" if patterns else _NOTHING


def _topology(owners: Mapping[str, Rights], vhost: str) -> dict[str, list[dict[str, Any]]]:
    """As `broker.topology` has it."""
    here: dict[str, Any] = {"vhost": vhost, "durable": True, "auto_delete": False}
    kinds = {EXCHANGE: "topic", READINGS: "topic", DEAD: "fanout"}
    queues = {DEAD: KEEPING, **{queue_of(durable): DURABLE for durable in KEPT}}
    bindings = [(DEAD, "queue", DEAD, "")]
    bindings += [
        (READINGS, "queue", queue_of(durable), key_of(topic.filter))
        for durable in KEPT
        for topic in QUEUES[durable]
    ]
    for owner, rights in owners.items():
        for name, target, published in _own_exchanges(owner, rights):
            kinds[name] = "topic"
            bindings += [(name, "exchange", target, key_of(topic.filter)) for topic in published]
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
                "destination": target,
                "destination_type": kind,
                "routing_key": key,
                "arguments": {},
            }
            for source, kind, target, key in bindings
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
        parts = _address(url)
        self._where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        self._login = base64.b64encode(login.encode()).decode()
        https = urllib.request.HTTPSHandler(context=tls or ssl.create_default_context())
        # No proxy of the environment either: over http it would read the password.
        self._opener = urllib.request.build_opener(https, _NoRedirect, urllib.request.ProxyHandler({}))

    def load(self, content: bytes) -> None:
        """Import definitions; what they do not name stays, but for accounts, and what leads to and from them.

        Raises:
            ManagementError: it could not be done.
        """
        told = json.loads(content)
        for account in self.accounts() - {user["name"] for user in told["users"]}:
            self._remove(f"users/{quote(account, safe='')}")  # which ends its connections
        self._ask("POST", "definitions", content)
        for vhost in told["vhosts"]:
            self._tidy(quote(vhost["name"], safe=""), told)

    def _tidy(self, vhost: str, told: Mapping[str, Any]) -> None:
        """Remove the exchanges of accounts that are gone, and what has been bound to those that are there."""
        exchanges = {exchange["name"] for exchange in told["exchanges"]}
        for exchange in self._list(f"exchanges/{vhost}"):
            if exchange["name"].startswith(_OWN_EXCHANGE) and exchange["name"] not in exchanges:
                self._remove(f"exchanges/{vhost}/{quote(exchange['name'], safe='')}")
        bindings = {_way(binding) for binding in told["bindings"]}
        for binding in self._list(f"bindings/{vhost}"):
            source, target, kind, _, _ = _way(binding)
            if kind == "exchange" and target in exchanges and _way(binding) not in bindings:
                ends = f"e/{quote(source, safe='')}/e/{quote(target, safe='')}"
                self._remove(f"bindings/{vhost}/{ends}/{quote(binding['properties_key'], safe='')}")

    def accounts(self) -> set[str]:
        """Those of the role table that it has, whether they still count or not.

        Raises:
            ManagementError: it could not be asked.
        """
        names = {user["name"] for user in self._list("users?columns=name")}
        return {name for name in names if NAME.match(name)}

    def _list(self, path: str) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = json.loads(self._ask("GET", path))
        except ValueError as error:
            raise ManagementError(f"{self._where} is no RabbitMQ's management: it answers no JSON") from error
        return found

    def _remove(self, path: str) -> None:
        try:
            self._ask("DELETE", path)
        except _NotThereError:
            return

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Authorization": f"Basic {self._login}", "Content-Type": "application/json"}
        request = urllib.request.Request(  # noqa: S310 - http or https, checked above
            f"{self._where}/api/{path}", method=method, data=body, headers=headers
        )
        where = f"RabbitMQ's management at {self._where}"
        try:
            with self._opener.open(request, timeout=ANSWER_S) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(500).decode(errors="replace")
            if error.code == http.client.NOT_FOUND:
                raise _NotThereError(f"{where} knows no {path}") from error
            why = f"{error.code} {' '.join(said.split())}"
            raise ManagementError(f"{where} refused {method} {path}: {why}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)).strip()
            raise ManagementError(f"{where} can't be reached: {reason}") from error


def _address(url: str) -> SplitResult:
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.username and parts.port != 0 and _is_private(parts.scheme, parts.hostname or ""):
            return parts
    # Not quoted: a password may stand in it.
    raise UsageError(
        "RabbitMQ's management: give its URL as https://user:password@host:15671; "
        "http:// is for this machine alone"
    )


def _is_private(scheme: str, host: str) -> bool:
    """Whether nobody on the way reads the password."""
    if scheme == "https":
        return bool(host)
    return scheme == "http" and (host == "localhost" or ip_address(host).is_loopback)


def _way(binding: Mapping[str, Any]) -> tuple[str, str, str, str, bool]:
    """What of a binding tells it from others; with arguments it is none of ours."""
    kind, key = binding["destination_type"], binding["routing_key"]
    return binding["source"], binding["destination"], kind, key, bool(binding["arguments"])


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The password goes to whom it is for, and to nobody that one names."""

    def redirect_request(self, *_: object) -> None:
        """Never: the answer counts as a refusal."""


class _NotThereError(ManagementError):
    pass
