"""A house with a battery that obeys: what flows, what is stored, and what it costs, with and without it."""

import msgspec

from contracts.instant import Instant
from energy.battery import BatterySpec, BatteryState, step
from energy.bill import Bill, Costs
from energy.tariff import Tariff
from optimizer.counterparts.playback import Playback

STEP_S = 60.0
COMMAND_VALID_S = 1800.0
"""Older than this a command no longer holds: the battery rests."""


class Flows(msgspec.Struct, frozen=True, kw_only=True):
    """The house at one instant. grid + solar - curtailed = load + battery."""

    load_kw: float = 0.0
    solar_kw: float = 0.0
    battery_power_kw: float = 0.0
    grid_power_kw: float = 0.0
    curtailed_kw: float = 0.0


class Energy(msgspec.Struct, kw_only=True):
    """What has flowed since the start [kWh]."""

    load_kwh: float = 0.0
    solar_kwh: float = 0.0
    charged_kwh: float = 0.0
    discharged_kwh: float = 0.0
    import_kwh: float = 0.0
    export_kwh: float = 0.0
    curtailed_kwh: float = 0.0


class Simulator:
    """The house, moved on whenever somebody looks; time runs forward only."""

    def __init__(
        self,
        spec: BatterySpec,
        soc_percent: float,
        playback: Playback,
        tariff: Tariff,
        max_grid_export_kw: float,
        now: Instant,
    ) -> None:
        self.spec = spec
        self.state = BatteryState(soc_percent)
        self.flows = Flows()
        self.energy = Energy()
        self.commands = 0
        self._playback = playback
        self._max_export_kw = max_grid_export_kw
        self._now = now
        self._command_kw = 0.0
        self._command_until = now
        self._bill, self._bill_without = Bill(tariff), Bill(tariff)

    @property
    def costs(self) -> Costs:
        """The bill so far."""
        return self._bill.costs()

    @property
    def costs_without_battery(self) -> Costs:
        """What it would have been."""
        return self._bill_without.costs()

    def fault_in(self, power_kw: float) -> str | None:
        """Why the battery can't obey a command; None if it can."""
        low_kw, high_kw = -self.spec.max_discharge_kw, self.spec.max_charge_kw
        if low_kw <= power_kw <= high_kw:
            return None
        return f"battery_power_kw {power_kw:g} is outside {low_kw:g}..{high_kw:g}"

    def command(self, power_kw: float, now: Instant) -> None:
        """Obey from now on: + charge / - discharge."""
        self.advance(now)
        self.commands += 1
        self._command_kw = power_kw
        self._command_until = now.after(COMMAND_VALID_S)

    def advance(self, now: Instant) -> None:
        """Let the time until `now` pass, in steps that never run over a minute."""
        while self._now < now:
            end = min(now, self._now.floor(STEP_S).after(STEP_S))
            self._pass(self._now, end.seconds_since(self._now))
            self._now = end

    def _pass(self, start: Instant, seconds: float) -> None:
        load_kw = self._playback.load_kw(start, seconds)
        solar_kw = self._playback.solar_kw(start, seconds)
        wanted_kw = self._command_kw if start < self._command_until else 0.0
        self.state, battery_kw = step(self.spec, self.state, wanted_kw, seconds)
        flows = self._flows(load_kw, solar_kw, battery_kw)
        self.flows = flows
        without = self._flows(load_kw, solar_kw, 0.0)
        self._bill.add(start, seconds, flows.grid_power_kw)
        self._bill_without.add(start, seconds, without.grid_power_kw)
        hours, energy = seconds / 3600.0, self.energy
        energy.load_kwh += load_kw * hours
        energy.solar_kwh += solar_kw * hours
        energy.charged_kwh += max(0.0, battery_kw) * hours
        energy.discharged_kwh += max(0.0, -battery_kw) * hours
        energy.import_kwh += max(0.0, flows.grid_power_kw) * hours
        energy.export_kwh += max(0.0, -flows.grid_power_kw) * hours
        energy.curtailed_kwh += flows.curtailed_kw * hours

    def _flows(self, load_kw: float, solar_kw: float, battery_kw: float) -> Flows:
        """What can't be used, stored or exported is curtailed.

        A battery that gives more than the house takes exports it too: a command is not second-guessed.
        """
        surplus_kw = solar_kw - load_kw - battery_kw
        curtailed_kw = min(solar_kw, max(0.0, surplus_kw - self._max_export_kw))
        return Flows(
            load_kw=load_kw,
            solar_kw=solar_kw,
            battery_power_kw=battery_kw,
            grid_power_kw=load_kw + battery_kw - (solar_kw - curtailed_kw),
            curtailed_kw=curtailed_kw,
        )
