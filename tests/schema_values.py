"""Values that fit a JSON Schema of ours, as a hypothesis strategy."""

from typing import Any

from hypothesis import strategies as st

from tests.schema_breaks import Schema

TIMES = ("1970-01-01T00:00:00Z", "2024-02-29T23:59:59.999Z", "2026-06-01T14:00:00+02:00")


def referred(schema: Schema, root: Schema) -> Schema:
    """The schema itself, or the one in `root` it refers to."""
    if "$ref" not in schema:
        return schema
    found: Schema = root["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return found


def values_like(example: Any, schema: Schema, root: Schema) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911 - a case a type
    """Any value that fits; lists are as long as the example's, since no schema says which belong together."""
    schema = referred(schema, root)
    match schema:
        case {"anyOf": variants}:
            return st.one_of([values_like(example, variant, root) for variant in variants])
        case {"enum": values}:
            return st.sampled_from(values)
        case {"type": "null"}:
            return st.none()
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "integer"}:
            return st.integers(schema["minimum"], schema["maximum"])
        case {"type": "number"}:
            return st.floats(
                schema.get("minimum", schema.get("exclusiveMinimum", -1e6)),
                schema.get("maximum", 1e6),
                exclude_min="exclusiveMinimum" in schema,
            )
        case {"type": "array", "items": items}:
            return st.tuples(*(values_like(item, items, root) for item in example)).map(list)
        case {"type": "object"}:
            return _objects(example, schema, root)
        case {"pattern": pattern}:
            return st.from_regex(pattern.replace("$", r"\Z"), fullmatch=True)
        case {"format": "date-time"}:
            return st.sampled_from(TIMES)
        case _:
            return st.text(max_size=schema["maxLength"])


def _objects(example: Any, schema: Schema, root: Schema) -> st.SearchStrategy[dict[str, Any]]:
    """With all required fields, and any of the others that the example has."""
    example = example or {}
    fields = {
        name: values_like(example.get(name), field, root)
        for name, field in schema["properties"].items()
        if name in example or name in schema.get("required", ())
    }
    required = {name: fields.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(required, optional=fields)
