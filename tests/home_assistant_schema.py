"""What Home Assistant takes by MQTT device discovery, as JSON Schema, and which units a device class may have.

Written after home-assistant/core (Apache License 2.0): DEVICE_DISCOVERY_SCHEMA and MQTT_ENTITY_COMMON_SCHEMA of
homeassistant/components/mqtt/schemas.py, PLATFORM_SCHEMA of its sensor.py and binary_sensor.py, TOPIC_MATCHER of its
discovery.py, and DEVICE_CLASS_UNITS and DEVICE_CLASS_STATE_CLASSES of homeassistant/components/sensor/const.py.
Optional fields that we never send are left out, so that sending one makes somebody look here first.
"""

import re
from typing import Any

TOPIC = re.compile(
    r"(?P<component>\w+)/(?:(?P<node_id>[a-zA-Z0-9_-]+)/)?(?P<object_id>[a-zA-Z0-9_-]+)/config"
)
"""Behind the prefix."""
STATE_MAX = 255
"""The longest state of an entity."""

_TEXT = {"type": "string", "minLength": 1}
_TOPIC = {"type": "string", "minLength": 1, "maxLength": 65535, "pattern": r"^[^#+\u0000]+$"}

_COMPONENT: dict[str, Any] = {
    "type": "object",
    "required": ["platform", "unique_id", "value_template"],
    "properties": {
        "platform": {"enum": ["sensor", "binary_sensor"]},
        "unique_id": _TEXT,
        "name": {"type": ["string", "null"]},
        "value_template": _TEXT,
        "expire_after": {"type": "integer", "minimum": 0},
        "device_class": {"enum": ["power", "energy", "battery", "plug"]},
        "state_class": {"enum": ["measurement", "total", "total_increasing"]},
        "unit_of_measurement": _TEXT,
        "suggested_display_precision": {"type": "integer", "minimum": 0},
        "icon": {"type": "string", "pattern": "^[a-z]+:.+$"},
    },
    "additionalProperties": False,
}

DEVICE_DISCOVERY: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["device", "components", "origin"],
    "properties": {
        "device": {
            "type": "object",
            "required": ["identifiers"],
            "properties": {
                "identifiers": {"type": "array", "items": _TEXT, "minItems": 1},
                "name": _TEXT,
                "manufacturer": _TEXT,
                "model": _TEXT,
                "via_device": _TEXT,
            },
            "additionalProperties": False,
        },
        "origin": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": _TEXT, "sw_version": _TEXT},
            "additionalProperties": False,
        },
        "availability": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["topic"],
                "properties": {"topic": _TOPIC, "value_template": _TEXT},
                "additionalProperties": False,
            },
        },
        "state_topic": _TOPIC,
        "components": {"type": "object", "minProperties": 1, "additionalProperties": _COMPONENT},
    },
    "additionalProperties": False,
}

UNITS = {"power": {"W", "kW", "MW"}, "energy": {"Wh", "kWh", "MWh"}, "battery": {"%"}}
STATE_CLASSES = {
    "power": {"measurement"},
    "energy": {"total", "total_increasing"},
    "battery": {"measurement"},
}


def complaints(component: dict[str, Any]) -> list[str]:
    """What Home Assistant would log, or not show, of one component."""
    kind, unit = component.get("device_class"), component.get("unit_of_measurement")
    state_class = component.get("state_class")
    found = []
    if component["platform"] == "binary_sensor":
        if unit is not None or state_class is not None:
            found.append("a binary sensor has no unit and no state class")
        return found
    if kind in UNITS and unit not in UNITS[kind]:
        found.append(f"device class {kind} has no unit {unit}")
    if kind in STATE_CLASSES and state_class not in STATE_CLASSES[kind]:
        found.append(f"device class {kind} has no state class {state_class}")
    if kind is None and unit is not None and state_class is None:
        found.append("a number without a state class gets no statistics")
    return found
