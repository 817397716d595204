"""The checker of the contract finds each kind of break, and lets what is none through."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.schema_breaks import breaks
from wattbus.asyncapi.document import document

NOW = document()
READING = "MeterReading"


def changed(change: Callable[[dict[str, Any]], None]) -> list[str]:
    new = copy.deepcopy(NOW)
    change(new)
    return breaks(NOW, new)


def fields(doc: dict[str, Any], name: str = READING) -> dict[str, Any]:
    return doc["components"]["schemas"][name]["properties"]


def rename(doc: dict[str, Any]) -> None:
    doc["components"]["schemas"][READING]["properties"]["power"] = fields(doc).pop("power_w")


def require(doc: dict[str, Any], name: str) -> None:
    fields(doc).setdefault(name, {"type": "string"})
    doc["components"]["schemas"][READING]["required"].append(name)


BREAKS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "topic gone": (lambda d: d["channels"].pop("meter.reading"), "the topic is gone"),
    "topic renamed": (
        lambda d: d["channels"]["meter.reading"].update(address="wattbus/{house}/meter/{meter}/value"),
        "the topic is gone",
    ),
    "delivery": (
        lambda d: d["channels"]["meter.reading"].update({"x-delivery-class": "LIVE"}),
        "was READING, is LIVE",
    ),
    "another message": (
        lambda d: d["channels"]["der.ack"].update(messages={"DispatchCommand": {}}),
        "the field is gone",
    ),
    "field gone": (lambda d: fields(d).pop("power_w"), "power_w: the field is gone"),
    "field renamed": (rename, "power_w: the field is gone"),
    "another type": (lambda d: fields(d)["boot"].update(type="string"), "boot: was integer, is string"),
    "real to whole": (lambda d: fields(d)["power_w"].update(type="integer"), "was number, is integer"),
    "lower bound": (lambda d: fields(d)["power_w"].update(minimum=0), "minimum was"),
    "upper bound": (lambda d: fields(d)["power_w"].update(maximum=1e4), "maximum was"),
    "new bound": (lambda d: fields(d, "Schedule")["energy_cost"].update(minimum=0), "minimum was none"),
    "shorter text": (lambda d: fields(d, "Alert")["text"].update(maxLength=10), "maxLength was 2000"),
    "shorter list": (lambda d: fields(d)["phase_a"].update(maxItems=1), "maxItems was 3"),
    "narrower items": (lambda d: fields(d)["phase_a"]["items"].update(minimum=0), "phase_a[]: minimum"),
    "pattern": (lambda d: fields(d)["house"].update(pattern="^[a-z]+$"), "house: pattern was"),
    "format": (lambda d: fields(d, "Decision")["sentence"].update(format="uri"), "format was none"),
    "one value less": (lambda d: fields(d)["measures"].update(enum=["load"]), "'grid' is not taken any more"),
    "no null": (
        lambda d: fields(d, "PvReading").update(pv_w={"type": "number", "minimum": 0, "maximum": 1e8}),
        "was null, is number",
    ),
    "default": (lambda d: fields(d)["has_pv"].update(default=True), "default was False, is True"),
    "new required": (lambda d: require(d, "serial"), "serial: must be there, and was not"),
    "now required": (lambda d: require(d, "has_pv"), "has_pv: must be there, and was not"),
    "inside another": (
        lambda d: fields(d, "HeldDer")["mode"].update(enum=["safe"]),
        "held[].mode: 'pause' is not taken any more",
    ),
    "unknown fields": (
        lambda d: d["components"]["schemas"][READING].update(additionalProperties=False),
        "unknown fields",
    ),
}

HARMLESS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nothing": dict.copy,
    "new field": lambda d: fields(d).update(serial={"type": "string", "default": ""}),
    "new topic": lambda d: d["channels"].update(more={**d["channels"]["status"], "address": "wattbus/more"}),
    "wider range": lambda d: fields(d)["power_w"].update(maximum=1e9),
    "no range": lambda d: fields(d)["power_w"].pop("maximum"),
    "whole to real": lambda d: fields(d)["boot"].update(type="number"),
    "one value more": lambda d: fields(d)["measures"]["enum"].append("both"),
    "null too": lambda d: fields(d).update(power_w={"anyOf": [fields(d)["power_w"], {"type": "null"}]}),
    "other words": lambda d: fields(d)["power_w"].update(description="said otherwise"),
    "not required": lambda d: d["components"]["schemas"][READING]["required"].remove("power_w"),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_each_kind_of_break_is_found(kind: str) -> None:
    change, expected = BREAKS[kind]
    found = changed(change)
    assert found
    assert any(expected in line for line in found), found


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_breaks_nothing_is_let_through(kind: str) -> None:
    assert changed(HARMLESS[kind]) == []
