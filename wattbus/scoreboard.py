"""What was seen on the bus: each house's latest values, counts and energies. Pure."""

from typing import Any

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
)
from energy.bill import Bill
from energy.tariff import Tariff


class Mean:
    """The mean of a power over the time between two calls of `take`."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0
        self._last = 0.0

    def add(self, value: float) -> None:
        """One more sample; samples are equally spaced."""
        self._sum += value
        self._count += 1
        self._last = value

    def take(self) -> float:
        """The mean since the last take; with no sample since, the last one known."""
        mean = self._sum / self._count if self._count else self._last
        self._sum, self._count = 0.0, 0
        return mean


class Energy:
    """Energies of a house [kWh], each positive."""

    def __init__(self) -> None:
        self.load_kwh = 0.0
        self.pv_kwh = 0.0
        self.charged_kwh = 0.0
        self.discharged_kwh = 0.0
        self.ev_kwh = 0.0


class HouseBoard:
    """One house as a spectator of the bus sees it."""

    def __init__(self, house: str, tariff: Tariff, max_export_kw: float) -> None:
        self.house = house
        self._max_export_kw = max_export_kw
        self.currency = tariff.currency
        self.reading: MeterReading | None = None
        self.pv: PvReading | None = None
        self.battery: DerTelemetry | None = None
        self.first_soc_percent: float | None = None
        self.ev: DerTelemetry | None = None
        self.snapshot: PowerSnapshot | None = None
        self.price: PriceForecast | None = None
        self.command: DispatchCommand | None = None
        self.ack: CommandAck | None = None
        self.decisions: dict[str, Decision] = {}
        self.sent = 0
        self.answers = {"accepted": 0, "rejected": 0, "expired": 0}
        self.snapshots = 0
        self.unbalanced = 0
        self.energy = Energy()
        self.bill = Bill(tariff)
        self.bill_without = Bill(tariff)
        self._battery_kw = Mean()
        self._ev_kw = Mean()

    def hear(self, message: Any) -> None:  # noqa: ANN401, C901 - one case a message type
        """Take in one message."""
        match message:
            case DerTelemetry(type="battery_storage"):
                self.battery = message
                if self.first_soc_percent is None:
                    self.first_soc_percent = message.current_soc
                self._battery_kw.add(message.current_output)
            case DerTelemetry(type="electric_vehicle"):
                self.ev = message
                self._ev_kw.add(message.current_output)
            case MeterReading(historical=False):
                self._close_interval(message.timestamp)
                self.reading = message
            case PvReading(historical=False):
                self.pv = message
            case PowerSnapshot():
                self.snapshot = message
                self.snapshots += 1
                self.unbalanced += not message.verify_power_balance()
            case Decision():
                self.decisions[message.der_id] = message
            case DispatchCommand():
                self.command = message
                self.sent += 1
            case CommandAck():
                self.ack = message
                self.answers[message.result] += 1
            case PriceForecast():
                self.price = message
            case _:
                pass

    def stored_kwh(self) -> float:
        """How much fuller the battery is than at first sight [kWh]."""
        battery = self.battery
        if battery is None or battery.current_soc is None or self.first_soc_percent is None:
            return 0.0
        return (battery.current_soc - self.first_soc_percent) / 100 * (battery.capacity_kwh or 0.0)

    def saved(self) -> float:
        """What the battery saved on energy; what it holds more counts at the mean price to come."""
        without, with_battery = self.bill_without.costs(), self.bill.costs()
        spent = (without.energy - without.export) - (with_battery.energy - with_battery.export)
        prices = self.price.import_price if self.price is not None else [0.0]
        return spent + self.stored_kwh() * sum(prices) / len(prices)

    def price_now(self) -> float | None:
        """The import price at the last reading."""
        if self.price is None or self.reading is None:
            return None
        step = int(self.reading.timestamp.seconds_since(self.price.start) // self.price.step_s)
        return self.price.import_price[step] if 0 <= step < len(self.price.import_price) else None

    def _close_interval(self, now: Instant) -> None:
        """Count the time from the last reading to this one; readings of another meter do not."""
        last = self.reading
        battery_kw, ev_kw = self._battery_kw.take(), self._ev_kw.take()
        if last is None:
            return
        duration_s = now.seconds_since(last.timestamp)
        if not 0 < duration_s <= 3600:  # noqa: PLR2004 - a gap is not made up
            return
        hours = duration_s / 3600
        load_kw = last.power_w / 1000
        pv = self.pv
        pv_kw = (pv.pv_w or 0.0) / 1000 if pv is not None and pv.timestamp == last.timestamp else 0.0
        if last.measures == "grid":
            load_kw = max(load_kw + pv_kw - battery_kw - ev_kw, 0.0)
        energy = self.energy
        energy.load_kwh += load_kw * hours
        energy.pv_kwh += pv_kw * hours
        energy.charged_kwh += max(battery_kw, 0.0) * hours
        energy.discharged_kwh += max(-battery_kw, 0.0) * hours
        energy.ev_kwh += ev_kw * hours
        without_kw = load_kw + ev_kw - pv_kw
        # What may not be exported is curtailed.
        self.bill.add(last.timestamp, duration_s, max(without_kw + battery_kw, -self._max_export_kw))
        self.bill_without.add(last.timestamp, duration_s, max(without_kw, -self._max_export_kw))
