"""Topics: a name pattern, the message that travels there, and how it is delivered."""

import enum
from typing import Any, Generic, TypeVar

from contracts import messages as m
from contracts.errors import BadIdError
from contracts.ids import check_id
from contracts.orders import OperatorRequest, StandingOrders

ROOT = "wattbus"
SITE = "site"
"""The house of what belongs to no house."""

M = TypeVar("M", bound=m.Message)
M_co = TypeVar("M_co", bound=m.Message, covariant=True)


class DeliveryClass(enum.Enum):
    """How a message is delivered: the whole policy of the bus."""

    READING = "at least once into a durable queue, confirmed, never dropped, deduplicated by identity"
    LIVE = "newest wins, may be dropped under load and counted"
    STATE = "retained, newest wins"
    COMMAND = "at most for its validity, never retained"


class Topic(Generic[M]):
    """A family of addresses that carry one kind of message, such as every meter's readings.

    A level in braces is a slot; `of` fixes some of them, `at` all of them.
    """

    def __init__(
        self, pattern: str, message: type[M], delivery: DeliveryClass, fixed: dict[str, str] | None = None
    ) -> None:
        self.fixed = fixed or {}
        """The ids of the slots that `of` has fixed: a payload is checked against these as well."""
        self.levels = tuple(pattern.split("/"))
        self.message = message
        self.delivery = delivery
        self.slots = {level[1:-1]: i for i, level in enumerate(self.levels) if level.startswith("{")}

    @property
    def pattern(self) -> str:
        """The name with its open slots, such as `wattbus/{house}/meter/{meter}/reading`."""
        return "/".join(self.levels)

    @property
    def filter(self) -> str:
        """The MQTT topic filter: `+` for each open slot."""
        return "/".join("+" if level.startswith("{") else level for level in self.levels)

    def of(self, **ids: str) -> "Topic[M]":
        """This topic with some slots fixed: one house's readings, say.

        Raises:
            BadIdError: not an id.
            KeyError: no such slot.
        """
        levels = list(self.levels)
        for slot, text in ids.items():
            levels[self.slots[slot]] = check_id(text, slot)
        narrowed: Topic[M] = Topic("/".join(levels), self.message, self.delivery, {**self.fixed, **ids})
        return narrowed

    def at(self, **ids: str) -> "Address[M]":
        """The one address with every slot fixed.

        Raises:
            BadIdError: not an id, or a slot left open.
        """
        whole = self.of(**ids)
        if whole.slots:
            raise BadIdError(f"{whole.pattern}: {', '.join(whole.slots)} not given")
        return Address(self, whole.pattern, whole.fixed)

    def match(self, name: str) -> "Address[M] | None":
        """The address that `name` is under this topic, or None.

        Raises:
            BadIdError: the name fits the pattern but a slot holds no id.
        """
        levels = name.split("/")
        if len(levels) != len(self.levels):
            return None
        ids = dict(self.fixed)
        for mine, theirs in zip(self.levels, levels, strict=True):
            if mine.startswith("{"):
                ids[mine[1:-1]] = theirs
            elif mine != theirs:
                return None
        for slot, text in ids.items():
            check_id(text, slot)
        return Address(self, name, ids)

    def __repr__(self) -> str:
        return f"Topic({self.pattern})"


class Address(Generic[M_co]):
    """One place on the bus: a topic with every slot fixed."""

    __slots__ = ("ids", "name", "topic")

    def __init__(self, topic: "Topic[M_co]", name: str, ids: dict[str, str]) -> None:
        self.topic = topic
        self.name = name
        self.ids = ids

    def __repr__(self) -> str:
        return f"Address({self.name})"


def _topic(pattern: str, message: type[M], delivery: DeliveryClass) -> Topic[M]:
    return Topic(f"{ROOT}/{pattern}", message, delivery)


METER_READING = _topic("{house}/meter/{meter}/reading", m.MeterReading, DeliveryClass.READING)
PV_READING = _topic("{house}/pv/{meter}/reading", m.PvReading, DeliveryClass.READING)
PLANT_READING = _topic("{house}/plant/main/reading", m.PlantReading, DeliveryClass.READING)
DER_TELEMETRY = _topic("{house}/der/{der_id}/telemetry", m.DerTelemetry, DeliveryClass.LIVE)
DER_COMMAND = _topic("{house}/der/{der_id}/command", m.DispatchCommand, DeliveryClass.COMMAND)
DER_ACK = _topic("{house}/der/{der_id}/ack", m.CommandAck, DeliveryClass.LIVE)
SCHEDULE = _topic("{house}/optimizer/{der_id}/schedule", m.Schedule, DeliveryClass.STATE)
SNAPSHOT = _topic("{house}/orchestrator/main/snapshot", m.PowerSnapshot, DeliveryClass.STATE)
DECISION = _topic("{house}/orchestrator/{der_id}/decision", m.Decision, DeliveryClass.STATE)
ORDERS = _topic("{house}/orchestrator/main/orders", StandingOrders, DeliveryClass.STATE)
STATUS = _topic("{house}/{class}/{device}/status", m.Status, DeliveryClass.STATE)
PRICE = _topic("{house}/price/{tariff}/forecast", m.PriceForecast, DeliveryClass.STATE)
FORECAST = _topic("{house}/forecast/{kind}/issued", m.Forecast, DeliveryClass.STATE)
OPERATOR_REQUEST = _topic("{house}/operator/{user}/request", OperatorRequest, DeliveryClass.COMMAND)
ALERT = _topic("{house}/alert/{source}/raised", m.Alert, DeliveryClass.READING)
STATE_GET = _topic("{house}/bus/{client}/get", m.StateRequest, DeliveryClass.LIVE)

TOPICS: tuple[Topic[Any], ...] = (
    METER_READING,
    PV_READING,
    PLANT_READING,
    DER_TELEMETRY,
    DER_COMMAND,
    DER_ACK,
    SCHEDULE,
    SNAPSHOT,
    DECISION,
    ORDERS,
    STATUS,
    PRICE,
    FORECAST,
    OPERATOR_REQUEST,
    ALERT,
    STATE_GET,
)

RECORDER = "recorder"
"""Durable reader of all readings."""
PVSIM = "pvsim"
"""Durable reader of the readings of houses with PV."""


def find(name: str) -> "Address[m.Message] | None":
    """The address that `name` is, under whichever topic it fits.

    Raises:
        BadIdError: it fits a pattern but a slot holds no id.
    """
    for topic in TOPICS:
        if (address := topic.match(name)) is not None:
            return address
    return None
