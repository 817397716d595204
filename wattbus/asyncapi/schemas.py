"""The JSON Schemas of all that travels: types and ranges from the Structs, words from their docstrings."""

import ast
import inspect
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec

from contracts import messages, orders
from contracts.instant import Instant

DIALECT = "https://json-schema.org/draft/2020-12/schema"
COMPONENTS = "#/components/schemas/"

Schema = dict[str, Any]

_STRUCTS = {**vars(messages), **vars(orders)}


def schemas_of(kinds: Sequence[type[messages.Message]]) -> dict[str, Schema]:
    """A schema for each message and each Struct inside one, by name; they refer to `COMPONENTS`."""
    _, schemas = msgspec.json.schema_components(
        kinds, schema_hook=_schema_hook, ref_template=COMPONENTS + "{name}"
    )
    for name, schema in schemas.items():
        told = field_docs(_STRUCTS[name])
        for field, of_field in schema["properties"].items():
            _describe(of_field, told.get(field, ""))
    return {name: _with_ecma(schema) for name, schema in schemas.items()}


def field_docs(kind: type) -> dict[str, str]:
    """What stands below each field of a class or its bases, as a docstring."""
    told: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not issubclass(base, msgspec.Struct) or base is msgspec.Struct:
            continue
        source = ast.parse(inspect.getsource(base)).body[0]
        assert isinstance(source, ast.ClassDef)  # noqa: S101 - it is a class's
        for field, below in itertools.pairwise(source.body):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    told[name] = inspect.cleandoc(text).replace("\n", " ").replace("None", "null")
                case _:
                    pass
    return told


def _schema_hook(kind: type) -> Schema:
    if kind is Instant:
        return {"type": "string", "format": "date-time", "description": "UTC, to the millisecond"}
    raise NotImplementedError(f"{kind.__name__} has no schema")


def _describe(schema: Schema, told: str) -> None:
    """Put the unit, which the type knows, before what the field's docstring says."""
    unit = _unit(schema)
    words = [unit, told] if unit not in told else [told]
    text = ". ".join(word.rstrip(".") for word in words if word)
    schema.pop("description", None)
    if text:
        schema["description"] = f"{text}."


def _unit(schema: Schema) -> str:
    """What the type of a field, or of what it may hold, says of itself; of an id its pattern says all."""
    inner = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())]
    parts = [part for part in (schema, *inner) if "pattern" not in part]
    return next((text for part in parts if (text := part.get("description", ""))), "")


def ecma(pattern: str) -> str:
    """A pattern as JSON Schema writes it, where `$` lets no final newline through."""
    return pattern.replace(r"\A", "^").replace(r"\Z", "$")


def _with_ecma(schema: Any) -> Any:  # noqa: ANN401 - any part of a schema
    match schema:
        case {"pattern": str(pattern)}:
            return {**schema, "pattern": ecma(pattern)}
        case dict():
            return {key: _with_ecma(value) for key, value in schema.items()}
        case list():
            return [_with_ecma(part) for part in schema]
        case _:
            return schema
