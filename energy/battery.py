"""A battery: what a setpoint does to its charge, with losses and limits."""

from math import sqrt

import msgspec

from energy.checks import check_range
from energy.errors import SpecError

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
        SpecError: a charge outside 0..100 %.
    """

    soc_percent: float

    def __post_init__(self) -> None:
        check_range("battery soc_percent", self.soc_percent, 0, 100)


def possible_kw(spec: BatterySpec, state: BatteryState, setpoint_kw: float, dt_s: float) -> float:
    """The part of a setpoint that the battery can keep up for `dt_s`.

    A battery outside its SoC range can only move back towards it.

    Args:
        spec: the nameplate.
        state: the battery now.
        setpoint_kw: + charging / - discharging [kW].
        dt_s: how long it is to last [s], above 0.

    Returns:
        Power at the terminals [kW], of the setpoint's sign or 0.
    """
    hours = dt_s / SECONDS_PER_HOUR
    per_percent_kwh = spec.capacity_kwh / 100.0
    if setpoint_kw >= 0:
        room_kwh = max(0.0, spec.max_soc_percent - state.soc_percent) * per_percent_kwh
        return min(setpoint_kw, spec.max_charge_kw, room_kwh / (spec.efficiency_oneway * hours))
    stored_kwh = max(0.0, state.soc_percent - spec.min_soc_percent) * per_percent_kwh
    return -min(-setpoint_kw, spec.max_discharge_kw, stored_kwh * spec.efficiency_oneway / hours)


def step(
    spec: BatterySpec, state: BatteryState, setpoint_kw: float, dt_s: float
) -> tuple[BatteryState, float]:
    """Run the battery at a setpoint for a while.

    Args:
        spec: the nameplate.
        state: the battery at the start.
        setpoint_kw: + charging / - discharging [kW].
        dt_s: duration [s], above 0.

    Returns:
        The battery at the end, and the mean power at its terminals [kW].
    """
    power_kw = possible_kw(spec, state, setpoint_kw, dt_s)
    if power_kw == 0:
        return state, 0.0
    efficiency = spec.efficiency_oneway
    into_cells_kw = power_kw * efficiency if power_kw > 0 else power_kw / efficiency
    soc = state.soc_percent + into_cells_kw * dt_s / SECONDS_PER_HOUR / spec.capacity_kwh * 100.0
    # Rounding must not carry the charge over the limit that `possible_kw` has kept to.
    soc = min(soc, spec.max_soc_percent) if power_kw > 0 else max(soc, spec.min_soc_percent)
    return BatteryState(soc), power_kw
