"""An example of each message: made from its type, the same each time, and read back as the bus would."""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from contracts.codec import decode
from contracts.ids import ID_PATTERN
from contracts.instant import Instant
from contracts.messages import Message, PowerSnapshot, PvReading, Schedule

NOW = Instant.parse("2026-06-01T12:00:00Z")
LATER = NOW.after(30)
"""Of what is still to come, such as `valid_until`."""
COMING = ("valid_until", "until", "departure_at", "changing_until")
USUAL: dict[str, Any] = {
    "house": "house-a",
    "der_id": "battery",
    "device": "battery",
    "user": "anna",
    "meter": "main",
    "client": "dashboard",
    "issuer": "main",
    "tariff": "costa_rica",
    "pattern": "wattbus/+/price/+/forecast",
    "status": "optimal",
    "result": "accepted",
    "severity": "warning",
    "capacity_kwh": 10.0,
    "min_soc_percent": 10.0,
    "max_soc_percent": 90.0,
    "efficiency_roundtrip": 0.9,
    "temperature_c": 24.5,
    "min_current_a": 6.0,
    "max_current_a": 32.0,
    "step_s": 900.0,
}
"""By a field's name, in whichever message; of others the type decides."""
CURRENCY_PATTERN = r"\A[A-Z]{3}\Z"
ITEMS = 2
SIZES = {"W": 2000.0, "kW": 5.0, "kWh": 10.0, "%": 100.0, "A": 16.0, "currency": 0.5}
"""Of a usual value, by its unit."""
WHOLE_NUMBERS = 1000


def examples_of(kind: type[Message]) -> list[dict[str, Any]]:
    """One with all fields, and one with those alone that must be there, if that is another.

    Raises:
        BadMessageError: what was made is no such message: this module does not know its rules yet.
    """
    struct = msgspec.inspect.type_info(kind)
    assert isinstance(struct, msgspec.inspect.StructType)  # noqa: S101 - a Message is one
    full = _struct(struct, everything=True)
    least = {field.encode_name: full[field.encode_name] for field in struct.fields if field.required}
    examples = [full] if least == full else [full, least]
    for example in examples:
        COHERENT.get(kind, _as_it_is)(example)
        decode(kind, msgspec.json.encode(example))
    return examples


def _struct(struct: msgspec.inspect.StructType, *, everything: bool) -> dict[str, Any]:
    """Field by field; inside another Struct, only those that must be there."""
    return {
        field.encode_name: _field(field, Random(f"{struct.cls.__name__}/{field.name}"))
        for field in struct.fields
        if everything or field.required
    }


def _field(field: msgspec.inspect.Field, random: Random) -> Any:  # noqa: ANN401 - a value of any type
    if isinstance(field.default, str | bool | int | float) and field.default != "":
        return field.default
    return USUAL.get(field.name) or _value(field.type, field.name, random)


def _value(kind: msgspec.inspect.Type, name: str, random: Random, unit: str = "") -> Any:  # noqa: ANN401, C901, PLR0911 - a case a type
    match kind:
        case msgspec.inspect.Metadata(type=inner, extra_json_schema=told):
            words = (told or {}).get("description", "").split(maxsplit=1)
            return _value(inner, name, random, words[0].rstrip(",") if words else "")
        case msgspec.inspect.UnionType(types=types):
            return _value(types[0], name, random, unit)
        case msgspec.inspect.StructType():
            return _struct(kind, everything=False)
        case msgspec.inspect.ListType(item_type=item):
            return [_value(item, name, random) for _ in range(ITEMS)]
        case msgspec.inspect.CustomType():
            return str(LATER if name in COMING else NOW)
        case msgspec.inspect.LiteralType(values=values):
            return values[0]
        case msgspec.inspect.BoolType():
            return True
        case msgspec.inspect.IntType():
            return random.randint(max(kind.ge or 0, 0), min(kind.le or WHOLE_NUMBERS, WHOLE_NUMBERS))
        case msgspec.inspect.FloatType():
            low, high = max(kind.ge or 0.0, kind.gt or 0.0, 0.0), SIZES.get(unit, 1.0)
            return round(random.uniform(low, min(high, kind.le or high)), 2)
        case msgspec.inspect.StrType(pattern=pattern):
            return _text(name, pattern)
        case _:
            raise NotImplementedError(f"{name}: no example of {kind}")


def _text(name: str, pattern: str | None) -> str:
    match pattern:
        case None:
            return name.replace("_", " ")
        case str() if pattern == ID_PATTERN:
            return f"{name.removesuffix('_id').replace('_', '-')}-1"
        case str() if pattern == CURRENCY_PATTERN:
            return "EUR"
        case _:
            raise NotImplementedError(f"{name}: no example of {pattern}")


def _as_it_is(_example: dict[str, Any]) -> None:
    pass


def _add_up(example: dict[str, Any]) -> None:
    example["sum_w"] = round(example["meter_w"] + example["pv_w"], 2)


def _balance(example: dict[str, Any]) -> None:
    used = example["house_load_kw"] + example["ev_power_kw"] + example["battery_power_kw"]
    net = round(used + example.get("curtailed_kw", 0.0) - example["pv_kw"], 2)
    example["grid_import_kw"], example["grid_export_kw"] = max(net, 0.0), max(-net, 0.0)


def _one_more(example: dict[str, Any]) -> None:
    example["soc_percent"] = [40.0 + 2.5 * i for i in range(ITEMS + 1)]


COHERENT: dict[type[Message], Callable[[dict[str, Any]], None]] = {
    PvReading: _add_up,
    PowerSnapshot: _balance,
    Schedule: _one_more,
}
"""What the fields of a message have to do with each other, where its type does not say."""
