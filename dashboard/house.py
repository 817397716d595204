"""One house as a spectator of the bus knows it: its latest messages, its day, and its devices. Pure."""

from collections import deque
from datetime import tzinfo
from typing import Any

from contracts.instant import Instant
from contracts.messages import (
    Alert,
    CommandAck,
    Decision,
    DerTelemetry,
    DispatchCommand,
    MeterReading,
    PlantReading,
    PowerSnapshot,
    PriceForecast,
    PvReading,
    Schedule,
    Status,
)
from contracts.orders import StandingOrders
from dashboard.flows import GAP_MAX_S, DayLog, Flows, Ledger
from dashboard.outlook import PlanView, plan_point, plan_view, prices_at

DERS_MAX = 50
COMMANDS_MAX = 30
"""Of a house, with their answers."""
NAMES_MAX = 50
"""Kinds of alerts of a house that are known to stand."""
CURTAILED_FRESH_S = 30.0
BATTERY = "battery_storage"
CAR = "electric_vehicle"


class Sent:
    """A command and what became of it."""

    __slots__ = ("ack", "command")

    def __init__(self, command: DispatchCommand) -> None:
        self.command = command
        self.ack: CommandAck | None = None


class House:
    """What is known of one house; everything in it is bounded.

    Args:
        name: its id.
        zone: whose days are counted.
        max_export_kw: what it may feed in.
    """

    def __init__(self, name: str, zone: tzinfo, max_export_kw: float) -> None:
        self.name = name
        self.heard_at: dict[str, Instant] = {}
        """When each device last spoke, by the dashboard's own clock; the meter is `` (no name)."""
        self.meter: MeterReading | PlantReading | None = None
        self.pv: PvReading | None = None
        self.ders: dict[str, DerTelemetry] = {}
        self.online: dict[str, Status] = {}
        self.decisions: dict[str, Decision] = {}
        self.schedules: dict[str, Schedule] = {}
        self.snapshot: PowerSnapshot | None = None
        self.price: PriceForecast | None = None
        self.orders: StandingOrders | None = None
        self.sent: deque[Sent] = deque(maxlen=COMMANDS_MAX)
        self.last_sent: dict[str, Sent] = {}
        self.standing: dict[tuple[str, str], Alert] = {}
        """The last alert of each kind."""
        self.day = DayLog()
        self.ledger = Ledger(zone, max_export_kw)
        self.plan: PlanView | None = None
        self.outlook_version = 0
        """Rises with each plan and each price."""
        self.sent_version = 0
        """Rises with each command and each answer."""

    def hear(self, message: Any, now: Instant) -> None:  # noqa: ANN401, C901, PLR0912 - one case a message
        """Take in one message."""
        match message:
            case DerTelemetry():
                self._note_der(message, now)
            case MeterReading(historical=False) | PlantReading(historical=False):
                self._measure(message, now)
            case PvReading(historical=False):
                if self.pv is None or message.timestamp >= self.pv.timestamp:
                    self.pv = message
            case PowerSnapshot():
                self.snapshot = message
            case Decision():
                _keep(self.decisions, message.der_id, message, DERS_MAX)
            case DispatchCommand():
                self._note_command(message)
            case CommandAck():
                self._note_ack(message)
            case Schedule():
                _keep(self.schedules, message.der_id, message, DERS_MAX)
                self._renew_outlook()
            case PriceForecast():
                self.price = message
                self._renew_outlook()
            case StandingOrders():
                self.orders = message
            case Status():
                _keep(self.online, message.device, message, DERS_MAX)
            case Alert():
                _keep(self.standing, (message.source, message.name), message, NAMES_MAX)
            case _:
                pass

    def flows(self) -> Flows | None:
        """The powers now, or None: no meter has spoken."""
        meter = self.meter
        battery, ev = self._power_of(BATTERY), self._power_of(CAR)
        if meter is None:
            return None
        if isinstance(meter, PlantReading):
            pv, load = meter.generation_w / 1000, meter.consumption_w / 1000
            return Flows(pv, load, load - pv + battery + ev, battery, ev, 0.0)
        pv = 0.0 if self.pv is None or self.pv.pv_w is None else self.pv.pv_w / 1000
        curtailed = min(self._curtailed(meter.timestamp), pv)
        if meter.measures == "grid":
            grid = meter.power_w / 1000
            return Flows(pv, grid + pv - curtailed - battery - ev, grid, battery, ev, curtailed)
        load = meter.power_w / 1000
        return Flows(pv, load, load + ev + battery - pv + curtailed, battery, ev, curtailed)

    def batteries(self) -> list[DerTelemetry]:
        """Those that have spoken."""
        return [der for der in self.ders.values() if der.type == BATTERY]

    def soc_percent(self) -> float | None:
        """How full the batteries are together."""
        known = [
            (der.current_soc, der.capacity_kwh or 1.0)
            for der in self.batteries()
            if der.current_soc is not None
        ]
        total = sum(capacity for _, capacity in known)
        return sum(soc * capacity for soc, capacity in known) / total if total else None

    def stored_kwh(self) -> float:
        """What the batteries hold."""
        return sum((der.current_soc or 0.0) / 100 * (der.capacity_kwh or 0.0) for der in self.batteries())

    def saved(self) -> float:
        """What the batteries saved today, by the prices told."""
        prices = self.price.import_price if self.price is not None else [0.0]
        return self.ledger.saved(self.stored_kwh(), sum(prices) / len(prices))

    def troubles(self) -> list[Alert]:
        """Of each kind of alert the last one, unless that says that it is over."""
        return [alert for alert in self.standing.values() if alert.severity != "info"]

    def _note_der(self, telemetry: DerTelemetry, now: Instant) -> None:
        is_new = telemetry.der_id not in self.ders
        if is_new and len(self.ders) >= DERS_MAX:
            return
        self.ders[telemetry.der_id] = telemetry
        self.heard_at[telemetry.der_id] = now
        if is_new:
            self._renew_outlook()  # whether a plan is a battery's or a car's is known from now on

    def _power_of(self, kind: str) -> float:
        return sum(der.current_output for der in self.ders.values() if der.type == kind)

    def _curtailed(self, at: Instant) -> float:
        snapshot = self.snapshot
        if snapshot is None or abs(at.seconds_since(snapshot.timestamp)) > CURTAILED_FRESH_S:
            return 0.0
        return snapshot.curtailed_kw

    def _measure(self, reading: MeterReading | PlantReading, now: Instant) -> None:
        """Close the interval from the last reading to this one, with what was known of it."""
        last, flows = self.meter, self.flows()
        if last is not None and reading.timestamp < last.timestamp <= now:
            return  # late: it is not how things are; but one from the future does not silence the others
        self.meter = reading
        self.heard_at[""] = now
        if last is None or flows is None:
            return
        start, duration_s = last.timestamp, reading.timestamp.seconds_since(last.timestamp)
        if not 0 < duration_s <= GAP_MAX_S:
            return
        prices = prices_at(self.price, start)
        price = None if prices is None else prices[0]
        self.day.add(start, duration_s, flows, self.soc_percent(), price, plan_point(self.plan, start))
        if prices is not None:
            self.ledger.add(start, duration_s, flows, self.stored_kwh(), prices)

    def _renew_outlook(self) -> None:
        capacities = {der.der_id: der.capacity_kwh or 1.0 for der in self.batteries()}
        self.plan = plan_view(self.schedules, capacities)
        self.outlook_version += 1

    def _note_command(self, command: DispatchCommand) -> None:
        sent = Sent(command)
        self.sent.append(sent)
        _keep(self.last_sent, command.der_id, sent, DERS_MAX)
        self.sent_version += 1

    def _note_ack(self, ack: CommandAck) -> None:
        for sent in reversed(self.sent):
            if sent.command.command_id == ack.command_id:
                sent.ack = ack
                self.sent_version += 1
                return


def _keep(known: dict[Any, Any], key: object, value: object, most: int) -> None:
    """Keep the latest of each key; who is new when there are enough is not kept."""
    if key in known or len(known) < most:
        known[key] = value
