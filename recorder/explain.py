"""What a house's diary says of one instant: what was measured, decided, commanded and answered, and why."""

from collections.abc import Iterable
from datetime import tzinfo
from typing import Any, TypeVar

import msgspec

from contracts import topics
from contracts.archive import Row
from contracts.codec import decode_at, encode_hook
from contracts.errors import ContractError
from contracts.instant import Instant
from contracts.messages import Alert, CommandAck, Decision, DispatchCommand, Message, PowerSnapshot, Schedule
from contracts.orders import OperatorRequest, StandingOrders
from recorder.pages import Line

STANDS_S = 60.0
"""A decision is made anew every 10 s: an older one was no longer in force."""
REQUESTS_S = 3600.0
"""So far back persons' requests are told."""

M = TypeVar("M", bound=Message)


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A command, and what the device said to it."""

    command: DispatchCommand
    ack: CommandAck | None = None


class DerAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided for one DER."""

    der_id: str
    decision: Decision | None = None
    answered: Answered | None = None
    plan: Schedule | None = None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What was known and decided at one instant; each part as it was said last."""

    house: str
    at: Instant
    heard_at: Instant
    """When the last of it was heard."""
    snapshot: PowerSnapshot | None
    ders: list[DerAccount]
    orders: StandingOrders | None
    requests: list[OperatorRequest]
    measured: dict[str, Row] = {}
    """The last reading of each meter."""
    alerts: list[Alert] = []


def account_of(lines: Iterable[Line], house: str, at: Instant) -> Account | None:
    """The account at an instant, from the diary's lines up to it; None if there is none.

    Args:
        lines: in the order in which they were heard.
        house: whose they are.
        at: what was heard later is passed over.
    """
    newest: dict[str, Line] = {}
    acks: dict[str, Line] = {}
    requests: list[OperatorRequest] = []
    heard_at = None
    for line in lines:
        if line.heard_at > at:
            continue
        heard_at = line.heard_at
        match line.topic.rsplit("/", 1)[-1]:
            case "ack":
                acks[line.topic] = line
            case "request":
                if at.seconds_since(line.heard_at) <= REQUESTS_S:
                    requests += [m for m in [_message(line)] if isinstance(m, OperatorRequest)]
            case _:
                newest[line.topic] = line
    if heard_at is None:
        return None
    said = [message for line in newest.values() if (message := _message(line)) is not None]
    return Account(
        house=house,
        at=at,
        heard_at=heard_at,
        snapshot=_last(PowerSnapshot, said),
        ders=_ders(said, [message for line in acks.values() if (message := _message(line)) is not None]),
        orders=_last(StandingOrders, said),
        requests=requests,
    )


def _ders(said: Iterable[Message], answers: Iterable[Message]) -> list[DerAccount]:
    acks = {answer.command_id: answer for answer in answers if isinstance(answer, CommandAck)}
    known: dict[str, dict[str, Any]] = {}
    for message in said:
        match message:
            case Decision(der_id=der_id):
                known.setdefault(der_id, {})["decision"] = message
            case DispatchCommand(der_id=der_id, command_id=command_id):
                answered = Answered(command=message, ack=acks.get(command_id))
                known.setdefault(der_id, {})["answered"] = answered
            case Schedule(der_id=der_id):
                known.setdefault(der_id, {})["plan"] = message
            case _:
                pass
    return [DerAccount(der_id=der_id, **parts) for der_id, parts in sorted(known.items())]


def _last(kind: type[M], said: Iterable[Message]) -> M | None:
    found = [message for message in said if isinstance(message, kind)]
    return found[-1] if found else None


def _message(line: Line) -> Message | None:
    """The message on a line; None for what nobody could have sent: the file was written to by hand."""
    try:
        address = topics.find(line.topic)
        return None if address is None else decode_at(address, bytes(line.message))
    except ContractError:
        return None


def as_json(account: Account) -> bytes:
    """The account as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(account, enc_hook=encode_hook), indent=2)


def as_text(account: Account, zone: tzinfo) -> str:
    """The account for people.

    Args:
        account: what is told.
        zone: whose wall clocks are shown beside UTC.
    """
    local = account.at.local(zone)
    lines = [f"{account.house} at {account.at} ({local:%Y-%m-%d %H:%M:%S} {zone})"]
    away_s = account.at.seconds_since(account.heard_at)
    if away_s > STANDS_S:
        lines.append(f"nothing was heard for {_span(away_s)} before: what follows no longer held")
    lines += _flows(account)
    for der in account.ders:
        lines += ["", *_der(der, account.at)]
    lines += _persons(account)
    if account.alerts:
        lines += ["", "alerts in the 24 h before"]
        lines += [f"  {alert.timestamp}  {alert.severity}  {alert.text}" for alert in account.alerts]
    return "\n".join(lines) + "\n"


def _flows(account: Account) -> list[str]:
    lines = []
    for meter, row in sorted(account.measured.items()):
        pv = "" if row.pv_w is None else f", PV {row.pv_w:.0f} W"
        lines.append(f"  meter {meter}: {row.meter_w:.0f} W{pv} at {row.timestamp}")
    if (flows := account.snapshot) is not None:
        grid = flows.grid_import_kw - flows.grid_export_kw
        lines.append(
            f"  flows: PV {flows.pv_kw:.2f} kW, load {flows.house_load_kw:.2f} kW, "
            f"battery {flows.battery_power_kw:+.2f} kW, EV {flows.ev_power_kw:.2f} kW, grid {grid:+.2f} kW"
            + (f", curtailed {flows.curtailed_kw:.2f} kW" if flows.curtailed_kw else "")
        )
        lines.append("  (battery + charging / - discharging, grid + import / - export)")
    return lines


def _der(der: DerAccount, at: Instant) -> list[str]:
    lines = [der.der_id]
    if (decision := der.decision) is not None:
        price = ""
        if decision.import_price is not None:
            price = f"; a kWh cost {decision.import_price:.4g} {decision.currency or ''}".rstrip()
        lines.append(f"  why: {decision.sentence}")
        lines.append(
            f"  decided {decision.timestamp} by {decision.limit} ({decision.tier}): "
            f"asked {decision.asked_kw:+.2f} kW, given {decision.given_kw:+.2f} kW{price}"
        )
        if decision.alternative:
            lines.append(f"  otherwise: {decision.alternative}")
        if at.seconds_since(decision.timestamp) > STANDS_S:
            lines.append(
                f"  that was {_span(at.seconds_since(decision.timestamp))} before: nothing newer was said"
            )
    lines += _command(der.answered, at)
    if der.plan is not None:
        lines.append(_plan(der.plan, at))
    return lines


def _command(answered: Answered | None, at: Instant) -> list[str]:
    if answered is None:
        return ["  no command is recorded: the device follows its safe state"]
    command, ack = answered.command, answered.ack
    setpoint = f"{command.setpoint_a:.1f} A" if command.setpoint_a is not None else _kw(command.setpoint_kw)
    over = "" if command.valid_until > at else ", which was over: the device was in its safe state"
    sent = (
        f"  command {command.command_id} (epoch {command.epoch}, seq {command.seq}) of {command.issued_at}: "
        f"{setpoint} until {command.valid_until}{over}"
    )
    if ack is None:
        return [sent, "  not answered by then"]
    applied = f"{ack.applied_a:.1f} A" if ack.applied_a is not None else _kw(ack.applied_kw)
    reason = f": {ack.reason}" if ack.reason else ""
    return [sent, f"  {ack.result} at {ack.timestamp}, applied {applied}{reason}"]


def _plan(plan: Schedule, at: Instant) -> str:
    step = int(at.seconds_since(plan.start) // plan.step_s)
    head = f"  plan of {plan.issued_at} ({plan.status})"
    if plan.valid_until <= at or not 0 <= step < len(plan.battery_power_kw):
        return f"{head}: no longer valid"
    limit = f", held by {plan.limit[step]}" if plan.limit and plan.limit[step] else ""
    value = ""
    if plan.stored_value:
        value = f"; a kWh kept is worth {plan.stored_value[step]:.4g} {plan.currency}"
    return (
        f"{head}: {plan.battery_power_kw[step]:+.2f} kW now{limit}; "
        f"charge {plan.soc_percent[step]:.0f} % to {plan.soc_percent[step + 1]:.0f} %; "
        f"load {plan.load_kw[step]:.2f} kW and PV {plan.pv_kw[step]:.2f} kW were expected{value}"
    )


def _persons(account: Account) -> list[str]:
    held, car_plans = (account.orders.held, account.orders.car_plans) if account.orders else ([], [])
    lines = [
        f"  {one.der_id or 'the house'}: {one.mode}, ordered by {one.user}, until {one.until or 'taken back'}"
        for one in held
    ]
    for car in car_plans:
        target = "as it says" if car.target_soc_percent is None else f"{car.target_soc_percent:.0f} %"
        departure = car.departure_at or "as it says"
        lines.append(f"  {car.der_id or 'every car'}: departure {departure}, target {target}")
    for request in account.requests:
        what = f"{request.action} {request.der_id or ''}".rstrip()
        lines.append(f"  {request.issued_at}: {request.user} asked for {what}")
    return ["", "persons", *lines] if lines else []


def _kw(power_kw: float | None) -> str:
    return "nothing" if power_kw is None else f"{power_kw:+.2f} kW"


def _span(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004 - two hours
