"""What the control loop counts, for its metrics and its API."""

from collections import Counter


class Counts:
    """Everything since the service started."""

    def __init__(self) -> None:
        self.ticks = 0
        self.late_ticks = 0
        """Beats that never were, because the one before took too long."""
        self.violations = 0
        """Times a house got the safe default, because a limit or an input's range would have been broken."""
        self.balance_errors = 0
        self.tick_s = 0.0
        """All ticks together [s]."""
        self.last_tick_s = 0.0
        self.longest_tick_s = 0.0
        self.commands: Counter[str] = Counter()
        """By what became of them: sent, resent, accepted, rejected, expired, unanswered."""
        self.alerts: Counter[tuple[str, str]] = Counter()
        """By name and severity."""
        self.requests: Counter[str] = Counter()
        """By outcome: done, repeated, refused."""
        self.not_audited = 0

    def note_tick(self, took_s: float) -> None:
        """A tick is done."""
        self.ticks += 1
        self.tick_s += took_s
        self.last_tick_s = took_s
        self.longest_tick_s = max(self.longest_tick_s, took_s)
