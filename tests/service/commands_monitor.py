"""Who judges a DER: it knows what was sent and when it arrived, and the rules, and nothing of the code."""

from collections import Counter

from contracts.instant import Instant
from contracts.messages import CommandAck, DerTelemetry, DispatchCommand
from der_controller.model import DerMemory
from der_controller.settings import BatteryTable, DerControllerSettings
from runtime.clock import VirtualClock

HOUSE, DER = "house-a", "battery"
MAX_KW = 1000.0
SAFE_KW = 0.005  # no command asks for this
OWN = DerControllerSettings(
    house=HOUSE,
    issuers=["alpha", "beta"],
    devices={
        DER: BatteryTable(
            capacity_kwh=1e6, max_charge_kw=MAX_KW, max_discharge_kw=MAX_KW, safe_power_kw=SAFE_KW
        )
    },
)
Order = tuple[int, str, int]


class JumpingClock(VirtualClock):
    """The DER's own: its wall clock is set wrong at times, its monotonic one never is."""

    off_s = 0.0

    def now(self) -> Instant:
        return super().now().after(self.off_s)


class Monitor:
    """Judges a DER by what it says and by the power it runs at; written from the rules alone."""

    def __init__(self, clock: VirtualClock, der_clock: JumpingClock) -> None:
        self._clock = clock
        self._der_clock = der_clock
        self.sent: dict[str, DispatchCommand] = {}
        self.of_setpoint: dict[int, DispatchCommand] = {}
        self.breaches: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.answers: dict[str, CommandAck] = {}
        self.highest: Order = (-1, "", -1)
        self._maybe: Order = (-1, "", -1)
        self._current: DispatchCommand | None = None
        self._accepted: set[str] = set()
        self._following = "safe"
        self._heard_s = clock.monotonic()

    def send(self, command: DispatchCommand) -> None:
        self.sent[command.command_id] = command
        self.of_setpoint[_key(command.setpoint_kw or 0.0)] = command

    def power_lost(self, memory: DerMemory) -> None:
        """What was being stored when the power failed may be known to the DER, or not."""
        self._maybe = max(self._maybe, (memory.epoch, memory.issuer, memory.seq))

    def restarted(self) -> None:
        self._current = None
        self._following = "safe"
        self._heard_s = self._clock.monotonic()

    def hear(self, message: CommandAck | DerTelemetry) -> None:
        if isinstance(message, DerTelemetry):
            self._hear_telemetry(message)
        elif self.answers.get(message.command_id) != message:  # else a retry, answered as before
            self.answers[message.command_id] = message
            self._hear_answer(message)

    def _hear_answer(self, ack: CommandAck) -> None:
        now, command = self._clock.now(), self.sent[ack.command_id]
        wrongs = self._wrongs(command, now)
        self.seen[ack.result] += 1
        if ack.result != "accepted":
            if not ack.reason:
                self.breaches["refused without a reason"] += 1
            late = _order(command) <= self._maybe
            if not wrongs and not late and self._der_clock.off_s == 0:
                self.breaches[f"wrongly refused: {ack.reason}"] += 1
            return
        self.breaches.update(wrongs)
        self._accepted.add(command.command_id)
        self._current = command
        self.highest = max(self.highest, _order(command))

    def _wrongs(self, command: DispatchCommand, now: Instant) -> list[str]:
        """Each reason why a DER must not obey a command that arrives now."""
        rules = {
            "expired": now >= command.valid_until,
            "future": command.issued_at.seconds_since(now) > 2,
            "replayed": command.command_id in self._accepted,
            "out of order": command.command_id not in self._accepted and _order(command) <= self.highest,
            "out of range": abs(command.setpoint_kw or 0.0) > MAX_KW,
            "unknown issuer": command.issuer not in OWN.issuers,
            "another DER's": command.der_id != DER,
        }
        return [name for name, broken in rules.items() if broken]

    def _hear_telemetry(self, telemetry: DerTelemetry) -> None:
        now, current = self._clock.now(), self._current
        if self._clock.monotonic() - self._heard_s > 2.0:
            self.breaches["silent"] += 1
        self._heard_s = self._clock.monotonic()
        self.seen["safe again"] += (self._following, telemetry.following) == ("command", "safe")
        self._following = telemetry.following
        valid = current is not None and now < current.valid_until
        if _key(telemetry.current_output) == _key(SAFE_KW) and telemetry.following == "safe":
            self.breaches["not followed"] += valid
            return
        doing = self.of_setpoint.get(_key(telemetry.current_output))
        if doing is None or telemetry.following != "command":
            self.breaches["nobody's power"] += 1
        elif current is None:
            self.breaches["on after a restart"] += 1
        elif doing is not current:
            self.breaches["another than the newest"] += 1
        elif now > current.valid_until.after(1.0):
            self.breaches["safe too late"] += 1


def _key(kw: float) -> int:
    return round(kw * 1000)


def _order(command: DispatchCommand) -> Order:
    return (command.epoch, command.issuer, command.seq)
