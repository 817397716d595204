"""The role table: each account's rights on the bus, in topics; the brokers' own rules are made from it.

A right is never wider than its owner: a house's names the house and the device literally.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from contracts import topics
from contracts.errors import BadIdError
from contracts.ids import check_id, refuse_reserved
from contracts.topics import SITE, TOPICS, DeliveryClass, Topic
from home_assistant.messages import CONFIGS, STATES
from wattbus.access.password import Verifier

Topics = tuple[Topic[Any], ...]
Users = Iterable[tuple["Account", Verifier]]
"""Whom the brokers let in, and what tells their passwords."""

READINGS: Topics = tuple(topic for topic in TOPICS if topic.delivery is DeliveryClass.READING)
LOOKED_AT: Topics = (*(topic for topic in TOPICS if topic is not topics.STATE_GET), CONFIGS, STATES)
"""Everything that is there to be seen."""
ASKED = topics.STATE_GET.of(house=SITE)
"""Where a broker that keeps no states is asked for them: their owners answer."""

_ID = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
NAME = re.compile(rf"\A(house|service|plant|dashboard|operator)\.{_ID}(\.[1-9][0-9]{{0,8}})?\Z", re.ASCII)
"""Of an account's user."""
NAME_MAX = 58
"""Letters of an account's name: with `.99999` behind it, it is a certificate's common name, of at most 64."""
METER_MAX = 58
"""Letters of a meter's id: the source of its alerts is `meter-ID`, which is an id too."""
_SESSION = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,199}\Z", re.ASCII)

BRIDGE = "bridge"
QUEUES: dict[str, Topics] = {
    topics.RECORDER: READINGS,
    topics.PVSIM: (topics.METER_READING,),
    BRIDGE: READINGS,
}
"""What each durable reader keeps."""
TOOLS = ("replay", "quarantine")
"""Of the services, the commands that a person gives: nothing runs them all the time."""


class Rights(NamedTuple):
    """What an account may do; whatever stands in none of these it may not."""

    publish: Topics = ()
    hear: Topics = ()
    """On the live plane."""
    reads: tuple[str, ...] = ()
    """The durable queues it empties, of `QUEUES`."""

    @property
    def subscribes(self) -> Topics:
        """What it hears at an MQTT broker, where a durable reader's queue is its session."""
        return (*self.hear, *(topic for durable in self.reads for topic in QUEUES[durable]))


class Account(NamedTuple):
    """One identity at the brokers."""

    name: str
    """Its user at the brokers and its certificate's common name: `house.house-d`, or `house.house-d.2`."""
    clients: tuple[str, ...]
    """The client ids it connects with; nobody else may. One that ends in `*` stands for all that begin so."""
    rights: Rights

    @property
    def owner(self) -> str:
        """The account of which this is the first identity, the second, ..."""
        return owner_of(self.name)

    @property
    def is_tool(self) -> bool:
        """Whether its programs choose their client ids themselves."""
        return any(client.endswith("*") for client in self.clients)

    @property
    def sessions(self) -> tuple[str, ...]:
        """Its MQTT client ids: a durable reader's session has one of its own."""
        return (*self.clients, *(f"wattbus-{durable}" for durable in self.rights.reads))


def owner_of(user: str) -> str:
    """The account whose user this is: `house.house-d` of `house.house-d.2`."""
    return ".".join(user.split(".")[:2])


def number_of(user: str) -> int:
    """Which of its account's identities: 2 of `house.house-d.2`, 1 of `house.house-d`."""
    return int(*user.split(".")[2:] or ["1"])


def check_client(user: str) -> str:
    """The client id of an account's `wattbus check`."""
    return f"check-{owner_of(user).replace('.', '-')}"


class Devices(NamedTuple):
    """What stands in a house."""

    meters: tuple[str, ...] = ()
    ders: tuple[str, ...] = ()


def house_account(house: str, devices: Devices) -> Account:
    """A house's: its own readings, telemetry, answers and status, and its own commands.

    Raises:
        BadIdError: the house or a device is no id, or a reserved one.
    """
    refuse_reserved(check_id(house, "house"))
    publish: list[Topic[Any]] = [_tried(house)]
    hear: list[Topic[Any]] = [ASKED, _tried(house)]
    for meter in devices.meters:
        if len(meter) > METER_MAX:
            raise BadIdError(f"meter {meter[:40]!r}...: a meter's name has at most {METER_MAX} letters")
        publish += [
            topics.METER_READING.of(house=house, meter=meter),
            topics.ALERT.of(house=house, source=f"meter-{meter}"),
            _status(house, "meter", meter),
        ]
        hear.append(topics.PV_READING.of(house=house, meter=meter))
    for der_id in devices.ders:
        publish += [
            topics.DER_TELEMETRY.of(house=house, der_id=der_id),
            topics.DER_ACK.of(house=house, der_id=der_id),
            _status(house, "der", der_id),
        ]
    clients = [f"meter-{house}-{meter}" for meter in devices.meters]
    if devices.ders:
        clients.append(f"der-controller-{house}")
        publish.append(_status(house, "controller", "der"))
        hear.append(topics.DER_COMMAND.of(house=house))  # one subscription for all its devices
    return _account("house", house, clients, Rights(tuple(publish), tuple(hear)))


def service_account(service: str) -> Account:
    """A service's, of which a site has one.

    Raises:
        KeyError: no such service.
    """
    client = {"orchestrator": "orchestrator-main", "replay": "replay-*"}.get(service, service)
    return _account("service", service, [client], SERVICES[service]())


def plant_account(plant: str) -> Account:
    """A plant's and its poller's.

    Raises:
        BadIdError: the plant is no id, or a reserved one.
    """
    refuse_reserved(check_id(plant, "plant"))
    publish: Topics = (
        topics.PLANT_READING.of(house=plant),
        topics.ALERT.of(house=plant, source="plant-poller"),
        *(_status(plant, "plant", device) for device in ("main", "poller")),
        _tried(plant),
    )
    clients = [f"plant-{plant}", f"plant-poller-{plant}"]
    return _account("plant", plant, clients, Rights(publish, (ASKED, _tried(plant))))


def viewer_account(name: str) -> Account:
    """A dashboard's or a person's who only looks.

    Raises:
        BadIdError: the name is no id.
    """
    return _account("dashboard", check_id(name, "dashboard"), ["*"], _VIEWER)


def operator_account(user: str) -> Account:
    """A person's who may ask for something, in their own name; the orchestrator's audit keeps each request.

    Raises:
        BadIdError: the user is no id.
    """
    ask = topics.OPERATOR_REQUEST.of(user=check_id(user, "user"))
    rights = _VIEWER._replace(publish=(*_VIEWER.publish, ask))
    return _account("operator", user, ["*"], rights)


def checked(accounts: Iterable[Account]) -> list[Account]:
    """These, by owner and number: whatever a broker's rules are made of has passed here.

    Raises:
        BadIdError: a name or a topic that could mean something else to a broker, or two accounts of one
            client id: they would take each other's session.
    """
    owners: dict[str, str] = {}
    there = list(accounts)
    for account in there:
        _refuse_strange(account)
    # An account's tenth identity is newer than its ninth.
    wanted = sorted(there, key=lambda account: (account.owner, number_of(account.name)))
    for account in wanted:
        for session in account.sessions:
            owner = owners.setdefault(session, account.owner)
            if owner != account.owner and not session.endswith("*"):
                raise BadIdError(
                    f"{owner} and {account.owner} would both connect as {session}: rename a house or a device"
                )
    return wanted


def _refuse_strange(account: Account) -> None:
    if not NAME.match(account.name):
        raise BadIdError(f"{account.name[:80]!r} is no account's name: write role.ID or role.ID.NUMBER")
    if len(account.owner) > NAME_MAX:
        raise BadIdError(f"{account.owner[:40]}...: too long by {len(account.owner) - NAME_MAX} letters")
    for session in account.sessions:
        if session != "*" and not _SESSION.match(session.removesuffix("*")):
            raise BadIdError(f"{account.name}: {session[:80]!r} is no client id")
    for topic in (*account.rights.publish, *account.rights.subscribes):
        for level in topic.levels:
            if not level.startswith("{"):
                check_id(level, "topic level")


def _account(role: str, name: str, clients: list[str], rights: Rights) -> Account:
    account = f"{role}.{name}"
    return Account(account, (*clients, check_client(account)), rights)


def _tried(house: str) -> Topic[Any]:
    """Where `wattbus check` publishes to itself."""
    return topics.STATE_GET.of(house=house, client="check")


def _status(house: str, kind: str, device: str) -> Topic[Any]:
    return topics.STATUS.of(house=house, device=device, **{"class": kind})


_VIEWER = Rights((_status(SITE, "dashboard", "main"), ASKED), (*LOOKED_AT, ASKED))
"""Everything, and that it is there itself: whatever stands on the page, nobody obeys it."""


def _service(name: str, publish: Topics = (), hear: Topics = (), reads: tuple[str, ...] = ()) -> Rights:
    """With what every service does: it says that it is there, and asks for states and gives its own."""
    asks = topics.STATE_GET.of(house=SITE, client=name)
    own = (_status(SITE, name.replace("-", "_"), "main"), asks, _tried(SITE))
    return Rights((*own, *publish), (ASKED, *hear), reads)


SERVICES: dict[str, Callable[[], Rights]] = {
    "pvsim": lambda: _service("pvsim", publish=(topics.PV_READING,), reads=(topics.PVSIM,)),
    "optimizer": lambda: _service(
        "optimizer",
        publish=(topics.SCHEDULE, topics.PRICE, topics.FORECAST),
        hear=(topics.METER_READING, topics.PV_READING, topics.DER_TELEMETRY, topics.ORDERS),
    ),
    # It alone sends commands.
    "orchestrator": lambda: _service(
        "orchestrator",
        publish=(
            topics.DER_COMMAND,
            topics.SNAPSHOT,
            topics.DECISION,
            topics.ORDERS,
            topics.ALERT.of(source="orchestrator"),
        ),
        hear=(
            topics.METER_READING,
            topics.PV_READING,
            topics.PLANT_READING,
            topics.DER_TELEMETRY,
            topics.DER_ACK,
            topics.SCHEDULE,
            topics.PRICE,
            topics.OPERATOR_REQUEST,
        ),
    ),
    "recorder": lambda: _service(
        "recorder",
        publish=(topics.ALERT.of(source="recorder"),),
        hear=(
            topics.SNAPSHOT,
            topics.DECISION,
            topics.DER_COMMAND,
            topics.DER_ACK,
            topics.SCHEDULE,
            topics.ORDERS,
            topics.OPERATOR_REQUEST,
        ),
        reads=(topics.RECORDER,),
    ),
    BRIDGE: lambda: _service(BRIDGE, publish=READINGS, reads=(BRIDGE,)),
    "home-assistant": lambda: _service(
        "home-assistant",
        publish=(CONFIGS, STATES),
        hear=(topics.SNAPSHOT, topics.DER_TELEMETRY, topics.DECISION, topics.PRICE),
    ),
    # No broker sees that what it publishes is marked as historical.
    "replay": lambda: _service("replay", publish=(topics.METER_READING, topics.PV_READING)),
    "quarantine": lambda: Rights((_tried(SITE), *READINGS), (ASKED,)),
}
