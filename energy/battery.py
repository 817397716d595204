"""A battery: what a setpoint does to its charge and its temperature, with losses and limits."""

from math import sqrt

import msgspec

from energy.checks import check_range
from energy.errors import SpecError
from energy.thermal import ThermalSpec, heat_room_w, temperature_after

SECONDS_PER_HOUR = 3600.0


class BatterySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A battery's nameplate. Powers are at its terminals; min..max SoC is the range it is worked in.

    Raises:
        SpecError: a value no battery has.
    """

    capacity_kwh: float
    max_charge_kw: float
    max_discharge_kw: float
    efficiency_roundtrip: float = 0.9
    min_soc_percent: float = 10.0
    max_soc_percent: float = 90.0

    def __post_init__(self) -> None:
        check_range("battery capacity_kwh", self.capacity_kwh, 0, 1e6, above_low=True)
        check_range("battery max_charge_kw", self.max_charge_kw, 0, 1e5)
        check_range("battery max_discharge_kw", self.max_discharge_kw, 0, 1e5)
        check_range("battery efficiency_roundtrip", self.efficiency_roundtrip, 0, 1, above_low=True)
        check_range("battery min_soc_percent", self.min_soc_percent, 0, 100)
        check_range("battery max_soc_percent", self.max_soc_percent, 0, 100)
        if self.min_soc_percent >= self.max_soc_percent:
            raise SpecError(
                f"battery min_soc_percent {self.min_soc_percent:g} must be below "
                f"max_soc_percent {self.max_soc_percent:g}"
            )

    @property
    def efficiency_oneway(self) -> float:
        """The share that survives charging, and again discharging: the square root of the round trip."""
        return sqrt(self.efficiency_roundtrip)


class BatteryState(msgspec.Struct, frozen=True):
    """A battery at one instant.

    Raises:
        SpecError: a charge outside 0..100 %, or a temperature no battery survives.
    """

    soc_percent: float
    temperature_c: float = 20.0

    def __post_init__(self) -> None:
        check_range("battery soc_percent", self.soc_percent, 0, 100)
        check_range("battery temperature_c", self.temperature_c, -90, 200)


def check_power(spec: BatterySpec, setpoint_kw: float) -> float:
    """Return a setpoint [kW] if the nameplate allows it.

    Raises:
        SpecError: any other power.
    """
    low, high = -spec.max_discharge_kw, spec.max_charge_kw
    if not low <= setpoint_kw <= high:
        raise SpecError(f"{setpoint_kw:g} kW is out of range: {low:g} to {high:g} kW")
    return setpoint_kw


def heat_share(spec: BatterySpec, power_kw: float) -> float:
    """The part of the power at the terminals that becomes heat in that direction, 0 or more."""
    return 1.0 - spec.efficiency_oneway if power_kw >= 0 else 1.0 / spec.efficiency_oneway - 1.0


def possible_kw(
    spec: BatterySpec,
    state: BatteryState,
    setpoint_kw: float,
    dt_s: float,
    thermal: ThermalSpec | None = None,
) -> float:
    """The part of a setpoint that the battery can keep up for `dt_s`.

    A battery outside its SoC range can only move back towards it, one that is too hot only cool down.

    Args:
        spec: the nameplate.
        state: the battery now.
        setpoint_kw: + charging / - discharging [kW].
        dt_s: how long it is to last [s], above 0.
        thermal: how its losses warm it; without, its temperature limits nothing.

    Returns:
        Power at the terminals [kW], of the setpoint's sign or 0.
    """
    power_kw = _stored_kw(spec, state, setpoint_kw, dt_s)
    if thermal is None or (share := heat_share(spec, power_kw)) == 0:
        return power_kw
    cool_kw = heat_room_w(thermal, state.temperature_c, dt_s) / 1000.0 / share
    return max(-cool_kw, min(cool_kw, power_kw))


def _stored_kw(spec: BatterySpec, state: BatteryState, setpoint_kw: float, dt_s: float) -> float:
    """The part of a setpoint that nameplate and charge allow [kW]."""
    hours = dt_s / SECONDS_PER_HOUR
    per_percent_kwh = spec.capacity_kwh / 100.0
    if setpoint_kw >= 0:
        room_kwh = max(0.0, spec.max_soc_percent - state.soc_percent) * per_percent_kwh
        return min(setpoint_kw, spec.max_charge_kw, room_kwh / (spec.efficiency_oneway * hours))
    stored_kwh = max(0.0, state.soc_percent - spec.min_soc_percent) * per_percent_kwh
    return -min(-setpoint_kw, spec.max_discharge_kw, stored_kwh * spec.efficiency_oneway / hours)


def step(
    spec: BatterySpec,
    state: BatteryState,
    setpoint_kw: float,
    dt_s: float,
    thermal: ThermalSpec | None = None,
) -> tuple[BatteryState, float]:
    """Run the battery at a setpoint for a while.

    Args:
        spec: the nameplate.
        state: the battery at the start.
        setpoint_kw: + charging / - discharging [kW].
        dt_s: duration [s], above 0.
        thermal: how its losses warm it; without, its temperature stays.

    Returns:
        The battery at the end, and the mean power at its terminals [kW].
    """
    power_kw = possible_kw(spec, state, setpoint_kw, dt_s, thermal)
    soc, temperature_c = state.soc_percent, state.temperature_c
    if power_kw != 0:
        efficiency = spec.efficiency_oneway
        into_cells_kw = power_kw * efficiency if power_kw > 0 else power_kw / efficiency
        soc += into_cells_kw * dt_s / SECONDS_PER_HOUR / spec.capacity_kwh * 100.0
        # Rounding must not carry the charge over the limit that `possible_kw` has kept to.
        soc = min(soc, spec.max_soc_percent) if power_kw > 0 else max(soc, spec.min_soc_percent)
    if thermal is not None:
        heat_w = 1000.0 * abs(power_kw) * heat_share(spec, power_kw)
        temperature_c = temperature_after(thermal, temperature_c, heat_w, dt_s)
    return BatteryState(soc, temperature_c), power_kw
