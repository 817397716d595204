"""The last of everything heard from one house; newest wins, replayed readings do not count. Pure."""

from typing import TypeVar

from contracts.instant import Instant
from contracts.messages import DerTelemetry, MeterReading, PlantReading, PriceForecast, PvReading, Schedule
from orchestrator.wear import Wear

_Timed = TypeVar("_Timed", MeterReading, PvReading, DerTelemetry)
_Issued = TypeVar("_Issued", Schedule, PriceForecast)

SCHEDULE_FRESH_S = 1800.0
FORGET_S = 3600.0
"""A meter or a DER that has been silent for so long is not waited for any more."""
DAY_S = 86400.0
DEVICES_MAX = 1000
"""Of each kind in a house; more are not heard."""
CLOCK_SKEW_S = 60.0
"""What claims to come from further in the future does not stand in the way of what follows."""

BATTERY = "battery_storage"
EV = "electric_vehicle"
PV = "solar_pv"
LOAD = "flexible_load"


class Known:
    """What is known of a house.

    Args:
        fresh_s: older than this a reading or telemetry counts as none.
        wear: counts the batteries' cycles.
    """

    def __init__(self, fresh_s: float, wear: Wear) -> None:
        self._fresh_s = fresh_s
        self._meters: dict[str, MeterReading] = {}
        self._pv: dict[str, PvReading] = {}
        self._schedules: dict[str, Schedule] = {}
        self.ders: dict[str, DerTelemetry] = {}
        """By id, in the order of their ids."""
        self._mean: tuple[Instant, int, float] | None = None
        self.price: PriceForecast | None = None
        self.plant: PlantReading | None = None
        """Of a house that is a plant."""
        self.plant_loads_kw = 0.0
        """What its managed loads drew when that was heard."""
        self.wear = wear

    def hear(self, message: object, now: Instant) -> None:
        """Take in one message; what is older than what is known changes nothing."""
        match message:
            case MeterReading(historical=False):
                self._keep_newest(self._meters, message.meter, message, now)
            case PvReading(historical=False):
                self._keep_newest(self._pv, message.meter, message, now)
            case PlantReading(historical=False, trusted=True):
                self._keep_plant(message, now)
            case DerTelemetry():
                self._hear_der(message, now)
            case Schedule():
                self._keep_schedule(message, now)
            case PriceForecast():
                if _is_newer(message, self.price, now):
                    self.price = message
            case _:
                pass

    def is_fresh(self, moment: Instant, now: Instant) -> bool:
        """Whether something said then still counts."""
        return abs(now.seconds_since(moment)) <= self._fresh_s

    def readings(self, now: Instant) -> tuple[list[MeterReading], bool]:
        """The house's meters, and whether they tell its load: half of it is no load to decide from."""
        found = [
            reading for reading in self._meters.values() if now.seconds_since(reading.timestamp) <= FORGET_S
        ]
        return found, bool(found) and all(self.is_fresh(reading.timestamp, now) for reading in found)

    @property
    def has_meter(self) -> bool:
        """Whether any meter has ever been heard."""
        return bool(self._meters)

    def pv_kw(self, now: Instant) -> float:
        """Available production [kW]."""
        return sum(pv.pv_w or 0.0 for pv in self._pv.values() if self.is_fresh(pv.timestamp, now)) / 1000

    def ders_of(self, kind: str, now: Instant) -> list[DerTelemetry]:
        """The DERs of a type that are not forgotten yet, by id."""
        forgotten = now.after(-FORGET_S)
        return [der for der in self.ders.values() if der.type == kind and der.timestamp >= forgotten]

    def mean_price(self, forecast: PriceForecast, step: int) -> float:
        """Of the 24 h that begin with a step; worked out once a step."""
        if self._mean is None or self._mean[:2] != (forecast.issued_at, step):
            ahead = forecast.import_price[step : step + round(DAY_S / forecast.step_s)]
            self._mean = (forecast.issued_at, step, sum(ahead) / len(ahead))
        return self._mean[2]

    def schedule_of(self, der_id: str, now: Instant) -> tuple[Schedule, int] | None:
        """A DER's plan and the step in hand, if it is fresh and was really solved."""
        plan = self._schedules.get(der_id)
        if plan is None or not plan.is_solved or now >= plan.valid_until:
            return None
        if not -CLOCK_SKEW_S <= now.seconds_since(plan.issued_at) <= SCHEDULE_FRESH_S:
            return None
        step = step_of(plan, len(plan.battery_power_kw), now)
        return None if step is None else (plan, step)

    def _hear_der(self, der: DerTelemetry, now: Instant) -> None:
        is_new = der.der_id not in self.ders
        if not self._keep_newest(self.ders, der.der_id, der, now):
            return
        if is_new:
            self.ders = dict(sorted(self.ders.items()))
        if der.type == BATTERY and self.is_fresh(der.timestamp, now):
            self.wear.add(der)

    def _keep_plant(self, reading: PlantReading, now: Instant) -> None:
        last = self.plant
        if (
            last is None
            or reading.timestamp > last.timestamp
            or last.timestamp.seconds_since(now) > CLOCK_SKEW_S
        ):
            self.plant = reading
            managed = [der for der in self.ders_of(LOAD, now) if der.managed is True]
            self.plant_loads_kw = sum(
                der.current_output for der in managed if self.is_fresh(der.timestamp, now)
            )

    def _keep_schedule(self, plan: Schedule, now: Instant) -> None:
        known = self._schedules.get(plan.der_id)
        if known is None and len(self._schedules) >= DEVICES_MAX:
            return
        if _is_newer(plan, known, now):
            self._schedules[plan.der_id] = plan

    def _keep_newest(self, known: dict[str, _Timed], key: str, message: _Timed, now: Instant) -> bool:
        last = known.get(key)
        if last is None and len(known) >= DEVICES_MAX:
            return False
        # One that claims to come from the future must not silence those that follow.
        if last is None or message.timestamp >= last.timestamp or not self.is_fresh(last.timestamp, now):
            known[key] = message
            return True
        return False


def _is_newer(message: _Issued, known: _Issued | None, now: Instant) -> bool:
    if known is None or message.issued_at >= known.issued_at:
        return True
    return known.issued_at.seconds_since(now) > CLOCK_SKEW_S


def step_of(series: Schedule | PriceForecast, steps: int, now: Instant) -> int | None:
    """The step of a series in which `now` lies."""
    step = int(now.seconds_since(series.start) // series.step_s)
    return step if 0 <= step < steps else None
