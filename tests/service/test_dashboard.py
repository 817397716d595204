"""The dashboard's stream: what is on the bus is shown a second later, to all alike, and who is slow sees the newest."""

import json
from collections.abc import AsyncIterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from broker.bus import PlanesBus
from contracts import topics
from contracts.instant import Instant
from dashboard import hub as hub_module
from dashboard.hub import FullError, Hub
from dashboard.model import Fleet
from dashboard.service import DashboardService
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from tests.conftest import memory_bus, run_virtual
from tests.dashboard_house import HOUSE, a_house, alert, command, prices, reading, say, schedule, telemetry


class Stage:
    """A dashboard on a bus in memory."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.bus: PlanesBus
        self.bus, _ = memory_bus(clock)
        self.life = Lifecycle()
        self.fleet = Fleet(ZoneInfo("UTC"), lambda _: 16.0)
        self.hub = Hub(self.fleet, {"timezone": "UTC"})
        self.connected = True
        self.service = DashboardService(
            self.fleet, self.hub, self.bus, lambda: self.connected, clock, self.life
        )

    async def begin(self) -> Any:
        import asyncio

        for topic in (topics.METER_READING, topics.PV_READING, topics.ALERT):
            await self.bus.declare(topic, durable=topics.RECORDER)
        running = asyncio.create_task(self.service.run())
        await self.clock.sleep(0.1)
        return running

    async def end(self, running: Any) -> None:
        self.life.stop()
        await running


def parsed(event: bytes) -> tuple[str, Any]:
    name, data, *rest = event.decode().split("\n")
    assert rest == ["", ""]
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def until(events: AsyncIterator[bytes], wanted: str) -> Any:
    """The next event of that name."""
    async for event in events:
        name, told = parsed(event)
        if name == wanted:
            return told
    raise AssertionError(f"the stream ended without {wanted}")


def test_what_is_said_is_shown_within_a_second_and_only_what_is_new() -> None:
    async def main(clock: VirtualClock) -> None:
        stage = Stage(clock)
        running = await stage.begin()
        await say(stage.bus, *a_house(clock.now()), *a_house(clock.now(), house="house-b"))
        await clock.sleep(1.0)
        events = stage.hub.events(HOUSE)
        assert parsed(await anext(events)) == ("hello", {"timezone": "UTC"})
        first = await until(events, "fleet")
        assert (first["full"], first["connected"], [row["house"] for row in first["houses"]]) == (
            True,
            True,
            ["house-a", "house-b"],
        )
        await until(events, "commands")
        said_at = clock.now()
        await say(stage.bus, telemetry(clock.now(), 2.5))
        then = await until(events, "fleet")
        assert Instant.at_ms(then["now"]).seconds_since(said_at) <= 1.0
        assert (then["full"], [(row["house"], row["battery"]) for row in then["houses"]]) == (
            False,
            [(HOUSE, 2.5)],
        )
        await events.aclose()  # type: ignore[attr-defined]
        await stage.end(running)

    run_virtual(main)


def test_a_day_is_sent_again_only_when_it_has_changed() -> None:
    async def main(clock: VirtualClock) -> None:
        stage = Stage(clock)
        running = await stage.begin()
        await say(stage.bus, *a_house(clock.now()), prices(clock.now()))
        events = stage.hub.events(HOUSE)
        day = await until(events, "day")
        assert (day["house"], day["plan"], len(day["prices"]["buy"])) == (HOUSE, None, 192)
        names = []
        for _ in range(3):  # nothing new of the day
            await say(stage.bus, telemetry(clock.now(), 1.0), command(clock.now(), 1.0, len(names)))
            names += [parsed(await anext(events))[0] for _ in range(2)]
        assert sorted(set(names) - {"commands"}) == ["fleet"]
        await say(stage.bus, schedule(clock.now()))
        assert (await until(events, "day"))["plan"]["status"] == "optimal"
        await events.aclose()  # type: ignore[attr-defined]
        await stage.end(running)

    run_virtual(main)


def test_all_watchers_are_given_the_same_bytes() -> None:
    async def main(clock: VirtualClock) -> None:
        stage = Stage(clock)
        running = await stage.begin()
        await say(stage.bus, *a_house(clock.now()), alert(clock.now(), "x"))
        watchers = [stage.hub.events(HOUSE) for _ in range(2)]
        await clock.sleep(1.0)
        seen: list[list[bytes]] = [[await anext(events) for _ in range(5)] for events in watchers]
        assert [parsed(event)[0] for event in seen[0]] == ["hello", "fleet", "alerts", "day", "commands"]
        assert all(one is other for one, other in zip(*seen, strict=True))  # encoded once
        for events in watchers:
            await events.aclose()  # type: ignore[attr-defined]
        assert stage.hub.watchers == 0
        await stage.end(running)

    run_virtual(main)


def test_who_is_slow_sees_the_newest_and_costs_nothing() -> None:
    async def main(clock: VirtualClock) -> None:
        stage = Stage(clock)
        running = await stage.begin()
        events = stage.hub.events("")
        await say(stage.bus, *a_house(clock.now(), house="house-b"))
        await until(events, "fleet")
        await until(events, "alerts")
        for kw in range(20):
            await say(stage.bus, telemetry(clock.now(), float(kw)))
            await clock.sleep(1.0)
        late = await until(events, "fleet")
        assert late["full"] is True
        assert {row["house"]: row["battery"] for row in late["houses"]} == {"house-a": 19.0, "house-b": -0.6}
        assert Instant.at_ms(late["now"]).seconds_since(clock.now()) >= -1.0
        assert stage.hub.missed >= 18
        await events.aclose()  # type: ignore[attr-defined]
        await stage.end(running)

    run_virtual(main)


def test_a_broken_bus_is_told_and_its_return_too() -> None:
    async def main(clock: VirtualClock) -> None:
        stage = Stage(clock)
        running = await stage.begin()
        await say(stage.bus, reading(clock.now(), 1000))
        events = stage.hub.events("")
        assert (await until(events, "fleet"))["connected"]
        stage.connected = False
        assert not (await until(events, "fleet"))["connected"]
        stage.connected = True
        assert (await until(events, "fleet"))["connected"]
        await events.aclose()  # type: ignore[attr-defined]
        await stage.end(running)

    run_virtual(main)


def test_a_stopped_service_ends_the_streams() -> None:
    async def main(clock: VirtualClock) -> None:
        stage = Stage(clock)
        running = await stage.begin()
        events = stage.hub.events("")
        await until(events, "alerts")
        await stage.end(running)
        assert [parsed(event)[0] async for event in events] == []

    run_virtual(main)


def test_there_are_only_so_many_watchers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(clock: VirtualClock) -> None:
        stage = Stage(clock)
        running = await stage.begin()
        monkeypatch.setattr(hub_module, "WATCHERS_MAX", 1)
        first, second = stage.hub.events(""), stage.hub.events("")
        await anext(first)
        with pytest.raises(FullError, match="1 pages are open already"):
            await anext(second)
        await first.aclose()  # type: ignore[attr-defined]
        await stage.end(running)

    run_virtual(main)
