"""The optimizer on the bus in memory, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from broker.bus import PlanesBus
from broker.errors import BusRefusedError, BusUnavailableError
from contracts import topics
from contracts.codec import encode
from contracts.instant import Instant
from contracts.messages import Forecast, Message, PriceForecast, Schedule
from contracts.topics import Address
from energy.series import Series
from optimizer.forecast import Recorded
from optimizer.service import OptimizerService
from optimizer.settings import OptimizerSettings
from runtime.clock import Clock, VirtualClock
from runtime.errors import UsageError
from runtime.lifecycle import Lifecycle
from runtime.settings import Layered, load
from tests.conftest import START, memory_bus, run_virtual
from tests.unit.test_optimizer_model import der, meter

SETTINGS = Layered(OptimizerSettings(), {})


class Site:
    """An optimizer under way, and all it has published."""

    def __init__(self, bus: PlanesBus, clock: Clock, optimizer: OptimizerService) -> None:
        self.bus = bus
        self.clock = clock
        self.optimizer = optimizer
        self.heard: list[Message] = []

    def of(self, kind: type[Message]) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    async def measure(self, house: str = "house-a", watts: float = 1000.0) -> None:
        reading = meter(self.clock.now(), watts, house=house)
        await self.bus.publish(topics.METER_READING.at(house=house, meter="main"), reading)

    async def report(self, house: str = "house-a", **more: Any) -> None:
        telemetry = der(self.clock.now(), house=house, **more)
        await self.bus.publish(topics.DER_TELEMETRY.at(house=house, der_id=telemetry.der_id), telemetry)

    async def live(self, seconds: float, watts: float = 1000.0, **more: Any) -> None:
        """A reading and telemetry every 10 s for a while."""
        end = self.clock.now().after(seconds)
        while self.clock.now() < end:
            await self.measure(watts=watts)
            await self.report(**more)
            await self.clock.sleep(10.0)


@asynccontextmanager
async def site(
    clock: VirtualClock,
    settings: Layered[OptimizerSettings] = SETTINGS,
    history: Mapping[str, Recorded] | None = None,
    kind: type[OptimizerService] = OptimizerService,
    **more: Any,
) -> AsyncIterator[Site]:
    bus, _ = memory_bus(clock)
    await bus.declare(topics.METER_READING, durable=topics.RECORDER)
    life = Lifecycle()
    optimizer = kind(settings, bus, clock, life, history, **more)
    under_test = Site(bus, clock, optimizer)

    async def listen() -> None:
        async with bus.subscribe(topics.SCHEDULE, topics.PRICE, topics.FORECAST) as deliveries:
            async for delivery in life.each(deliveries):
                under_test.heard.append(delivery.message)

    async with asyncio.TaskGroup() as group:
        group.create_task(listen())
        group.create_task(optimizer.run())
        await clock.sleep(0.1)
        yield under_test
        life.stop()


def test_a_battery_that_appears_is_planned_within_5_s() -> None:
    async def main(clock: VirtualClock) -> None:
        async with site(clock) as s:
            await clock.sleep(60.0)
            await s.measure()
            await s.report()
            await clock.sleep(5.0)
            (schedule,) = s.of(Schedule)
            assert schedule.status == "optimal"
            assert schedule.der_id == "battery"
            assert len(schedule.battery_power_kw) == 192
            assert schedule.solve_time_s is None
            assert [forecast.kind for forecast in s.of(Forecast)] == ["load", "pv"]
            (price,) = s.of(PriceForecast)
            assert price.tariff == "costa_rica"

    run_virtual(main, START.after(120))


def test_plans_each_aligned_quarter_of_an_hour_once() -> None:
    async def main(clock: VirtualClock) -> None:
        async with site(clock) as s:
            await s.live(3540.0)
            schedules = s.of(Schedule)
            assert [str(schedule.start)[11:16] for schedule in schedules] == [
                "12:00",
                "12:15",
                "12:30",
                "12:45",
            ]
            assert [schedule.issued_at for schedule in schedules[1:]] == [
                START.after(900 * i) for i in (1, 2, 3)
            ]
            assert s.optimizer.plans == 4
            assert s.optimizer.skipped_runs == 0

    run_virtual(main, START)


def test_stale_telemetry_gets_no_plan_until_it_is_back() -> None:
    async def main(clock: VirtualClock) -> None:
        async with site(clock) as s:
            await s.live(60.0)
            assert len(s.of(Schedule)) == 1
            await clock.sleep(1800.0)
            assert len(s.of(Schedule)) == 1
            await s.report()
            await clock.sleep(5.0)
            assert len(s.of(Schedule)) == 2

    run_virtual(main)


def test_a_house_without_battery_gets_prices_and_forecasts() -> None:
    async def main(clock: VirtualClock) -> None:
        async with site(clock) as s:
            await s.measure()
            await clock.sleep(10.0)
            assert len(s.of(PriceForecast)) == 1
            assert not s.of(Schedule)

    run_virtual(main)


def test_a_house_has_its_own_tariff_and_limits() -> None:
    settings = Layered(
        OptimizerSettings(),
        {"house-b": OptimizerSettings(tariff="fontana_tou", max_grid_export_kw=5.0, horizon_h=24.0)},
    )

    async def main(clock: VirtualClock) -> None:
        async with site(clock, settings) as s:
            for house in ("house-a", "house-b"):
                await s.measure(house)
                await s.report(house)
            await clock.sleep(10.0)
            found = {schedule.house: schedule for schedule in s.of(Schedule)}
            assert found["house-a"].currency == "CRC"
            assert found["house-b"].currency == "USD"
            assert len(found["house-b"].battery_power_kw) == 96

    run_virtual(main)


def test_recorded_days_are_the_first_forecast() -> None:
    begin = START.after(-86400)
    recorded = Series((begin.unix_ms,), (3000.0,), START.unix_ms)

    async def main(clock: VirtualClock) -> None:
        async with site(clock, history={"house-a": Recorded(recorded)}) as s:
            await s.measure(watts=100.0)
            await clock.sleep(10.0)
            assert s.of(Forecast)[0].power_kw == [3.0] * 192

    run_virtual(main)


def test_what_can_not_be_planned_is_told_with_an_idle_battery() -> None:
    async def main(clock: VirtualClock) -> None:
        async with site(clock) as s:
            await s.measure()
            await s.report(min_soc_percent=80.0, max_soc_percent=20.0)
            await clock.sleep(10.0)
            (schedule,) = s.of(Schedule)
            assert schedule.status == "error"
            assert schedule.reason.startswith("battery min_soc_percent 80")
            assert schedule.battery_power_kw == [0.0] * 192

    run_virtual(main)


def test_a_broker_that_is_away_gets_the_plan_when_it_is_back() -> None:
    async def main(clock: VirtualClock) -> None:
        async with site(clock) as s:
            fail = _Failing(s.bus, until=clock.now().after(12.0), clock=clock)
            s.optimizer._bus = fail
            await s.live(30.0)
            assert fail.failures
            assert len(s.of(Schedule)) == 1

    run_virtual(main)


def test_a_house_that_may_not_publish_keeps_no_other_from_it() -> None:
    async def main(clock: VirtualClock) -> None:
        async with site(clock) as s:
            s.optimizer._bus = _Refusing(s.bus, "house-a")
            for house in ("house-a", "house-b"):
                await s.measure(house)
                await s.report(house)
            await clock.sleep(10.0)
            assert [schedule.house for schedule in s.of(Schedule)] == ["house-b"]

    run_virtual(main)


class _Refusing:
    """A bus whose broker takes nothing of one house."""

    def __init__(self, bus: PlanesBus, house: str) -> None:
        self._bus = bus
        self._house = house
        self.subscribe = bus.subscribe
        self.declare = bus.declare

    async def publish(self, address: Address[Any], message: Any) -> None:
        if message.house == self._house:
            raise BusRefusedError("not allowed")
        await self._bus.publish(address, message)


def test_a_plan_holds_until_after_the_next_turn() -> None:
    settings = Layered(OptimizerSettings(interval_min=60), {})

    async def main(clock: VirtualClock) -> None:
        async with site(clock, settings) as s:
            await s.live(10.0)
            (schedule,) = s.of(Schedule)
            assert schedule.valid_until == schedule.issued_at.after(3600.0 + 900.0)

    run_virtual(main)


class _Failing:
    """A bus whose broker is away for a while."""

    def __init__(self, bus: PlanesBus, until: Instant, clock: Clock) -> None:
        self._bus = bus
        self._until = until
        self._clock = clock
        self.failures = 0
        self.subscribe = bus.subscribe
        self.declare = bus.declare

    async def publish(self, address: Address[Any], message: Any) -> None:
        if self._clock.now() < self._until:
            self.failures += 1
            raise BusUnavailableError("the broker is away")
        await self._bus.publish(address, message)


class _Slow(OptimizerService):
    """Takes 40 minutes for its first plan."""

    async def _solve(self, inputs: Any, problem: Any) -> list[Schedule]:
        if self.plans == 0:
            await self._clock.sleep(2400.0)
        return await super()._solve(inputs, problem)


def test_runs_that_a_late_one_leaves_no_time_for_are_skipped_and_counted() -> None:
    async def main(clock: VirtualClock) -> None:
        async with site(clock, kind=_Slow) as s:
            await s.live(3540.0)
            # 12:00 took until 12:40; 12:15 was never run, 12:30 late, 12:45 in time.
            starts = [str(schedule.start)[11:16] for schedule in s.of(Schedule)]
            assert starts == ["12:00", "12:30", "12:45"]
            assert s.optimizer.skipped_runs == 1

    run_virtual(main, START)


def test_the_same_hour_gives_the_same_bytes() -> None:
    async def main(clock: VirtualClock) -> list[bytes]:
        async with site(clock) as s:
            await s.live(1800.0)
            return [encode(message) for message in s.heard]

    assert run_virtual(main) == run_virtual(main)


@pytest.mark.parametrize(
    ("flags", "cause"),
    [
        (["--tariff", "none-such"], "no tariff 'none-such'"),
        (["--step-min", "7"], "--step-min"),
        (["--horizon-h", "1.1"], "horizon_h 1.1"),
        (["--max-grid-export-kw", "-1"], "--max-grid-export-kw"),
    ],
)
def test_wrong_settings_are_named(flags: list[str], cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        load("optimizer", OptimizerSettings, flags, environ={})
