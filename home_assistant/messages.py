"""What Home Assistant is sent: the configuration of its devices, and their values. Both are retained.

Source: Home Assistant documentation, "MQTT", device discovery payload; Home Assistant developer
documentation, "Sensor entity".
"""

from typing import Literal

import msgspec

from contracts.messages import Message
from contracts.topics import Address, DeliveryClass, Topic

PREFIX = "homeassistant"
"""What Home Assistant listens to, unless it was told otherwise."""


class Device(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whose values they are."""

    identifiers: list[str]
    name: str
    manufacturer: str
    model: str
    via_device: str | None = None


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Who says so."""

    name: str
    sw_version: str


class Availability(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is told whether the values are kept up to date."""

    topic: str
    value_template: str


class Component(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One value of a device, an entity there."""

    platform: Literal["sensor", "binary_sensor"]
    unique_id: str
    name: str
    value_template: str
    expire_after: int
    """A value that is not renewed for so long [s] is not available."""
    device_class: str | None = None
    state_class: Literal["measurement", "total_increasing"] | None = None
    unit_of_measurement: str | None = None
    suggested_display_precision: int | None = None
    icon: str | None = None


class DeviceConfig(Message, frozen=True, kw_only=True):
    """A device with all its values."""

    device: Device
    origin: Origin
    availability: list[Availability]
    state_topic: str
    components: dict[str, Component]


class HouseState(Message, frozen=True, kw_only=True):
    """A house's values; null: not known. Grid + import, - export."""

    load_kw: float | None = None
    pv_kw: float | None = None
    grid_kw: float | None = None
    load_kwh: float
    pv_kwh: float
    grid_import_kwh: float
    grid_export_kwh: float
    import_price: float | None = None


class DerState(Message, frozen=True, kw_only=True):
    """A battery's or a car's values; null: not known. Power + charging, - discharging."""

    power_kw: float | None = None
    soc_percent: float | None = None
    charged_kwh: float
    discharged_kwh: float
    connected: bool | None = None
    decision: str | None = None


CONFIGS = Topic(f"{PREFIX}/device/{{device}}/{{part}}/config", DeviceConfig, DeliveryClass.STATE)
"""All configurations, for the brokers' rules: no broker tells a part of a level."""
STATES = Topic(f"{PREFIX}/wattbus/{{house}}/{{part}}/state", Message, DeliveryClass.STATE)
"""All values: HouseState or DerState."""


def config_at(house: str, der_id: str | None = None) -> Address[DeviceConfig]:
    """Where a house, or a battery or car of it, is configured."""
    # A level for the house and one for the DER: two ids joined by a dash could be two others'.
    pattern = f"{PREFIX}/device/wattbus-{house}/{_part(der_id)}/config"
    return Topic(pattern, DeviceConfig, DeliveryClass.STATE).at()


def house_state_at(house: str) -> Address[HouseState]:
    """Where a house's values stand."""
    return Topic(f"{PREFIX}/wattbus/{house}/{_part(None)}/state", HouseState, DeliveryClass.STATE).at()


def der_state_at(house: str, der_id: str) -> Address[DerState]:
    """Where a battery's or a car's values stand."""
    return Topic(f"{PREFIX}/wattbus/{house}/{_part(der_id)}/state", DerState, DeliveryClass.STATE).at()


def _part(der_id: str | None) -> str:
    return "house" if der_id is None else f"der-{der_id}"
