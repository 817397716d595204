"""The devices behind a controller: a battery, and a car at its charge point."""

from typing import Any, Protocol

import msgspec

from contracts.instant import Instant
from contracts.messages import DerType, DispatchCommand
from energy import battery, ev
from energy.errors import SpecError

PREVIEW_S = 1.0
"""A setpoint's power right now is what the device can keep up for this long."""


class RefusedError(ValueError):
    """A setpoint that the device does not take; the message says why."""


class Charge(msgspec.Struct, frozen=True):
    """What a device must still know after a restart: its charge, and when that was so."""

    soc_percent: float
    at: Instant


class Device(Protocol):
    """A device with one setpoint, in its own unit; 0 is its safe state.

    Time is moved on by `advance`, which applies the setpoint as far as physics allows.
    """

    @property
    def soc_percent(self) -> float:
        """State of charge [%]."""

    def setpoint(self, command: DispatchCommand) -> float:
        """The setpoint in a command, unchanged.

        Raises:
            RefusedError: of the wrong kind, or outside the nameplate.
        """

    def possible_kw(self, setpoint: float) -> float:
        """The power at which a setpoint runs right now [kW]."""

    def advance(self, setpoint: float, dt_s: float) -> float:
        """Run for a while; returns the mean power [kW]."""

    def settle(self, now: Instant) -> None:
        """Take in what happens by the wall clock, such as a car leaving."""

    def nameplate(self) -> dict[str, Any]:
        """The telemetry fields that never change."""

    def telemetry(self, power_kw: float, /) -> dict[str, Any]:
        """The telemetry fields that change."""


class Battery:
    """A home battery; the setpoint is its power [kW], + charging / - discharging."""

    def __init__(self, spec: battery.BatterySpec, charge: Charge) -> None:
        self._spec = spec
        self._state = battery.BatteryState(charge.soc_percent)

    @property
    def soc_percent(self) -> float:
        return self._state.soc_percent

    def setpoint(self, command: DispatchCommand) -> float:
        if command.setpoint_kw is None or command.setpoint_a is not None:
            raise RefusedError("wrong kind of setpoint: a battery takes setpoint_kw alone")
        low, high = -self._spec.max_discharge_kw, self._spec.max_charge_kw
        if not low <= command.setpoint_kw <= high:
            raise RefusedError(f"{command.setpoint_kw:g} kW is out of range: {low:g} to {high:g} kW")
        return command.setpoint_kw

    def possible_kw(self, setpoint: float) -> float:
        return battery.possible_kw(self._spec, self._state, setpoint, PREVIEW_S)

    def advance(self, setpoint: float, dt_s: float) -> float:
        self._state, power_kw = battery.step(self._spec, self._state, setpoint, dt_s)
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
        return {"current_soc": round(self._state.soc_percent, 4)}


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

    @property
    def soc_percent(self) -> float:
        return self._state.soc_percent

    def setpoint(self, command: DispatchCommand) -> float:
        if command.setpoint_a is None or command.setpoint_kw is not None:
            raise RefusedError("wrong kind of setpoint: a charge point takes setpoint_a alone")
        try:
            return ev.check_limit(self._spec.evse, command.setpoint_a)
        except SpecError as error:
            raise RefusedError(f"out of range: {error}") from error

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
            "max_charge_kw": evse.max_power_kw,
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


DeviceSpec = battery.BatterySpec | ChargingCar


def make_device(spec: DeviceSpec, seed: str, charge: Charge, now: Instant) -> Device:
    """The device of a nameplate, as it was left."""
    match spec:
        case battery.BatterySpec():
            return Battery(spec, charge)
        case ChargingCar():
            return Car(spec, seed, charge, now)
