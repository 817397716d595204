"""The optimizer's HTTP API: its OpenAPI kept, and the MPC service's examples field for field."""

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from schemathesis.generation import GenerationMode

from contracts.instant import Instant
from contracts.messages import Schedule
from energy.tariff import load_tariff
from optimizer.model import fresh_outlooks
from optimizer.views import Dispatch, dispatch_of, full_schedule_of, plain
from tests.openapi import check_operation, openapi_of
from tests.optimizer_server import Served, optimizer_server
from tests.unit.test_optimizer_model import der

AT = Instant.parse("2025-01-15T14:30:00Z")
ROUTES = [
    ("get", "/"),
    ("get", "/health"),
    ("get", "/api/mpc/status"),
    ("get", "/api/mpc/current_dispatch"),
    ("get", "/api/mpc/full_schedule"),
    ("get", "/api/mpc/reasons"),
    ("post", "/api/mpc/trigger"),
]


def schedule(issued_at: Instant, **more: Any) -> Schedule:
    """The reference's example plan, cut to the steps it shows."""
    fields: dict[str, Any] = {
        "house": "house-a",
        "der_id": "battery",
        "issued_at": issued_at,
        "valid_until": issued_at.after(1800.0),
        "start": issued_at.floor(900.0),
        "step_s": 900.0,
        "status": "optimal",
        "battery_power_kw": [-75.5, -80.2, *[0.0] * 190],
        "grid_power_kw": [120.3, 115.8, *[0.0] * 190],
        "curtailed_kw": [0.0] * 192,
        "soc_percent": [65.0, 63.0, 61.0, *[61.0] * 190],
        "load_kw": [0.0] * 192,
        "pv_kw": [0.0] * 192,
        "import_price": [70.0] * 192,
        "currency": "CRC",
        "energy_cost": 8200.30,
        "demand_cost": 4300.20,
        "total_cost": 12500.50,
        "peak_kw": 180.5,
        "solve_time_s": 0.245,
    }
    return Schedule(**{**fields, **more})


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with optimizer_server() as served:
        assert served.client.post("/api/mpc/trigger").status_code == 200
        yield served


@pytest.fixture(scope="module")
def openapi(server: Served) -> Any:
    return openapi_of(server.url)


def test_the_openapi_tells_every_endpoint(server: Served) -> None:
    paths = server.get("/docs/openapi.json").json()["paths"]
    assert {(method, path) for path in paths for method in paths[path]} == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_as_the_openapi_says(
    openapi: Any, mode: GenerationMode, method: str, path: str
) -> None:
    check_operation(openapi[path][method], mode)


REFERENCE_DISPATCH = """{
  "timestamp": "2025-01-15T14:30:00Z",
  "battery_power_kw": -75.5,
  "status": "optimal"
}"""
REFERENCE_SCHEDULE = """{
  "timestamp": "2025-01-15T14:30:00Z",
  "horizon_hours": 48,
  "battery_power_schedule": [-75.5, -80.2],
  "grid_power_schedule": [120.3, 115.8],
  "soc_schedule": [0.65, 0.63, 0.61],
  "total_cost": 12500.50,
  "energy_cost": 8200.30,
  "demand_cost": 4300.20,
  "peak_demand": 180.5,
  "solver_status": "optimal",
  "solver_time": 0.245
}"""


def test_the_references_dispatch_byte_for_byte() -> None:
    answer = msgspec.json.encode(dispatch_of(schedule(AT), AT))
    assert msgspec.json.decode(answer) == msgspec.json.decode(REFERENCE_DISPATCH)
    assert answer.decode() == re.sub(r"\s", "", REFERENCE_DISPATCH)


def test_the_references_schedule_field_for_field() -> None:
    answer = msgspec.json.encode(full_schedule_of(schedule(AT)))
    wanted, got = msgspec.json.decode(REFERENCE_SCHEDULE), msgspec.json.decode(answer)
    assert list(got) == list(wanted)
    for field, value in wanted.items():
        shown = got[field][: len(value)] if isinstance(value, list) else got[field]
        assert shown == pytest.approx(value), field
        assert type(got[field]) is type(value), field
    assert len(got["soc_schedule"]) == len(got["battery_power_schedule"]) + 1


@pytest.mark.parametrize(("minutes", "kw"), [(0, -75.5), (14.9, -75.5), (15, -80.2), (29.9, -80.2)])
def test_the_command_is_the_step_in_hand(minutes: float, kw: float) -> None:
    assert dispatch_of(schedule(AT), AT.after(60 * minutes)).battery_power_kw == kw


@pytest.mark.parametrize("plan", [None, schedule(AT.after(-1800.0))])
def test_without_a_valid_plan_the_command_is_a_fallback_of_zero(plan: Schedule | None) -> None:
    assert dispatch_of(plan, AT) == Dispatch(timestamp=plain(AT), battery_power_kw=0.0, status="fallback")


@pytest.mark.parametrize("status", ["fallback", "infeasible", "error"])
def test_what_could_not_be_planned_keeps_its_status(status: str) -> None:
    failed = schedule(AT, status=status, battery_power_kw=[0.0] * 192)
    assert (dispatch_of(failed, AT).status, dispatch_of(failed, AT).battery_power_kw) == (status, 0.0)
    assert full_schedule_of(failed).solver_status == status


def test_over_http_the_answers_have_the_references_fields(server: Served) -> None:
    dispatch = server.get("/api/mpc/current_dispatch")
    assert dispatch.headers["content-type"] == "application/json"
    assert list(dispatch.json()) == list(msgspec.json.decode(REFERENCE_DISPATCH))
    plan = server.get("/api/mpc/full_schedule", house="house-a", battery="battery").json()
    assert list(plan) == list(msgspec.json.decode(REFERENCE_SCHEDULE))
    assert plan["battery_power_schedule"][0] == dispatch.json()["battery_power_kw"]
    assert plan["horizon_hours"] == 48
    assert plan["soc_schedule"][0] == 0.5
    assert plan["solver_time"] > 0


def test_status_and_metrics_count(server: Served) -> None:
    before = server.get("/api/mpc/status").json()
    assert server.client.post("/api/mpc/trigger", params={"house": "house-a"}).json()["status"] == "optimal"
    after = server.get("/api/mpc/status").json()
    assert after["optimizations"] == before["optimizations"] + 1
    assert after["houses"] == ["house-a"]
    assert [(b["house"], b["battery"], b["status"]) for b in after["batteries"]] == [
        ("house-a", "battery", "optimal")
    ]
    text = server.get("/metrics").text
    assert f'wattbus_plans_total{{status="optimal"}} {float(after["optimizations"])}' in text
    assert 'wattbus_http_seconds_count{code="200",path="/api/mpc/status"}' in text
    assert "process_resident_memory_bytes" in text


def test_a_car_is_found_by_its_id_as_a_battery_is(server: Served) -> None:
    server.note(schedule(server.optimizer.board.schedules["house-a"]["battery"].issued_at, der_id="car"))
    try:
        answer = server.get("/api/mpc/current_dispatch", battery="car")
        assert (answer.json()["status"], answer.json()["battery_power_kw"]) == ("optimal", -75.5)
        assert server.get("/api/mpc/full_schedule", battery="car").json()["peak_demand"] == 180.5
        assert [told["battery"] for told in server.get("/api/mpc/status").json()["batteries"]] == [
            "battery",
            "car",
        ]
    finally:
        del server.optimizer.board.schedules["house-a"]["car"]


def test_a_car_makes_the_only_battery_no_choice_of_two(server: Served) -> None:
    now = server.optimizer.board.schedules["house-a"]["battery"].issued_at
    model = server.optimizer._houses["house-a"].model
    model.hear(der(now, der_id="car", type="electric_vehicle"), now)
    server.note(schedule(now, der_id="car"))
    try:
        for path in ("current_dispatch", "full_schedule", "reasons"):
            answer = server.get(f"/api/mpc/{path}")
            assert answer.status_code == 200
            assert answer.json() == server.get(f"/api/mpc/{path}", battery="battery").json()
    finally:
        del server.optimizer.board.schedules["house-a"]["car"]


def test_status_and_metrics_tell_missed_limits_peaks_and_replans() -> None:
    with optimizer_server() as served:
        assert served.client.post("/api/mpc/trigger").status_code == 200
        now = served.optimizer.board.schedules["house-a"]["battery"].issued_at
        missed = "max_grid_import_kw of 16 kW is passed by up to 2 kW (step 3)"
        served.note(schedule(now, violations=[missed]))
        start = now.floor(900.0)
        peaks = served.optimizer._houses["house-a"].model._peaks
        peaks.add(start, 900.0, 7.5)
        status = served.get("/api/mpc/status").json()
        assert status["batteries"][0]["violations"] == [missed]
        assert status["replans"] == {"trigger": 1}
        (peak,) = status["peaks"]
        assert (peak["house"], peak["peak_kw"]) == ("house-a", pytest.approx(7.5))
        year, month = load_tariff().billing_month(start)
        assert peak["month"] == f"{year}-{month:02}"
        assert peak["period"] in ("peak", "valley", "night")
        next_run = Instant.parse(status["next_run"])
        assert next_run == next_run.floor(900.0)
        assert 0 < next_run.seconds_since(Instant.parse(status["timestamp"])) <= 900
        text = served.get("/metrics").text
        assert 'wattbus_replans_total{cause="trigger"} 1.0' in text
        assert 'wattbus_violations_total{limit="max_grid_import_kw"} 1.0' in text
        assert "wattbus_skipped_runs_total 0.0" in text


def test_metrics_tell_how_far_off_the_forecasts_are() -> None:
    with optimizer_server() as served:
        model = served.optimizer._houses["house-a"].model
        load, pv = fresh_outlooks(900.0)
        for slot in range(300):
            load.learn(slot, float(slot % 2))
        model.adopt(load, pv)
        assert re.search(
            r'wattbus_forecast_error_kilowatts{house="house-a",kind="load"} 0.0', served.get("/metrics").text
        )


def test_the_documentation_needs_no_internet(server: Served) -> None:
    page = server.get("/docs").text
    linked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(linked) >= 3
    for link in linked:
        assert link.startswith(("/docs/", "data:")), link
        if link.startswith("/"):
            assert len(server.get(link).content) > 100_000
    assert not re.search(r"https?://", page.replace(server.url, ""))


@pytest.mark.parametrize(
    ("query", "code", "says"),
    [
        ({"house": "house-b"}, 404, "no house house-b"),
        ({"battery": "cellar"}, 404, "no battery cellar"),
        ({"house": "../x"}, 400, "house: "),
        ({"house": ""}, 400, "house: "),
    ],
)
@pytest.mark.parametrize("path", ["current_dispatch", "full_schedule"])
def test_a_battery_nobody_has_is_refused(
    server: Served, path: str, query: dict[str, str], code: int, says: str
) -> None:
    answer = server.get(f"/api/mpc/{path}", **query)
    assert answer.status_code == answer.json()["status_code"] == code
    assert says in answer.json()["detail"]


def test_no_such_page_and_no_such_method(server: Served) -> None:
    assert server.get("/api/mpc/nothing").json() == {"status_code": 404, "detail": "Not Found"}
    refused = server.get("/api/mpc/trigger")
    assert refused.status_code == 405
    assert "POST" in refused.headers["allow"]


def test_of_several_houses_one_must_be_named() -> None:
    with optimizer_server(("house-a", "house-b")) as served:
        for house in ("house-a", "house-b"):
            assert served.client.post("/api/mpc/trigger", params={"house": house}).status_code == 200
            assert served.get("/api/mpc/current_dispatch", house=house).json()["status"] == "optimal"
        answer = served.get("/api/mpc/current_dispatch")
        assert answer.status_code == 400
        assert answer.json()["detail"] == "there are 2: say which with ?house=: house-a, house-b"
        now = served.optimizer.board.schedules["house-a"]["battery"].issued_at
        served.note(schedule(now, der_id="garage"))
        assert (
            "?battery=: battery, garage"
            in served.get("/api/mpc/full_schedule", house="house-a").json()["detail"]
        )
        assert served.get("/api/mpc/current_dispatch", house="house-a", battery="garage").json()[
            "battery_power_kw"
        ]


def test_without_a_battery_there_is_a_fallback_and_a_reason() -> None:
    with optimizer_server(battery=False, ailing="the BMS is away") as served:
        assert served.get("/api/mpc/current_dispatch").json()["battery_power_kw"] == 0.0
        assert served.get("/api/mpc/current_dispatch").json()["status"] == "fallback"
        for answer in (served.get("/api/mpc/full_schedule"), served.client.post("/api/mpc/trigger")):
            assert answer.status_code == 503
            assert "no plan" in answer.json()["detail"]
        assert served.get("/health").status_code == 503
        said = served.get("/health").json()
        assert (said["status"], said["reason"]) == ("unhealthy", "the BMS is away")


def test_an_overlapping_run_is_refused_and_counted() -> None:
    with optimizer_server() as served, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: served.client.post("/api/mpc/trigger"), range(40)))
        codes = Counter(answer.status_code for answer in answers)
        assert set(codes) == {200, 409}
        assert served.get("/api/mpc/status").json()["skipped_runs"] == codes[409]


def test_each_step_says_why(server: Served) -> None:
    told = server.get("/api/mpc/reasons").json()
    plan = server.get("/api/mpc/full_schedule").json()
    assert told["currency"] == "CRC"
    assert [step["battery_power_kw"] for step in told["steps"]] == plan["battery_power_schedule"]
    for step in told["steps"]:
        assert step["limit"]
        assert step["import_price"] > 0
        assert step["stored_value"] >= 0


def test_status_and_metrics_name_the_forecasts(server: Served) -> None:
    told = {one["kind"]: one["name"] for one in server.get("/api/mpc/status").json()["forecasts"]}
    assert told == {"load": "persistence-1d", "pv": "persistence-1d"}
    metrics = server.get("/metrics").text
    assert 'wattbus_forecast_fallback{house="house-a",kind="load"} 0.0' in metrics


def test_a_plan_that_has_run_out_is_none(server: Served) -> None:
    now = Instant.of(datetime.now(UTC))
    last = server.optimizer.board.schedules["house-a"]["battery"]
    server.note(msgspec.structs.replace(last, valid_until=now.after(-1)))
    try:
        for path in ("/api/mpc/full_schedule", "/api/mpc/reasons"):
            answer = server.get(path)
            assert answer.status_code == 503
            assert "ran out at" in answer.json()["detail"]
        assert server.get("/api/mpc/current_dispatch").json()["status"] == "fallback"
    finally:
        server.note(last)
