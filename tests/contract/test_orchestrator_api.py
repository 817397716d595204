"""The orchestrator's HTTP API: its OpenAPI kept, the token asked for, and requests carried out and written down."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode

from contracts.instant import Instant
from orchestrator.settings import OrchestratorSettings
from runtime.clock import SystemClock
from runtime.door import open_door
from runtime.errors import UsageError
from runtime.token import SITE
from tests.openapi import check_operation, openapi_of
from tests.orchestrator_server import HOUSE, TOKEN, Served, orchestrator_server

READING = [
    ("get", "/"),
    ("get", "/health"),
    ("get", "/api/status"),
    ("get", "/api/houses"),
    ("get", "/api/houses/{house}/status"),
    ("get", "/api/houses/{house}/snapshot"),
    ("get", "/api/houses/{house}/decisions"),
    ("get", "/api/houses/{house}/constraints"),
    ("get", "/api/houses/{house}/objectives"),
]
WRITING = [
    ("put", "/api/houses/{house}/objectives"),
    ("patch", "/api/houses/{house}/objectives"),
    ("post", "/api/houses/{house}/requests"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with orchestrator_server(tmp_path_factory.mktemp("state")) as served:
        yield served


@pytest.fixture(scope="module")
def openapi(server: Served) -> Any:
    return openapi_of(server.url)


def test_the_openapi_tells_every_endpoint_and_which_need_a_token(server: Served) -> None:
    paths = server.get("/docs/openapi.json").json()["paths"]
    assert {(method, path) for path in paths for method in paths[path]} == {*READING, *WRITING}
    secured = {
        (m, path) for path in paths for m, operation in paths[path].items() if operation.get("security")
    }
    assert secured == set(WRITING)


@pytest.mark.parametrize(("method", "path"), [*READING, *WRITING])
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_as_the_openapi_says(
    openapi: Any, mode: GenerationMode, method: str, path: str
) -> None:
    check_operation(openapi[path][method], mode)


@pytest.mark.parametrize(("method", "path"), WRITING)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_with_the_token_too(openapi: Any, mode: GenerationMode, method: str, path: str) -> None:
    check_operation(openapi[path][method], mode, headers={"Authorization": f"Bearer {TOKEN}"})


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for method, path in [*READING, *WRITING] if "{house}" in path]
)
def test_a_house_that_is_there_answers_as_the_openapi_says(
    openapi: Any, server: Served, method: str, path: str
) -> None:
    operation = openapi[path][method]

    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def check(case: Any) -> None:
        case.path_parameters["house"] = HOUSE
        case.call_and_validate(timeout=20, headers=server.bearer)

    check()


def test_what_a_house_is_asked(server: Served) -> None:
    base = f"/api/houses/{HOUSE}"
    assert [line["house"] for line in server.get("/api/houses").json()] == [HOUSE]
    snapshot = server.get(f"{base}/snapshot").json()
    sources = snapshot["pv_kw"] - snapshot["curtailed_kw"] + snapshot["grid_import_kw"]
    sinks = sum(snapshot[f"{name}_kw"] for name in ("house_load", "ev_power", "battery_power", "grid_export"))
    assert sources == pytest.approx(sinks, abs=1e-9)
    decisions = {one["der_id"]: one for one in server.get(f"{base}/decisions").json()}
    assert set(decisions) == {"battery", "ev"}
    assert all(one["sentence"] for one in decisions.values())
    assert server.get(f"{base}/constraints").json()["physical"]["max_grid_import_kw"] == 16
    objectives = server.get(f"{base}/objectives").json()
    assert (objectives["import_price"], objectives["currency"]) == (0.3, "EUR")
    status = server.get(f"{base}/status").json()
    assert {der["der_id"]: der["state"] for der in status["ders"]} == {
        "battery": "answering",
        "ev": "answering",
    }


def test_no_such_house_and_no_id(server: Served) -> None:
    answer = server.get("/api/houses/house-z/snapshot")
    assert (answer.status_code, answer.json()["detail"]) == (404, "no house house-z")
    assert server.get("/api/houses/a.b/snapshot").status_code == 400


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "no bearer token"),
        ({"Authorization": "Bearer wrong"}, "a wrong bearer token"),
        ({"Authorization": f"Basic {TOKEN}"}, "a wrong bearer token"),
        ({"Authorization": f"Bearer {TOKEN}x"}, "a wrong bearer token"),
    ],
)
@pytest.mark.parametrize(("method", "path"), WRITING)
def test_without_the_token_nothing_is_changed(
    server: Served, method: str, path: str, headers: dict[str, str], says: str
) -> None:
    before = server.get(f"/api/houses/{HOUSE}/status").json()["holds"]
    url = path.format(house=HOUSE)
    answer = server.client.request(method, url, json={"action": "safe", "user": "eve"}, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert says in answer.json()["detail"]
    assert server.get(f"/api/houses/{HOUSE}/status").json()["holds"] == before


def test_where_no_token_is_set_nothing_can_be_changed(tmp_path: Path) -> None:
    with orchestrator_server(tmp_path, token="") as served:
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}"}):
            answer = served.client.put(f"/api/houses/{HOUSE}/objectives", json={}, headers=headers)
            assert answer.status_code == 403
            assert "WATTBUS_ORCHESTRATOR_TOKEN" in answer.json()["detail"]
        assert served.get("/api/houses").status_code == 200


def test_requests_are_carried_out_once_told_and_written_down(tmp_path: Path) -> None:
    with orchestrator_server(tmp_path) as served:
        until = SystemClock().now().after(3600)
        done = served.ask(action="pause", request_id="r1", until=str(until), reason="guests")
        assert done.json() == {
            "request_id": "r1", "outcome": "done",
            "text": f"house-a: paused by ana until {until:%Y-%m-%d %H:%M} UTC (guests)",
        }  # fmt: skip
        assert served.ask(action="pause", request_id="r1").json()["outcome"] == "repeated"
        [hold] = served.get(f"/api/houses/{HOUSE}/status").json()["holds"]
        assert (hold["mode"], hold["user"], hold["reason"]) == ("pause", "ana", "guests")
        assert served.ask(action="ev_plan", der_id="ev", target_soc_percent=90).status_code == 200
        [told] = served.get(f"/api/houses/{HOUSE}/status").json()["ev_plans"]
        assert (told["der_id"], told["target_soc_percent"]) == ("ev", 90)
        assert served.ask(action="resume").status_code == 200
        assert not served.get(f"/api/houses/{HOUSE}/status").json()["holds"]
        counted = served.get("/api/status").json()["requests"]
        assert counted == {"done": 3, "repeated": 1}
        audit = (tmp_path / "orchestrator-main-requests.jsonl").read_bytes().splitlines()
        assert [msgspec.json.decode(line)["via"] for line in audit] == ["http"] * 4
        text = served.get("/metrics").text
        assert 'wattbus_requests_total{outcome="done"} 3.0' in text
        assert 'wattbus_alerts_total{name="operator-pause",severity="info"} 1.0' in text


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"action": "pause", "issued_at": "2020-01-01T00:00:00Z"}, "too long ago"),
        ({"action": "pause", "issued_at": "2190-01-01T00:00:00Z"}, "a clock is wrong"),
        ({"action": "pause", "until": "2020-01-01T00:00:00Z"}, "it ends at"),
        ({"action": "pause", "until": "2030-01-01T00:00:00"}, "no timezone"),
        ({"action": "pause", "der_id": "cellar"}, "it has battery, ev"),
        ({"action": "ev_plan", "der_id": "ev", "target_soc_percent": 150}, "<= 100"),
        ({"action": "ev_plan", "der_id": "battery", "target_soc_percent": 50}, "no car"),
        ({"action": "objectives"}, "no objectives"),
    ],
)
def test_what_can_t_be_is_refused_with_the_reason(server: Served, body: dict[str, Any], says: str) -> None:
    answer = server.ask(**body)
    assert answer.status_code == 409
    assert says in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [{"action": "explode"}, {"action": "pause", "untill": "x"}, {"action": "pause", "user": "a/b"}, {}],
)
def test_what_is_no_request_is_refused(server: Served, body: dict[str, Any]) -> None:
    assert server.ask(**body).status_code == 400


def test_put_sets_all_objectives_and_patch_some(server: Served) -> None:
    url = f"/api/houses/{HOUSE}/objectives"

    def send(method: str, **body: Any) -> dict[str, Any]:
        answer = server.client.request(
            method, url, json=body, headers=server.bearer, params={"user": "ana", "reason": "winter"}
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    now = send("PUT", prefer_self_consumption=False, reserve_soc_percent=30)
    assert (now["prefer_self_consumption"], now["reserve_soc_percent"]) == (False, 30)
    now = send("PATCH", arbitrage_threshold=0.2)
    assert (now["arbitrage_threshold"], now["reserve_soc_percent"]) == (0.2, 30)
    now = send("PATCH", reserve_soc_percent=None)
    assert (now["arbitrage_threshold"], now["reserve_soc_percent"]) == (0.2, 0)
    now = send("PUT")
    assert now["set_by_persons"] == dict.fromkeys(now["set_by_persons"])
    assert now["prefer_self_consumption"] is True


def test_counters_and_metrics(server: Served) -> None:
    status = server.get("/api/status").json()
    assert (status["issuer"], status["role"], status["houses"]) == ("main", "commands", 1)
    assert status["ticks"] > 0
    assert status["commands"]["accepted"] > 0
    text = server.get("/metrics").text
    for name in (
        "wattbus_ticks_total", "wattbus_late_ticks_total", "wattbus_violations_total", "wattbus_tick_seconds_sum",
        "wattbus_balance_errors_total", 'wattbus_commands_total{result="accepted"}', 'wattbus_ders{state="answering"} 2.0',
        "process_resident_memory_bytes",
    ):  # fmt: skip
        assert name in text, name


def test_health_says_what_is_wrong(tmp_path: Path, server: Served) -> None:
    assert server.get("/health").json()["status"] == "healthy"
    began = Instant.at_ms(0)
    assert server.service.ailing(server.service.last_tick_at.after(3), began) == ""  # type: ignore[union-attr]
    assert server.service.ailing(server.service.last_tick_at.after(60), began).startswith("no tick for 6")  # type: ignore[union-attr]
    with orchestrator_server(tmp_path, ailing="a broker is away", ders=False) as served:
        answer = served.get("/health")
        assert (answer.status_code, answer.json()["reason"]) == (503, "a broker is away")


def test_the_documentation_needs_no_internet(server: Served) -> None:
    page = server.get("/docs").text
    assert not re.search(r"https?://", page.replace(server.url, ""))


def test_the_token_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    shown = [(b"authorization", f"Bearer {TOKEN}".encode())]
    assert open_door(OrchestratorSettings(token_file=file)).tokens.who(shown) == SITE
    assert open_door(OrchestratorSettings(token=TOKEN[::-1], token_file=file)).tokens.who(shown) is None
    assert not open_door(OrchestratorSettings()).tokens
    file.write_text("\n")
    for bad in (file, tmp_path / "none"):
        with pytest.raises(UsageError, match="token_file"):
            open_door(OrchestratorSettings(token_file=bad))
