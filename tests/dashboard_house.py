"""Houses for the dashboard's tests: what they would say on the bus, and a dashboard that hears it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from broker.bus import PlanesBus
from contracts import topics
from contracts.instant import Instant
from contracts.messages import (
    Alert,
    CommandAck,
    Decision,
    DerTelemetry,
    DispatchCommand,
    MeterReading,
    PriceForecast,
    PvReading,
    Schedule,
)
from contracts.topics import Topic
from dashboard.__main__ import page
from dashboard.settings import DashboardSettings
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from tests.broker_life import free_ports

HOUSE = "house-a"
KINDS = {"battery": "battery_storage", "ev": "electric_vehicle"}


def telemetry(
    at: Instant, kw: float, soc: float = 50.0, *, house: str = HOUSE, der: str = "battery", **more: Any
) -> DerTelemetry:
    known: dict[str, Any] = {
        "der_id": der, "is_online": True, "timestamp": at, "current_output": kw, "power_meter_measurement": kw,
        "baseline": 0, "contract_threshold": 5, "project_id": "P", "is_standalone": False, "connection_start_at": at,
        "current_soc": soc, "type": KINDS.get(der, "battery_storage"), "nameplate_capacity": 5, "house": house,
        "capacity_kwh": 10.0, "following": "command",
    }  # fmt: skip
    return DerTelemetry(**{**known, **more})


def reading(at: Instant, watts: float, *, house: str = HOUSE, **more: Any) -> MeterReading:
    known: dict[str, Any] = {
        "house": house,
        "meter": "main",
        "boot": 1,
        "seq": at.unix_ms // 1000,
        "timestamp": at,
    }
    return MeterReading(**{**known, "power_w": watts, **more})


def pv_reading(at: Instant, watts: float | None, *, house: str = HOUSE) -> PvReading:
    known: dict[str, Any] = {
        "house": house,
        "meter": "main",
        "boot": 1,
        "seq": at.unix_ms // 1000,
        "timestamp": at,
    }
    return PvReading(**known, meter_w=0.0, pv_w=watts, sum_w=None)


def prices(
    at: Instant, *, house: str = HOUSE, buy: float = 0.3, sell: float = 0.1, steps: int = 192
) -> PriceForecast:
    return PriceForecast(
        house=house, tariff="flat", issued_at=at, start=at.floor(900), step_s=900, currency="EUR",
        import_price=[buy] * (steps // 2) + [buy * 2] * (steps - steps // 2), export_price=[sell] * steps,
        demand_price=[0.0] * steps,
    )  # fmt: skip


def schedule(
    at: Instant, *, house: str = HOUSE, der: str = "battery", steps: int = 192, **more: Any
) -> Schedule:
    known: dict[str, Any] = {
        "house": house, "der_id": der, "issued_at": at, "valid_until": at.after(1800), "start": at.floor(900), "step_s": 900,
        "status": "optimal", "battery_power_kw": [1.0] * steps, "grid_power_kw": [2.0] * steps, "curtailed_kw": [0.0] * steps,
        "soc_percent": [50.0] * (steps + 1), "load_kw": [1.5] * steps, "pv_kw": [0.5] * steps, "import_price": [0.3] * steps,
        "currency": "EUR", "energy_cost": 1.0, "demand_cost": 0.0, "total_cost": 1.0, "peak_kw": 2.0,
    }  # fmt: skip
    return Schedule(**{**known, **more})


def decision(at: Instant, sentence: str, *, house: str = HOUSE, der: str = "battery") -> Decision:
    return Decision(
        house=house, der_id=der, timestamp=at, tier="economic", limit="plan", asked_kw=1.0, given_kw=1.0, sentence=sentence,
    )  # fmt: skip


def command(
    at: Instant, kw: float, number: int, *, house: str = HOUSE, der: str = "battery"
) -> DispatchCommand:
    return DispatchCommand(
        command_id=f"c{number}", house=house, der_id=der, issuer="main", epoch=1, seq=number, issued_at=at,
        valid_until=at.after(30), setpoint_kw=kw, reason="because",
    )  # fmt: skip


def answer(
    at: Instant,
    number: int,
    result: Any = "accepted",
    *,
    house: str = HOUSE,
    der: str = "battery",
    reason: str = "",
) -> CommandAck:
    return CommandAck(
        command_id=f"c{number}", house=house, der_id=der, epoch=1, seq=number, timestamp=at, result=result, reason=reason,
    )  # fmt: skip


def alert(
    at: Instant, text: str, severity: Any = "warning", *, house: str = HOUSE, name: str = "meter-silent"
) -> Alert:
    return Alert(
        house=house,
        source="main",
        boot=1,
        seq=at.unix_ms,
        timestamp=at,
        severity=severity,
        name=name,
        text=text,
    )


PLACES: dict[type, tuple[Topic[Any], str]] = {
    MeterReading: (topics.METER_READING, "meter"),
    PvReading: (topics.PV_READING, "meter"),
    DerTelemetry: (topics.DER_TELEMETRY, "der_id"),
    DispatchCommand: (topics.DER_COMMAND, "der_id"),
    CommandAck: (topics.DER_ACK, "der_id"),
    Schedule: (topics.SCHEDULE, "der_id"),
    Decision: (topics.DECISION, "der_id"),
    PriceForecast: (topics.PRICE, "tariff"),
    Alert: (topics.ALERT, "source"),
}


async def say(bus: PlanesBus, *messages: Any) -> None:
    """Put messages where they belong."""
    for message in messages:
        topic, slot = PLACES[type(message)]
        await bus.publish(topic.at(house=message.house, **{slot: getattr(message, slot)}), message)


def a_house(
    at: Instant, *, house: str = HOUSE, load_w: float = 1500, pv_w: float = 500, battery_kw: float = -0.6
) -> list[Any]:
    """All that one house says at an instant."""
    return [
        reading(at, load_w, house=house),
        pv_reading(at, pv_w, house=house),
        telemetry(at, battery_kw, 64.0, house=house),
    ]


@asynccontextmanager
async def dashboard(
    bus: PlanesBus, clock: Clock, connected: Callable[[], bool] = lambda: True, **settings: Any
) -> AsyncIterator[str]:
    """A dashboard on a free port; gives its address."""
    for topic in (topics.METER_READING, topics.PV_READING, topics.ALERT):
        await bus.declare(topic, durable=topics.RECORDER)
    (port,) = free_ports(1)
    # No test of what is answered is to wait for the limit.
    told = {"service_port": port, "data_dir": Path("nowhere"), "requests_per_s": 1e5, **settings}
    own = DashboardSettings(**told)
    async with page(own, bus, connected, clock, Lifecycle(), lambda _: 16.0) as bound:
        yield f"http://127.0.0.1:{bound}"
