"""What binds a house, in three tiers, and what is known about it at one instant."""

from collections.abc import Mapping
from math import inf
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from contracts.ids import Id
from contracts.instant import Instant
from contracts.messages import CurrentA, EnergyKwh, FlowKw, Percent, PowerKw
from energy.ev import VOLTAGE_V

Tier = Literal["physical", "safety", "economic"]
Phase = Literal[1, 2, 3]
Seconds = Annotated[float, Meta(ge=0)]

POWER_KW_MAX = 1e5
"""Up to here the balance holds to its tolerance."""
KW_PER_A = VOLTAGE_V / 1000
"""What one ampere on one phase carries."""


class PhysicalConstraints(msgspec.Struct, frozen=True, kw_only=True):
    """Tier 1: what the wires and devices can do."""

    max_grid_import_kw: FlowKw
    """The main fuse."""
    max_grid_export_kw: FlowKw
    fuse_a: CurrentA | None = None
    """The main fuse on each phase, drawing or feeding; None: `max_grid_import_kw`, shared by the phases."""
    max_battery_charge_kw: FlowKw | None = None
    """All batteries together, and one that does not tell its own; None: no more than each by itself."""
    max_battery_discharge_kw: FlowKw | None = None
    evse_min_current_a: CurrentA = 6.0
    """Never below the 6 A of IEC 61851. This and the next two: for a charging point that does not tell."""
    evse_max_current_a: CurrentA = 16.0
    phases: Literal[1, 3] = 1


class SafetyConstraints(msgspec.Struct, frozen=True, kw_only=True):
    """Tier 2: what keeps devices whole and the house lit."""

    battery_min_soc_percent: Percent = 10.0
    """This and the next: for a battery that does not tell its own."""
    battery_max_soc_percent: Percent = 90.0
    house_priority: bool = True
    """What is stored is for the house: no battery is discharged so that a car can charge."""
    max_battery_cycles_per_day: Annotated[float, Meta(ge=0)] = 2.0
    """After so many full cycles a battery rests, unless the fuse needs it."""
    max_battery_temp_c: Annotated[float, Meta(ge=-90, le=200)] = 50.0
    reserve_soc_percent: Percent = 0.0
    """Below it a battery charges, and just above it rests, unless the fuse needs it; 0: no reserve."""
    reserve_charge_kw: FlowKw = 1.0
    """With how much a battery charges below its reserve; before any car but an urgent one."""
    stale_after_s: Seconds = 30.0
    """Data older than this counts as none."""
    ev_hold_s: Seconds = 300.0
    """A car is not switched on or off again sooner, unless the fuse needs it."""


class EconomicObjectives(msgspec.Struct, frozen=True, kw_only=True):
    """Tier 3: what is worth doing within the first two."""

    import_price: float | None = None
    """Per kWh; None: not known, and nothing is done for its sake."""
    export_price: float | None = None
    """Per kWh; None: not known."""
    currency: str | None = None
    prefer_self_consumption: bool = True
    """Solar power is stored before it is sold; otherwise sold first, if that pays the threshold."""
    arbitrage_threshold: float | None = None
    """Below this price electricity counts as cheap; None: not known."""
    demand_priced: bool = False
    """Whether a new peak in this step would cost a demand charge."""
    ev_departure_at: Instant | None = None
    """For all cars, instead of what each tells; None: each its own."""
    ev_target_soc_percent: Percent | None = None
    """The same."""
    scheduled_kw: Mapping[str, float] = {}
    """What the plan wants of each battery and car now, by DER, + charging; none in it: the rules decide."""
    scheduled_grid_kw: float = 0.0
    """What the plan has the grid give in this step, + import / - export on purpose."""
    grid_ceiling_kw: float = 0.0
    """What the grid may give in this step without a new peak, where that is more than planned."""


class BatteryState(msgspec.Struct, frozen=True, kw_only=True):
    """A battery as its telemetry shows it; a limit of None is the house's."""

    der_id: Id
    soc_percent: Percent | None
    """None: not known, and it rests."""
    max_charge_kw: FlowKw | None = None
    max_discharge_kw: FlowKw | None = None
    min_soc_percent: Percent | None = None
    max_soc_percent: Percent | None = None
    temperature_c: float | None = None
    cycles_today: Annotated[float, Meta(ge=0)] = 0.0
    """Full cycles since local midnight: energy through its terminals over twice its capacity."""
    phase: Phase | None = None
    """The phase it is on; None: on all alike."""
    paused: str = ""
    """Why it rests unless the fuse needs it, as in "ana has paused it"; empty: it does not."""
    age_s: Seconds = 0.0


class EvState(msgspec.Struct, frozen=True, kw_only=True):
    """A car and its charging point as their telemetry shows them; a limit of None is the house's."""

    der_id: Id
    connected: bool
    soc_percent: Percent | None
    """None: not known, and it counts as empty."""
    target_soc_percent: Percent
    capacity_kwh: EnergyKwh
    departure_at: Instant | None = None
    max_charge_kw: FlowKw | None = None
    """What the car's own charger takes; None: as much as its charging point gives."""
    min_current_a: CurrentA | None = None
    max_current_a: CurrentA | None = None
    phases: Literal[1, 3] | None = None
    phase: Phase = 1
    """Where a charging point with one phase is connected."""
    charging: bool = False
    """Whether it has been let charge so far."""
    held_s: Seconds = inf
    """How long ago that changed."""
    paused: str = ""
    """Why it charges at the least current, as in "ana has paused it"; empty: it does not."""
    age_s: Seconds = 0.0


class PowerFlowInputs(msgspec.Struct, frozen=True, kw_only=True):
    """A house at one instant, before anything is decided."""

    house: Id
    timestamp: Instant
    house_load_kw: FlowKw | None
    """None: not known."""
    pv_kw: FlowKw
    """Available production."""
    batteries: tuple[BatteryState, ...] = ()
    cars: tuple[EvState, ...] = ()
    phase_a: tuple[float, ...] | None = None
    """The house's own load on each of its 1 or 3 phases [A], never negative; None: not measured."""
    pv_phase: Phase | None = None
    """The phase that PV feeds; None: all alike."""
    age_s: Seconds = 0.0
    """Of the oldest reading that load or production comes from."""


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
    """For a car: whole amperes a phase."""
    tier: Tier
    limit: str
    """The limit or wish that decided, by name."""
    sentence: str
    alternative: str
    """What the next best would have been; empty if there was no other choice."""
    import_price: float | None = None
    urgency: float | None = None
