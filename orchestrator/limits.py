"""What binds a house, in three tiers, and what is known about it at one instant."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from contracts.ids import Id
from contracts.instant import Instant
from contracts.messages import FlowKw, Percent, PowerKw
from energy.ev import VOLTAGE_V

Tier = Literal["physical", "safety", "economic"]


class PhysicalConstraints(msgspec.Struct, frozen=True, kw_only=True):
    """Tier 1: what the wires and devices can do."""

    max_grid_import_kw: FlowKw
    """The main fuse."""
    max_grid_export_kw: FlowKw
    max_battery_charge_kw: FlowKw = 0.0
    max_battery_discharge_kw: FlowKw = 0.0
    evse_min_current_a: Annotated[float, Meta(ge=0)] = 6.0
    """IEC 61851."""
    evse_max_current_a: Annotated[float, Meta(ge=0)] = 16.0
    phases: Annotated[int, Meta(ge=1, le=3)] = 1

    def evse_kw(self, current_a: float) -> float:
        """Power [kW] at that current a phase."""
        return VOLTAGE_V * current_a * self.phases / 1000


class SafetyConstraints(msgspec.Struct, frozen=True, kw_only=True):
    """Tier 2: what keeps devices whole and the house lit."""

    battery_min_soc_percent: Percent = 10.0
    battery_max_soc_percent: Percent = 90.0


class EconomicObjectives(msgspec.Struct, frozen=True, kw_only=True):
    """Tier 3: what is worth doing within the first two."""

    import_price: float | None = None
    """Per kWh; None: not known, and nothing is done for its sake."""
    arbitrage_threshold: float | None = None
    """Below this price electricity counts as cheap."""
    currency: str | None = None
    scheduled_battery_kw: float | None = None
    """The optimizer's wish, + charging; None: no fresh schedule, the rules decide."""
    scheduled_grid_kw: float = 0.0
    """What the plan has the grid give in this step, + import / - export on purpose."""
    demand_priced: bool = False
    """Whether a new peak in this step would cost a demand charge."""


class BatteryState(msgspec.Struct, frozen=True, kw_only=True):
    """A battery as its telemetry shows it."""

    der_id: Id
    soc_percent: Percent


class EvState(msgspec.Struct, frozen=True, kw_only=True):
    """A car and its charging point as their telemetry shows them."""

    der_id: Id
    connected: bool
    soc_percent: Percent
    target_soc_percent: Percent
    capacity_kwh: FlowKw
    departure_at: Instant | None = None


class PowerFlowInputs(msgspec.Struct, frozen=True, kw_only=True):
    """A house at one instant, before anything is decided."""

    house: Id
    timestamp: Instant
    house_load_kw: FlowKw
    pv_kw: FlowKw
    battery: BatteryState | None = None
    ev: EvState | None = None


class Constraints(msgspec.Struct, frozen=True, kw_only=True):
    """The first two tiers together."""

    physical: PhysicalConstraints
    safety: SafetyConstraints


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one DER shall do and what decided it; becomes a command and a Decision."""

    der_id: Id
    asked_kw: PowerKw
    given_kw: PowerKw
    given_a: float | None
    tier: Tier
    limit: str
    sentence: str
    alternative: str
    urgency: float | None = None
