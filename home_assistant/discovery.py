"""Which devices and values Home Assistant is told of. Pure."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from contracts.messages import DerTelemetry
from home_assistant.messages import (
    Availability,
    Component,
    Device,
    DeviceConfig,
    Origin,
    der_state_at,
    house_state_at,
)
from home_assistant.model import BATTERY

ONLINE = "{{ 'online' if value_json.online else 'offline' }}"


class Value(NamedTuple):
    """A value of a state, and what Home Assistant shall know of it."""

    key: str
    name: str
    device_class: str | None = None
    state_class: Literal["measurement", "total_increasing"] | None = None
    unit: str | None = None
    digits: int | None = None
    icon: str | None = None
    platform: Literal["sensor", "binary_sensor"] = "sensor"


def power(key: str, name: str) -> Value:
    """A power [kW], of either sign."""
    return Value(key, name, "power", "measurement", "kW", 2)


def energy(key: str, name: str) -> Value:
    """A counter [kWh] that the Energy dashboard accepts."""
    return Value(key, name, "energy", "total_increasing", "kWh", 2)


HOUSE_VALUES = (
    power("load_kw", "Load"),
    power("pv_kw", "Solar power"),
    power("grid_kw", "Grid power"),
    energy("load_kwh", "Consumption"),
    energy("pv_kwh", "Solar production"),
    energy("grid_import_kwh", "Grid import"),
    energy("grid_export_kwh", "Grid export"),
)
DER_VALUES = (
    power("power_kw", "Power"),
    Value("soc_percent", "Charge", "battery", "measurement", "%", 0),
    energy("charged_kwh", "Charged"),
    Value("decision", "Decision", icon="mdi:comment-question-outline"),
)
BATTERY_VALUES = (*DER_VALUES, energy("discharged_kwh", "Discharged"))
CAR_VALUES = (*DER_VALUES, Value("connected", "Plugged in", "plug", platform="binary_sensor"))


class Teller:
    """Puts configurations together.

    Args:
        availability: the topic of our own Status, whose last will says that nobody keeps the values any more.
        version: ours.
        expire_s: a value that is not renewed for so long is not available.
    """

    def __init__(self, availability: str, version: str, expire_s: int) -> None:
        self._availability = [Availability(topic=availability, value_template=ONLINE)]
        self._origin = Origin(name="wattbus", sw_version=version)
        self._expire_s = expire_s

    def house(self, house: str, currency: str | None) -> DeviceConfig:
        """A house; its price once the currency is known."""
        values = [*HOUSE_VALUES]
        if currency is not None:
            unit = f"{currency}/kWh"
            values.append(Value("import_price", "Price", None, "measurement", unit, 3, "mdi:cash"))
        device = Device(identifiers=[_identifier(house)], name=house, manufacturer="wattbus", model="House")
        return self._config(device, house_state_at(house).name, _identifier(house), values)

    def der(self, der: DerTelemetry) -> DeviceConfig:
        """A battery or a car, with its house as what it is reached through."""
        house, der_id = der.house, der.der_id
        is_battery = der.type == BATTERY
        device = Device(
            identifiers=[_identifier(house, der_id)],
            name=f"{house} {der_id}",
            manufacturer="wattbus",
            model="Battery" if is_battery else "Car",
            via_device=_identifier(house),
        )
        values = BATTERY_VALUES if is_battery else CAR_VALUES
        topic = der_state_at(house, der_id).name
        return self._config(device, topic, _identifier(house, der_id), values)

    def _config(
        self, device: Device, state_topic: str, identifier: str, values: Iterable[Value]
    ) -> DeviceConfig:
        return DeviceConfig(
            device=device,
            origin=self._origin,
            availability=self._availability,
            state_topic=state_topic,
            components={value.key: self._component(value, identifier) for value in values},
        )

    def _component(self, value: Value, identifier: str) -> Component:
        template = f"value_json.{value.key}"
        if value.platform == "binary_sensor":
            template = f"'ON' if {template} else 'OFF'"
        return Component(
            platform=value.platform,
            unique_id=f"{identifier}/{value.key}",
            name=value.name,
            value_template=f"{{{{ {template} }}}}",
            expire_after=self._expire_s,
            device_class=value.device_class,
            state_class=value.state_class,
            unit_of_measurement=value.unit,
            suggested_display_precision=value.digits,
            icon=value.icon,
        )


def _identifier(house: str, der_id: str | None = None) -> str:
    """Unlike any other: no id has a slash in it."""
    return f"wattbus/{house}" if der_id is None else f"wattbus/{house}/{der_id}"
