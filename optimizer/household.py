"""How it stands with one house's plans: what was made when, and whether another one is due."""

from collections.abc import Sequence
from typing import Literal

from contracts.instant import Instant
from contracts.messages import Schedule
from energy.tariff import Tariff
from optimizer.forecast import Recorded
from optimizer.model import PlanInputs, PlannerModel, Remembered
from optimizer.posing import Setup
from optimizer.settings import OptimizerSettings
from optimizer.watch import Cause, Seen, Tolerance, departure

Reason = Literal["interval", "trigger"] | Cause
"""Why a house is planned: it is its turn, somebody asks for it, or it departs from its plan."""

REPLAN_EVERY_S = 60.0
"""Out of its turn a house is planned no more often."""
FORGET_S = 86400.0


def household_of(
    name: str,
    settings: OptimizerSettings,
    tariff: Tariff,
    past: Recorded | None,
    now: Instant,
    remembered: Remembered | None = None,
) -> "Household":
    """A house as its settings have it planned.

    Args:
        name: which house.
        settings: its own.
        tariff: the one that they name.
        past: what it has measured before, if that is known.
        now: when it was first heard.
        remembered: what was kept of it over a restart.
    """
    setup = Setup(
        tariff=tariff,
        step_s=settings.step_s,
        steps=settings.steps,
        max_grid_import_kw=settings.max_grid_import_kw,
        max_grid_export_kw=settings.max_grid_export_kw,
        degradation_cost=settings.degradation_cost,
    )
    model = PlannerModel(name, setup, past, now, remembered)
    tolerance = Tolerance(settings.replan_soc_percent, settings.replan_power_kw)
    return Household(model, settings.interval_s, tolerance, now)


class Household:
    """A house and its plans.

    Args:
        model: what is known of it.
        interval_s: how often it is planned, by the clock [s].
        tolerance: how far it may depart from its plan.
        now: when it was first heard.
    """

    def __init__(self, model: PlannerModel, interval_s: float, tolerance: Tolerance, now: Instant) -> None:
        self.model = model
        self.tolerance = tolerance
        self.heard_at = now
        self.busy = False
        """Whether it is being planned right now."""
        self._interval_s = interval_s
        self._issued: Instant | None = None
        self._planned: Instant | None = None
        self._made_at: Instant | None = None
        self._then: Seen | None = None
        """The house when it was planned last."""
        self._plan: Sequence[Schedule] = ()

    @property
    def name(self) -> str:
        """Which house."""
        return self.model.house

    def due(self, now: Instant) -> Reason | None:
        """Why it is to be planned now; None if it is not."""
        run = now.floor(self._interval_s)
        if self._issued != run:
            return "interval"
        if not self.model.has_ders(now):
            return None
        if self._planned != run or self._then is None:
            return "interval"
        if self._made_at is not None and now.seconds_since(self._made_at) < REPLAN_EVERY_S:
            return None
        return departure(self._plan, self._then, self.model.seen(now), self.tolerance, now)

    def missed(self, now: Instant) -> int:
        """How many of its turns have passed without a plan."""
        if self._issued is None:
            return 0
        turns = now.floor(self._interval_s).seconds_since(self._issued) / self._interval_s
        return max(0, round(turns) - 1)

    def note(self, inputs: PlanInputs, plan: Sequence[Schedule]) -> None:
        """What was published: forecasts and prices, and schedules, if it has a battery or a car."""
        self._made_at = inputs.load.issued_at
        self._issued = self._made_at.floor(self._interval_s)
        if inputs.seen.batteries or inputs.seen.cars:
            self._planned = self._issued
        self._then, self._plan = inputs.seen, plan

    def renew(self) -> None:
        """Make it due at once: what it knows has changed."""
        self._issued = None

    def is_forgotten(self, now: Instant) -> bool:
        """Whether nothing has been heard of it for so long that it makes room for others."""
        return now.seconds_since(self.heard_at) > FORGET_S
