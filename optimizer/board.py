"""What is known of the plans made so far: each battery's last one, and counts."""

from collections import Counter

from contracts.messages import Schedule


class Board:
    """The last plan of every battery of every house."""

    def __init__(self) -> None:
        self.schedules: dict[str, dict[str, Schedule]] = {}
        """By house and battery."""
        self.by_status: Counter[str] = Counter()
        self.solve_s = 0.0
        """All solves together [s]."""

    def note(self, schedule: Schedule) -> None:
        """Keep a plan that was published."""
        self.schedules.setdefault(schedule.house, {})[schedule.der_id] = schedule
        self.by_status[schedule.status] += 1
        self.solve_s += schedule.solve_time_s or 0.0
