"""The poller: what it is told, what it publishes, and a real plant over HTTP on this machine."""

import asyncio
import json
import re
from pathlib import Path

import httpx
import pytest

from benchmarks.plant_site import START, Site
from contracts import topics
from contracts.messages import PlantReading, Status
from plant.api import plant_api
from plant.poller import PollerSettings, Target, target_of
from plant.poller_api import poller_api
from plant.polling import Condition, PollerService
from plant.service import PlantService
from plant.settings import PLANT, Access, PlantSettings
from plant.trust import Trust
from runtime.asking import Asker, open_client
from runtime.clock import SystemClock, VirtualClock
from runtime.errors import UsageError
from runtime.http import serving
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.settings import load
from tests.conftest import memory_bus, run_virtual
from tests.openapi import check_api

LOG = get_log("test")
PLANT_SETTINGS = PlantSettings(gen_min=0.05, gen_max=0.15, cons_min=0.03, cons_max=0.10, interval=0.3)


def told(tmp_path: Path, text: str = "{}", **settings: str) -> Target:
    config = tmp_path / "config.json"
    config.write_text(text)
    return target_of(PollerSettings(config_json=config, **settings))  # type: ignore[arg-type]


DOCUMENTED = json.dumps(
    {
        "plant": {
            "api_endpoint": "http://localhost:8090/data/latest",
            "api_key": "sesame",
            "plant_id": "mine",
        }
    }
)


def test_the_documents_config_is_all_it_needs(tmp_path: Path) -> None:
    assert told(tmp_path, DOCUMENTED) == Target(
        "mine", "http://localhost:8090/data/latest", "?plant_id=mine", "sesame"
    )


def test_flags_come_before_the_config(tmp_path: Path) -> None:
    target = told(tmp_path, DOCUMENTED, api_endpoint="https://plant.example/x?v=2", api_key="k", plant_id="p")
    assert target == Target("p", "https://plant.example/x", "?v=2&plant_id=p", "k")


def test_the_environment_is_looked_at_too(tmp_path: Path) -> None:
    environ = {
        "PLANT_API_ENDPOINT": "http://h/x",
        "PLANT_TOKEN": "t",
        "WATTBUS_PLANT_POLLER_INTERVAL_S": "3",
        "WATTBUS_PLANT_STEP": "0.1",
    }
    settings = load("plant_poller", PollerSettings, [], environ=environ).base
    assert (settings.api_endpoint, settings.api_key, settings.interval_s) == ("http://h/x", "t", 3.0)
    with pytest.raises(UsageError, match="WATTBUS_PLANT_POLLER_INTERVALL: no such setting"):
        load("plant_poller", PollerSettings, [], environ={"WATTBUS_PLANT_POLLER_INTERVALL": "3"})


def test_the_plant_itself_does_not_stumble_over_its_pollers_variables() -> None:
    environ = {"WATTBUS_PLANT_POLLER_INTERVAL_S": "3", "WATTBUS_PLANT_GEN_MIN": "0.1"}
    flags = ["--gen-max", "1", "--cons-min", "0", "--cons-max", "1"]
    assert load("plant", PlantSettings, flags, environ=environ).base.gen_min == 0.1


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"api_key": "k"}, "plant-poller: --api-endpoint is missing; or plant.api_endpoint in"),
        ({"api_endpoint": "http://h/x"}, "plant-poller: --api-key is missing; or plant.api_key in"),
        ({"api_endpoint": "h/x", "api_key": "k"}, "api_endpoint 'h/x' is no address"),
        ({"api_endpoint": "ftp://h/x", "api_key": "k"}, "api_endpoint 'ftp://h/x' is no address"),
        ({"api_endpoint": "http://u:secret@h/x", "api_key": "k"}, "api_endpoint 'h/x' is no address"),
        ({"api_endpoint": "http://h:x/x", "api_key": "k"}, "api_endpoint 'http://h:x/x' is no address"),
        ({"api_endpoint": "http://[h/x", "api_key": "k"}, "api_endpoint 'http://[h/x' is no address"),
        ({"api_endpoint": "http://h/x", "api_key": "a\nb"}, "api_key: a bearer token is printable ASCII"),
    ],
)
def test_what_can_not_be_asked_is_one_line(tmp_path: Path, settings: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError) as caught:
        told(tmp_path, '{"plant": {"api_key": "<token>"}}', **settings)
    assert str(caught.value).startswith(why)
    assert "secret" not in str(caught.value)


def reading(seq: int, seconds: float) -> PlantReading:
    return PlantReading(
        house=PLANT, boot=1, seq=seq, timestamp=START.after(seconds), generation_w=2.0, consumption_w=1.0
    )


def test_only_the_nth_failure_in_a_row_is_told_and_a_success_ends_it() -> None:
    condition = Condition(3)
    assert [condition.fail("no", START.after(i)) for i in range(5)] == [False, False, True, False, False]
    assert condition.is_ailing
    assert condition.succeed(reading(1, 0)) == (True, "over, since 2025-11-12T15:00:00.000Z: no")
    assert (condition.failures, condition.why, condition.since) == (0, "", None)
    condition.fail("no", START)
    assert condition.succeed(reading(2, 1)) == (True, "")


def test_what_is_as_old_as_the_last_or_older_is_no_news() -> None:
    condition = Condition(3)
    assert [condition.succeed(reading(i, s))[0] for i, s in enumerate((5, 5, 4, 6))] == [
        True,
        False,
        False,
        True,
    ]
    assert condition.last == reading(3, 6)


def test_a_reading_is_published_once_however_often_it_is_asked_for() -> None:
    async def main(clock: VirtualClock) -> Site:
        plant = PlantSettings(gen_min=0.1, gen_max=0.2, cons_min=0.0, cons_max=0.1, interval=30)
        async with Site(clock, plant) as site:
            await clock.sleep(599)
        return site

    site = run_virtual(main, START)
    stamps = [reading.timestamp.seconds_since(START) for reading in site.readings]
    assert len(stamps) == len(set(stamps)) == 20
    assert [reading.seq for reading in site.readings] == list(range(1, 21))


async def test_a_real_plant_over_http() -> None:
    clock, life = SystemClock(), Lifecycle()
    bus, transport = memory_bus(clock)
    plant_life = Lifecycle()
    model = PLANT_SETTINGS.model()
    server = PlantService(PLANT, 1, model, PLANT_SETTINGS.interval, None, clock, plant_life)
    app = plant_api(PLANT_SETTINGS, Access(PLANT, "sesame", is_new=False), model, server.latest)
    async with open_client() as http, bus.subscribe(topics.PLANT_READING, topics.STATUS) as heard:
        async with serving(app, "127.0.0.1", 0, LOG) as port:
            asker = Asker(
                "plant", f"http://127.0.0.1:{port}/data/latest", http, clock,
                token="sesame", leave_alone_s=0.0,  # noqa: S106
            )  # fmt: skip
            query = f"?plant_id={PLANT}"
            service = PollerService(PLANT, 3, asker, query, Trust(), 0.1, 1, bus, clock, life)
            tasks = [asyncio.create_task(server.run()), asyncio.create_task(service.run())]
            found: list[PlantReading] = []
            async with asyncio.timeout(20):
                while len(found) < 3:
                    message = (await anext(heard)).message
                    if isinstance(message, PlantReading):
                        found.append(message)
            plant_life.stop()
        # The server has gone.
        async with asyncio.timeout(30):
            while True:
                message = (await anext(heard)).message
                if isinstance(message, Status) and not message.online:
                    break
        health = poller_api(PLANT, service.condition, clock)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(health), base_url="http://poller") as ask:
            answer = await ask.get("/health")
        life.stop()
        await asyncio.gather(*tasks)
    assert [(one.boot, one.seq) for one in found] == [(3, 1), (3, 2), (3, 3)]
    assert all(50e3 <= one.generation_w <= 150e3 for one in found)
    assert transport.backlog(topics.RECORDER) >= 4  # the readings and an alert
    body = answer.json()
    assert (answer.status_code, body["status"], body["plant_id"]) == (503, "ailing", PLANT)
    assert body["why"].startswith(f"plant at http://127.0.0.1:{port}/data/latest: ConnectError")
    assert 50 <= body["last"]["generation_kw"] <= 150
    assert body["last"]["available_kw"] == pytest.approx(
        body["last"]["generation_kw"] - body["last"]["consumption_kw"]
    )
    assert not re.findall(r"\d\.\d{7,}|e-\d", answer.text)


async def test_its_health_keeps_to_its_openapi() -> None:
    condition = Condition(1)
    async with serving(poller_api(PLANT, condition, SystemClock()), "127.0.0.1", 0, LOG) as port:
        url = f"http://127.0.0.1:{port}"
        assert await asyncio.to_thread(check_api, url) == ["GET /health"]
        condition.succeed(reading(1, 0))
        assert await asyncio.to_thread(check_api, url) == ["GET /health"]
