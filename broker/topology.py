"""What RabbitMQ must have for us: exchanges and queues, declared here alone.

wattbus.readings ---> wattbus.recorder, wattbus.pvsim, ...   one for each durable reader
                        |  delivered DELIVERIES_MAX times and never acknowledged
                        v
wattbus.dead -------> wattbus.dead                           its durable readers put it into quarantine
wattbus ------------> a queue for each who only looks

An account of docs/access.md publishes to exchanges of its own, `wattbus.from.ACCOUNT` and
`wattbus.readings.from.ACCOUNT`, from which no more than it may say goes on. The operator has made all of it.
"""

import re

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue, HeadersType
from pamqp.common import FieldTable

from broker.transport import LIVE_BYTES_MAX, LIVE_QUEUE_MAX, Filter

EXCHANGE = "wattbus"
"""What is live, states and commands."""
READINGS = "wattbus.readings"
DEAD = "wattbus.dead"
"""Exchange and queue of what was delivered DELIVERIES_MAX times and never acknowledged."""

QUEUE_MAX = 1_000_000
"""A durable queue that is longer refuses what is published, which its publisher then keeps."""
DELIVERIES_MAX = 1000
"""Many: a reader that crashes at its start must not bury healthy readings (RabbitMQ 4 does so after 20)."""

KEEPING: FieldTable = {"x-queue-type": "quorum", "x-max-length": QUEUE_MAX, "x-overflow": "reject-publish"}
DURABLE: FieldTable = {
    **KEEPING,
    "x-delivery-limit": DELIVERIES_MAX,
    "x-dead-letter-exchange": DEAD,
    "x-dead-letter-strategy": "at-least-once",
}
_LIVE: FieldTable = {
    "x-max-length": LIVE_QUEUE_MAX,
    "x-max-length-bytes": LIVE_BYTES_MAX,
    "x-overflow": "drop-head",
}

_DIFFERS = re.compile(
    r"inequivalent arg '(?P<argument>[^']*)' for (?P<kind>queue|exchange) '(?P<name>[^']*)' in vhost "
    r"'(?P<vhost>[^']*)': received (?:the value )?(?P<ours>none|'[^']*').* but current is "
    r"(?:the value )?(?P<theirs>none|'[^']*')"
)


async def declare_exchanges(connection: AbstractConnection) -> None:
    """Those that hand on by topic."""
    async with connection.channel() as channel:
        for name in (EXCHANGE, READINGS):
            await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True)


async def declare_durable_queue(
    connection: AbstractConnection, filters: tuple[Filter, ...], durable: str
) -> None:
    """The queue of one durable reader, which keeps these names; and where it buries its dead."""
    async with connection.channel() as channel:
        dead = await channel.declare_exchange(DEAD, ExchangeType.FANOUT, durable=True)
        await (await channel.declare_queue(DEAD, durable=True, arguments=KEEPING)).bind(dead)
        queue = await channel.declare_queue(queue_of(durable), durable=True, arguments=DURABLE)
        await _bind(queue, READINGS, filters)


def publishes_to(exchange: str, account: str) -> str:
    """The exchange that an account publishes to; what it may say goes on from there to the one that is heard.

    Args:
        exchange: EXCHANGE or READINGS.
        account: of docs/access.md; empty: one that may say everything.
    """
    return f"{exchange}.from.{account}" if account else exchange


def queue_of(durable: str) -> str:
    """The name of a durable reader's queue."""
    return f"{EXCHANGE}.{durable}"


async def declare_live_queue(channel: AbstractChannel, filters: tuple[Filter, ...]) -> AbstractQueue:
    """The queue of one who only looks; it goes with its channel."""
    queue = await channel.declare_queue(exclusive=True, auto_delete=True, arguments=_LIVE)
    await _bind(queue, EXCHANGE, filters)
    return queue


def key_of(name: str) -> str:
    """The routing key of a name, or the binding key of a pattern."""
    return name.replace("/", ".").replace("+", "*")


def name_of(key: str) -> str:
    """The name that a routing key stands for."""
    return key.replace(".", "/")


def why_buried(headers: HeadersType) -> str:
    """Why a message of the dead queue is there."""
    queue, reason = (str(headers.get(f"x-first-death-{what}", "unknown")) for what in ("queue", "reason"))
    if reason == "delivery_limit":
        return f"delivered from {queue} {DELIVERIES_MAX} times and never acknowledged: its reader dies of it"
    return f"dead letter of {queue}: {reason}"


def what_differs(refusal: str) -> str | None:
    """What to do about a queue or an exchange that is not as it must be; None if that is not what is said.

    Args:
        refusal: the broker's words, such as "PRECONDITION_FAILED - inequivalent arg 'durable' for queue ...".
    """
    found = _DIFFERS.search(refusal)
    if found is None:
        return None
    kind, name, argument = found["kind"], found["name"], found["argument"]
    if kind == "queue":
        remedy = (
            f"empty it with what made it, then `rabbitmqctl delete_queue {name} --vhost {found['vhost']}`"
        )
    else:
        remedy = "delete it in RabbitMQ's management, Exchanges"
    return (
        f"{kind} {name} differs from what wattbus declares: {argument} is {found['theirs']}, "
        f"must be {found['ours']}: {remedy}"
    )


async def _bind(queue: AbstractQueue, exchange: str, filters: tuple[Filter, ...]) -> None:
    for pattern, _ in filters:
        await queue.bind(exchange, key_of(pattern))
