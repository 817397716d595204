"""What a contract takes no more that an older one took: the older one's messages would break on it."""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
Document = dict[str, Any]

LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems")
UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")


def breaks(old: Document, new: Document) -> list[str]:
    """One line for each thing in `new` that breaks what was written for `old`; both are AsyncAPI documents."""
    found = []
    there = {channel["address"]: channel for channel in new["channels"].values()}
    for channel in old["channels"].values():
        address = channel["address"]
        if (now := there.get(address)) is None:
            found.append(f"{address}: the topic is gone")
            continue
        if now["x-delivery-class"] != channel["x-delivery-class"]:
            found.append(f"{address}: was {channel['x-delivery-class']}, is {now['x-delivery-class']}")
        found += _narrower(_payload(channel, old), _payload(now, new), old, new, address)
    return found


def _payload(channel: dict[str, Any], document: Document) -> Schema:
    (name,) = channel["messages"]
    return document["components"]["messages"][name]["payload"]


def _narrower(before: Schema, after: Schema, old: Document, new: Document, where: str) -> list[str]:
    """For each kind of value that `before` takes, there must be one in `after` that takes all of it."""
    lines: list[str] = []
    candidates = list(_variants(after, new))
    for variant in _variants(before, old):
        outcomes = [list(_narrowed(variant, candidate, old, new, where)) for candidate in candidates]
        lines += min(outcomes, key=len)
    return lines


def _variants(schema: Schema, document: Document) -> Iterator[Schema]:
    if "$ref" in schema:
        yield from _variants(document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], document)
    elif "anyOf" in schema:
        for variant in schema["anyOf"]:
            yield from _variants(variant, document)
    else:
        yield schema


def _narrowed(before: Schema, after: Schema, old: Document, new: Document, where: str) -> Iterator[str]:
    kinds = [_type(schema) for schema in (before, after)]
    if kinds[0] != kinds[1] and kinds != ["integer", "number"]:
        yield f"{where}: was {kinds[0]}, is {kinds[1]}"
        return
    yield from _values(before, after, where)
    if "items" in before and "items" in after:
        yield from _narrower(before["items"], after["items"], old, new, f"{where}[]")
    if "properties" in before:
        yield from _fields(before, after, old, new, where)


def _values(before: Schema, after: Schema, where: str) -> Iterator[str]:
    if "enum" in after:
        for value in before.get("enum", ["any other"]):
            if value not in after["enum"]:
                yield f"{where}: {value!r} is not taken any more"
    for bound in (*LOWER_BOUNDS, *UPPER_BOUNDS):
        sign = 1 if bound in LOWER_BOUNDS else -1
        if bound in after and (bound not in before or sign * after[bound] > sign * before[bound]):
            yield f"{where}: {bound} was {before.get(bound, 'none')}, is {after[bound]}"
    for rule in ("pattern", "format"):
        if rule in after and after[rule] != before.get(rule):
            yield f"{where}: {rule} was {before.get(rule, 'none')}, is {after[rule]}"


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return "string" if isinstance(schema["enum"][0], str) else "integer"
    return str(schema["type"])


def _fields(before: Schema, after: Schema, old: Document, new: Document, where: str) -> Iterator[str]:
    if after.get("additionalProperties", True) is False and before.get("additionalProperties", True):
        yield f"{where}: unknown fields are not ignored any more"
    for name, field in before["properties"].items():
        if (now := after["properties"].get(name)) is None:
            yield f"{where}.{name}: the field is gone"
            continue
        yield from _narrower(field, now, old, new, f"{where}.{name}")
        if name not in before.get("required", ()) and field.get("default") != now.get("default"):
            yield f"{where}.{name}: default was {field.get('default')!r}, is {now.get('default')!r}"
    for name in after.get("required", ()):
        if name not in before.get("required", ()):
            yield f"{where}.{name}: must be there, and was not"
