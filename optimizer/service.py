"""Hears the houses, plans each battery every quarter of an hour, off the event loop, and publishes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from functools import cache
from typing import Any, Protocol

from broker.errors import BusError
from broker.port import Bus, Delivery
from contracts import topics
from contracts.instant import Instant
from contracts.messages import Schedule
from energy.tariff import load_tariff
from optimizer.board import Board
from optimizer.forecast import Recorded
from optimizer.model import PlanInputs, PlannerModel
from optimizer.posing import Setup
from optimizer.problem import Problem
from optimizer.schedules import schedules_of
from optimizer.settings import OptimizerSettings
from optimizer.solver import SOLVER, Solver
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.settings import Layered

HEARD = (topics.METER_READING, topics.PV_READING, topics.DER_TELEMETRY)
LOOK_S = 5.0
"""How often it is looked for houses that are due; so long at most waits one that has just appeared."""
TIME_LIMIT_S = 10.0
HOUSES_MAX = 100_000


class OverlapError(Exception):
    """A run was asked for while another one is under way."""


class Outside(Protocol):
    """Says what the bus does not: forecasts that somebody else makes."""

    def serves(self, house: str) -> bool:
        """Whether this house's forecasts come from outside."""

    async def refine(self, inputs: PlanInputs) -> PlanInputs:
        """The inputs with the forecasts from outside in place of our own."""


class OptimizerService:
    """The optimizer of any number of houses.

    Args:
        settings: for all houses, and what one has different.
        bus: where the houses are heard and the plans go.
        clock: its time; a virtual one gets no time limits and no measured times.
        life: says when to stop.
        history: houses whose days before the start are known.
        outside: where the forecasts of some houses come from.
    """

    def __init__(
        self,
        settings: Layered[OptimizerSettings],
        bus: Bus,
        clock: Clock,
        life: Lifecycle,
        history: Mapping[str, Recorded] | None = None,
        outside: Outside | None = None,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._life = life
        self._history = history or {}
        self._outside = outside
        self._log = get_log("optimizer")
        self._tariff = cache(load_tariff)
        self._solver = Solver(None if clock.is_virtual else TIME_LIMIT_S)
        self._houses: dict[str, PlannerModel] = {}
        self._issued: dict[str, Instant] = {}
        self._planned: dict[str, Instant] = {}
        self._last_run: Instant | None = None
        self._planning = asyncio.Lock()
        self.board = Board()
        self.plans = 0
        self.skipped_runs = 0
        """Runs that never were, because another one was under way."""

    @property
    def houses(self) -> list[str]:
        """The houses heard of, planned yet or not."""
        return list(self._houses)

    async def trigger(self, house: str) -> bool:
        """Plan a house now, out of turn; whether a plan came of it.

        Raises:
            OverlapError: another run is under way; nothing is queued, and this one is counted as skipped.
        """
        if self._planning.locked():
            self.skipped_runs += 1
            raise OverlapError(f"{house}: another run is under way: try again")
        before = self.plans
        async with self._planning:
            run = self._clock.now().floor(self._settings.base.interval_min * 60.0)
            await self._plan_house(self._houses[house], run)
        return self.plans > before

    async def run(self) -> None:
        """Serve until stopped."""
        async with self._bus.subscribe(*HEARD) as deliveries:
            self._log.info("optimizer started", tariff=self._settings.base.tariff)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hear(deliveries))
                group.create_task(self._plan())

    async def _hear(self, deliveries: AsyncIterator[Delivery[Any]]) -> None:
        async for delivery in self._life.each(deliveries):
            message = delivery.message
            house = self._houses.get(message.house)
            if house is None:
                if len(self._houses) >= HOUSES_MAX:
                    await delivery.reject(f"more than {HOUSES_MAX} houses")
                    continue
                house = self._houses[message.house] = self._new_house(message.house)
            house.hear(message, self._clock.now())
            await delivery.ack()

    def _new_house(self, house: str) -> PlannerModel:
        settings = self._settings.of(house)
        setup = Setup(
            tariff=self._tariff(settings.tariff),
            step_s=settings.step_s,
            steps=settings.steps,
            max_grid_import_kw=settings.max_grid_import_kw,
            max_grid_export_kw=settings.max_grid_export_kw,
        )
        return PlannerModel(house, setup, self._history.get(house), self._clock.now())

    async def _plan(self) -> None:
        """One house after the other; what falls due meanwhile is met at the next look, once."""
        interval_s = self._settings.base.interval_min * 60.0
        async for tick in self._life.each(self._clock.every(LOOK_S)):
            run = tick.at.floor(interval_s)
            self._count_skipped(run, interval_s)
            async with self._planning:
                for house in [house for house in self._houses.values() if self._is_due(house, run)]:
                    if self._life.stopping:
                        return
                    await self._plan_house(house, run)

    def _count_skipped(self, run: Instant, interval_s: float) -> None:
        if self._last_run is not None and run.after(-interval_s) > self._last_run:
            skipped = round(run.seconds_since(self._last_run) / interval_s) - 1
            self.skipped_runs += skipped
            self._log.warning("planning late", skipped=skipped, at=str(run))
        self._last_run = run

    def _is_due(self, house: PlannerModel, run: Instant) -> bool:
        """Whether there is news for this run: none yet, or a battery that has only now appeared."""
        if not (house.heard_reading or self._is_foretold(house.house)):
            return False
        if self._issued.get(house.house) != run:
            return True
        return self._planned.get(house.house) != run and house.has_ders(self._clock.now())

    def _is_foretold(self, house: str) -> bool:
        return self._outside is not None and self._outside.serves(house)

    async def _plan_house(self, house: PlannerModel, run: Instant) -> None:
        inputs = house.plan_inputs(self._clock.now())
        if self._outside is not None and self._outside.serves(house.house):
            inputs = await self._outside.refine(inputs)
        try:
            await self._publish_outlook(inputs)
            self._issued[house.house] = run
            if inputs.problem is not None:
                for schedule in await self._solve(inputs, inputs.problem):
                    address = topics.SCHEDULE.at(house=house.house, der_id=schedule.der_id)
                    await self._bus.publish(address, schedule)
                    self._note(schedule)
                self._planned[house.house] = run
                self.plans += 1
        except BusError as error:
            # It stays due: the next look tries again, with newer data.
            self._log.warning("not published", house=house.house, why=str(error))

    async def _solve(self, inputs: PlanInputs, problem: Problem) -> list[Schedule]:
        began_s = self._clock.monotonic()
        loop = asyncio.get_running_loop()
        plan = await loop.run_in_executor(None, self._solver.plan, problem)
        took_s = (self._clock.monotonic() - began_s) / self._clock.speed
        return schedules_of(inputs, problem, plan, SOLVER, None if self._clock.is_virtual else took_s)

    async def _publish_outlook(self, inputs: PlanInputs) -> None:
        house = inputs.load.house
        await self._bus.publish(topics.PRICE.at(house=house, tariff=inputs.prices.tariff), inputs.prices)
        for forecast in (inputs.load, inputs.pv):
            await self._bus.publish(topics.FORECAST.at(house=house, kind=forecast.kind), forecast)

    def _note(self, schedule: Schedule) -> None:
        self.board.note(schedule)
        told = [schedule.reason, *schedule.violations]
        log = self._log.warning if any(told) else self._log.info
        log(
            "planned",
            house=schedule.house,
            der=schedule.der_id,
            status=schedule.status,
            cost=round(schedule.total_cost, 2),
            why="; ".join(filter(None, told)),
        )
