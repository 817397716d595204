"""A house's power flows as they were measured, and its means over the day. Pure."""

from collections import deque
from datetime import tzinfo
from typing import NamedTuple

import msgspec

from contracts.instant import Instant

BIN_S = 300.0
BINS_MAX = 288
"""A day of five-minute means; the oldest goes when a new one comes."""
GAP_MAX_S = 3600.0
"""A longer silence of the meter is not made up."""


class Flows(NamedTuple):
    """A house's powers [kW]: grid + import / - export, battery + charging / - discharging."""

    pv: float
    load: float
    grid: float
    battery: float
    ev: float
    curtailed: float


class PlanPoint(NamedTuple):
    """What the plan in force says of an instant [kW, %]."""

    pv: float
    load: float
    grid: float
    soc: float | None


class Bin(msgspec.Struct, gc=False):
    """Five minutes of a house: sums over the time measured, and what was planned for them."""

    start_ms: int
    measured_s: float = 0.0
    pv: float = 0.0
    load: float = 0.0
    grid: float = 0.0
    soc: float | None = None
    """The last one."""
    price: float | None = None
    plan: PlanPoint | None = None


class DayLog:
    """The last day of a house in five-minute means."""

    def __init__(self) -> None:
        self.bins: deque[Bin] = deque(maxlen=BINS_MAX)
        self.version = 0
        """Rises with each bin that is begun."""

    def add(
        self,
        start: Instant,
        duration_s: float,
        flows: Flows,
        soc: float | None,
        price: float | None,
        plan: PlanPoint | None,
    ) -> None:
        """Count flows that lasted from `start` on for `duration_s` seconds."""
        start_ms = start.floor(BIN_S).unix_ms
        if not self.bins or self.bins[-1].start_ms < start_ms:
            self.bins.append(Bin(start_ms, price=price))
            self.version += 1
        latest = self.bins[-1]
        latest.measured_s += duration_s
        latest.pv += flows.pv * duration_s
        latest.load += flows.load * duration_s
        latest.grid += flows.grid * duration_s
        latest.soc, latest.plan = soc, plan  # a plan made in a step's first seconds is that step's


class Ledger:
    """What a house's energy cost since midnight or since it was first heard, with its battery and without.

    Args:
        zone: whose midnight it is.
        max_export_kw: what may flow into the grid; what the house without its battery could not use is lost.
    """

    def __init__(self, zone: tzinfo, max_export_kw: float) -> None:
        self._zone = zone
        self._max_export_kw = max_export_kw
        self.since: Instant | None = None
        self.cost = 0.0
        """Of energy, less what export earned."""
        self._without = 0.0
        self._stored_before_kwh = 0.0

    def add(
        self,
        start: Instant,
        duration_s: float,
        flows: Flows,
        stored_kwh: float,
        prices: tuple[float, float],
    ) -> None:
        """Count flows that lasted from `start` on.

        Args:
            stored_kwh: what the batteries hold now.
            prices: of a kWh imported, and exported.
        """
        if self.since is None or self.since.local(self._zone).date() != start.local(self._zone).date():
            self.since, self.cost, self._without = start, 0.0, 0.0
            self._stored_before_kwh = stored_kwh
        hours = duration_s / 3600.0
        without_kw = max(flows.load + flows.ev - flows.pv, -self._max_export_kw)
        self.cost += _cost(flows.grid * hours, prices)
        self._without += _cost(without_kw * hours, prices)

    def saved(self, stored_kwh: float, price_to_come: float) -> float:
        """What the batteries saved; what they hold more than at first counts at the price to come."""
        return self._without - self.cost + (stored_kwh - self._stored_before_kwh) * price_to_come


def _cost(kwh: float, prices: tuple[float, float]) -> float:
    return kwh * (prices[0] if kwh > 0 else prices[1])
