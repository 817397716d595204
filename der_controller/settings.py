"""What a DER controller can be told; `[house.house-a.der_controller.devices.NAME]` describes its DERs."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from contracts.ids import Id
from contracts.messages import PowerKw
from der_controller.devices import ChargingCar, DeviceSpec, InverterSpec, ManagedLoad, StorageUnit
from energy.battery import BatterySpec
from energy.errors import SpecError
from energy.ev import EvseSpec, EvSpec, TripPattern
from energy.flexible import MINER_PRESETS_KW, FlexibleLoadSpec
from energy.thermal import home_battery
from runtime.settings import HouseSettings

DERS_MAX = 5
DEVICES_MAX = 1000
"""As many as an orchestrator hears of in one house."""


class DeviceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """What every kind of DER can be told."""

    soc_percent: Annotated[float, Meta(ge=0, le=100)] = 50.0
    """At its first start."""
    project_id: Id = "PRJ_000001"
    is_standalone: bool = False
    baseline_kw: PowerKw = 0.0
    contract_threshold_kw: PowerKw | None = None
    meter_noise: Annotated[float, Meta(ge=0, le=1)] = 0.01

    def device(self, timezone: str) -> DeviceSpec:
        """What it is physically; the base describes nothing."""
        raise NotImplementedError(timezone)

    def safe_setpoint(self) -> float:
        """What it does when nobody commands it, in its own unit; the base does nothing."""
        return 0.0


class BatteryTable(DeviceTable, frozen=True, kw_only=True, tag="battery_storage"):
    """A home battery."""

    capacity_kwh: float = 10.0
    max_charge_kw: float = 5.0
    max_discharge_kw: float = 5.0
    efficiency_roundtrip: float = 0.9
    min_soc_percent: float = 10.0
    max_soc_percent: float = 90.0
    ambient_c: float = 20.0
    max_temperature_c: float = 60.0
    safe_power_kw: float = 0.0

    def device(self, timezone: str) -> DeviceSpec:  # noqa: ARG002 - a battery keeps no hours
        spec = BatterySpec(
            capacity_kwh=self.capacity_kwh,
            max_charge_kw=self.max_charge_kw,
            max_discharge_kw=self.max_discharge_kw,
            efficiency_roundtrip=self.efficiency_roundtrip,
            min_soc_percent=self.min_soc_percent,
            max_soc_percent=self.max_soc_percent,
        )
        return StorageUnit(
            battery=spec, thermal=home_battery(self.capacity_kwh, self.ambient_c, self.max_temperature_c)
        )

    def safe_setpoint(self) -> float:
        return self.safe_power_kw


class CarTable(DeviceTable, frozen=True, kw_only=True, tag="electric_vehicle"):
    """A car and its charge point."""

    capacity_kwh: float = 60.0
    target_soc_percent: float = 80.0
    max_charge_kw: float = 22.0
    max_current_a: int = 16
    phases: Literal[1, 3] = 1
    leaves_hour: float = 7.5
    returns_hour: float = 18.0
    safe_current_a: int = 0

    def device(self, timezone: str) -> DeviceSpec:
        return ChargingCar(
            car=EvSpec(
                capacity_kwh=self.capacity_kwh,
                target_soc_percent=self.target_soc_percent,
                max_charge_kw=self.max_charge_kw,
            ),
            evse=EvseSpec(max_current_a=self.max_current_a, phases=self.phases),
            trips=TripPattern(
                timezone=timezone, leaves_hour=self.leaves_hour, returns_hour=self.returns_hour
            ),
        )

    def safe_setpoint(self) -> float:
        return float(self.safe_current_a)


class InverterTable(DeviceTable, frozen=True, kw_only=True, tag="solar_pv"):
    """A PV inverter that can be curtailed; its sun is the house's PV simulator."""

    peak_kw: float = 4.0
    meter: Id = "main"
    """Which meter's PV readings say what is available."""
    safe_power_kw: float | None = None
    """Not curtailed if absent."""

    def device(self, timezone: str) -> DeviceSpec:  # noqa: ARG002 - the readings carry the time
        return InverterSpec(peak_kw=self.peak_kw)

    def safe_setpoint(self) -> float:
        return self.peak_kw if self.safe_power_kw is None else self.safe_power_kw


class LoadTable(DeviceTable, frozen=True, kw_only=True, tag="flexible_load"):
    """A load that runs at one of its presets or stands still: a miner, a heat pump, a charger."""

    count: Annotated[int, Meta(ge=1, le=DEVICES_MAX)] = 1
    """So many alike: `miner` is then `miner-01`, `miner-02`, ..."""
    presets_kw: tuple[float, ...] = MINER_PRESETS_KW
    start_s: float = 10.0
    stop_s: float = 10.0
    safe_power_kw: float = 0.0
    managed: bool = True
    """Whether the orchestrator sets it."""
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    """The higher, the sooner it gets power."""

    def device(self, timezone: str) -> DeviceSpec:  # noqa: ARG002 - a load keeps no hours
        load = FlexibleLoadSpec(presets_kw=self.presets_kw, start_s=self.start_s, stop_s=self.stop_s)
        return ManagedLoad(
            load=load, safe_kw=self.safe_power_kw, managed=self.managed, priority=self.priority
        )

    def safe_setpoint(self) -> float:
        return self.safe_power_kw

    def names(self, name: str) -> list[str]:
        """The ids of all of them."""
        if self.count == 1:
            return [name]
        width = max(2, len(str(self.count)))
        return [f"{name}-{n:0{width}}" for n in range(1, self.count + 1)]


Table = BatteryTable | CarTable | InverterTable | LoadTable


class DerControllerSettings(HouseSettings, frozen=True, kw_only=True):
    """Which house, which DERs, how often they speak."""

    ders: Annotated[
        int,
        Meta(
            ge=1,
            le=DERS_MAX,
            description="how many DERs, where none are described: battery, car, battery, ...",
        ),
    ] = 1
    devices: Annotated[dict[Id, Table], Meta(max_length=DEVICES_MAX)] = msgspec.field(default_factory=dict)
    issuers: Annotated[
        list[Id], Meta(max_length=100, description="whose commands are obeyed, by name; empty: anybody's")
    ] = msgspec.field(default_factory=list)
    interval_s: Annotated[float, Meta(ge=0.1, le=3600, description="time between telemetry messages")] = 1.0

    def tables(self) -> dict[str, Table]:
        """The DERs of this controller by id: those described, or so many of the usual ones.

        Raises:
            SpecError: two of one name.
        """
        tables: dict[str, Table] = {}
        for name, table in self.devices.items():
            for der_id in table.names(name) if isinstance(table, LoadTable) else [name]:
                if der_id in tables:
                    raise SpecError(f"{self.house}: two devices are named {der_id}")
                tables[der_id] = table
        if tables:
            return tables
        for n in range(self.ders):
            pair = n // 2 + 1
            tables.update({f"ev-{pair}": CarTable()} if n % 2 else {f"battery-{pair}": BatteryTable()})
        return tables
