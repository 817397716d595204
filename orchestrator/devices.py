"""How each DER answers its commands: retries, misses, and what state that makes. Pure."""

import enum
from typing import Literal

from contracts.instant import Instant
from contracts.messages import CommandAck, DispatchCommand

RETRY_AFTER_S = (1.0, 3.0)
"""A command without an answer is sent again then: three attempts, each waiting longer than the one before."""
ANSWER_WITHIN_S = 5.0
"""After that it counts as a miss."""
MISSES_SHOWN = 2
"""So many misses in a row: the DER is shown as one that does not answer, and nothing counts on it."""
MISSES_ALERT = 5

DerState = Literal["new", "answering", "silent", "rejecting", "stale", "offline"]
DER_STATES: tuple[DerState, ...] = ("new", "answering", "silent", "rejecting", "stale", "offline")


class Due(enum.Enum):
    """What a command that waits for its answer needs."""

    NOTHING = "wait on"
    RESEND = "send it again"
    MISSED = "no answer came"


class Link:
    """One DER's side of the conversation; times on the monotonic clock [s]."""

    __slots__ = (
        "_attempts",
        "_pending",
        "_rejected",
        "_sent_s",
        "_waiting_s",
        "answered_at",
        "misses",
        "result",
        "why",
    )

    def __init__(self) -> None:
        self.misses = 0
        """In a row: commands without an answer, or refused."""
        self.answered_at: Instant | None = None
        self.result = ""
        """Of the last command: accepted, rejected, expired, unanswered; empty before the first."""
        self.why = ""
        self._pending: DispatchCommand | None = None
        self._rejected = False
        self._attempts = 0
        self._sent_s = 0.0
        self._waiting_s: float | None = None

    @property
    def pending(self) -> DispatchCommand | None:
        """The command that waits for its answer."""
        return self._pending

    @property
    def is_failing(self) -> bool:
        """Whether nothing may count on this DER."""
        return self.misses >= MISSES_SHOWN

    def send(self, command: DispatchCommand, now_s: float) -> None:
        """A new command goes out; it takes the place of one still waiting, but not of how long that waits."""
        self._pending = command
        self._attempts = 1
        self._sent_s = now_s
        if self._waiting_s is None:
            self._waiting_s = now_s

    def hear(self, ack: CommandAck) -> bool:
        """Take in the answer to one of our commands; whether it is news."""
        is_pending = self._pending is not None and ack.command_id == self._pending.command_id
        if ack.result != "accepted" and not is_pending:
            return False
        self.answered_at = ack.timestamp
        self.result, self.why = ack.result, ack.reason
        if is_pending:
            self._pending = None
        self._waiting_s = None
        self._rejected = ack.result != "accepted"
        self.misses = self.misses + 1 if self._rejected else 0
        return True

    def due(self, now_s: float) -> Due:
        """What to do by now; a miss is told once."""
        if self._pending is None or self._waiting_s is None:
            return Due.NOTHING
        if now_s - self._waiting_s >= ANSWER_WITHIN_S:
            self._pending = self._waiting_s = None
            self._rejected = False
            self.misses += 1
            self.result, self.why = "unanswered", ""
            return Due.MISSED
        if self._attempts <= len(RETRY_AFTER_S) and now_s - self._sent_s >= RETRY_AFTER_S[self._attempts - 1]:
            self._attempts += 1
            return Due.RESEND
        return Due.NOTHING

    def drop(self) -> None:
        """Nobody waits for an answer any more: another orchestrator commands."""
        self._pending = self._waiting_s = None
        self.misses = 0

    def state(self, *, fresh: bool, online: bool) -> DerState:
        """How it stands with the DER, its telemetry being fresh and saying that it is online, or not."""
        if self.is_failing:
            return "rejecting" if self._rejected else "silent"
        if not fresh:
            return "stale"
        if not online:
            return "offline"
        return "answering" if self.result == "accepted" else "new"
