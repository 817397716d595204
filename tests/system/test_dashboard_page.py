"""The dashboard in a real browser: it follows the bus, tells when that is gone, and lets nobody do what they may not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker.bus import PlanesBus
from broker.connect import open_bus, presence_of
from contracts import topics
from contracts.archive import HEADER
from contracts.orders import HeldDer, OperatorRequest, StandingOrders
from dashboard.settings import DashboardSettings
from runtime.clock import Clock, SystemClock
from tests.broker_life import free_ports
from tests.brokers import Broker, Missing, give_up, running
from tests.browser import browsing, need_browser
from tests.conftest import memory_bus
from tests.dashboard_house import (
    HOUSE,
    a_house,
    alert,
    answer,
    command,
    dashboard,
    decision,
    prices,
    say,
    schedule,
    telemetry,
)
from tests.secret_files import write_secret

if TYPE_CHECKING:
    from playwright.async_api import Page

TOKEN = "a-token-of-the-tests"  # noqa: S105


@pytest.fixture(autouse=True)
def _browser() -> None:
    need_browser()


class Talk:
    """Houses that go on talking, once a second; what they say can be changed."""

    def __init__(self, bus: PlanesBus, clock: Clock, houses: list[str], **said: Any) -> None:
        self._bus, self._clock = bus, clock
        self.houses = houses
        self.said: dict[str, Any] = {"load_w": 1500, "pv_w": 500, "battery_kw": -0.6, **said}

    async def run(self) -> None:
        async for _ in self._clock.every(1.0):
            for house in list(self.houses):
                await say(self._bus, *a_house(self._clock.now(), house=house, **self.said))


@asynccontextmanager
async def talking(bus: PlanesBus, clock: Clock, *houses: str, **said: Any) -> AsyncIterator[Talk]:
    talk = Talk(bus, clock, list(houses or (HOUSE,)), **said)
    task = asyncio.create_task(talk.run())
    try:
        yield talk
    finally:
        task.cancel()
        await asyncio.wait([task])


async def becomes(page: "Page", script: str, timeout_s: float = 15.0) -> None:
    """Until a condition holds; asked from outside, as the page's policy forbids to evaluate a text inside."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await page.evaluate(script):  # noqa: ASYNC110 - there is nothing to be woken by
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"never so: {script}; the page says {await page.inner_text('body')}") from None


def text_is(selector: str, text: str) -> str:
    return f"document.querySelector({selector!r})?.textContent.includes({text!r})"


async def test_the_flow_follows_the_bus() -> None:
    clock = SystemClock()
    bus, _ = memory_bus(clock)
    async with dashboard(bus, clock) as url, talking(bus, clock) as talk, browsing(url) as seen:
        page = seen.page
        await becomes(page, text_is(".node.battery .state", "discharging"))
        assert await page.text_content(".node.battery .value") == "0.60"
        assert await page.get_attribute(".link.battery", "data-direction") == "in"
        await becomes(page, text_is(".node.grid .value", "0.40"))
        await say(bus, decision(clock.now(), "<img src=x onerror=alert(1)> stores the sun."))
        began = clock.monotonic()
        talk.said.update(pv_w=4000, battery_kw=1.5)
        await becomes(page, text_is(".node.battery .state", "charging"))
        await becomes(page, text_is(".node.grid .state", "exporting"))
        assert clock.monotonic() - began < 3.5  # said within a second, shown within one more
        assert await page.get_attribute(".link.battery", "data-direction") == "out"
        assert await page.get_attribute(".link.grid", "data-direction") == "out"
        await becomes(page, text_is(".why", "<img src=x onerror=alert(1)> stores the sun."))
        assert await page.locator(".why img").count() == 0  # what comes from the bus is text
        label = await page.get_attribute(".flow", "aria-label") or ""
        assert "Battery charging 1.50 kW" in label
        assert (seen.errors, seen.elsewhere) == ([], [])


async def test_the_day_and_its_plan_are_drawn_and_read_with_the_keys() -> None:
    clock = SystemClock()
    bus, _ = memory_bus(clock)
    async with dashboard(bus, clock) as url, talking(bus, clock), browsing(f"{url}/#/house/{HOUSE}") as seen:
        page = seen.page
        await say(bus, telemetry(clock.now(), 0.0), prices(clock.now()), schedule(clock.now()))
        await becomes(
            page,
            "[...document.querySelectorAll('.line.planned')].filter((e) => e.getAttribute('d')).length >= 4",
        )
        await page.locator(".plot").first.focus()
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("ArrowRight")
        told = await page.locator(".plot").first.get_attribute("aria-valuetext") or ""
        assert "Load +1.50 kW (plan)" in told
        assert "€0.30" in told
        await page.click("text=As a table")
        await becomes(
            page,
            "[...document.querySelectorAll('tbody tr')].filter((e) => e.textContent.includes('€0.60')).length >= 20",
        )
        assert await page.text_content("dl .figure:has-text('Electricity now') .big") == "€0.30/kWh"
        assert (seen.errors, seen.elsewhere) == ([], [])


async def test_who_is_silent_looks_stale() -> None:
    clock = SystemClock()
    bus, _ = memory_bus(clock)
    async with (
        dashboard(bus, clock, stale_s=3.0) as url,
        talking(bus, clock) as talk,
        browsing(f"{url}/#/fleet") as seen,
    ):
        page = seen.page
        await becomes(page, text_is("tr[data-key='house-a'] .chip", "ok"))
        began = clock.monotonic()
        talk.houses.clear()
        await becomes(page, text_is("tr[data-key='house-a'] .chip", "stale"))
        assert clock.monotonic() - began < 3.0 + 2.5  # 27.5 s with the default of 25 s
        await page.click("tr[data-key='house-a'] a")
        await becomes(
            page,
            "document.querySelector('.node.battery.stale') && document.querySelector('.node.grid.stale')",
        )
        assert "No news of the meter" in (await page.text_content(".flowcard p") or "")
        assert DashboardSettings().stale_s <= 27
        assert (seen.errors, seen.elsewhere) == ([], [])


@asynccontextmanager
async def real_broker() -> AsyncIterator[Broker]:
    try:
        broker = running("mosquitto")
        found = await asyncio.to_thread(broker.__enter__)
    except Missing as missing:
        give_up("mosquitto", str(missing))
        return
    try:
        yield found
    finally:
        await asyncio.to_thread(broker.__exit__, None, None, None)


async def test_a_broken_bus_is_shown_and_heals(tmp_path: Path) -> None:
    clock = SystemClock()
    async with real_broker() as broker:
        assert broker.mqtt_url is not None
        settings = DashboardSettings(live_url=broker.mqtt_url, state_dir=tmp_path)
        presence = presence_of("site", "dashboard", "main")
        async with (
            open_bus(settings, clock, client="dashboard", presence=presence) as bus,
            open_bus(settings, clock, client="houses", presence=presence_of("site", "run", "main")) as theirs,
            dashboard(bus, clock, lambda: bus.connected) as url,
            browsing(f"{url}/#/fleet") as seen,
        ):
            page = seen.page
            await say(theirs, telemetry(clock.now(), 1.0))
            await becomes(page, text_is("tr[data-key='house-a']", "+1.00"))
            await asyncio.to_thread(broker.kill)
            await becomes(page, text_is("#banner", "a broker is away"))
            assert await page.text_content("#link") == "no connection"
            await asyncio.to_thread(broker.start)
            await becomes(page, "document.getElementById('banner').hidden", 40.0)
            await becomes(page, "document.getElementById('link').textContent === 'connected'")
            async with asyncio.timeout(20.0):
                while "+2.00" not in (await page.text_content("tr[data-key='house-a']") or ""):
                    await say(theirs, telemetry(clock.now(), 2.0))
                    await clock.sleep(0.5)
            assert (seen.errors, seen.elsewhere) == ([], [])


async def test_a_server_that_is_gone_is_shown_and_found_again() -> None:
    clock = SystemClock()
    bus, _ = memory_bus(clock)
    (port,) = free_ports(1)
    async with talking(bus, clock):
        async with dashboard(bus, clock, service_port=port) as url:
            browser = browsing(url)
            seen = await browser.__aenter__()
            await becomes(seen.page, text_is("#link", "connected"))
        try:
            await becomes(seen.page, text_is("#banner", "connection to the dashboard's server is lost"))
            async with dashboard(bus, clock, service_port=port):
                await becomes(seen.page, "document.getElementById('banner').hidden")
                await becomes(seen.page, text_is(".node.battery .value", "0.60"))
        finally:
            await browser.__aexit__(None, None, None)
    assert seen.elsewhere == []


async def test_fifty_houses_are_shown_sorted_and_found() -> None:
    clock = SystemClock()
    bus, _ = memory_bus(clock)
    houses = [f"house-{i}" for i in range(1, 51)]
    async with dashboard(bus, clock) as url, talking(bus, clock, *houses), browsing(url) as seen:
        page = seen.page
        await becomes(page, "document.querySelectorAll('tbody tr[data-key^=house]').length === 50")
        assert (
            await page.get_attribute("nav a[data-view=fleet]", "aria-current") == "page"
        )  # with so many, the fleet first
        first = "table tbody tr:first-child th"
        assert await page.text_content(first) == "house-1"
        await say(bus, telemetry(clock.now(), 4.9, 99.0, house="house-33"))
        await page.click("button.sort:has-text('House')")
        assert await page.text_content(first) == "house-50"
        assert await page.get_attribute("th[data-key=house]", "aria-sort") == "descending"
        await page.focus("button.sort:has-text('SoC')")
        await page.keyboard.press("Enter")
        await say(
            bus,
            command(clock.now(), 1.0, 7, house="house-7"),
            answer(clock.now(), 7, "rejected", house="house-7", reason="too hot"),
        )
        await say(bus, alert(clock.now(), "the meter of house-9 is silent", house="house-9"))
        await becomes(page, text_is("tr[data-key='house-7 battery']", "rejected: too hot"))
        await becomes(
            page, text_is("[aria-labelledby=alerts-title] tbody tr", "the meter of house-9 is silent")
        )
        await page.fill("#filter", "house-12")
        assert await page.locator("section[aria-labelledby=houses-title] tbody tr").count() == 1
        assert (seen.errors, seen.elsewhere) == ([], [])


async def test_actions_only_with_the_token() -> None:
    clock = SystemClock()
    bus, _ = memory_bus(clock)
    async with (
        dashboard(bus, clock, token=TOKEN) as url,
        talking(bus, clock) as talk,
        bus.subscribe(topics.OPERATOR_REQUEST) as asked,
        browsing(url) as seen,
    ):
        page = seen.page
        assert talk.houses
        await page.fill("#token", "wrong")
        await page.click("text=Unlock")
        await page.click("[data-action=pause]")
        await page.click("#ask-go")
        await becomes(page, text_is(".actions .note", "Not asked: a wrong bearer token"))
        await page.fill("#token", TOKEN)
        await page.click("text=Unlock")
        await page.click("[data-action=safe]")
        await page.fill("#reason", "maintenance")
        await page.keyboard.press("Enter")
        await becomes(page, text_is(".actions .note", "Asked at"))
        async with asyncio.timeout(5.0):
            request = (await anext(asked)).message
        assert isinstance(request, OperatorRequest)
        assert (request.action, request.house, request.reason) == ("safe", HOUSE, "maintenance")
        held = StandingOrders(
            house=HOUSE, issued_at=clock.now(), held=[HeldDer(mode="safe", user="dashboard")]
        )
        await bus.publish(topics.ORDERS.at(house=HOUSE), held)
        await becomes(page, text_is(".held", "In its safe state by dashboard"))
        await becomes(page, text_is("[data-action=release]", "Release"))
        assert seen.elsewhere == []
        assert all("401" in error for error in seen.errors)  # the wrong token, and nothing else


async def test_the_car_s_departure_is_on_the_site_s_clocks() -> None:
    clock = SystemClock()
    bus, _ = memory_bus(clock)
    async with (
        dashboard(bus, clock, token=TOKEN, timezone="America/Costa_Rica") as url,
        talking(bus, clock),
        bus.subscribe(topics.OPERATOR_REQUEST) as asked,
        browsing(url, timezone_id="Asia/Tokyo") as seen,
    ):
        page = seen.page
        await say(bus, telemetry(clock.now(), 0.0, der="ev"))
        await page.fill("#token", TOKEN)
        await page.click("text=Unlock")
        await becomes(page, text_is("#car", "ev"))
        assert seen.errors == []
        await page.fill("#departure", "2027-01-05T07:30")
        await page.fill("#target", "80")
        await page.click("form.car button")
        async with asyncio.timeout(5.0):
            request = (await anext(asked)).message
        assert (request.action, request.der_id, request.target_soc_percent) == ("ev_plan", "ev", 80)
        assert str(request.departure_at) == "2027-01-05T13:30:00.000Z"


async def test_a_house_s_token_shows_that_house_alone(tmp_path: Path) -> None:
    clock = SystemClock()
    bus, _ = memory_bus(clock)
    for house in (HOUSE, "house-b"):
        write_secret(tmp_path / "houses" / house, f"{TOKEN}-{house}")
        day = tmp_path / "DATA" / house / "main" / "main_2026-11-20.csv"
        day.parent.mkdir(parents=True)
        day.write_text(f"{HEADER}\n2026-11-20T10:00:00.000Z,1000.0,200.0,1200.0,1,1\n")
    folders = {"house_tokens": tmp_path / "houses", "data_dir": tmp_path / "DATA"}
    async with (
        dashboard(bus, clock, token=TOKEN, **folders) as url,
        talking(bus, clock, HOUSE, "house-b"),
        browsing(f"{url}/#/fleet") as seen,
    ):
        page = seen.page
        await becomes(page, text_is("#lock-title", "Who are you?"))
        assert HOUSE not in await page.inner_text("body")
        await page.fill("#token", f"{TOKEN}-of-nobody")
        await page.click("text=Unlock")
        await becomes(page, text_is(".card [role=status]", "Nobody here has that token."))
        await page.fill("#token", f"{TOKEN}-{HOUSE}")
        await page.click("text=Unlock")
        await becomes(page, text_is("section[aria-labelledby=houses-title] tbody tr", HOUSE))
        assert "house-b" not in await page.inner_text("body")
        await page.goto(f"{url}/#/days")
        async with page.expect_download() as downloading:
            await page.click("text=Download CSV")
        assert (await downloading.value).suggested_filename == f"{HOUSE}_main_2026-11-20.csv"
        assert "house-b" not in await page.inner_html("body")
        assert seen.elsewhere == []
        assert all("401" in error for error in seen.errors), seen.errors


async def test_without_a_token_the_page_only_shows() -> None:
    clock = SystemClock()
    bus, _ = memory_bus(clock)
    async with dashboard(bus, clock) as url, talking(bus, clock), browsing(url) as seen:
        await becomes(seen.page, text_is(".actions .note", "This page only shows"))
        assert await seen.page.locator(".actions button:visible").count() == 0


async def test_a_recorded_day_is_seen_and_taken_along(tmp_path: Path) -> None:
    folder = tmp_path / HOUSE / "main"
    folder.mkdir(parents=True)
    rows = [
        f"2026-11-20T{i // 6:02}:{i % 6}0:00.000Z,{1000 + i}.0,200.0,{1200 + i}.0,1,{i + 1}"
        for i in range(144)
    ]
    (folder / "main_2026-11-20.csv").write_text("\n".join([HEADER, *rows, ""]))
    clock = SystemClock()
    bus, _ = memory_bus(clock)
    async with dashboard(bus, clock, data_dir=tmp_path) as url, browsing(f"{url}/#/days") as seen:
        page = seen.page
        await becomes(page, text_is("dl.figures", "144"))
        assert await page.input_value("#date") == "2026-11-20"
        assert await page.locator(".line.load").count() == 1
        async with page.expect_download() as download:
            await page.click("text=Download CSV")
        path = await (await download.value).path()
        assert path.read_bytes() == (folder / "main_2026-11-20.csv").read_bytes()
        assert (seen.errors, seen.elsewhere) == ([], [])


@pytest.mark.parametrize("view", ["house", "fleet", "days"])
async def test_a_phone_and_a_person_without_a_mouse(view: str) -> None:
    clock = SystemClock()
    bus, _ = memory_bus(clock)
    phone: dict[str, Any] = {
        "viewport": {"width": 375, "height": 812},
        "reduced_motion": "reduce",
        "color_scheme": "dark",
    }
    async with (
        dashboard(bus, clock) as url,
        talking(bus, clock),
        browsing(f"{url}/#/{view}", **phone) as seen,
    ):
        page = seen.page
        await becomes(page, text_is("#link", "connected"))
        await say(bus, prices(clock.now()), schedule(clock.now()))
        await becomes(page, "document.documentElement.scrollWidth <= 375")
        reached = set()
        for _ in range(12):
            await page.keyboard.press("Tab")
            reached.add(await page.evaluate("document.activeElement.outerHTML.slice(0, 60)"))
        assert len(reached) >= 6
        unnamed = "[...document.querySelectorAll('button,select,input')].filter((e) => e.checkVisibility() && !e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim()).length"
        assert await page.evaluate(unnamed) == 0
        assert await page.evaluate("[...document.querySelectorAll('table')].every((t) => t.caption)")
        assert (
            await page.evaluate(
                "getComputedStyle(document.querySelector('.pulse') ?? document.body).animationName"
            )
            == "none"
        )
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 19, 24)"
        await page.click("#theme")
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(14, 19, 24)"
        assert (seen.errors, seen.elsewhere) == ([], [])
