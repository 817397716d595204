"""A house in closed loop, tick by tick: readings, plan, decision, command, and what becomes of them."""

from typing import NamedTuple

import numpy as np

from contracts.instant import Instant
from contracts.messages import Message, MeterReading, PowerSnapshot, PvReading
from optimizer.history import FloatArray
from orchestrator.issuer import Issuer
from orchestrator.model import HouseModel
from wattbus.backtest.case import W_PER_KW, Case, Flows
from wattbus.backtest.devices import BATTERY, Der
from wattbus.backtest.planner import Foretold, Planner

METER = "main"


class Run(NamedTuple):
    """What came of a policy."""

    flows: Flows
    foretold: tuple[Foretold, ...] = ()
    refused: int = 0
    """Commands that a device did not obey."""
    undecided: int = 0
    """Ticks at which the orchestrator fell back to its safe default."""
    failed_plans: int = 0


class Loop:
    """A house's devices under the orchestrator.

    At each tick the orchestrator measures the mean of the tick that begins: it stands for a control loop that
    follows the house within 10 s. The planner hears of a tick only once it is over.

    Args:
        case: the house.
        ders: its devices that are commanded.
        planner: None: the orchestrator has no plan, and no price.
        cars_kw: what cars that nobody commands draw, shape (cars, ticks).
    """

    def __init__(self, case: Case, ders: list[Der], planner: Planner | None, cars_kw: FloatArray) -> None:
        self._case = case
        self._ders = ders
        self._battery = next((der for der in ders if der.der_id == BATTERY), None)
        self._planner = planner
        self._load_kw = case.days.load_kw + cars_kw.sum(axis=0)
        self._house = HouseModel(case.house, case.limits, case.tariff.zone)
        self._issuer = Issuer("main", 1)
        n = case.ticks
        self._flows = Flows(np.zeros(n), cars_kw.copy(), np.zeros(n), np.zeros(n), np.zeros(n + 1))
        cars = (der for der in ders if der is not self._battery)
        self._powers_kw = {der.der_id: self._flows.cars_kw[number] for number, der in enumerate(cars)}
        if self._battery is not None:
            self._powers_kw[BATTERY] = self._flows.battery_kw
        self._refused = 0

    def run(self) -> Run:
        """Through all the ticks."""
        for tick in range(self._case.ticks):
            self._run_tick(tick)
        flows, house, planner = self._flows, self._house, self._planner
        if self._battery is None:
            flows = flows._replace(soc_percent=np.empty(0))
        else:
            flows.soc_percent[-1] = self._battery.soc_percent
        return Run(
            flows,
            () if planner is None else tuple(planner.foretold),
            self._refused,
            house.violations + house.balance_errors,
            0 if planner is None else planner.failed,
        )

    def _run_tick(self, tick: int) -> None:
        case, now = self._case, self._case.at(tick)
        readings = self._readings(tick, now)
        self._look(now)
        for reading in readings:
            self._house.known.hear(reading, now)
        snapshot = self._command(tick, now)
        if self._battery is not None:
            self._flows.soc_percent[tick] = self._battery.soc_percent
        ends = case.at(tick + 1)
        for der in self._ders:
            der.settle(ends)
            der.run(case.days.tick_s)
        self._note(tick, snapshot)
        if self._planner is not None:
            # What was measured all through the tick, now that it is over.
            for message in (*(der.telemetry(now) for der in self._ders), *readings):
                self._planner.hear(message, now)

    def _look(self, now: Instant) -> None:
        """How the devices stand; and a plan, if one is due."""
        told = []
        for der in self._ders:
            der.settle(now)
            told.append(der.telemetry(now))
        published: list[Message] = [*told]
        if self._planner is not None:
            for telemetry in told:
                self._planner.hear(telemetry, now)
            published += self._planner.look(now)
        for message in published:
            self._house.known.hear(message, now)

    def _readings(self, tick: int, now: Instant) -> list[MeterReading | PvReading]:
        house, has_pv = self._case.house, self._case.days.has_pv
        load_w = float(self._load_kw[tick]) * W_PER_KW
        meter = MeterReading(
            house=house, meter=METER, boot=1, seq=tick, timestamp=now, power_w=load_w, has_pv=has_pv
        )
        if not has_pv:
            return [meter]
        pv_w = float(self._case.days.pv_kw[tick]) * W_PER_KW
        pv = PvReading(
            house=house,
            meter=METER,
            boot=1,
            seq=tick,
            timestamp=now,
            meter_w=load_w,
            pv_w=pv_w,
            sum_w=load_w + pv_w,
        )
        return [meter, pv]

    def _command(self, tick: int, now: Instant) -> PowerSnapshot | None:
        outcome = self._house.tick(now, self._issuer)
        told = {command.der_id: command for command in outcome.commands}
        for der in self._ders:
            ack = der.command(told[der.der_id], now, tick * self._case.days.tick_s)
            self._refused += ack.result != "accepted"
        return outcome.snapshot

    def _note(self, tick: int, snapshot: PowerSnapshot | None) -> None:
        """What flowed; curtailed is what was decided to be, and what may not be exported."""
        flows, days = self._flows, self._case.days
        for der in self._ders:
            self._powers_kw[der.der_id][tick] = der.power_kw
        net_kw = self._load_kw[tick] + sum(der.power_kw for der in self._ders) - days.pv_kw[tick]
        decided_kw = 0.0 if snapshot is None else snapshot.curtailed_kw
        curtailed_kw = max(0.0, decided_kw, -net_kw - self._case.limits.max_grid_export_kw)
        flows.curtailed_kw[tick] = min(curtailed_kw, days.pv_kw[tick])
        flows.grid_kw[tick] = net_kw + flows.curtailed_kw[tick]
