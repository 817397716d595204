"""Which commands a DER obeys: the newest, in time, its own, and within range. It rejects, never clamps."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

import msgspec

from contracts.instant import Instant
from contracts.messages import CommandAck, DispatchCommand

CLOCK_SKEW_S = 2.0
"""A command from further in the future than this means that one of the two clocks is wrong."""
ACKS_KEPT = 64


class Mark(msgspec.Struct, frozen=True, order=True):
    """The highest command obeyed; the default stands below every command."""

    epoch: int = -1
    seq: int = -1


class Accept(msgspec.Struct, frozen=True):
    """A command to obey: store `mark` first, then apply."""

    command: DispatchCommand
    mark: Mark
    setpoint: float
    deadline_s: float
    """The monotonic time at which its life ends [s]."""


class Answer(msgspec.Struct, frozen=True):
    """A command not to obey, with the answer to send; nothing changes."""

    ack: CommandAck


Verdict = Accept | Answer


class Gate:
    """Judges the commands of one DER."""

    def __init__(self, house: str, der_id: str, mark: Mark) -> None:
        self.mark = mark
        self._house = house
        self._der_id = der_id
        self._acks: OrderedDict[str, CommandAck] = OrderedDict()

    def judge(
        self,
        command: DispatchCommand,
        now: Instant,
        monotonic_s: float,
        setpoint_of: Callable[[DispatchCommand], float],
    ) -> Verdict:
        """What to do with a command. Changes no state but the memory of answers.

        Args:
            command: as it came.
            now: wall-clock time.
            monotonic_s: monotonic time of the same moment [s].
            setpoint_of: gives the setpoint, or raises ValueError with the reason why not.
        """
        if (command.house, command.der_id) != (self._house, self._der_id):
            # Not kept: a stranger's command must not spoil an id of ours.
            reason = f"for {command.house}/{command.der_id}, but this is {self._house}/{self._der_id}"
            return Answer(self.ack(command, now, "rejected", reason))
        if (stored := self.answered(command)) is not None:
            return Answer(stored)
        life_s = min(
            command.valid_until.seconds_since(now), command.valid_until.seconds_since(command.issued_at)
        )
        if (refusal := self._refusal(command, now, life_s)) is not None:
            return Answer(self.keep(self.ack(command, now, *refusal)))
        try:
            setpoint = setpoint_of(command)
        except ValueError as error:
            return Answer(self.keep(self.ack(command, now, "rejected", str(error))))
        return Accept(command, Mark(command.epoch, command.seq), setpoint, monotonic_s + life_s)

    def _refusal(
        self, command: DispatchCommand, now: Instant, life_s: float
    ) -> tuple[Literal["rejected", "expired"], str] | None:
        early_s = command.issued_at.seconds_since(now)
        if early_s > CLOCK_SKEW_S:
            return "rejected", f"issued {early_s:g} s in the future: the clock can't be trusted"
        if life_s <= 0:
            return "expired", f"valid until {command.valid_until}, and it is {now}"
        if (refusal := self.out_of_order(Mark(command.epoch, command.seq))) is not None:
            return "rejected", refusal
        return None

    def answered(self, command: DispatchCommand) -> CommandAck | None:
        """The answer this command has had already."""
        return self._acks.get(command.command_id)

    def out_of_order(self, mark: Mark) -> str | None:
        """Why a command with this mark comes too late, or None if it is the newest."""
        if mark > self.mark:
            return None
        return (
            f"out of order: epoch {mark.epoch} seq {mark.seq} is not above "
            f"epoch {self.mark.epoch} seq {self.mark.seq}, already obeyed"
        )

    def ack(
        self,
        command: DispatchCommand,
        now: Instant,
        result: Literal["accepted", "rejected", "expired"],
        reason: str = "",
    ) -> CommandAck:
        """The answer to a command, from this DER."""
        return CommandAck(
            command_id=command.command_id,
            house=self._house,
            der_id=self._der_id,
            epoch=command.epoch,
            seq=command.seq,
            timestamp=now,
            result=result,
            reason=reason,
            mark_epoch=self.mark.epoch if self.mark.epoch >= 0 else None,
            mark_seq=self.mark.seq if self.mark.epoch >= 0 else None,
        )

    def keep(self, ack: CommandAck) -> CommandAck:
        """Remember an answer for a retry of its command; the oldest is forgotten."""
        self._acks[ack.command_id] = ack
        if len(self._acks) > ACKS_KEPT:
            self._acks.popitem(last=False)
        return ack
