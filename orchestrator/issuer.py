"""Who commands: the epoch and number of every command, and what DERs' answers say of other orchestrators."""

import enum

from contracts.instant import Instant
from contracts.messages import CommandAck, DispatchCommand
from orchestrator.limits import Verdict

SILENT_S = 90.0
"""An orchestrator none of whose commands was obeyed for so long has gone."""
EPOCH_MAX = 2**53
NOISE_KW = 1e-12


class Standing(enum.Enum):
    """What an ack means for who commands."""

    UNCHANGED = "nothing new"
    RAISED = "our epoch had to rise above one a DER has obeyed"
    STOOD_DOWN = "another orchestrator commands"


class Issuer:
    """Numbers the commands of one orchestrator, and knows whether it is the one that commands.

    (epoch, seq) only ever rises. A new orchestrator takes an epoch above every one it hears of; one that has
    been obeyed and then sees a later one obeyed stands down, and takes over again when that one falls silent.
    Of two in one epoch the lower name stands down.
    """

    def __init__(self, name: str, epoch: int) -> None:
        self.name = name
        self.epoch = epoch
        self._seq = 0
        self._obeyed = False
        self._other: tuple[int, Instant] | None = None
        self._obeyed_seq: dict[tuple[str, str], int] = {}
        """The last command of this epoch that each DER has obeyed."""

    @property
    def stands_down(self) -> bool:
        """Whether another orchestrator was the one that commands when that was last looked at."""
        return self._other is not None

    def commands(self, now: Instant) -> bool:
        """Whether this orchestrator is the one that commands."""
        if self._other is None:
            return True
        epoch, heard_at = self._other
        if now.seconds_since(heard_at) <= SILENT_S:
            return False
        self._other = None
        self._rise_above(epoch)
        return True

    def is_ours(self, ack: CommandAck) -> bool:
        """Whether an ack answers a command of this orchestrator, in this life or an earlier one."""
        return _issuer_of(ack) == self.name

    def hear(self, ack: CommandAck, now: Instant) -> Standing:
        """Take note of a DER's answer, to our command or to another orchestrator's."""
        highest = max(ack.epoch, ack.mark_epoch or 0)
        if highest >= EPOCH_MAX:
            return Standing.UNCHANGED  # no honest orchestrator starts that often
        if self.is_ours(ack):
            return self._hear_ours(ack, highest)
        if highest > self.epoch and not self._obeyed and self._other is None:
            self._rise_above(highest)
            return Standing.RAISED
        if ack.result != "accepted" or (ack.epoch, _issuer_of(ack)) <= (self.epoch, self.name):
            return Standing.UNCHANGED
        was_standing = self._other is None
        self._other = (highest, now)
        return Standing.STOOD_DOWN if was_standing else Standing.UNCHANGED

    def _hear_ours(self, ack: CommandAck, highest: int) -> Standing:
        der = (ack.house, ack.der_id)
        if ack.result == "accepted":
            if ack.epoch == self.epoch:
                self._obeyed = True
                self._obeyed_seq[der] = max(ack.seq, self._obeyed_seq.get(der, 0))
            return Standing.UNCHANGED
        if ack.epoch < self.epoch or ack.mark_epoch is None or ack.mark_epoch < self.epoch:
            return Standing.UNCHANGED  # refused for another reason than its number
        if ack.mark_epoch == self.epoch and ack.mark_seq == self._obeyed_seq.get(der):
            return Standing.UNCHANGED  # the same: what it has obeyed last is ours
        if self._other is not None and highest <= self._other[0]:
            return Standing.UNCHANGED  # overtaken by the one that commands
        self._rise_above(highest)
        return Standing.RAISED

    def _rise_above(self, epoch: int) -> None:
        self.epoch = epoch + 1
        self._seq = 0
        self._obeyed = False
        self._obeyed_seq.clear()

    def command(self, verdict: Verdict, house: str, now: Instant, ttl_s: float) -> DispatchCommand:
        """The command that carries out a verdict."""
        self._seq += 1
        is_ev = verdict.given_a is not None
        return DispatchCommand(
            command_id=f"{self.name}-{self.epoch}-{self._seq}",
            house=house,
            der_id=verdict.der_id,
            issuer=self.name,
            epoch=self.epoch,
            seq=self._seq,
            issued_at=now,
            valid_until=now.after(ttl_s),
            setpoint_kw=None if is_ev else _without_noise(verdict.given_kw),
            setpoint_a=verdict.given_a,
            reason=verdict.sentence,
        )


def _without_noise(kw: float) -> float:
    """Without the last digits of a sum: a DER refuses 5.000000000000001 of 5 kW."""
    near = round(kw, 9)
    return near if abs(kw - near) < NOISE_KW else kw


def _issuer_of(ack: CommandAck) -> str:
    return ack.command_id.rsplit("-", 2)[0]
