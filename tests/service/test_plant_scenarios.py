"""The plant API document's scenarios end to end, and a plant that stops, is slow, wrong or lies; virtual time."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby, pairwise
from typing import Any

import httpx
import pytest

from benchmarks.plant_site import LOADS, SCENARIOS, START, Numbers, Scenario, Site, numbers_of, run_scenario
from contracts import topics
from contracts.messages import Decision, DispatchCommand, PlantReading
from der_controller.settings import LoadTable
from plant.settings import PLANT, PlantSettings
from runtime.clock import VirtualClock
from tests.conftest import run_virtual
from tests.unit.test_balance import PRESETS
from tests.unit.test_balancer import load

EXCESS, DEFICIT, BALANCED, RAPID = SCENARIOS
MINUTES = 15


def totals(site: Site) -> list[tuple[float, float, bool]]:
    """For every tick: what was available by the last reading, what all loads were told, whether that was news."""
    found = []
    available_kw = 0.0
    changed = {decision.timestamp for decision in site.decisions}
    heard = (message for message in site.said if isinstance(message, (PlantReading, DispatchCommand)))
    for at, group in groupby(heard, key=lambda m: m.issued_at if isinstance(m, DispatchCommand) else None):
        told_kw = 0.0
        for message in group:
            if isinstance(message, PlantReading):
                available_kw = (message.generation_w - message.consumption_w) / 1000
            else:
                told_kw += message.setpoint_kw or 0.0
        if at is not None:
            found.append((available_kw, told_kw, at in changed))
    return found


def changes(site: Site) -> dict[str, list[Decision]]:
    found: dict[str, list[Decision]] = {}
    for decision in site.decisions:
        found.setdefault(decision.der_id, []).append(decision)
    return found


def check(site: Site) -> Numbers:
    """What holds in every scenario."""
    told = totals(site)
    assert len(told) >= MINUTES * 6 - 2
    for available_kw, kw, is_news in told:
        if is_news:
            assert kw <= max(available_kw, 0.0) + 1e-9
    assert site.alerts == []
    stamps = [reading.timestamp for reading in site.readings]
    assert all(a < b for a, b in pairwise(stamps))
    assert [reading.seq for reading in site.readings] == list(range(1, len(stamps) + 1))
    for decisions in changes(site).values():
        for one, other in pairwise(decisions):
            assert other.timestamp.seconds_since(one.timestamp) >= 30
    return numbers_of(site)


def test_excess_scales_up() -> None:
    site = run_scenario(EXCESS, MINUTES / 60)
    numbers = check(site)
    assert site.power_kw == LOADS * 3.0
    assert numbers.overdraw_s_per_hour == 0
    assert all(len(one) == 1 for one in changes(site).values())


def test_deficit_scales_down() -> None:
    site = run_scenario(DEFICIT, MINUTES / 60)
    numbers = check(site)
    assert site.samples[30].power_kw > 35
    assert site.power_kw == 0
    assert numbers.unused_kw < 2
    assert numbers.overdraw_s_per_hour * MINUTES / 60 <= 60 + 10 + 2  # the first balance, and the stop


def test_balanced_follows() -> None:
    site = run_scenario(BALANCED, MINUTES / 60)
    numbers = check(site)
    assert numbers.unused_kw < numbers.available_kw / 4
    assert numbers.overdraw_kw < 3
    assert len({round(sample.power_kw) for sample in site.samples}) > 5


def test_rapid_changes_are_throttled() -> None:
    once, often = (run_scenario(RAPID, MINUTES / 60, balancer_interval_s=s) for s in (60.0, 10.0))
    slow = check(once)
    # Balanced with every reading, what throttles is the cooldown alone.
    for decisions in changes(often).values():
        for one, other in pairwise(decisions):
            assert other.timestamp.seconds_since(one.timestamp) >= 30
    fast = numbers_of(often)
    assert slow.changes_per_load_per_hour < fast.changes_per_load_per_hour < 120
    assert fast.unused_kw < slow.unused_kw


def test_the_same_seed_runs_the_same_way() -> None:
    one, other = (run_scenario(RAPID, 0.05) for _ in range(2))
    assert one.said == other.said
    assert one.samples == other.samples


# A plant that can't be asked, or not believed

STEADY = Scenario("steady", PlantSettings(gen_min=0.04, gen_max=0.04, cons_min=0.01, cons_max=0.01))


class Line(httpx.AsyncBaseTransport):
    """Stands between the poller and the plant, and does what the test says."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.inner: httpx.AsyncBaseTransport
        self.fault: Callable[[Line, httpx.Request], Any] | None = None
        self.last = b""

    def through(self, inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        self.inner = inner
        return self

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.fault is not None:
            response: httpx.Response = await self.fault(self, request)
            return response
        response = await self.inner.handle_async_request(request)
        self.last = await response.aread()
        return httpx.Response(response.status_code, content=self.last)

    async def lie(self, request: httpx.Request, change: Callable[[dict[str, Any]], None]) -> httpx.Response:
        answer = json.loads(await (await self.inner.handle_async_request(request)).aread())
        change(answer["reading"])
        return httpx.Response(200, json=answer)


async def stopped(_line: Line, request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("All connection attempts failed", request=request)


async def slow(line: Line, request: httpx.Request) -> httpx.Response:
    await line.clock.sleep(20.0)
    return await line.inner.handle_async_request(request)


async def broken(_line: Line, _request: httpx.Request) -> httpx.Response:
    return httpx.Response(503)


async def forbidden(line: Line, request: httpx.Request) -> httpx.Response:
    request.headers["authorization"] = "Bearer another"
    return await line.inner.handle_async_request(request)


async def nonsense(_line: Line, _request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=b"<html>")


async def endless(_line: Line, _request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=b" " * 2_000_000)


async def sums(line: Line, request: httpx.Request) -> httpx.Response:
    return await line.lie(request, lambda reading: reading["totals"].update(generation_mw=1.0))


async def untrusted(line: Line, request: httpx.Request) -> httpx.Response:
    return await line.lie(request, lambda reading: reading["trust"].update(status="suspect"))


async def part_fails(line: Line, request: httpx.Request) -> httpx.Response:
    return await line.lie(request, lambda reading: reading["generation"]["nogueira"].update(status="timeout"))


async def ahead(line: Line, request: httpx.Request) -> httpx.Response:
    later = "2031-01-01T00:00:00.000000Z"
    return await line.lie(request, lambda reading: reading.update(collection_timestamp=later))


async def frozen(line: Line, _request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=line.last)


@asynccontextmanager
async def steady_site(clock: VirtualClock) -> AsyncIterator[tuple[Site, Line]]:
    line = Line(clock)
    devices = {"miner": LoadTable(count=LOADS), "heater": LoadTable(safe_power_kw=1.0)}
    async with Site(clock, STEADY.plant, devices, line.through) as site:
        await clock.sleep(100)
        yield site, line


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (stopped, "plant at http://plant/data/latest: ConnectError All connection attempts failed"),
        (slow, "plant at http://plant/data/latest: no answer within 3 s"),
        (broken, "plant at http://plant/data/latest: answers 503"),
        (forbidden, "plant at http://plant/data/latest: answers 401"),
        (nonsense, "plant at http://plant/data/latest: makes no sense"),
        (endless, "plant at http://plant/data/latest: more than 1000000 bytes"),
        (sums, "plant at http://plant/data/latest: not believed: totals.generation_mw is 1,"),
        (untrusted, "plant at http://plant/data/latest: not believed: it is 'suspect'"),
        (part_fails, "plant at http://plant/data/latest: not believed: generation.nogueira has status 'timeout'"),
        (ahead, "plant at http://plant/data/latest: not believed: collection_timestamp 2031"),
        (frozen, "plant at http://plant/data/latest: not believed: collection_timestamp 2025"),
    ],
)  # fmt: skip
def test_without_a_plant_to_believe_loads_are_safe_and_somebody_knows(fault: Any, why: str) -> None:
    async def main(clock: VirtualClock) -> Site:
        async with steady_site(clock) as (site, line):
            assert 27.5 < site.power_kw <= 28.0
            assert site.states[-1]
            line.fault = fault
            await clock.sleep(125 + 20)
            assert site.power_kw == 1.0, "all stopped but the heater, which is safe at 1 kW"
            await clock.sleep(120)
            assert not site.states[-1]
            assert site.poller.condition.why.startswith(why)
            last = site.poller.condition.last
            assert last is not None, "the last that could be believed is kept"
            assert last.generation_w == 40e3
            line.fault = None
            await clock.sleep(120)
            assert 27.5 < site.power_kw <= 28.0
            assert site.states[-1]
            assert site.poller.condition.why == ""
        return site

    site = run_virtual(main, START)
    told = {(alert.name, alert.severity): alert.text for alert in site.alerts}
    assert set(told) == {
        ("plant-ailing", "warning"),
        ("plant-unknown", "critical"),
        ("plant-ailing", "info"),
        ("plant-unknown", "info"),
    }
    assert len(site.alerts) == 4
    assert why in told["plant-ailing", "warning"]
    assert "5 failures in a row, the last reading is of 2025-11-12T15:01:" in told["plant-ailing", "warning"]
    assert "its 21 managed loads go to their safe presets" in told["plant-unknown", "critical"]
    poller = [alert for alert in site.alerts if alert.source == "plant-poller"]
    assert [(alert.house, alert.boot, alert.seq) for alert in poller] == [(PLANT, 1, 1), (PLANT, 1, 2)]


# A load that does not do what it is told


async def _speak_for(der_id: str, site: Site, clock: VirtualClock) -> None:
    """A load that the controller knows nothing of, and so refuses for; it draws 2 kW."""
    address = topics.DER_TELEMETRY.at(house=PLANT, der_id=der_id)
    while True:
        await clock.sleep(1.0)
        told = load(der_id, clock.now(), current_output=2.0, preset_kw=PRESETS[9])
        await site.bus.publish(address, told)


def test_a_load_that_does_not_obey_is_left_out_and_somebody_knows() -> None:
    async def main(clock: VirtualClock) -> Site:
        async with steady_site(clock) as (site, _):
            speaking = asyncio.create_task(_speak_for("stubborn", site, clock))
            await clock.sleep(200)
            speaking.cancel()
            await asyncio.wait([speaking])
        return site

    site = run_virtual(main, START)
    assert {alert.name for alert in site.alerts} == {"der-rejects"}
    told = {command.der_id: command.setpoint_kw or 0.0 for command in site.commands}
    assert told.pop("stubborn") == 0.0
    assert 25.5 < sum(told.values()) <= 28.0, "the 2 kW it draws are nobody else's"


def test_a_few_failures_are_nobodys_business() -> None:
    async def main(clock: VirtualClock) -> Site:
        async with steady_site(clock) as (site, line):
            line.fault = broken
            await clock.sleep(35)
            assert site.poller.condition.failures == 4
            line.fault = None
            await clock.sleep(20)
        return site

    site = run_virtual(main, START)
    assert site.alerts == []
    assert False not in site.states[:-1]
