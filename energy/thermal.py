"""Heat: what losses do to a device's temperature, as one lump that cools towards its surroundings."""

from math import exp, expm1

import msgspec

from energy.checks import check_range
from energy.errors import SpecError

KJ_PER_K_PER_KWH = 10.0
"""Cells and casing of a home battery: about 10 kg a kWh at about 1 kJ/(kg K)."""
W_PER_K_PER_KWH = 1.0
"""Free convection from its casing; with the above it cools with a time constant of 2.8 h."""


class ThermalSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a device takes up heat and gives it off.

    Raises:
        SpecError: a value no device has, or surroundings hotter than it may become.
    """

    heat_capacity_kj_per_k: float
    cooling_w_per_k: float
    ambient_c: float = 20.0
    max_c: float = 60.0
    """Here the device's own protection holds its power back."""

    def __post_init__(self) -> None:
        check_range("thermal heat_capacity_kj_per_k", self.heat_capacity_kj_per_k, 0, 1e9, above_low=True)
        check_range("thermal cooling_w_per_k", self.cooling_w_per_k, 0, 1e9, above_low=True)
        check_range("thermal ambient_c", self.ambient_c, -60, 80)
        check_range("thermal max_c", self.max_c, -60, 150)
        if self.ambient_c >= self.max_c:
            raise SpecError(f"thermal ambient_c {self.ambient_c:g} must be below max_c {self.max_c:g}")

    @property
    def time_constant_s(self) -> float:
        """In this time 63 % of a difference to the surroundings is gone [s]."""
        return self.heat_capacity_kj_per_k * 1000.0 / self.cooling_w_per_k


def home_battery(capacity_kwh: float, ambient_c: float = 20.0, max_c: float = 60.0) -> ThermalSpec:
    """A battery's heat by its size [kWh]: the larger, the more it stores and gives off."""
    return ThermalSpec(
        heat_capacity_kj_per_k=KJ_PER_K_PER_KWH * capacity_kwh,
        cooling_w_per_k=W_PER_K_PER_KWH * capacity_kwh,
        ambient_c=ambient_c,
        max_c=max_c,
    )


def temperature_after(spec: ThermalSpec, temperature_c: float, heat_w: float, dt_s: float) -> float:
    """The temperature after steady heating for a while; exact, so that steps may be of any length.

    Args:
        spec: the device.
        temperature_c: at the start.
        heat_w: what its losses give [W], 0 or more.
        dt_s: duration [s].

    Returns:
        Temperature [degrees C].

    Source: C dT/dt = P - k (T - T_ambient), solved for constant P.
    """
    settled_c = spec.ambient_c + heat_w / spec.cooling_w_per_k
    return settled_c + (temperature_c - settled_c) * exp(-dt_s / spec.time_constant_s)


def heat_room_w(spec: ThermalSpec, temperature_c: float, dt_s: float) -> float:
    """The steady heat [W] that brings a device to `max_c` only at the end of `dt_s`; 0 if it is there.

    Source: `temperature_after`, solved for P.
    """
    part = dt_s / spec.time_constant_s
    rise_c = (spec.max_c - spec.ambient_c) - (temperature_c - spec.ambient_c) * exp(-part)
    return max(0.0, spec.cooling_w_per_k * rise_c / -expm1(-part))
