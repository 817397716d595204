"""The AsyncAPI document of the bus: channels, messages and bindings, from the topics and Structs."""

from importlib.metadata import version
from typing import Any

import contracts.messages
from broker.topology import EXCHANGE, READINGS
from contracts.topics import TOPICS, DeliveryClass, Topic
from wattbus.asyncapi.examples import examples_of
from wattbus.asyncapi.schemas import COMPONENTS, DIALECT, Schema, schemas_of

ASYNCAPI = "3.0.0"
ID_TEXT = "1 to 64 of A-Z a-z 0-9 - _, starting with a letter or digit"
PERSISTENT, TRANSIENT = 2, 1
"""AMQP's delivery modes."""


def document() -> dict[str, Any]:
    """The whole contract, as AsyncAPI 3 writes it."""
    schemas = message_schemas()
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "wattbus",
            "version": version("wattbus"),
            "description": contracts.messages.__doc__,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {key_of(topic): _channel(topic) for topic in TOPICS},
        "operations": {
            f"{action}.{key_of(topic)}": _operation(topic, action)
            for topic in TOPICS
            for action in ("send", "receive")
        },
        "components": {
            "messages": {topic.message.__name__: _message(topic, schemas) for topic in TOPICS},
            "schemas": schemas,
        },
    }


def message_schemas() -> dict[str, Schema]:
    """The schema of every message, with its examples, and of every Struct inside one."""
    kinds = [topic.message for topic in TOPICS]
    schemas = schemas_of(kinds)
    for kind in kinds:
        schemas[kind.__name__]["examples"] = examples_of(kind)
    return schemas


def alone(name: str, schemas: dict[str, Schema]) -> Schema:
    """One message's schema as a document of its own, with what it refers to."""
    parts: dict[str, Schema] = {}

    def bring(value: Any) -> Any:  # noqa: ANN401 - any part of a schema
        match value:
            case {"$ref": str(ref)}:
                part = ref.removeprefix(COMPONENTS)
                if part not in parts:
                    parts[part] = {}
                    parts[part] = bring(schemas[part])
                return {**value, "$ref": f"#/$defs/{part}"}
            case dict():
                return {key: bring(inner) for key, inner in value.items()}
            case list():
                return [bring(inner) for inner in value]
            case _:
                return value

    schema = {"$schema": DIALECT, **bring(schemas[name])}
    return {**schema, "$defs": parts} if parts else schema


def key_of(topic: Topic[Any]) -> str:
    """A channel's name in the document: its levels without the root and the slots."""
    return ".".join(level for level in topic.levels[1:] if not level.startswith("{"))


def _channel(topic: Topic[Any]) -> dict[str, Any]:
    name = topic.message.__name__
    is_reading = topic.delivery is DeliveryClass.READING
    exchange = {"name": READINGS if is_reading else EXCHANGE, "type": "topic", "durable": True}
    return {
        "address": topic.pattern,
        "description": topic.message.__doc__,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "parameters": {slot: {"description": ID_TEXT} for slot in topic.slots},
        "bindings": {"amqp": {"is": "routingKey", "exchange": {**exchange, "autoDelete": False}}},
        "x-delivery-class": topic.delivery.name,
        "x-delivery": topic.delivery.value,
        "x-mqtt-filter": topic.filter,
        "x-amqp-routing-key": topic.pattern.replace("/", "."),
    }


def _operation(topic: Topic[Any], action: str) -> dict[str, Any]:
    key, name, delivery = key_of(topic), topic.message.__name__, topic.delivery
    is_kept = delivery is DeliveryClass.READING
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{key}"},
        "messages": [{"$ref": f"#/channels/{key}/messages/{name}"}],
        "bindings": {
            "mqtt": {
                "qos": 0 if delivery is DeliveryClass.LIVE else 1,
                "retain": delivery is DeliveryClass.STATE,
            },
            "amqp": {"deliveryMode": PERSISTENT if is_kept else TRANSIENT, "mandatory": is_kept},
        },
    }


def _message(topic: Topic[Any], schemas: dict[str, Schema]) -> dict[str, Any]:
    name = topic.message.__name__
    return {
        "name": name,
        "contentType": "application/json",
        "summary": schemas[name].get("description", ""),
        "payload": {"$ref": f"{COMPONENTS}{name}"},
        "examples": [{"payload": example} for example in schemas[name]["examples"]],
    }
