"""Which commands a DER obeys: the newest, in time, its own, within range. It rejects, never clamps."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Literal

import msgspec

from contracts.instant import Instant
from contracts.messages import CommandAck, DispatchCommand

CLOCK_SKEW_S = 2.0
"""A command from further in the future than this means that one of the two clocks is wrong."""
LIFE_MAX_S = 3600.0
"""A DER that is told to do something for longer would no longer notice that nobody commands it."""
EPOCH_MAX = 2**53
"""No honest orchestrator starts that often; one such command would lock all others out for good."""
ACKS_KEPT = 64


class Mark(msgspec.Struct, frozen=True, order=True):
    """The highest command obeyed; the default stands below every command.

    Of two orchestrators in one epoch the higher name wins, so that a DER never goes to and fro between them.
    """

    epoch: int = -1
    issuer: str = ""
    seq: int = -1

    @classmethod
    def of(cls, command: DispatchCommand) -> "Mark":
        """Where a command stands in the order of all commands."""
        return cls(command.epoch, command.issuer, command.seq)

    def __str__(self) -> str:
        return f"epoch {self.epoch} seq {self.seq} of {self.issuer}"


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
    """Judges the commands of one DER.

    Args:
        house: whose DER it is.
        der_id: which one.
        mark: the highest command it has obeyed so far, in earlier lives too.
        issuers: whom it obeys; empty: anybody.
    """

    def __init__(self, house: str, der_id: str, mark: Mark, issuers: Collection[str] = ()) -> None:
        self.mark = mark
        self._house = house
        self._der_id = der_id
        self._issuers = frozenset(issuers)
        self._answers: OrderedDict[str, tuple[DispatchCommand, CommandAck]] = OrderedDict()

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
        if (stranger := self._stranger(command)) is not None:
            # Not kept: a flood of them must not push out the answers to our own.
            return Answer(self.ack(command, now, "rejected", stranger))
        if (stored := self.answered(command)) is not None:
            return Answer(stored)
        life_s = min(
            command.valid_until.seconds_since(now), command.valid_until.seconds_since(command.issued_at)
        )
        if (refusal := self._refusal(command, now, life_s)) is not None:
            return Answer(self.keep(command, self.ack(command, now, *refusal)))
        try:
            setpoint = setpoint_of(command)
        except ValueError as error:
            return Answer(self.keep(command, self.ack(command, now, "rejected", str(error))))
        return Accept(command, Mark.of(command), setpoint, monotonic_s + life_s)

    def _stranger(self, command: DispatchCommand) -> str | None:
        """Why a command is none of ours, or None."""
        if (command.house, command.der_id) != (self._house, self._der_id):
            return f"for {command.house}/{command.der_id}, but this is {self._house}/{self._der_id}"
        if self._issuers and command.issuer not in self._issuers:
            return f"unknown issuer {command.issuer}: this DER obeys {', '.join(sorted(self._issuers))}"
        return None

    def _refusal(
        self, command: DispatchCommand, now: Instant, life_s: float
    ) -> tuple[Literal["rejected", "expired"], str] | None:
        early_s = command.issued_at.seconds_since(now)
        if early_s > CLOCK_SKEW_S:
            return "rejected", f"issued {early_s:g} s in the future: the clock can't be trusted"
        if life_s <= 0:
            return "expired", f"valid until {command.valid_until}, and it is {now}"
        if life_s > LIFE_MAX_S:
            return "rejected", f"out of range: valid for {life_s:g} s, at most {LIFE_MAX_S:g} s"
        if command.epoch >= EPOCH_MAX:
            return "rejected", f"out of range: epoch {command.epoch}, below {EPOCH_MAX}"
        if (refusal := self.out_of_order(Mark.of(command))) is not None:
            return "rejected", refusal
        return None

    def answered(self, command: DispatchCommand) -> CommandAck | None:
        """The answer this command has had already; another one under the same id has had none."""
        known, ack = self._answers.get(command.command_id, (None, None))
        return ack if command == known else None

    def out_of_order(self, mark: Mark) -> str | None:
        """Why a command with this mark comes too late, or None if it is the newest."""
        if mark > self.mark:
            return None
        return f"out of order: {mark} is not above {self.mark}, already obeyed"

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

    def keep(self, command: DispatchCommand, ack: CommandAck) -> CommandAck:
        """Remember an answer for a retry of its command; the oldest is forgotten."""
        self._answers[command.command_id] = command, ack
        if len(self._answers) > ACKS_KEPT:
            self._answers.popitem(last=False)
        return ack
