"""Everything that travels on the bus.

Signs, once and everywhere (docs/glossary.md): grid + import / - export; battery + charging /
- discharging; PV + production; load and EV + consumption. The unit ends a field's name.
New fields get defaults; unknown ones are ignored.
"""

from collections.abc import Sequence, Sized
from math import isfinite
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import astuple

from contracts.ids import Id
from contracts.instant import Instant

PowerW = Annotated[float, Meta(ge=-1e8, le=1e8, description="W")]
PowerKw = Annotated[float, Meta(ge=-1e5, le=1e5, description="kW")]
FlowKw = Annotated[float, Meta(ge=0, le=1e5, description="kW, never negative")]
Percent = Annotated[float, Meta(ge=0, le=100, description="%")]
PhaseA = Annotated[float, Meta(ge=-1e6, le=1e6, description="A")]
CurrentA = Annotated[float, Meta(ge=0, le=1e4, description="A a phase")]
EnergyKwh = Annotated[float, Meta(ge=0, le=1e8, description="kWh")]
Counter = Annotated[int, Meta(ge=0, le=2**62)]
PricePerKwh = Annotated[float, Meta(ge=-1e6, le=1e6, description="currency / kWh")]
StepS = Annotated[float, Meta(ge=1, le=86400, description="s")]
Text = Annotated[str, Meta(max_length=2000)]

BALANCE_TOLERANCE_KW = 1e-9

DerType = Literal["battery_storage", "electric_vehicle", "solar_pv", "flexible_load"]


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The base of all messages: numbers are finite, or there is no message.

    Nothing in one refers back to it, so the garbage collector need not look at them.

    Raises:
        ValueError: a NaN or an infinity, which JSON would turn into `null` without a word.
    """

    def __post_init__(self) -> None:
        for i, value in enumerate(astuple(self)):
            if value.__class__ is float:
                if not isfinite(value):
                    raise ValueError(f"{self.__struct_fields__[i]} is {value}: numbers must be finite")
            elif value.__class__ is list and not all(isfinite(x) for x in value if x.__class__ is float):
                raise ValueError(f"{self.__struct_fields__[i]} holds a number that is not finite")


def _check_lengths(first: Sized, others: Sequence[Sized]) -> None:
    if not len(first) or any(len(other) != len(first) for other in others):
        lengths = [len(values) for values in (first, *others)]
        raise ValueError(
            f"the lists of one value a step have {lengths} values: they must be as long, and not empty"
        )


class MeterReading(Message, frozen=True, kw_only=True):
    """What a house's electricity meter measured. Identity: (house, meter, boot, seq)."""

    house: Id
    meter: Id
    boot: Counter
    seq: Counter
    timestamp: Instant
    power_w: PowerW
    """`load`: gross consumption, never net of PV. `grid`: + import / - export."""
    measures: Literal["load", "grid"] = "load"
    has_pv: bool = False
    """A PvReading follows for this reading: the recorder writes that one, which carries both."""
    historical: bool = False
    """Replayed, not measured now: it never passes for a live reading."""
    run: Id | UnsetType = UNSET
    """Of a replayed reading: the replay it belongs to."""
    phase_a: Annotated[list[PhaseA], Meta(min_length=1, max_length=3)] | UnsetType = UNSET
    """The current on each phase, with the sign of `power_w`; absent if the meter does not tell."""


class PvReading(Message, frozen=True, kw_only=True):
    """The PV production at the instant of a meter reading, whose identity it keeps."""

    house: Id
    meter: Id
    boot: Counter
    seq: Counter
    timestamp: Instant
    meter_w: PowerW
    pv_w: Annotated[float, Meta(ge=0, le=1e8, description="W, + production")] | None
    """None: not known for that instant, and the meter's value stands alone."""
    sum_w: PowerW | None
    """meter_w + pv_w, as the CSV has it. It is no net power and nothing computes from it."""
    measures: Literal["load", "grid"] = "load"
    historical: bool = False
    run: Id | UnsetType = UNSET


class PlantReading(Message, frozen=True, kw_only=True):
    """A plant at one instant; its id stands in the house's place."""

    house: Id
    boot: Counter
    seq: Counter
    timestamp: Instant
    generation_w: Annotated[float, Meta(ge=0, le=1e12, description="W, + production")]
    consumption_w: Annotated[float, Meta(ge=0, le=1e12, description="W, + consumption")]
    """Without the loads that are managed for the sake of the plant."""
    trusted: bool = True
    """Whether whoever measured it stands by it."""
    historical: bool = False


class DerTelemetry(Message, frozen=True, kw_only=True):
    """A DER's state, once a second: the fourteen fields of the mock controller, then ours."""

    der_id: Id
    is_online: bool
    timestamp: Instant
    current_output: PowerKw
    """kW: + charging for a battery, + consumption for an EV or a load, + production for PV."""
    power_meter_measurement: PowerKw
    """The same power as the DER's own meter sees it, with that meter's noise."""
    baseline: PowerKw
    contract_threshold: PowerKw
    units: Literal["kW"] = "kW"
    project_id: Id
    is_standalone: bool
    connection_start_at: Instant
    current_soc: Percent | None
    type: DerType
    nameplate_capacity: FlowKw
    """Rated power [kW]."""

    house: Id
    capacity_kwh: EnergyKwh | None = None
    max_charge_kw: FlowKw | None = None
    max_discharge_kw: FlowKw | None = None
    efficiency_roundtrip: Annotated[float, Meta(gt=0, le=1)] | None = None
    min_soc_percent: Percent | None = None
    max_soc_percent: Percent | None = None
    temperature_c: Annotated[float, Meta(ge=-90, le=200)] | None = None
    connected: bool | None = None
    """EV: the car is plugged in."""
    current_a: CurrentA | None = None
    min_current_a: CurrentA | None = None
    max_current_a: CurrentA | None = None
    phases: Literal[1, 3] | None = None
    phase: Literal[1, 2, 3] | UnsetType = UNSET
    """Of a device on one phase: which; absent if it does not tell."""
    target_soc_percent: Percent | None = None
    departure_at: Instant | None = None
    presets_kw: Annotated[list[FlowKw], Meta(min_length=1, max_length=100)] | UnsetType = UNSET
    """Flexible load: at what it can run, rising, beside standing still; others tell none of these six."""
    preset_kw: FlowKw | UnsetType = UNSET
    """What it is set to; it may still be on its way there."""
    safe_kw: FlowKw | UnsetType = UNSET
    """What it goes back to when nobody commands it."""
    changing_until: Instant | UnsetType | None = UNSET
    """When it has started or stopped; null: it does neither."""
    managed: bool | UnsetType = UNSET
    """Whether an orchestrator may set it."""
    priority: Annotated[int, Meta(ge=-1000, le=1000)] | UnsetType = UNSET
    """The higher, the sooner it gets power."""
    following: Literal["command", "safe"] = "safe"
    """Whether a valid command is in force, or the DER is in its own safe state."""


class DispatchCommand(Message, frozen=True, kw_only=True):
    """What a DER shall do until `valid_until`; it obeys, or says why not."""

    command_id: Id
    house: Id
    der_id: Id
    issuer: Id
    epoch: Counter
    seq: Counter
    issued_at: Instant
    valid_until: Instant
    setpoint_kw: PowerKw | None = None
    setpoint_a: CurrentA | None = None
    reason: Text = ""


class CommandAck(Message, frozen=True, kw_only=True):
    """A DER's answer to one command."""

    command_id: Id
    house: Id
    der_id: Id
    epoch: Counter
    seq: Counter
    timestamp: Instant
    result: Literal["accepted", "rejected", "expired"]
    reason: Text = ""
    applied_kw: PowerKw | None = None
    applied_a: CurrentA | None = None
    mark_epoch: Counter | None = None
    """The highest (epoch, seq) the DER has obeyed: an orchestrator that lost its memory rises above it."""
    mark_seq: Counter | None = None


class Schedule(Message, frozen=True, kw_only=True):
    """An optimizer's plan for one battery or car. Step i runs from start + i*step_s; N steps, N+1 SoCs."""

    house: Id
    der_id: Id
    issued_at: Instant
    valid_until: Instant
    start: Instant
    step_s: StepS
    status: Literal["optimal", "fallback", "infeasible", "error"]
    reason: Text = ""
    violations: list[Text] = []
    """The soft limits that the plan has to miss, by name and amount."""
    battery_power_kw: list[PowerKw]
    """Of this battery or car, + charging / - discharging."""
    grid_power_kw: list[PowerKw]
    grid_ceiling_kw: list[FlowKw] = []
    """What the grid may give in each step without a new peak that costs; 0 where peaks cost nothing."""
    curtailed_kw: list[FlowKw]
    soc_percent: list[Percent]
    limit: list[Text] = []
    """What kept each step's power from being another, by name; empty if nothing was solved."""
    stored_value: list[PricePerKwh] = []
    """What a kWh more in this battery after each step would save; empty if not known."""
    load_kw: list[FlowKw]
    pv_kw: list[FlowKw]
    import_price: list[PricePerKwh]
    currency: Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")]
    energy_cost: float
    demand_cost: float
    total_cost: float
    peak_kw: FlowKw
    solver: Text = ""
    solve_time_s: Annotated[float, Meta(ge=0)] | None = None
    """Wall-clock time of the solve; absent in a run that must repeat to the byte."""

    def __post_init__(self) -> None:
        super().__post_init__()
        per_step = (self.grid_power_kw, self.curtailed_kw, self.load_kw, self.pv_kw, self.import_price)
        _check_lengths(self.battery_power_kw, per_step)
        told = (self.limit, self.stored_value, self.grid_ceiling_kw)
        _check_lengths(self.battery_power_kw, [values for values in told if values])
        if len(self.soc_percent) != len(self.battery_power_kw) + 1:
            raise ValueError(
                f"soc_percent has {len(self.soc_percent)} values: one more than steps are needed"
            )

    @property
    def is_solved(self) -> bool:
        """Whether it is worth following: optimal, or the best that was found in time."""
        return self.status == "optimal" or (self.status == "fallback" and bool(self.limit))


class PowerSnapshot(Message, frozen=True, kw_only=True):
    """A house at one instant. grid + pv - curtailed = load + ev + battery, to 1e-9 kW."""

    house: Id
    timestamp: Instant
    pv_kw: FlowKw
    """Available production, before curtailment."""
    house_load_kw: FlowKw
    battery_power_kw: PowerKw
    ev_power_kw: FlowKw
    grid_import_kw: FlowKw
    grid_export_kw: FlowKw
    curtailed_kw: FlowKw = 0.0

    def imbalance_kw(self) -> float:
        """Sources less sinks [kW]; 0 but for rounding."""
        sources = self.pv_kw - self.curtailed_kw + self.grid_import_kw
        sinks = self.house_load_kw + self.ev_power_kw + self.battery_power_kw + self.grid_export_kw
        return sources - sinks

    def verify_power_balance(self) -> bool:
        """Whether sources equal sinks to BALANCE_TOLERANCE_KW."""
        return abs(self.imbalance_kw()) <= BALANCE_TOLERANCE_KW

    def exceeds_fuse_limit(self, limit_kw: float) -> bool:
        """Whether more is imported than the main fuse carries."""
        return self.grid_import_kw > limit_kw


class Decision(Message, frozen=True, kw_only=True):
    """Why the orchestrator asked what it asked, for one DER at one tick."""

    house: Id
    der_id: Id
    timestamp: Instant
    tier: Literal["physical", "safety", "economic"]
    limit: Text
    """The limit or wish that decided, by name."""
    import_price: PricePerKwh | None = None
    currency: Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")] | None = None
    urgency: Annotated[float, Meta(ge=0, le=1)] | None = None
    asked_kw: PowerKw
    given_kw: PowerKw
    alternative: Text = ""
    sentence: Text
    """The same for a householder, in one sentence."""


class Status(Message, frozen=True, kw_only=True):
    """Whether a device or service is there; a last will sets it to offline."""

    house: Id
    device: Id
    online: bool
    timestamp: Instant
    expires_s: Annotated[float, Meta(gt=0, le=86400)] = 90.0
    """Older than this it counts as offline: AMQP has no last will, so there it is a heartbeat."""


class PriceForecast(Message, frozen=True, kw_only=True):
    """What energy costs in the next steps, under one tariff."""

    house: Id
    tariff: Id
    issued_at: Instant
    start: Instant
    step_s: StepS
    currency: Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")]
    import_price: list[PricePerKwh]
    export_price: list[PricePerKwh]
    demand_price: list[PricePerKwh]
    """Per kW of the month's highest mean in that step's tariff period."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_lengths(self.import_price, (self.export_price, self.demand_price))


class Forecast(Message, frozen=True, kw_only=True):
    """What a house is expected to consume or produce."""

    house: Id
    kind: Literal["load", "pv"]
    name: Text
    issued_at: Instant
    start: Instant
    step_s: StepS
    power_kw: list[FlowKw]
    error_kw: FlowKw | None = None
    """Mean absolute error of this forecaster on what has been measured since; absent before that."""


class Alert(Message, frozen=True, kw_only=True):
    """Something a person should know."""

    house: Id
    source: Id
    boot: Counter
    seq: Counter
    timestamp: Instant
    severity: Literal["info", "warning", "critical"]
    name: Id
    text: Text


class StateRequest(Message, frozen=True, kw_only=True):
    """Asks whoever keeps a matching state to publish it again, where the broker does not."""

    house: Id
    client: Id
    pattern: Text
