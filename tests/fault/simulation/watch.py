"""Who judges the DER: what it was truly commanded and when, and what it says it does. Knows rules, not code."""

from typing import NamedTuple

from contracts.messages import CommandAck, DerTelemetry, DispatchCommand
from der_controller.settings import BatteryTable
from tests.fault.simulation.ledger import HOUSE, Ledger

DER = "battery"
ISSUER = "main"
BATTERY = BatteryTable(capacity_kwh=2.0)
"""Small: it comes to its limits within the two hours."""
TELEMETRY_S = 10.0
SLACK_S = 1.0
"""A DER whose commands stop is safe within their life and so much more."""
TRIFLE_KW, TRIFLE_PERCENT = 1e-3, 1e-2


class Issued(NamedTuple):
    """A command and when it was given to the bus, by the true time [s]."""

    command: DispatchCommand
    at_s: float

    @property
    def ends_s(self) -> float:
        """When nobody may obey it any more."""
        return self.at_s + self.command.valid_until.seconds_since(self.command.issued_at)


class Watch:
    """Judges one battery over a seed."""

    def __init__(self, ledger: Ledger) -> None:
        self._breach = ledger.breach
        self.issued: dict[str, Issued] = {}
        self.obeyed = self.fell_safe = 0
        self._highest = (-1, "", -1)
        self._answers: dict[str, CommandAck] = {}
        self._current: Issued | None = None
        self._following = "safe"
        self._spoke_s: float | None = None

    def command(self, command: DispatchCommand, now_s: float) -> None:
        """The orchestrator, or somebody else, commands; a second time it is the same command."""
        self.issued.setdefault(command.command_id, Issued(command, now_s))

    def der_died(self) -> None:
        """Its next life begins safe, and knows no answers."""
        self._current = None
        self._answers.clear()
        self._following = "safe"
        self._spoke_s = None

    def ack(self, ack: CommandAck, now_s: float) -> None:
        """The DER answers."""
        if ack.result != "accepted" or self._answers.get(ack.command_id) == ack:
            return  # a retry has the answer that the command has had
        self._answers[ack.command_id] = ack
        issued = self.issued.get(ack.command_id)
        if issued is None:
            self._breach("obeyed a command that nobody gave", ack.command_id)
            return
        for wrong in self._wrongs(issued, now_s):
            self._breach(f"obeyed a command {wrong}", f"{ack.command_id} at {now_s:.1f} s")
        self._highest = max(self._highest, _order(issued.command))
        self._current = issued
        self.obeyed += 1

    def _wrongs(self, issued: Issued, now_s: float) -> list[str]:
        command = issued.command
        low, high = -BATTERY.max_discharge_kw, BATTERY.max_charge_kw
        rules = {
            "after its time": now_s >= issued.ends_s,
            "out of order": _order(command) <= self._highest,
            "out of range": not low <= (command.setpoint_kw or 0.0) <= high,
            "of a stranger": command.issuer != ISSUER,
            "for another house": command.house != HOUSE,
        }
        return [name for name, broken in rules.items() if broken]

    def telemetry(self, said: DerTelemetry, now_s: float) -> None:
        """The DER says how it stands."""
        self._judge_speech(now_s)
        self._judge_battery(said, now_s)
        current, output_kw = self._current, said.current_output
        self.fell_safe += (self._following, said.following) == ("command", "safe")
        self._following = said.following
        if said.following == "safe":
            if abs(output_kw - BATTERY.safe_power_kw) > TRIFLE_KW:
                self._breach("not safe though it says so", f"{output_kw} kW at {now_s:.1f} s")
        elif current is None:
            self._breach("commanded by nobody", f"{output_kw} kW at {now_s:.1f} s")
        else:
            if now_s > current.ends_s + SLACK_S:
                self._breach("safe too late", f"{now_s - current.ends_s:.1f} s after its last command")
            wanted_kw = current.command.setpoint_kw or 0.0
            if output_kw * wanted_kw < 0 or abs(output_kw) > abs(wanted_kw) + TRIFLE_KW:
                self._breach(
                    "another power than commanded", f"{output_kw}, not {wanted_kw} kW at {now_s:.1f} s"
                )

    def _judge_speech(self, now_s: float) -> None:
        if self._spoke_s is not None and now_s - self._spoke_s > TELEMETRY_S + SLACK_S:
            self._breach("silent", f"{now_s - self._spoke_s:.1f} s until {now_s:.1f} s")
        self._spoke_s = now_s

    def _judge_battery(self, said: DerTelemetry, now_s: float) -> None:
        soc = said.current_soc
        low, high = BATTERY.min_soc_percent - TRIFLE_PERCENT, BATTERY.max_soc_percent + TRIFLE_PERCENT
        if soc is None or not low <= soc <= high:
            self._breach("charge out of its limits", f"{soc} % at {now_s:.1f} s")
        if not -BATTERY.max_discharge_kw <= said.current_output <= BATTERY.max_charge_kw:
            self._breach("power out of its limits", f"{said.current_output} kW at {now_s:.1f} s")


def _order(command: DispatchCommand) -> tuple[int, str, int]:
    return (command.epoch, command.issuer, command.seq)
