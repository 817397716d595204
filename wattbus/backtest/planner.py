"""The optimizer in the loop: what it hears, when it plans, and what it foretold."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from contracts.instant import Instant
from contracts.messages import Message, PriceForecast, Schedule
from optimizer.household import household_of
from optimizer.model import PlanInputs, as_measured
from optimizer.schedules import schedules_of
from optimizer.solver import SOLVER, Solver
from wattbus.backtest.calendar import CalendarTariff
from wattbus.backtest.case import DAY_S, Case

Floats = npt.NDArray[np.float32]


CAR_GAP = 1e-3
"""Of a plan's cost, how far from the optimum the whole numbers of a car may leave it. The service goes on for
10 s at most; a run that must repeat has no such limit, and would go on for longer."""


class Foretold(NamedTuple):
    """What a plan had for the next day, step by step."""

    at: Instant
    """When its first step begins."""
    load_kw: Floats
    pv_kw: Floats
    grid_kw: Floats


class Planner:
    """Plans one house as the service does: in its turn, and when the house departs from its plan."""

    def __init__(self, case: Case) -> None:
        settings, tariff = case.settings, CalendarTariff.of(case.tariff)
        self._interval_s = settings.interval_s
        self._day = round(DAY_S / settings.step_s)
        self._household = household_of(case.house, settings, tariff, case.days.past, case.days.start)
        self._solver = Solver(gap=CAR_GAP) if case.devices.cars else Solver()
        self.foretold: list[Foretold] = []
        self.failed = 0
        """Plans that could not be made."""

    def hear(self, message: Message, now: Instant) -> None:
        """Take in a reading or telemetry."""
        self._household.model.hear(message, now)

    def look(self, now: Instant) -> list[PriceForecast | Schedule]:
        """What is published now, if a plan is due."""
        if self._household.due(now) is None:
            return []
        inputs = as_measured(self._household.model.plan_inputs(now), self._household.tolerance.power_kw)
        schedules = self._solve(inputs)
        self._household.note(inputs, schedules)
        return [inputs.prices, *schedules]

    def _solve(self, inputs: PlanInputs) -> list[Schedule]:
        if inputs.problem is None:
            return []
        plan = self._solver.plan(inputs.problem, inputs.load.house)
        self.failed += plan.status not in ("optimal", "fallback")
        ahead = (inputs.load.power_kw, inputs.pv.power_kw, plan.grid_kw)
        kept = [np.array(powers[: self._day], np.float32) for powers in ahead]
        self.foretold.append(Foretold(inputs.load.start, *kept))
        return schedules_of(
            inputs, inputs.problem, plan, interval_s=self._interval_s, solver=SOLVER, solve_time_s=None
        )
