"""The devices behind a controller: a battery, a car at its charge point, a PV inverter, a flexible load."""

from typing import Any, Protocol

import msgspec

from contracts.instant import Instant
from contracts.messages import DerType, DispatchCommand
from energy import battery, ev, flexible
from energy.checks import check_range
from energy.errors import SpecError
from energy.thermal import ThermalSpec, temperature_after

PREVIEW_S = 1.0
"""A setpoint's power right now is what the device can keep up for this long."""


PV_FRESH_S = 30.0
"""What was available longer ago is not known to be there any more."""


class Charge(msgspec.Struct, frozen=True):
    """What a device must still know after a restart: its charge and temperature, and when that was so."""

    soc_percent: float
    at: Instant
    temperature_c: float | None = None


class Device(Protocol):
    """A device with one setpoint, in its own unit.

    Time is moved on by `advance`, which applies the setpoint as far as physics allows.
    """

    def charge(self, at: Instant) -> Charge:
        """What it must still know after a restart."""

    def check(self, setpoint: float) -> float:
        """Return a setpoint that is within the nameplate, unchanged.

        Raises:
            SpecError: any other.
        """

    def setpoint(self, command: DispatchCommand) -> float:
        """The setpoint in a command, unchanged.

        Raises:
            SpecError: of the wrong kind, or outside the nameplate.
        """

    def possible_kw(self, setpoint: float) -> float:
        """The power at which a setpoint runs right now [kW]."""

    def advance(self, setpoint: float, dt_s: float, /) -> float:
        """Run for a while; returns the mean power [kW]."""

    def settle(self, now: Instant) -> None:
        """Take in what happens by the wall clock, such as a car leaving."""

    def nameplate(self) -> dict[str, Any]:
        """The telemetry fields that never change."""

    def telemetry(self, power_kw: float, /) -> dict[str, Any]:
        """The telemetry fields that change."""


class StorageUnit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A battery, and how its losses warm it."""

    battery: battery.BatterySpec
    thermal: ThermalSpec


class Battery:
    """A home battery; the setpoint is its power [kW], + charging / - discharging."""

    def __init__(self, spec: StorageUnit, charge: Charge, now: Instant) -> None:
        self._spec = spec.battery
        self._thermal = spec.thermal
        warm_c = spec.thermal.ambient_c
        if charge.temperature_c is not None:
            off_s = max(0.0, now.seconds_since(charge.at))
            warm_c = temperature_after(spec.thermal, charge.temperature_c, 0.0, off_s)
        self._state = battery.BatteryState(charge.soc_percent, warm_c)

    def charge(self, at: Instant) -> Charge:
        return Charge(self._state.soc_percent, at, self._state.temperature_c)

    def check(self, setpoint: float) -> float:
        return battery.check_power(self._spec, setpoint)

    def setpoint(self, command: DispatchCommand) -> float:
        return self.check(_kilowatts(command, "a battery"))

    def possible_kw(self, setpoint: float) -> float:
        return battery.possible_kw(self._spec, self._state, setpoint, PREVIEW_S, self._thermal)

    def advance(self, setpoint: float, dt_s: float) -> float:
        self._state, power_kw = battery.step(self._spec, self._state, setpoint, dt_s, self._thermal)
        return power_kw

    def settle(self, now: Instant) -> None:
        pass

    def nameplate(self) -> dict[str, Any]:
        kind: DerType = "battery_storage"
        spec = self._spec
        return {
            "type": kind,
            "nameplate_capacity": max(spec.max_charge_kw, spec.max_discharge_kw),
            "capacity_kwh": spec.capacity_kwh,
            "max_charge_kw": spec.max_charge_kw,
            "max_discharge_kw": spec.max_discharge_kw,
            "efficiency_roundtrip": spec.efficiency_roundtrip,
            "min_soc_percent": spec.min_soc_percent,
            "max_soc_percent": spec.max_soc_percent,
        }

    def telemetry(self, _power_kw: float, /) -> dict[str, Any]:
        return {
            "current_soc": round(self._state.soc_percent, 4),
            "temperature_c": round(self._state.temperature_c, 2),
        }


def _kilowatts(command: DispatchCommand, device: str) -> float:
    if command.setpoint_kw is None or command.setpoint_a is not None:
        raise SpecError(f"wrong kind of setpoint: {device} takes setpoint_kw alone")
    return command.setpoint_kw


class ChargingCar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A car, its charge point and its habits."""

    car: ev.EvSpec = ev.EvSpec()
    evse: ev.EvseSpec = ev.EvseSpec()
    trips: ev.TripPattern


class Car:
    """A car at its charge point; the setpoint is the current limit [A a phase], 0 or 6 and up."""

    def __init__(self, spec: ChargingCar, seed: str, charge: Charge, now: Instant) -> None:
        self._spec = spec
        self._seed = seed
        self._settled = charge.at
        self._presence = ev.Presence(connected=False, until=now)
        self._state = ev.EvState(charge.soc_percent, connected=False)
        self.settle(now)

    def charge(self, at: Instant) -> Charge:
        return Charge(self._state.soc_percent, at)

    def check(self, setpoint: float) -> float:
        try:
            return ev.check_limit(self._spec.evse, setpoint)
        except SpecError as error:
            raise SpecError(f"out of range: {error}") from error

    def setpoint(self, command: DispatchCommand) -> float:
        if command.setpoint_a is None or command.setpoint_kw is not None:
            raise SpecError("wrong kind of setpoint: a charge point takes setpoint_a alone")
        return self.check(command.setpoint_a)

    def possible_kw(self, setpoint: float) -> float:
        return ev.possible_kw(self._spec.evse, self._spec.car, self._state, int(setpoint), PREVIEW_S)

    def advance(self, setpoint: float, dt_s: float) -> float:
        self._state, power_kw = ev.step(self._spec.evse, self._spec.car, self._state, int(setpoint), dt_s)
        return power_kw

    def settle(self, now: Instant) -> None:
        """Let the car leave and come back; a trip missed while the controller was off counts too."""
        if self._settled <= now < self._presence.until:
            return
        used = ev.driven_percent(self._spec.trips, self._seed, self._settled, now)
        self._presence = ev.presence_at(self._spec.trips, self._seed, now)
        self._state = ev.EvState(max(0.0, self._state.soc_percent - used), self._presence.connected)
        # A wall clock set back must not let a trip count twice.
        self._settled = max(self._settled, now)

    def nameplate(self) -> dict[str, Any]:
        kind: DerType = "electric_vehicle"
        evse = self._spec.evse
        return {
            "type": kind,
            "nameplate_capacity": evse.max_power_kw,
            "capacity_kwh": self._spec.car.capacity_kwh,
            "max_charge_kw": min(evse.max_power_kw, self._spec.car.max_charge_kw),
            "max_discharge_kw": 0.0,
            "min_current_a": float(ev.MIN_CURRENT_A),
            "max_current_a": float(evse.max_current_a),
            "phases": evse.phases,
            "target_soc_percent": self._spec.car.target_soc_percent,
        }

    def telemetry(self, power_kw: float) -> dict[str, Any]:
        connected = self._presence.connected
        return {
            "current_soc": round(self._state.soc_percent, 4) if connected else None,
            "connected": connected,
            "departure_at": self._presence.until if connected else None,
            "current_a": round(ev.current_a(self._spec.evse, power_kw), 3),
        }


class InverterSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A PV inverter that can be curtailed.

    Raises:
        SpecError: a power no inverter has.
    """

    peak_kw: float

    def __post_init__(self) -> None:
        check_range("inverter peak_kw", self.peak_kw, 0, 1e5, above_low=True)


class Inverter:
    """A PV inverter; the setpoint is the most it may feed in [kW]. It makes no power of its own.

    What the PV readings say is available is what it feeds in, less what it curtails: the two are one power.
    """

    def __init__(self, spec: InverterSpec, now: Instant) -> None:
        self._spec = spec
        self._available_kw = 0.0
        self._available_until = now

    def produce(self, available_kw: float, at: Instant) -> None:
        """Take in what the sun gives [kW]."""
        self._available_kw = available_kw
        self._available_until = at.after(PV_FRESH_S)

    def charge(self, at: Instant) -> Charge:
        return Charge(0.0, at)

    def check(self, setpoint: float) -> float:
        if not 0 <= setpoint <= self._spec.peak_kw:
            raise SpecError(f"{setpoint:g} kW is out of range: 0 to {self._spec.peak_kw:g} kW")
        return setpoint

    def setpoint(self, command: DispatchCommand) -> float:
        return self.check(_kilowatts(command, "an inverter"))

    def possible_kw(self, setpoint: float) -> float:
        return min(setpoint, self._available_kw)

    def advance(self, setpoint: float, _dt_s: float, /) -> float:
        return self.possible_kw(setpoint)

    def settle(self, now: Instant) -> None:
        if now > self._available_until:
            self._available_kw = 0.0

    def nameplate(self) -> dict[str, Any]:
        kind: DerType = "solar_pv"
        return {"type": kind, "nameplate_capacity": self._spec.peak_kw, "current_soc": None}

    def telemetry(self, _power_kw: float, /) -> dict[str, Any]:
        return {}


class ManagedLoad(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load with presets, and what it tells whoever may set it."""

    load: flexible.FlexibleLoadSpec
    safe_kw: float = 0.0
    managed: bool = True
    priority: int = 0


class FlexibleLoad:
    """A load with presets; the setpoint is one of them [kW], or 0. It begins standing still."""

    def __init__(self, spec: ManagedLoad, now: Instant) -> None:
        self._spec = spec
        self._state = flexible.STILL
        self._set_kw = spec.safe_kw
        self._now = now

    def charge(self, at: Instant) -> Charge:
        return Charge(0.0, at)

    def check(self, setpoint: float) -> float:
        return flexible.check_preset(self._spec.load, setpoint)

    def setpoint(self, command: DispatchCommand) -> float:
        return self.check(_kilowatts(command, "a flexible load"))

    def possible_kw(self, setpoint: float) -> float:
        return flexible.step(self._spec.load, self._state, setpoint, PREVIEW_S)[1]

    def advance(self, setpoint: float, dt_s: float) -> float:
        self._set_kw = setpoint
        self._state, power_kw = flexible.step(self._spec.load, self._state, setpoint, dt_s)
        return power_kw

    def settle(self, now: Instant) -> None:
        self._now = now

    def nameplate(self) -> dict[str, Any]:
        kind: DerType = "flexible_load"
        spec = self._spec
        return {
            "type": kind,
            "nameplate_capacity": spec.load.presets_kw[-1],
            "current_soc": None,
            "presets_kw": list(spec.load.presets_kw),
            "safe_kw": spec.safe_kw,
            "managed": spec.managed,
            "priority": spec.priority,
        }

    def telemetry(self, _power_kw: float, /) -> dict[str, Any]:
        left_s = flexible.settles_in_s(self._spec.load, self._state, self._set_kw)
        return {"preset_kw": self._set_kw, "changing_until": self._now.after(left_s) if left_s else None}


DeviceSpec = StorageUnit | ChargingCar | InverterSpec | ManagedLoad


def make_device(spec: DeviceSpec, seed: str, charge: Charge, now: Instant) -> Device:
    """The device of a nameplate, as it was left."""
    match spec:
        case StorageUnit():
            return Battery(spec, charge, now)
        case ChargingCar():
            return Car(spec, seed, charge, now)
        case InverterSpec():
            return Inverter(spec, now)
        case ManagedLoad():
            return FlexibleLoad(spec, now)
