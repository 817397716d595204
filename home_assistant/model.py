"""From what is heard on the bus to Home Assistant's values, and to energies that only rise. Pure."""

from typing import Any

import msgspec

from contracts.instant import Instant
from contracts.messages import Decision, DerTelemetry, PowerSnapshot, PriceForecast
from home_assistant.messages import DerState, HouseState

FRESH_S = 60.0
"""What was said longer ago says nothing of now."""
GAP_MAX_S = 120.0
"""A longer silence is not made up: nobody knows what flowed."""
TEXT_MAX = 255
"""The longest state that Home Assistant keeps."""
DERS_MAX = 50
BATTERY, CAR = "battery_storage", "electric_vehicle"


class Energies(msgspec.Struct, kw_only=True):
    """A house's counters [kWh]; none ever falls."""

    load: float = 0.0
    pv: float = 0.0
    grid_import: float = 0.0
    grid_export: float = 0.0
    charged: dict[str, float] = {}
    """By battery or car."""
    discharged: dict[str, float] = {}


class HouseModel:
    """One house.

    Args:
        energies: as they were kept.
    """

    def __init__(self, energies: Energies) -> None:
        self.energies = energies
        self.ders: dict[str, DerTelemetry] = {}
        """Its batteries and cars."""
        self.price: PriceForecast | None = None
        self.snapshot: PowerSnapshot | None = None
        self._decisions: dict[str, Decision] = {}

    def hear(self, message: Any) -> None:  # noqa: ANN401 - any message
        """Take in one message."""
        match message:
            case PowerSnapshot():
                self._flow(message)
            case DerTelemetry(type="battery_storage" | "electric_vehicle"):
                self._charge(message)
            case Decision():
                if message.der_id in self._decisions or len(self._decisions) < DERS_MAX:
                    self._decisions[message.der_id] = message
            case PriceForecast():
                self.price = message
            case _:
                pass

    def house_state(self, now: Instant) -> HouseState:
        """The house's values at this instant."""
        snapshot, energies = self.snapshot, self.energies
        known = snapshot if snapshot is not None and _is_fresh(snapshot.timestamp, now) else None
        return HouseState(
            load_kw=None if known is None else round(known.house_load_kw, 3),
            pv_kw=None if known is None else round(_pv_kw(known), 3),
            grid_kw=None if known is None else round(known.grid_import_kw - known.grid_export_kw, 3),
            load_kwh=round(energies.load, 6),
            pv_kwh=round(energies.pv, 6),
            grid_import_kwh=round(energies.grid_import, 6),
            grid_export_kwh=round(energies.grid_export, 6),
            import_price=self._price_at(now),
        )

    def der_state(self, der_id: str, now: Instant) -> DerState:
        """A battery's or a car's values at this instant."""
        der = self.ders[der_id]
        known = der if der.is_online and _is_fresh(der.timestamp, now) else None
        decision = self._decisions.get(der_id)
        is_known = decision is not None and _is_fresh(decision.timestamp, now)
        return DerState(
            power_kw=None if known is None else round(known.current_output, 3),
            soc_percent=None if known is None or known.current_soc is None else round(known.current_soc, 1),
            charged_kwh=round(self.energies.charged.get(der_id, 0.0), 6),
            discharged_kwh=round(self.energies.discharged.get(der_id, 0.0), 6),
            connected=None if known is None else known.connected,
            decision=decision.sentence[:TEXT_MAX] if decision is not None and is_known else None,
        )

    def is_alive(self, now: Instant) -> bool:
        """Whether anything has been heard of it lately."""
        spoken = [der.timestamp for der in self.ders.values()]
        if self.snapshot is not None:
            spoken.append(self.snapshot.timestamp)
        return any(_is_fresh(moment, now) for moment in spoken)

    def _flow(self, snapshot: PowerSnapshot) -> None:
        """The last snapshot's flows lasted until this one."""
        last = self.snapshot
        if last is not None and snapshot.timestamp < last.timestamp:
            return
        self.snapshot = snapshot
        hours = _hours_between(None if last is None else last.timestamp, snapshot.timestamp)
        if last is None or not hours:
            return
        self.energies.load += last.house_load_kw * hours
        self.energies.pv += _pv_kw(last) * hours
        self.energies.grid_import += last.grid_import_kw * hours
        self.energies.grid_export += last.grid_export_kw * hours

    def _charge(self, telemetry: DerTelemetry) -> None:
        der_id, last = telemetry.der_id, self.ders.get(telemetry.der_id)
        if last is None and len(self.ders) >= DERS_MAX:
            return
        if last is not None and telemetry.timestamp < last.timestamp:
            return
        self.ders[der_id] = telemetry
        hours = _hours_between(None if last is None else last.timestamp, telemetry.timestamp)
        if last is None or not hours:
            return
        counters = self.energies.charged if last.current_output > 0 else self.energies.discharged
        counters[der_id] = counters.get(der_id, 0.0) + abs(last.current_output) * hours

    def _price_at(self, now: Instant) -> float | None:
        if self.price is None:
            return None
        step = int(now.seconds_since(self.price.start) // self.price.step_s)
        return self.price.import_price[step] if 0 <= step < len(self.price.import_price) else None


def _pv_kw(snapshot: PowerSnapshot) -> float:
    """What was produced: what was curtailed never was."""
    return max(snapshot.pv_kw - snapshot.curtailed_kw, 0.0)


def _hours_between(earlier: Instant | None, later: Instant) -> float:
    if earlier is None:
        return 0.0
    seconds = later.seconds_since(earlier)
    return seconds / 3600 if 0 < seconds <= GAP_MAX_S else 0.0


def _is_fresh(moment: Instant, now: Instant) -> bool:
    return abs(now.seconds_since(moment)) <= FRESH_S
