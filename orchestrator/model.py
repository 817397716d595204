"""One house as the orchestrator knows it: what was heard, and what each tick makes of it. Pure."""

import enum
from typing import NamedTuple, TypeVar

import msgspec

from contracts.instant import Instant
from contracts.messages import (
    CommandAck,
    Decision,
    DerTelemetry,
    DispatchCommand,
    MeterReading,
    PowerSnapshot,
    PriceForecast,
    PvReading,
    Schedule,
)
from orchestrator.flow import compute_flows
from orchestrator.limits import (
    BatteryState,
    Constraints,
    EconomicObjectives,
    EvState,
    PhysicalConstraints,
    PowerFlowInputs,
    SafetyConstraints,
    Verdict,
)

_Timed = TypeVar("_Timed", MeterReading, PvReading, DerTelemetry)

SILENT_S = 90.0
"""An orchestrator none of whose commands was obeyed for so long has gone."""
EPOCH_MAX = 2**53
SCHEDULE_FRESH_S = 1800.0
FORGET_S = 3600.0
"""A meter that has been silent for so long is not waited for any more."""
DEVICES_MAX = 1000
"""Of each kind in a house; more are not heard."""

BATTERY = "battery_storage"
EV = "electric_vehicle"


class HouseLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say of a house."""

    max_grid_import_kw: float
    max_grid_export_kw: float
    reading_fresh_s: float
    ttl_s: float
    arbitrage_threshold: float | None


class Outcome(NamedTuple):
    """What one tick says: nothing of a house that has not been heard of lately but the safe commands."""

    snapshot: PowerSnapshot | None
    decisions: list[Decision]
    commands: list[DispatchCommand]


class Standing(enum.Enum):
    """What an ack means for who commands."""

    UNCHANGED = "nothing new"
    RAISED = "our epoch had to rise above one a DER has obeyed"
    STOOD_DOWN = "another orchestrator commands"


class Issuer:
    """Numbers the commands of one orchestrator, and knows whether it is the one that commands.

    (epoch, seq) only ever rises. A new orchestrator takes an epoch above every one it hears of; one that has
    been obeyed and then sees a later one obeyed stands down, and takes over again when that one falls silent.
    """

    def __init__(self, name: str, epoch: int) -> None:
        self.name = name
        self.epoch = epoch
        self._seq = 0
        self._obeyed = False
        self._other: tuple[int, Instant] | None = None

    def commands(self, now: Instant) -> bool:
        """Whether this orchestrator is the one that commands."""
        if self._other is None:
            return True
        epoch, heard_at = self._other
        if now.seconds_since(heard_at) <= SILENT_S:
            return False
        self._other = None
        self._rise_above(epoch)
        return True

    def hear(self, ack: CommandAck, now: Instant) -> Standing:
        """Take note of a DER's answer, to our command or to another orchestrator's."""
        theirs = max(ack.epoch, ack.mark_epoch or 0)
        if theirs >= EPOCH_MAX:
            return Standing.UNCHANGED  # no honest orchestrator starts that often
        ours = _issuer_of(ack) == self.name
        if ours and ack.result == "accepted":
            self._obeyed = self._obeyed or ack.epoch == self.epoch
            return Standing.UNCHANGED
        if ours or not self._obeyed:
            if theirs < self.epoch or (ours and ack.epoch < self.epoch):
                return Standing.UNCHANGED
            if theirs == self.epoch and ours and ack.mark_epoch != self.epoch:
                return Standing.UNCHANGED  # refused for another reason than its number
            self._rise_above(theirs)
            return Standing.RAISED
        if ack.result != "accepted" or (theirs, _issuer_of(ack)) <= (self.epoch, self.name):
            return Standing.UNCHANGED
        was_standing = self._other is None
        self._other = (theirs, now)
        return Standing.STOOD_DOWN if was_standing else Standing.UNCHANGED

    def _rise_above(self, epoch: int) -> None:
        self.epoch = epoch + 1
        self._seq = 0
        self._obeyed = False

    def command(self, verdict: Verdict, house: str, now: Instant, ttl_s: float) -> DispatchCommand:
        """The command that carries out a verdict."""
        self._seq += 1
        is_ev = verdict.given_a is not None
        return DispatchCommand(
            command_id=f"{self.name}-{self.epoch}-{self._seq}",
            house=house,
            der_id=verdict.der_id,
            issuer=self.name,
            epoch=self.epoch,
            seq=self._seq,
            issued_at=now,
            valid_until=now.after(ttl_s),
            setpoint_kw=None if is_ev else verdict.given_kw,
            setpoint_a=verdict.given_a,
            reason=verdict.sentence,
        )


def _issuer_of(ack: CommandAck) -> str:
    return ack.command_id.rsplit("-", 2)[0]


class HouseModel:
    """The last of everything heard from one house; newest wins, replayed readings do not count."""

    def __init__(self, house: str, limits: HouseLimits) -> None:
        self.house = house
        self._limits = limits
        self._meters: dict[str, MeterReading] = {}
        self._pv: dict[str, PvReading] = {}
        self._ders: dict[str, DerTelemetry] = {}
        self._schedules: dict[str, Schedule] = {}
        self._price: PriceForecast | None = None

    def hear(self, message: object, now: Instant) -> None:
        """Take in one message; what is older than what is known changes nothing."""
        match message:
            case MeterReading(historical=False):
                self._keep_newest(self._meters, message.meter, message, now)
            case PvReading(historical=False):
                self._keep_newest(self._pv, message.meter, message, now)
            case DerTelemetry():
                self._keep_newest(self._ders, message.der_id, message, now)
            case Schedule():
                known = self._schedules.get(message.der_id)
                if known is None or message.issued_at >= known.issued_at:
                    self._schedules[message.der_id] = message
            case PriceForecast():
                if self._price is None or message.issued_at >= self._price.issued_at:
                    self._price = message
            case _:
                pass

    def tick(self, now: Instant, issuer: Issuer) -> Outcome:
        """Decide for this instant.

        Raises:
            OrchestratorError: no balanced snapshot could be made.
        """
        battery = self._first(BATTERY, now)
        ev = self._first(EV, now)
        inputs = self._inputs(now, battery, ev)
        if inputs is None:
            verdicts = [_safe(der) for der in (ev, battery) if der is not None]
            snapshot = None
            objectives = EconomicObjectives()
        else:
            objectives = self._objectives(now, battery)
            snapshot, verdicts = compute_flows(inputs, self._constraints(battery, ev), objectives)
        return Outcome(
            snapshot,
            [self._decision(verdict, objectives, now) for verdict in verdicts],
            [issuer.command(verdict, self.house, now, self._limits.ttl_s) for verdict in verdicts],
        )

    def _fresh(self, moment: Instant, now: Instant) -> bool:
        return abs(now.seconds_since(moment)) <= self._limits.reading_fresh_s

    def _first(self, kind: str, now: Instant) -> DerTelemetry | None:
        """The DER of that type with the lowest id, if it has been heard of lately."""
        for der_id in sorted(self._ders):
            der = self._ders[der_id]
            if der.type == kind and der.is_online and self._fresh(der.timestamp, now):
                return der
        return None

    def _inputs(
        self, now: Instant, battery: DerTelemetry | None, ev: DerTelemetry | None
    ) -> PowerFlowInputs | None:
        readings = [
            reading for reading in self._meters.values() if now.seconds_since(reading.timestamp) <= FORGET_S
        ]
        # Half a house's load is no load to decide from: a stale meter makes the house stale.
        if not readings or not all(self._fresh(reading.timestamp, now) for reading in readings):
            return None
        pv_w = sum(pv.pv_w or 0.0 for pv in self._pv.values() if self._fresh(pv.timestamp, now))
        load_kw = sum(reading.power_w for reading in readings) / 1000
        if any(reading.measures == "grid" for reading in readings):
            load_kw += pv_w / 1000 - self._drawn_kw(now)
        return PowerFlowInputs(
            house=self.house,
            timestamp=now,
            house_load_kw=max(load_kw, 0.0),
            pv_kw=pv_w / 1000,
            battery=_battery_state(battery),
            ev=_ev_state(ev),
        )

    def _drawn_kw(self, now: Instant) -> float:
        """What the house's batteries, cars and flexible loads take."""
        ders = (
            der for der in self._ders.values() if der.type != "solar_pv" and self._fresh(der.timestamp, now)
        )
        return sum(der.current_output for der in ders)

    def _keep_newest(self, known: dict[str, _Timed], key: str, message: _Timed, now: Instant) -> None:
        last = known.get(key)
        if last is None and len(known) >= DEVICES_MAX:
            return
        # One that claims to come from the future must not silence those that follow.
        if last is None or message.timestamp >= last.timestamp or not self._fresh(last.timestamp, now):
            known[key] = message

    def _constraints(self, battery: DerTelemetry | None, ev: DerTelemetry | None) -> Constraints:
        physical = PhysicalConstraints(
            max_grid_import_kw=self._limits.max_grid_import_kw,
            max_grid_export_kw=self._limits.max_grid_export_kw,
        )
        safety = SafetyConstraints()
        if battery is not None:
            physical = msgspec.structs.replace(
                physical,
                max_battery_charge_kw=_or(battery.max_charge_kw, battery.nameplate_capacity),
                max_battery_discharge_kw=_or(battery.max_discharge_kw, battery.nameplate_capacity),
            )
            safety = SafetyConstraints(
                battery_min_soc_percent=_or(battery.min_soc_percent, safety.battery_min_soc_percent),
                battery_max_soc_percent=_or(battery.max_soc_percent, safety.battery_max_soc_percent),
            )
        if ev is not None:
            physical = msgspec.structs.replace(
                physical,
                evse_min_current_a=_or(ev.min_current_a, physical.evse_min_current_a),
                evse_max_current_a=_or(ev.max_current_a, physical.evse_max_current_a),
                phases=ev.phases or physical.phases,
            )
        return Constraints(physical=physical, safety=safety)

    def _objectives(self, now: Instant, battery: DerTelemetry | None) -> EconomicObjectives:
        price, threshold, currency = None, self._limits.arbitrage_threshold, None
        demand_priced = False
        if (
            self._price is not None
            and (step := _step_of(self._price, len(self._price.import_price), now)) is not None
        ):
            price, currency = self._price.import_price[step], self._price.currency
            demand_priced = self._price.demand_price[step] > 0
            if threshold is None:
                ahead = self._price.import_price[step : step + round(86400 / self._price.step_s)]
                threshold = sum(ahead) / len(ahead)
        schedule = self._schedules.get(battery.der_id) if battery is not None else None
        planned_kw, grid_kw = None, 0.0
        if schedule is not None and schedule.status == "optimal" and _is_valid(schedule, now):
            step = _step_of(schedule, len(schedule.battery_power_kw), now)
            if step is not None:
                planned_kw = schedule.battery_power_kw[step]
                grid_kw = schedule.grid_power_kw[step]
        return EconomicObjectives(
            import_price=price,
            arbitrage_threshold=threshold,
            currency=currency,
            scheduled_battery_kw=planned_kw,
            scheduled_grid_kw=grid_kw,
            demand_priced=demand_priced,
        )

    def _decision(self, verdict: Verdict, objectives: EconomicObjectives, now: Instant) -> Decision:
        return Decision(
            house=self.house,
            der_id=verdict.der_id,
            timestamp=now,
            tier=verdict.tier,
            limit=verdict.limit,
            import_price=objectives.import_price,
            currency=objectives.currency,
            urgency=verdict.urgency,
            asked_kw=round(verdict.asked_kw, 4),
            given_kw=round(verdict.given_kw, 4),
            alternative=verdict.alternative,
            sentence=verdict.sentence,
        )


def _is_valid(schedule: Schedule, now: Instant) -> bool:
    return now < schedule.valid_until and now.seconds_since(schedule.issued_at) <= SCHEDULE_FRESH_S


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _step_of(series: Schedule | PriceForecast, steps: int, now: Instant) -> int | None:
    step = int(now.seconds_since(series.start) // series.step_s)
    return step if 0 <= step < steps else None


def _battery_state(der: DerTelemetry | None) -> BatteryState | None:
    if der is None or der.current_soc is None:
        return None
    return BatteryState(der_id=der.der_id, soc_percent=der.current_soc)


def _ev_state(der: DerTelemetry | None) -> EvState | None:
    if der is None or der.current_soc is None:
        return None
    return EvState(
        der_id=der.der_id,
        connected=bool(der.connected),
        soc_percent=der.current_soc,
        target_soc_percent=_or(der.target_soc_percent, 100.0),
        capacity_kwh=_or(der.capacity_kwh, 0.0),
        departure_at=der.departure_at,
    )


def _safe(der: DerTelemetry) -> Verdict:
    return Verdict(
        der_id=der.der_id,
        asked_kw=0.0,
        given_kw=0.0,
        given_a=0.0 if der.type == EV else None,
        tier="safety",
        limit="stale readings",
        sentence="The house's meter has not been heard of lately: everything rests.",
        alternative="",
    )
