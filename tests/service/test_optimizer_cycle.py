"""When the optimizer plans, what it remembers, and what it does not wait for; on the bus in memory."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from contracts.messages import Forecast, Schedule
from optimizer.memory import FILE, Memory, open_memory
from optimizer.model import PlanInputs
from optimizer.settings import OptimizerSettings
from runtime.clock import VirtualClock
from runtime.errors import StoreError
from runtime.settings import Layered, load
from runtime.store import Store
from tests.conftest import START, run_virtual
from tests.service.test_optimizer import Site, site
from tests.unit.test_optimizer_recordings import record


def times(schedules: list[Schedule]) -> list[float]:
    """When they were made, in seconds after the start."""
    return [schedule.issued_at.seconds_since(START) for schedule in schedules]


async def follow(s: Site, seconds: float, watts: float = 1000.0, off_percent: float = 0.0) -> None:
    """A house whose battery does what its last plan says, or is off it by so much."""
    end = s.clock.now().after(seconds)
    while s.clock.now() < end:
        planned = 50.0
        if plans := s.of(Schedule):
            whole = plans[-1].soc_percent
            begin = max(plans[-1].issued_at, plans[-1].start)
            share = s.clock.now().seconds_since(begin) / plans[-1].start.after(900).seconds_since(begin)
            planned = whole[0] + share * (whole[1] - whole[0])
        await s.live(10.0, watts, current_soc=min(100.0, planned + off_percent))


def test_a_house_that_keeps_to_its_plan_is_planned_in_its_turn_alone() -> None:
    async def main(clock: VirtualClock) -> None:
        async with site(clock) as s:
            await follow(s, 890.0)
            assert times(s.of(Schedule)) == [5.0]
            assert not s.optimizer.replans

    run_virtual(main)


def test_a_charge_that_is_off_has_the_plan_made_anew() -> None:
    async def main(clock: VirtualClock) -> None:
        async with site(clock) as s:
            await follow(s, 300.0)
            await follow(s, 300.0, off_percent=6.0)
            schedules = s.of(Schedule)
            assert s.optimizer.replans["soc"] == len(schedules) - 1 >= 1
            assert 300.0 < times(schedules)[1] <= 310.0
            assert schedules[1].soc_percent[0] == pytest.approx(schedules[0].soc_percent[0] + 6.0, abs=3.0)
            gaps = [b - a for a, b in pairwise(times(schedules))]
            assert min(gaps) >= 60.0

    run_virtual(main)


def test_a_load_that_is_off_for_minutes_has_the_plan_made_anew_once() -> None:
    async def main(clock: VirtualClock) -> None:
        async with site(clock) as s:
            await follow(s, 300.0)
            await follow(s, 20.0, watts=9000.0)
            await follow(s, 180.0)
            assert len(s.of(Schedule)) == 1, "a kettle is no reason"
            await follow(s, 390.0, watts=4500.0)
            schedules = s.of(Schedule)
            assert 560.0 < times(schedules)[1] < 620.0
            assert schedules[1].load_kw[0] > 3.0
            assert schedules[0].load_kw[0] == pytest.approx(1.0)
            assert s.optimizer.replans == {"power": 1}

    run_virtual(main)


def test_a_second_battery_and_a_car_are_planned_when_they_come_and_when_the_car_goes() -> None:
    settings = Layered(OptimizerSettings(horizon_h=5.0, replan_soc_percent=100.0), {})

    async def main(clock: VirtualClock) -> None:
        async with site(clock, settings) as s:
            for i in range(89):
                await s.measure()
                await s.report()
                if i >= 20:
                    await s.report(der_id="garage", capacity_kwh=5.0)
                car = {"der_id": "car", "type": "electric_vehicle", "capacity_kwh": 40.0, "phases": 1}
                if i >= 40:
                    leaves = START.after(4 * 3600 if i < 60 else 2 * 3600)
                    await s.report(**car, connected=i < 80, current_soc=70.0, departure_at=leaves)
                await clock.sleep(10.0)
            made: dict[float, set[str]] = {}
            for schedule in s.of(Schedule):
                made.setdefault(schedule.issued_at.seconds_since(START), set()).add(schedule.der_id)
            both = {"battery", "garage"}
            assert list(made.values()) == [{"battery"}, both, {*both, "car"}, {*both, "car"}, both]
            assert [at // 200 * 200 for at in made] == [0, 200, 400, 600, 800]
            assert s.optimizer.replans == {"device": 1, "car": 3}
            assert set(s.optimizer.board.schedules["house-a"]) == {*both, "car"}

    run_virtual(main)


class _Away:
    """Foretells some houses, after a long wait."""

    def __init__(self, clock: VirtualClock, *houses: str) -> None:
        self.clock = clock
        self.houses = houses
        self.asked = 0

    def serves(self, house: str) -> bool:
        return house in self.houses

    async def refine(self, inputs: PlanInputs) -> PlanInputs:
        self.asked += 1
        await self.clock.sleep(20.0)
        return inputs


def test_a_reporter_that_is_away_holds_up_nobody_else() -> None:
    async def main(clock: VirtualClock) -> None:
        away = [f"away-{i:02}" for i in range(40)]
        async with site(clock, outside=_Away(clock, *away)) as s:
            for i in range(4):
                for house in (*away, "house-a"):
                    await s.measure(house)
                    await s.report(house)
                await clock.sleep(20.0)
                if i == 0:
                    assert {schedule.house for schedule in s.of(Schedule)} == {"house-a"}
            assert {schedule.house for schedule in s.of(Schedule)} == {*away, "house-a"}

    run_virtual(main)


def test_a_stop_does_not_wait_for_a_reporter() -> None:
    async def main(clock: VirtualClock) -> float:
        outside = _Away(clock, "house-a")
        async with site(clock, outside=outside) as s:
            await s.measure()
            await clock.sleep(6.0)
            assert outside.asked
        return clock.now().seconds_since(START)

    assert run_virtual(main) < 10.0


def test_turns_that_a_full_service_has_no_time_for_are_counted_by_house() -> None:
    async def main(clock: VirtualClock) -> None:
        houses = [f"house-{i}" for i in range(4)]

        async def report(s: Site) -> None:
            while True:
                for house in houses:
                    await s.measure(house)
                    await s.report(house)
                await clock.sleep(10.0)

        async with site(clock) as s:
            solve = s.optimizer._solve

            async def slowly(*args: Any) -> list[Schedule]:
                await clock.sleep(600.0)
                return await solve(*args)

            s.optimizer._solve = slowly
            reporting = asyncio.create_task(report(s))
            await clock.sleep(2 * 3600.0 + 60.0)
            reporting.cancel()
            # A round takes 40 min: every house is planned, none twice in a turn, and what is missed is counted.
            made = [(schedule.house, str(schedule.start)) for schedule in s.of(Schedule)]
            assert len(set(made)) == len(made) == 12
            assert {house for house, _ in made} == set(houses)
            starts = [schedule.start for schedule in s.of(Schedule) if schedule.house == "house-0"]
            gaps = [b.seconds_since(a) / 900 for a, b in pairwise(starts)]
            assert s.optimizer.skipped_runs >= sum(gap - 1 for gap in gaps) > 0

    run_virtual(main)


def test_after_a_restart_it_plans_at_once_and_knows_the_peaks(tmp_path: Path) -> None:
    path = tmp_path / "state" / FILE

    async def before(clock: VirtualClock) -> None:
        async with site(clock, memory=open_memory(path)) as s:
            await s.live(930.0, watts=9000.0)
            assert kept(path)["valley"] == pytest.approx(9.0, rel=1e-3)
            await s.live(300.0, watts=2000.0)

    async def after(clock: VirtualClock) -> None:
        async with site(clock, memory=open_memory(path)) as s:
            await s.measure()
            await s.report()
            await clock.sleep(5.0)
            (schedule,) = s.of(Schedule)
            assert schedule.start == START.after(900)
            (model,) = [house.model for house in s.optimizer._houses.values()]
            problem = model.plan_inputs(clock.now()).problem
            assert problem is not None
            assert problem.demand[problem.demand_of_interval[0]].floor_kw == pytest.approx(9.0, rel=1e-3)
            assert problem.passed_kwh > 1.9 * 330 / 3600

    run_virtual(before)
    run_virtual(after, START.after(1300))


def kept(path: Path) -> dict[str, float]:
    houses = Store(path, Memory, Memory()).load().houses
    return {peak.group: peak.kw for peak in houses["house-a"].peaks}


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"houses": 3}', b'{"houses": {"a": {"peaks": [{"kw": -1}]}}}']
)
def test_a_memory_that_can_not_be_read_is_put_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE
    path.write_bytes(content)

    async def main(clock: VirtualClock) -> None:
        async with site(clock, memory=open_memory(path)) as s:
            await s.live(960.0, watts=3000.0)
            assert s.of(Schedule)

    run_virtual(main)
    assert path.with_suffix(".unreadable").read_bytes() == content
    assert kept(path)["valley"] == pytest.approx(3.0, rel=1e-3)


def test_a_full_disk_is_told_and_planning_goes_on(tmp_path: Path) -> None:
    class Full(Store[Memory]):
        saves = 0

        def save(self, value: Memory) -> None:
            assert value.houses.keys() <= {"house-a"}
            self.saves += 1
            raise StoreError("the disk is full")

    async def main(clock: VirtualClock) -> None:
        full = Full(tmp_path / FILE, Memory, Memory())
        async with site(clock, memory=full) as s:
            await s.live(200.0)
            assert s.of(Schedule)
            assert full.saves >= 2

    run_virtual(main)


def test_what_the_recorder_has_is_the_first_forecast(tmp_path: Path) -> None:
    for day in (1, 2):
        record(tmp_path, START.floor(86400).after(-86400.0 * day), 86400.0, 3000.0, 700.0, every=60.0)
    record(tmp_path, START.after(-86400), 3600.0, 9999.0, run="tuesday")
    broken = record(tmp_path, START.after(-5 * 86400), 900.0, 500.0)
    broken.write_text("nonsense\n")
    settings = Layered(OptimizerSettings(recordings_dir=tmp_path), {})

    async def main(clock: VirtualClock) -> None:
        async with site(clock, settings) as s:
            await s.live(20.0, watts=2900.0)
            load, pv = s.of(Forecast)[-2:]
            assert load.power_kw[1:] == pytest.approx([3.0] * 191, abs=0.2)
            assert pv.power_kw == pytest.approx([0.7] * 192)

    run_virtual(main)


def test_a_house_not_heard_for_a_day_makes_room() -> None:
    async def main(clock: VirtualClock) -> None:
        async with site(clock) as s:
            await s.live(20.0)
            assert s.optimizer.houses == ["house-a"]
            await clock.sleep(86400.0 + 20.0)
            assert s.optimizer.houses == []
            assert not s.optimizer.board.schedules
            await s.live(20.0)
            assert len(s.of(Schedule)) == 2

    run_virtual(main)


def test_wear_makes_a_battery_rest() -> None:
    def cycled(degradation_cost: float) -> float:
        settings = Layered(OptimizerSettings(degradation_cost=degradation_cost), {})

        async def main(clock: VirtualClock) -> float:
            async with site(clock, settings) as s:
                await s.live(10.0)
                return sum(map(abs, s.of(Schedule)[0].battery_power_kw))

        return run_virtual(main)

    assert cycled(0.0) > cycled(1e4) == pytest.approx(0.0, abs=1e-6)


def test_a_tariff_file_stands_beside_the_site_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(__file__).parents[2] / "energy" / "tariffs" / "costa_rica.toml"
    (tmp_path / "site" / "tariffs").mkdir(parents=True)
    (tmp_path / "site" / "tariffs" / "mine.toml").write_text(source.read_text())
    path = tmp_path / "site" / "site.toml"
    path.write_text(
        '[optimizer]\ntariff = "tariffs/mine.toml"\n[house.house-b.optimizer]\ntariff = "fontana_tou"\n'
    )
    settings = load("optimizer", OptimizerSettings, ["--config", str(path)], environ={})
    assert settings.base.tariff == str(tmp_path / "site" / "tariffs" / "mine.toml")
    assert settings.of("house-b").tariff == "fontana_tou"
    monkeypatch.chdir(tmp_path / "site")
    by_flag = load("optimizer", OptimizerSettings, ["--tariff", "tariffs/mine.toml"], environ={})
    assert by_flag.base.tariff == "tariffs/mine.toml"
