"""What was published so far: each battery's last plan, each house's last forecasts, and counts."""

from collections import Counter
from collections.abc import Sequence

from contracts.messages import Forecast, Schedule


class Board:
    """The last plan of every battery and car of every house."""

    def __init__(self) -> None:
        self.schedules: dict[str, dict[str, Schedule]] = {}
        """By house, and battery or car."""
        self.forecasts: dict[str, dict[str, str]] = {}
        """The names of the last ones, by house and kind."""
        self.by_status: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        """How often a plan had to miss a limit, by the limit's name."""
        self.solve_s = 0.0
        """All solves together [s]."""

    def note(self, plan: Sequence[Schedule]) -> None:
        """Keep what was published: the schedules of a house's batteries and cars, planned together."""
        for schedule in plan:
            self.schedules.setdefault(schedule.house, {})[schedule.der_id] = schedule
        if plan:
            self.by_status[plan[0].status] += 1
            self.violations.update(violation.partition(" ")[0] for violation in plan[0].violations)
            self.solve_s += plan[0].solve_time_s or 0.0

    def note_forecasts(self, *forecasts: Forecast) -> None:
        """Keep what a house's forecasts are called: a fall-back tells so by its name."""
        for forecast in forecasts:
            self.forecasts.setdefault(forecast.house, {})[forecast.kind] = forecast.name

    def forget(self, house: str) -> None:
        """Drop the plans of a house that is gone."""
        self.schedules.pop(house, None)
        self.forecasts.pop(house, None)
