"""The dashboard over HTTP: its OpenAPI kept, headers that shield it, recorded days, and requests only with the token."""

import asyncio
import contextlib
import queue
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.bus import PlanesBus
from contracts import topics
from contracts.archive import HEADER
from contracts.orders import OperatorRequest
from dashboard.settings import DashboardSettings
from runtime.clock import SystemClock
from runtime.door import open_door
from runtime.errors import UsageError
from runtime.lifecycle import Lifecycle
from tests.conftest import memory_bus
from tests.dashboard_house import HOUSE, a_house, dashboard, say
from tests.in_a_thread import in_a_thread
from tests.openapi import check_api

TOKEN = "a-token-of-the-tests"  # noqa: S105
BEARER = {"Authorization": f"Bearer {TOKEN}"}
DAY = f"/api/recordings/{HOUSE}/main/2026-11-21"
ASK = f"/api/houses/{HOUSE}/requests"


class Served:
    """What a test sees of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connected = True
        self.asked: queue.Queue[OperatorRequest] = queue.Queue()
        self.client = httpx.Client(base_url=url, trust_env=False, timeout=20.0)

    def ask(self, **body: Any) -> httpx.Response:
        return self.client.post(ASK, json=body, headers=BEARER)


@contextlib.contextmanager
def served(data: Path, token: str = TOKEN) -> Iterator[Served]:
    """A dashboard that has heard one house, in a thread of its own."""

    @contextlib.asynccontextmanager
    async def serve(life: Lifecycle) -> AsyncIterator[Served]:
        clock = SystemClock()
        bus, _ = memory_bus(clock)
        told = Served("")
        async with (
            dashboard(bus, clock, lambda: told.connected, token=token, data_dir=data) as url,
            bus.subscribe(topics.OPERATOR_REQUEST) as asked,
            asyncio.TaskGroup() as group,
        ):
            told = Served(url)
            group.create_task(_collect(life, asked, told))
            await clock.sleep(0.2)
            await say(bus, *a_house(clock.now()))
            yield told

    with in_a_thread(serve) as told, told.client:
        yield told


async def _collect(life: Lifecycle, asked: Any, told: Served) -> None:
    async for delivery in life.each(asked):
        told.asked.put(delivery.message)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("outer")
    folder = root / "DATA" / HOUSE / "main"
    folder.mkdir(parents=True)
    (folder / "main_2026-11-21.csv").write_text(
        f"{HEADER}\n2026-11-21T10:00:00.000Z,1000.0,500.0,1500.0,1,1\n"
    )
    (root / "secret.csv").write_text("secret\n")
    return root / "DATA"


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[Served]:
    with served(data) as told:
        yield told


def test_every_answer_is_as_the_openapi_says(server: Served) -> None:
    asked = check_api(server.url)
    assert asked == [
        "GET /health",
        "GET /api/recordings",
        "GET /api/recordings/{house}/{meter}/{day}",
        "GET /api/recordings/{house}/{meter}/{day}/csv",
        "POST /api/houses/{house}/requests",
    ]
    check_api(server.url, headers=BEARER)


@pytest.mark.parametrize(
    "path", ["/", "/page/app.js", "/health", "/api/recordings", "/nowhere", f"{DAY}/csv"]
)
def test_every_answer_is_shielded(server: Served, path: str) -> None:
    headers = server.client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    policy = headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_a_name_that_only_leads_here_is_not_answered(server: Served) -> None:
    assert server.client.get("/health", headers={"Host": "evil.example"}).status_code == 421
    assert server.client.get("/health", headers={"Host": "localhost:1"}).status_code == 200


def test_the_stream_is_never_kept(server: Served) -> None:
    with server.client.stream("GET", "/api/stream", params={"house": HOUSE}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        lines = answer.iter_lines()
        assert next(lines) == "event: hello"


def streams(server: Served, opened: contextlib.ExitStack, **headers: str) -> int:
    """Open one more; the status of its answer."""
    asked = server.client.stream("GET", "/api/stream", headers=headers)
    answer = opened.enter_context(asked)
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        assert "pages are open already: close one" in answer.read().decode()
    return answer.status_code


def test_nobody_keeps_others_out_with_all_the_pages(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.hub.WATCHERS_OF_ONE_MAX", 3)
    with contextlib.ExitStack() as opened:
        until = time.monotonic() + 20  # the pages of the tests before are still to be missed
        while [streams(server, opened) for _ in range(3)] != [200] * 3:
            assert time.monotonic() < until
            opened.close()
        assert [streams(server, opened) for _ in range(2)] == [503, 503]
        assert [streams(server, opened, **BEARER) for _ in range(4)] == [200, 200, 200, 503]
        monkeypatch.setattr("dashboard.hub.WATCHERS_MAX", 6)
        monkeypatch.setattr("dashboard.hub.WATCHERS_OF_ONE_MAX", 100)
        assert streams(server, opened, **BEARER) == 503
    until = time.monotonic() + 20
    status = 503
    while status != 200:  # who has gone leaves room
        assert time.monotonic() < until
        with contextlib.ExitStack() as opened:
            status = streams(server, opened)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = Path(__file__).parents[2] / "dashboard" / "page"
    for file in page.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, file.name
        assert "https://" not in text, file.name
        assert "innerHTML" not in text, file.name
    assert sum(file.stat().st_size for file in page.iterdir()) < 100_000


def test_a_recorded_day_is_seen_and_taken_along(server: Served, data: Path) -> None:
    assert server.client.get("/api/recordings").json() == [
        {"house": HOUSE, "meter": "main", "days": ["2026-11-21"]}
    ]
    assert server.client.get(DAY).json()["meter_w"] == [1000.0]
    csv = server.client.get(f"{DAY}/csv")
    assert csv.content == (data / HOUSE / "main" / "main_2026-11-21.csv").read_bytes()
    assert csv.headers["content-disposition"] == f'attachment; filename="{HOUSE}_main_2026-11-21.csv"'


@pytest.mark.parametrize(
    "path",
    [
        "/api/recordings/../../2026-11-21",
        "/api/recordings/%2e%2e/secret/2026-11-21",
        "/api/recordings/..%2f..%2f/secret/2026-11-21/csv",
        f"/api/recordings/{HOUSE}/main/..%2f..%2fsecret.csv",
        f"/api/recordings/{HOUSE}/main/2026-99-99/csv",
        f"/api/recordings/{HOUSE}/other/2026-11-21/csv",
        "/page/../api.py",
        "/page/%2e%2e/api.py",
        "/page/..%2fapi.py",
    ],
)
def test_nothing_outside_of_the_folders_is_given(server: Served, path: str) -> None:
    answer = server.client.get(path)
    assert answer.status_code in {400, 404}
    assert "secret" not in answer.text.replace("secret/2026", "").replace("/secret", "")
    assert "def dashboard_api" not in answer.text


def test_a_request_needs_the_token(server: Served) -> None:
    body = {"action": "pause"}
    assert server.client.post(ASK, json=body).status_code == 401
    wrong = server.client.post(ASK, json=body, headers={"Authorization": f"Bearer {TOKEN}x"})
    assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, "Bearer")
    assert server.asked.empty()


def test_a_request_goes_to_the_bus_as_it_was_meant(server: Served) -> None:
    while not server.asked.empty():
        server.asked.get()
    answer = server.ask(
        action="ev_plan",
        user="ana",
        der_id="ev",
        departure_at="2027-01-01T07:00:00+01:00",
        target_soc_percent=80,
    )
    assert answer.status_code == 202
    request = server.asked.get(timeout=5)
    assert (request.request_id, request.house, request.user) == (answer.json()["request_id"], HOUSE, "ana")
    assert (request.action, request.der_id, request.target_soc_percent) == ("ev_plan", "ev", 80)
    assert str(request.departure_at) == "2027-01-01T06:00:00.000Z"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"action": "objectives"}, 400),
        ({"action": "pause", "more": 1}, 400),
        ({"action": "pause", "user": "a b"}, 400),
        ({"action": "ev_plan", "target_soc_percent": 101}, 409),
        ({"action": "ev_plan", "departure_at": "2027-01-01T07:00:00"}, 409),
    ],
)
def test_what_is_no_request_is_told(server: Served, body: dict[str, Any], code: int) -> None:
    answer = server.ask(**body)
    assert (answer.status_code, bool(answer.json()["detail"])) == (code, True)


def test_a_house_that_nobody_knows_is_not_asked(server: Served) -> None:
    path = "/api/houses/house-z/requests"
    assert server.client.post(path, json={"action": "safe"}, headers=BEARER).status_code == 404


def test_without_a_token_in_the_settings_nobody_asks(data: Path) -> None:
    with served(data, token="") as told:
        answer = told.ask(action="pause")
        assert answer.status_code == 403
        assert "WATTBUS_DASHBOARD_TOKEN" in answer.json()["detail"]


def test_health_tells_of_a_broker_that_is_away(server: Served) -> None:
    assert server.client.get("/health").json()["status"] == "healthy"


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match="token_file"):
        open_door(DashboardSettings(token_file=path))
    path.write_text(f" {TOKEN}\n")
    path.chmod(0o600)
    assert open_door(DashboardSettings(token_file=path)).tokens.has_site


async def test_a_taken_port_is_one_clear_line() -> None:
    clock = SystemClock()
    bus: PlanesBus
    bus, _ = memory_bus(clock)
    async with dashboard(bus, clock) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(UsageError, match=f"127.0.0.1:{port}: can't listen there"):
            async with dashboard(bus, clock, service_port=port):
                pass
