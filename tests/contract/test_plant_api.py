"""The plant's HTTP API: its OpenAPI kept, the document's JSON field for field, and who gets in."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from plant.api import plant_api
from plant.service import PlantService
from plant.settings import PLANT, Access, PlantSettings, access_of
from runtime.clock import SystemClock
from runtime.errors import UsageError
from runtime.http import serving
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from tests.in_a_thread import in_a_thread
from tests.openapi import check_api

TOKEN = "sesame-of-the-tests"  # noqa: S105
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
LATEST = f"/data/latest?plant_id={PLANT}"
SETTINGS = PlantSettings(gen_min=0.05, gen_max=0.15, cons_min=0.03, cons_max=0.10, interval=0.5)


@contextlib.contextmanager
def plant_server() -> Iterator[httpx.Client]:

    @contextlib.asynccontextmanager
    async def serve(life: Lifecycle) -> AsyncIterator[int]:
        model = SETTINGS.model()
        service = PlantService(PLANT, 1, model, SETTINGS.interval, None, SystemClock(), life)
        app = plant_api(SETTINGS, Access(PLANT, TOKEN, is_new=False), model, service.latest)
        async with serving(app, "127.0.0.1", 0, get_log("plant")) as port, asyncio.TaskGroup() as group:
            group.create_task(service.run())
            yield port

    with (
        in_a_thread(serve) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20.0) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    with plant_server() as client:
        yield client


def test_it_keeps_to_its_openapi(server: httpx.Client) -> None:
    assert check_api(str(server.base_url), AUTHORIZED) == ["GET /data/latest", "GET /health"]


def test_the_reading_has_the_documents_fields(server: httpx.Client) -> None:
    reading = server.get(LATEST, headers=AUTHORIZED).json()["reading"]
    assert list(reading) == ["collection_timestamp", "consumption", "generation", "totals", "trust"]
    assert list(reading["consumption"]) == ["container_eles", "container_mazp"]
    assert list(reading["generation"]) == ["generoso", "nogueira"]
    for part in (*reading["consumption"].values(), *reading["generation"].values()):
        assert list(part) == ["source_timestamp", "status", "value_mw"]
        assert part["status"] == "success"
        assert len(part["source_timestamp"]) == len("2025-11-12T15:34:26.103732Z")
    assert list(reading["totals"]) == ["consumption_mw", "exported_mw", "generation_mw"]
    assert reading["trust"] == {
        "confidence_score": 1.0,
        "status": "trusted",
        "summary": "Test data - all checks passed",
    }
    assert 0.05 <= reading["totals"]["generation_mw"] <= 0.15


def test_health_needs_no_token(server: httpx.Client) -> None:
    told = server.get("/health").json()
    assert list(told) == [
        "status",
        "generation_range",
        "consumption_range",
        "current_generation",
        "current_consumption",
    ]
    assert (told["status"], told["generation_range"], told["consumption_range"]) == (
        "ok",
        [0.05, 0.15],
        [0.03, 0.1],
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer \udce9".encode("utf-8", "surrogateescape")},
    ],
)
def test_without_the_token_nobody_gets_in(server: httpx.Client, headers: dict[str, Any]) -> None:
    answer = server.get(LATEST, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("plant_id=another", 404),
        ("", 422),
        ("plant_id=", 422),
        (f"plant_id={'x' * 65}", 422),
    ],
)
def test_a_plant_that_is_none(server: httpx.Client, query: str, code: int) -> None:
    assert server.get(f"/data/latest?{query}", headers=AUTHORIZED).status_code == code


def test_what_it_counts_is_for_who_has_the_token(server: httpx.Client) -> None:
    assert server.get("/metrics").status_code == 401
    assert "wattbus_http_seconds" in server.get("/metrics", headers=AUTHORIZED).text


def test_it_drifts(server: httpx.Client) -> None:
    told = {server.get("/health").json()["current_generation"]}
    for _ in range(100):
        told.add(server.get("/health").json()["current_generation"])
        if len(told) > 1:
            break
        threading.Event().wait(0.05)
    assert len(told) > 1


# The token: from the flag or the environment, else config.json, else a new one


def test_the_token_is_looked_for_in_order(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps({"plant": {"api_key": "from-file-of-the-tests", "plant_id": "mine"}, "other": 1})
    )
    told = PlantSettings(gen_min=0, gen_max=1, cons_min=0, cons_max=1, config_json=config)
    assert access_of(told) == Access("mine", "from-file-of-the-tests", is_new=False)
    flagged = PlantSettings(
        gen_min=0,
        gen_max=1,
        cons_min=0,
        cons_max=1,
        config_json=config,
        token=TOKEN,
        plant_id="p",
    )
    assert access_of(flagged) == Access("p", TOKEN, is_new=False)


@pytest.mark.parametrize("token", ["a", "sesame", "x" * 15, "tokén-of-the-tests"])
def test_a_token_that_could_be_guessed_is_refused(tmp_path: Path, token: str) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"plant": {"api_key": token}}))
    bounds = {"gen_min": 0.0, "gen_max": 1.0, "cons_min": 0.0, "cons_max": 1.0}
    for given, where in (({"token": token}, "token"), ({}, f"{config}: plant.api_key")):
        with pytest.raises(UsageError) as caught:
            access_of(PlantSettings(**bounds, config_json=config, **given))
        assert str(caught.value).startswith(f"{where}: a token ")
        assert "\n" not in str(caught.value)


def test_without_any_token_a_new_one_is_made(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"plant": {"api_key": "<token>"}}')
    told = PlantSettings(gen_min=0, gen_max=1, cons_min=0, cons_max=1, config_json=config)
    one, other = access_of(told), access_of(told)
    assert one.is_new
    assert len(one.token) >= 32
    assert one.token != other.token


@pytest.mark.parametrize(
    "content", ["{", '{"plant": 3}', '{"plant": {"api_key": 3}}', '{"plant": {"plant_id": "../x"}}']
)
def test_a_bad_config_is_one_line(tmp_path: Path, content: str) -> None:
    config = tmp_path / "config.json"
    config.write_text(content)
    told = PlantSettings(gen_min=0, gen_max=1, cons_min=0, cons_max=1, config_json=config)
    with pytest.raises(UsageError) as caught:
        access_of(told)
    assert str(caught.value).startswith(f"{config}: ")
    assert "\n" not in str(caught.value)
