"""The contract as a page of documentation."""

import inspect
import json
from typing import Any

import contracts.messages
from contracts.ids import ID_PATTERN
from contracts.topics import TOPICS, DeliveryClass, Topic
from wattbus.asyncapi.document import ID_TEXT, message_schemas
from wattbus.asyncapi.schemas import COMPONENTS, Schema, ecma

ID = ecma(ID_PATTERN)

HEAD = """\
# What travels on the bus

Made by `wattbus asyncapi --markdown`: do not edit. `wattbus asyncapi` prints the same as an AsyncAPI 3
document, and `wattbus asyncapi --out DIR` writes it there with a JSON Schema for each message.

{intro}

A name in braces is an id: {ids}. On AMQP dots join the levels of a topic."""


def page() -> str:
    """Markdown: how messages are delivered, then each topic with its message's fields and an example."""
    schemas = message_schemas()
    intro = inspect.getdoc(contracts.messages)
    parts = [HEAD.format(intro=intro, ids=ID_TEXT), _classes()]
    parts += [_section(topic, schemas[topic.message.__name__]) for topic in TOPICS]
    told = {topic.message.__name__ for topic in TOPICS}
    parts += [_part(name, schema) for name, schema in schemas.items() if name not in told]
    return "\n\n".join(parts) + "\n"


def _classes() -> str:
    rows = [f"| {delivery.name} | {delivery.value} |" for delivery in DeliveryClass]
    return "\n".join(["| class | delivery |", "|---|---|", *rows])


def _section(topic: Topic[Any], schema: Schema) -> str:
    example = json.dumps(schema["examples"][-1], indent=1)
    return "\n".join(
        [
            f"## `{topic.pattern}`",
            "",
            f"`{topic.message.__name__}`, {topic.delivery.name}. {inspect.getdoc(topic.message)}",
            "",
            _fields(schema),
            "",
            "```json",
            example,
            "```",
        ]
    )


def _part(name: str, schema: Schema) -> str:
    return f"## `{name}`, inside others\n\n{schema['description']}\n\n{_fields(schema)}"


def _fields(schema: Schema) -> str:
    rows = [
        f"| `{name}` | {_type(field)} | {_default(name, field, schema)} | {field.get('description', '')} |"
        for name, field in schema["properties"].items()
    ]
    return "\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *rows])


def _default(name: str, field: Schema, schema: Schema) -> str:
    if name in schema.get("required", ()):
        return "required"
    return f"`{json.dumps(field['default'])}`" if "default" in field else "absent"


def _type(field: Schema) -> str:
    match field:
        case {"anyOf": variants}:
            return " or ".join(_type(variant) for variant in variants)
        case {"$ref": ref}:
            return f"`{ref.removeprefix(COMPONENTS)}`"
        case {"enum": values}:
            return " or ".join(f"`{json.dumps(value)}`" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"format": "date-time"}:
            return "time"
        case {"type": "string", "pattern": pattern}:
            return "id" if pattern == ID else f"string `{pattern}`"
        case {"type": kind}:
            return f"{kind}{_range(field)}"
        case _:
            return "any"


def _range(field: Schema) -> str:
    low = field.get("minimum", field.get("exclusiveMinimum"))
    high = field.get("maximum", field.get("exclusiveMaximum"))
    if low is None and high is None:
        longest = field.get("maxLength")
        return "" if longest is None else f", at most {longest}"
    above = "above " if "exclusiveMinimum" in field else ""
    return f", {above}{'' if low is None else f'{low:g}'} to {'' if high is None else f'{high:g}'}".rstrip()
