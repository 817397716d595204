"""What the page is sent: rows, days, commands and alerts, from the model. Times are Unix milliseconds."""

import msgspec

from contracts.instant import Instant
from contracts.messages import DerTelemetry, Status
from dashboard.flows import BIN_S, Bin
from dashboard.house import CAR, House, Sent
from dashboard.model import Fleet
from dashboard.outlook import PlanView, PriceView, price_view, prices_at
from runtime.token import SITE, Principal


class CommandView(msgspec.Struct, frozen=True, kw_only=True):
    """A command and its answer."""

    der: str
    at: int
    value: float
    unit: str
    reason: str
    result: str
    """accepted, rejected, expired; empty: no answer yet."""
    why: str
    answered: int | None
    until: int


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    """A device as its telemetry has it."""

    der: str
    kind: str
    kw: float
    soc: float | None
    at: int
    """When it last spoke."""
    online: bool
    away: bool
    following: str
    celsius: float | None
    target: float | None
    departure: int | None
    command: CommandView | None


class ReasonView(msgspec.Struct, frozen=True, kw_only=True):
    """Why a device does what it does."""

    der: str
    tier: str
    sentence: str
    at: int


class HoldView(msgspec.Struct, frozen=True, kw_only=True):
    """What a person has stopped; no der: all of the house."""

    der: str | None
    mode: str
    user: str
    until: int | None


class TroubleView(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong."""

    severity: str
    text: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A house now; powers in kW."""

    house: str
    at: int | None
    """When its meter last spoke."""
    online: bool
    """Whether its meter says that it is there."""
    pv: float | None
    load: float | None
    grid: float | None
    battery: float | None
    ev: float | None
    curtailed: float
    soc: float | None
    price: float | None
    sell: float | None
    currency: str
    cost: float | None
    saved: float | None
    since: int | None
    plan: str
    why: list[ReasonView]
    devices: list[DeviceView]
    held: list[HoldView]
    troubles: list[TroubleView]


class DayView(msgspec.Struct, frozen=True, kw_only=True):
    """A house's day so far in five-minute means, what was planned for it, and what is to come."""

    house: str
    midnight: int
    step_s: float
    start: list[int]
    load: list[float]
    pv: list[float]
    grid: list[float]
    soc: list[float | None]
    price: list[float | None]
    planned_load: list[float | None]
    planned_pv: list[float | None]
    planned_grid: list[float | None]
    planned_soc: list[float | None]
    plan: PlanView | None
    prices: PriceView | None


class AlertView(msgspec.Struct, frozen=True, kw_only=True):
    """One alert."""

    house: str
    source: str
    name: str
    severity: str
    text: str
    at: int


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """A service of no house."""

    name: str
    online: bool


def row_of(house: House, now: Instant) -> Row:
    """A house's row."""
    flows = house.flows()
    prices = prices_at(house.price, now)
    ledger = house.ledger
    told = None if ledger.since is None else ledger.since.unix_ms
    return Row(
        house=house.name,
        at=_heard(house, "", None if house.meter is None else house.meter.timestamp),
        online=_is_online(
            house, None if house.meter is None else getattr(house.meter, "meter", "poller"), now
        ),
        pv=None if flows is None else _kw(flows.pv),
        load=None if flows is None else _kw(flows.load),
        grid=None if flows is None else _kw(flows.grid),
        battery=_kw(sum(der.current_output for der in house.batteries())) if house.batteries() else None,
        ev=_kw(sum(car.current_output for car in _cars(house))) if _cars(house) else None,
        curtailed=0.0 if flows is None else _kw(flows.curtailed),
        soc=_digits(house.soc_percent(), 1),
        price=None if prices is None else prices[0],
        sell=None if prices is None else prices[1],
        currency="" if house.price is None else house.price.currency,
        cost=None if told is None else round(ledger.cost, 4),
        saved=None if told is None or not house.batteries() else round(house.saved(), 4),
        since=told,
        plan="" if house.plan is None else house.plan.status,
        why=[
            ReasonView(der=der_id, tier=one.tier, sentence=one.sentence, at=one.timestamp.unix_ms)
            for der_id, one in sorted(house.decisions.items())
        ],
        devices=[_device(house, der, now) for _, der in sorted(house.ders.items())],
        held=_held(house, now),
        troubles=[TroubleView(severity=alert.severity, text=alert.text) for alert in house.troubles()],
    )


def day_of(house: House, fleet: Fleet, now: Instant) -> DayView:
    """A house's day."""
    bins = [one for one in house.day.bins if one.measured_s > 0]
    local = now.local(fleet.zone)
    midnight = Instant.of(local.replace(hour=0, minute=0, second=0, microsecond=0))
    return DayView(
        house=house.name,
        midnight=midnight.unix_ms,
        step_s=BIN_S,
        start=[one.start_ms for one in bins],
        load=[_kw(one.load / one.measured_s) for one in bins],
        pv=[_kw(one.pv / one.measured_s) for one in bins],
        grid=[_kw(one.grid / one.measured_s) for one in bins],
        soc=[_digits(one.soc, 1) for one in bins],
        price=[one.price for one in bins],
        planned_load=_planned(bins, "load"),
        planned_pv=_planned(bins, "pv"),
        planned_grid=_planned(bins, "grid"),
        planned_soc=_planned(bins, "soc"),
        plan=house.plan,
        prices=None if house.price is None else price_view(house.price),
    )


def commands_of(house: House) -> list[CommandView]:
    """The latest commands of a house, the newest first."""
    return [_command(sent) for sent in reversed(house.sent)]


def alerts_of(fleet: Fleet, who: Principal = SITE) -> list[AlertView]:
    """The latest alerts of the houses that `who` sees, the newest first."""
    return [
        AlertView(
            house=alert.house,
            source=alert.source,
            name=alert.name,
            severity=alert.severity,
            text=alert.text,
            at=alert.timestamp.unix_ms,
        )
        for alert in reversed(fleet.alerts)
        if who.sees(alert.house)
    ]


def services_of(fleet: Fleet, now: Instant) -> list[ServiceView]:
    """The services of no house."""
    return [
        ServiceView(name=name, online=_holds(status, now))
        for name, status in sorted(fleet.services.items())
        if not name.startswith("dashboard")
    ]


def _cars(house: House) -> list[DerTelemetry]:
    return [der for der in house.ders.values() if der.type == CAR]


def _planned(bins: list[Bin], name: str) -> list[float | None]:
    return [None if one.plan is None else _digits(getattr(one.plan, name), 3) for one in bins]


def _device(house: House, der: DerTelemetry, now: Instant) -> DeviceView:
    sent = house.last_sent.get(der.der_id)
    return DeviceView(
        der=der.der_id,
        kind=der.type,
        kw=_kw(der.current_output),
        soc=_digits(der.current_soc, 1),
        at=_heard(house, der.der_id, der.timestamp) or 0,
        online=der.is_online and _is_online(house, der.der_id, now),
        away=der.connected is False,
        following=der.following,
        celsius=_digits(der.temperature_c, 1),
        target=der.target_soc_percent,
        departure=None if der.departure_at is None else der.departure_at.unix_ms,
        command=None if sent is None else _command(sent),
    )


def _command(sent: Sent) -> CommandView:
    command, ack = sent.command, sent.ack
    in_amps = command.setpoint_a is not None
    return CommandView(
        der=command.der_id,
        at=command.issued_at.unix_ms,
        value=_kw((command.setpoint_a if in_amps else command.setpoint_kw) or 0.0),
        unit="A" if in_amps else "kW",
        reason=command.reason,
        result="" if ack is None else ack.result,
        why="" if ack is None else ack.reason,
        answered=None if ack is None else ack.timestamp.unix_ms,
        until=command.valid_until.unix_ms,
    )


def _held(house: House, now: Instant) -> list[HoldView]:
    held = [] if house.orders is None else house.orders.held
    return [
        HoldView(
            der=one.der_id,
            mode=one.mode,
            user=one.user,
            until=None if one.until is None else one.until.unix_ms,
        )
        for one in held
        if one.until is None or now < one.until
    ]


def _heard(house: House, der_id: str, stamp: Instant | None) -> int | None:
    """When a device last spoke: a clock that runs ahead does not make it look fresh."""
    heard_at = house.heard_at.get(der_id)
    return None if heard_at is None or stamp is None else min(heard_at, stamp).unix_ms


def _is_online(house: House, device: str | None, now: Instant) -> bool:
    """Whether a device has not said that it is gone, and its last word has not expired."""
    status = None if device is None else house.online.get(device)
    return status is None or _holds(status, now)


def _holds(status: Status, now: Instant) -> bool:
    return status.online and now.seconds_since(status.timestamp) <= status.expires_s


def _kw(value: float) -> float:
    return round(value, 3) + 0.0


def _digits(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits) + 0.0
