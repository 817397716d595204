"""Hears the houses, plans each in its turn, and at once when it departs from its plan, and publishes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

from broker.errors import BusError, BusRefusedError
from broker.port import Bus, Delivery
from contracts import topics
from contracts.instant import Instant
from contracts.messages import Message, Schedule
from energy.tariff import load_tariff
from optimizer.board import Board
from optimizer.forecast import Recorded
from optimizer.household import Household, Reason, household_of
from optimizer.memory import Memory, merged
from optimizer.model import PlanInputs, as_measured
from optimizer.peaks import Peak
from optimizer.problem import Problem
from optimizer.recordings import recall
from optimizer.schedules import schedules_of
from optimizer.settings import OptimizerSettings
from optimizer.solver import SOLVER, Solver
from runtime.clock import Clock
from runtime.errors import StoreError
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.settings import Layered
from runtime.store import Store

HEARD = (topics.METER_READING, topics.PV_READING, topics.DER_TELEMETRY, topics.ORDERS)
LOOK_S = 5.0
"""How often it is looked for houses that are due; so long at most waits one that has just appeared."""
LOOKED_AT_ONCE = 50
"""After so many houses others get their turn on the event loop."""
REMEMBER_S = 60.0
"""So much at most of the running step's import is forgotten by a crash; a peak that rises is kept at once."""
PLAN_GAP = 1e-4
"""Of a plan with cars or negative prices: closer, it takes several times as long for next to nothing."""
TIME_LIMIT_S = 10.0
HOUSES_MAX = 10_000
ASKED_AT_ONCE = 16
"""Houses whose forecasts are fetched from outside at the same time."""


class OverlapError(Exception):
    """A run was asked for while another one of that house is under way."""


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
        history: houses whose days before the start are known; of others they may stand in `recordings_dir`.
        outside: where the forecasts of some houses come from.
        memory: what survives a restart; without, nothing does.
    """

    def __init__(
        self,
        settings: Layered[OptimizerSettings],
        bus: Bus,
        clock: Clock,
        life: Lifecycle,
        history: Mapping[str, Recorded] | None = None,
        outside: Outside | None = None,
        memory: Store[Memory] | None = None,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._life = life
        self._history = history or {}
        self._outside = outside
        self._memory = memory
        self._log = get_log("optimizer")
        self._tariff = cache(load_tariff)
        self._solver = Solver(None if clock.is_virtual else TIME_LIMIT_S, PLAN_GAP)
        self._houses: dict[str, Household] = {}
        self._to_recall: asyncio.Queue[Household] = asyncio.Queue()
        self._solving = asyncio.Lock()
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)
        self._fetches: set[asyncio.Task[None]] = set()
        self.board = Board()
        self.plans = 0
        """Made and published, each for all of a house's batteries and cars."""
        self.replans: Counter[str] = Counter()
        """Plans out of turn, by cause."""
        self.skipped_runs = 0
        """Turns of a house that were over before it came to them, and triggers while it was being planned."""

    @property
    def houses(self) -> list[str]:
        """The houses heard of, planned yet or not."""
        return list(self._houses)

    def cars(self, name: str) -> Collection[str]:
        """The cars that a house has shown, by their ids."""
        return self._houses[name].model.cars

    def peaks(self) -> Iterator[tuple[str, Peak]]:
        """The billing month's peaks so far, house by house."""
        for name, house in self._houses.items():
            yield from ((name, peak) for peak in house.model.peaks)

    def forecast_errors(self) -> Iterator[tuple[str, str, float]]:
        """House, load or pv, and the mean absolute error of its forecasts over the last days [kW]."""
        for name, house in self._houses.items():
            yield from ((name, kind, kw) for kind, kw in house.model.errors_kw.items())

    async def trigger(self, name: str) -> bool:
        """Plan a house now, out of turn; whether a plan came of it.

        Raises:
            OverlapError: it is being planned already; nothing is queued, and this run is counted as skipped.
        """
        house = self._houses[name]
        if house.busy:
            self.skipped_runs += 1
            raise OverlapError(f"{name}: another run is under way: try again")
        try:
            return await self._plan_house(house, "trigger")
        except BusError as error:
            self._log.warning("not published", house=name, why=str(error))
            return False

    async def run(self) -> None:
        """Serve until stopped."""
        async with self._bus.subscribe(*HEARD) as deliveries:
            self._log.info("optimizer started", tariff=self._settings.base.tariff)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hear(deliveries))
                group.create_task(self._recall())
                if self._memory is not None:
                    group.create_task(self._remember(self._memory))
                await self._look_out(group)
                # Whoever they wait for, nobody waits for them.
                for fetch in self._fetches:
                    fetch.cancel()
        if self._memory is not None:
            await self._save(self._memory)
        self._log.info("optimizer stopped", plans=self.plans, houses=len(self._houses))

    async def _hear(self, deliveries: AsyncIterator[Delivery[Any]]) -> None:
        async for delivery in self._life.each(deliveries):
            message, now = delivery.message, self._clock.now()
            house = self._houses.get(message.house)
            if house is None:
                if len(self._houses) >= HOUSES_MAX:
                    await delivery.reject(f"more than {HOUSES_MAX} houses")
                    continue
                house = self._houses[message.house] = self._new_house(message.house, now)
            self._take(house, message, now)
            await delivery.ack()

    def _take(self, house: Household, message: Message, now: Instant) -> None:
        known = house.model.heard_reading
        house.heard_at = now
        house.model.hear(message, now)
        if house.model.heard_reading and not known and self._recordings(house.name) is not None:
            self._to_recall.put_nowait(house)

    def _new_house(self, name: str, now: Instant) -> Household:
        settings = self._settings.of(name)
        remembered = None if self._memory is None else self._memory.load().houses.get(name)
        tariff = self._tariff(settings.tariff)
        return household_of(name, settings, tariff, self._history.get(name), now, remembered)

    def _recordings(self, house: str) -> Path | None:
        return None if house in self._history else self._settings.of(house).recordings_dir

    async def _recall(self) -> None:
        """One house after the other: nobody waits for what was recorded, but the plan is better with it."""
        async for house in self._life.each(_each_of(self._to_recall)):
            root = self._recordings(house.name)
            if root is None:
                continue
            step_s, now = self._settings.of(house.name).step_s, self._clock.now()
            job = partial(recall, root, house.name, step_s, now, of_grid=house.model.measures_grid)
            past = await asyncio.get_running_loop().run_in_executor(None, job)
            for fault in past.faults:
                self._log.warning("recording not read", house=house.name, why=fault)
            known = {"load_steps": len(past.load.history), "pv_steps": len(past.pv.history)}
            self._log.info("recordings read", house=house.name, **known)
            if any(known.values()):
                house.model.adopt(past.load, past.pv)
                house.renew()

    async def _look_out(self, group: asyncio.TaskGroup) -> None:
        async for _ in self._life.each(self._clock.every(LOOK_S)):
            skipped = self.skipped_runs
            try:
                await self._look(group)
            except BusError as error:
                # Who is due stays so: the next look tries again, with newer data.
                self._log.warning("not published", why=str(error))
            if self.skipped_runs > skipped:
                self._log.warning("planning late", skipped=self.skipped_runs - skipped)

    async def _look(self, group: asyncio.TaskGroup) -> None:
        """Plan the houses that are due, one after the other, but wait for nobody else's forecasts."""
        for i, house in enumerate(list(self._houses.values()), start=1):
            if self._life.stopping:
                return
            if i % LOOKED_AT_ONCE == 0:
                await self._clock.sleep(0)
            now = self._clock.now()
            if house.is_forgotten(now):
                self._forget(house)
                continue
            foretold = self._outside is not None and self._outside.serves(house.name)
            if house.busy or not (house.model.heard_reading or foretold):
                continue
            if (reason := house.due(now)) is None:
                continue
            if foretold:
                house.busy = True
                fetch = group.create_task(self._plan_foretold(house, reason))
                self._fetches.add(fetch)
                fetch.add_done_callback(self._fetches.discard)
            else:
                await self._plan_in_turn(house, reason)

    def _forget(self, house: Household) -> None:
        self._log.info("forgotten: not heard for a day", house=house.name)
        del self._houses[house.name]
        self._solver.forget(house.name)
        self.board.forget(house.name)

    async def _plan_in_turn(self, house: Household, reason: Reason) -> None:
        """Plan a house that waits for nobody.

        Raises:
            BusError: the broker is away: for the other houses too.
        """
        try:
            await self._plan_house(house, reason)
        except BusRefusedError as error:
            # What this house may not publish, the next one may.
            self._log.warning("not published", house=house.name, why=str(error))

    async def _plan_foretold(self, house: Household, reason: Reason) -> None:
        async with self._asking:
            try:
                await self._plan_house(house, reason)
            except BusError as error:
                self._log.warning("not published", house=house.name, why=str(error))

    async def _plan_house(self, house: Household, reason: Reason) -> bool:
        """Plan one house, and publish; whether there was anything to plan.

        Raises:
            BusError: the broker is away.
        """
        house.busy = True
        try:
            inputs = house.model.plan_inputs(self._clock.now())
            if self._outside is not None and self._outside.serves(house.name):
                inputs = await self._outside.refine(inputs)
            inputs = as_measured(inputs, house.tolerance.power_kw)
            await self._publish_outlook(inputs)
            plan = [] if inputs.problem is None else await self._solve(inputs, inputs.problem)
            for schedule in plan:
                address = topics.SCHEDULE.at(house=house.name, der_id=schedule.der_id)
                await self._bus.publish(address, schedule)
            self.skipped_runs += house.missed(inputs.load.issued_at)
            house.note(inputs, plan)
            self._note(plan, reason)
            return bool(plan)
        finally:
            house.busy = False

    async def _solve(self, inputs: PlanInputs, problem: Problem) -> list[Schedule]:
        async with self._solving:
            began_s = self._clock.monotonic()
            job = partial(self._solver.plan, problem, inputs.load.house)
            plan = await asyncio.get_running_loop().run_in_executor(None, job)
            took_s = (self._clock.monotonic() - began_s) / self._clock.speed
        return schedules_of(
            inputs,
            problem,
            plan,
            interval_s=self._settings.of(inputs.load.house).interval_s,
            solver=SOLVER,
            solve_time_s=None if self._clock.is_virtual else took_s,
        )

    async def _publish_outlook(self, inputs: PlanInputs) -> None:
        house = inputs.load.house
        await self._bus.publish(topics.PRICE.at(house=house, tariff=inputs.prices.tariff), inputs.prices)
        for forecast in (inputs.load, inputs.pv):
            await self._bus.publish(topics.FORECAST.at(house=house, kind=forecast.kind), forecast)
        self.board.note_forecasts(inputs.load, inputs.pv)

    def _note(self, plan: Sequence[Schedule], reason: Reason) -> None:
        if not plan:
            return
        self.plans += 1
        self.board.note(plan)
        if reason != "interval":
            self.replans[reason] += 1
        told = [plan[0].reason, *plan[0].violations]
        log = self._log.warning if any(told) else self._log.info
        log(
            "planned",
            house=plan[0].house,
            ders=",".join(schedule.der_id for schedule in plan),
            reason=reason,
            status=plan[0].status,
            cost=f"{plan[0].total_cost:.2f} {plan[0].currency}",
            **({"why": "; ".join(filter(None, told))} if any(told) else {}),
        )

    async def _remember(self, store: Store[Memory]) -> None:
        """Keep what a restart must not forget: a peak when it has risen, the running step now and then."""
        kept_at, kept = self._clock.now(), dict[str, list[Peak]]()
        async for _ in self._life.each(self._clock.every(LOOK_S)):
            now = self._clock.now()
            peaks = {name: house.model.peaks for name, house in self._houses.items()}
            if peaks != kept or now.seconds_since(kept_at) >= REMEMBER_S:
                await self._save(store)
                kept_at, kept = now, peaks

    async def _save(self, store: Store[Memory]) -> None:
        now = self._clock.now()
        heard = {name: house.model.remember(now) for name, house in self._houses.items()}
        memory = merged(store.load(), heard, now)
        try:
            await asyncio.get_running_loop().run_in_executor(None, store.save, memory)
        except StoreError as error:
            self._log.error("the month's peaks are not kept", why=str(error))


async def _each_of(queue: asyncio.Queue[Household]) -> AsyncIterator[Household]:
    while True:
        yield await queue.get()
