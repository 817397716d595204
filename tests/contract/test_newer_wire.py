"""What a newer service adds, an older one passes over: so they can be upgraded one by one (docs/deploy.md)."""

import json
from typing import Any

import pytest

from broker import topology
from contracts.codec import decode
from contracts.topics import TOPICS, Topic
from wattbus.asyncapi.document import message_schemas

SCHEMAS = message_schemas()
UNKNOWN = {"added_later": {"by": ["a newer version", None, 1.5]}}


def with_more(value: Any) -> Any:
    """The same with an unknown field in each object, however deep."""
    match value:
        case dict():
            return {**{name: with_more(item) for name, item in value.items()}, **UNKNOWN}
        case list():
            return [with_more(item) for item in value]
        case _:
            return value


@pytest.mark.parametrize("topic", TOPICS, ids=repr)
def test_unknown_fields_are_passed_over_at_every_depth(topic: Topic[Any]) -> None:
    for example in SCHEMAS[topic.message.__name__]["examples"]:
        newer = with_more(example)
        assert newer != example
        assert decode(topic.message, json.dumps(newer).encode()) == decode(
            topic.message, json.dumps(example).encode()
        )


def test_queues_keep_their_arguments() -> None:
    """RabbitMQ lets nobody change them: a version with others could not start beside an older one."""
    keeping = {"x-queue-type": "quorum", "x-max-length": 1_000_000, "x-overflow": "reject-publish"}
    assert keeping == topology.KEEPING
    assert {
        **keeping,
        "x-delivery-limit": 1000,
        "x-dead-letter-exchange": "wattbus.dead",
        "x-dead-letter-strategy": "at-least-once",
    } == topology.DURABLE
    assert (topology.EXCHANGE, topology.READINGS) == ("wattbus", "wattbus.readings")
    assert [topology.queue_of(name) for name in ("recorder", "pvsim")] == [
        "wattbus.recorder",
        "wattbus.pvsim",
    ]
