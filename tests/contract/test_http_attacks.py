"""Attacks on a server of ours; all have what is tested here from runtime.http and runtime.web."""

import contextlib
import inspect
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from dashboard.settings import DashboardSettings
from optimizer.settings import OptimizerSettings
from orchestrator.settings import OrchestratorSettings
from runtime.armour import HEADERS
from runtime.bearer import BearerGuard
from runtime.settings import MonitoredSettings
from runtime.web import BODY_BYTES_MAX
from tests.orchestrator_server import HOUSE, TOKEN, Served, orchestrator_server

REQUESTS = f"/api/houses/{HOUSE}/requests"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with orchestrator_server(tmp_path_factory.mktemp("state"), ders=False) as served:
        yield served


def raw(server: Served, request: bytes) -> bytes:
    """The beginning of the answer to bytes that no client would send."""
    url = urlsplit(server.url)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=10) as line:
        line.sendall(request)
        with contextlib.suppress(ConnectionResetError):
            return line.recv(4096)
    return b""


@pytest.mark.parametrize(
    "path", ["/", "/health", "/metrics", "/docs", "/nothing", f"/api/houses/{HOUSE}/status"]
)
def test_every_answer_has_the_headers_once(server: Served, path: str) -> None:
    answer = server.get(path)
    for name, value in HEADERS:
        assert answer.headers.get_list(name.decode()) == [value.decode()]
    assert "server" not in answer.headers


@pytest.mark.parametrize("length", ["told", "chunked"])
def test_a_large_body_is_refused(server: Served, length: str) -> None:
    body = b'{"user": "' + b"a" * BODY_BYTES_MAX + b'"}'
    content = body if length == "told" else iter([body[:50_000], body[50_000:]])
    answer = server.client.post(REQUESTS, content=content, headers={**server.bearer, **JSON})
    assert answer.status_code == 413
    assert answer.json()["status_code"] == 413


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 50_000,
        b'{"a":' * 15_000,
        b'{"user": "ana", "action": "pause", "until": 1e400}',
        b'{"user": "\xff\xfe"}',
        b'{"user": "ana\\u0000", "action": "pause"}',
        b"",
        b"null",
        b"NaN",
        b'{"action": "pause", "user": "ana", "added": 1}',
    ],
)
def test_a_body_that_is_none_is_refused(server: Served, body: bytes) -> None:
    answer = server.client.post(REQUESTS, content=body, headers={**server.bearer, **JSON})
    assert answer.status_code == 400
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "kind", ["text/xml", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]
)
def test_another_content_type_does_nothing(server: Served, kind: str) -> None:
    """A page elsewhere may send these without asking first."""
    answer = server.client.post(REQUESTS, content=b"<a/>", headers={**server.bearer, "content-type": kind})
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    "path",
    [
        "/docs/swagger-ui/../../../../etc/passwd",
        "/docs/swagger-ui/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/docs/swagger-ui/..%2f..%2f..%2fetc/passwd",
        "/docs/swagger-ui//etc/passwd",
        "/api/houses/..%2f..%2fetc/status",
    ],
)
def test_nobody_leaves_the_folder(server: Served, path: str) -> None:
    answer = raw(server, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), answer[:100]
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "house", ["house%0d%0aX-Evil:1", "ｈouse-a", "house-а", "a" * 5000, "%00", ".*", "+", "%23", "a|b"]
)
def test_a_hostile_id_is_no_house(server: Served, house: str) -> None:
    answer = server.get(f"/api/houses/{house}/status")
    assert answer.status_code in (400, 404)
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize(
    "shown", ["", TOKEN, "Bearer", "Bearer  x", f"Bearer {TOKEN[:-1]}", f"bearer {TOKEN}x", f"Basic {TOKEN}"]
)
def test_a_guessed_token_is_refused(server: Served, shown: str) -> None:
    answer = server.client.post(
        REQUESTS, json={"user": "ana", "action": "pause"}, headers={"authorization": shown}
    )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


def test_tokens_are_compared_in_constant_time() -> None:
    assert "hmac.compare_digest" in inspect.getsource(BearerGuard)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "DELETE", "PROPFIND"])
def test_other_methods_do_nothing(server: Served, method: str) -> None:
    answer = server.client.request(method, REQUESTS, headers={**server.bearer, "x-secret": "echo-me"})
    assert answer.status_code in (400, 405)
    assert "echo-me" not in answer.text


def test_no_other_page_is_let_in(server: Served) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    for answer in (server.client.options(REQUESTS, headers=asked), server.client.get("/", headers=asked)):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\x00" * 100 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_the_server_lives(server: Served, request_: bytes) -> None:
    assert not raw(server, request_).startswith(b"HTTP/1.1 2")
    assert server.get("/").status_code == 200


def test_slow_bodies_hold_up_nobody_else(server: Served) -> None:
    url = urlsplit(server.url)
    head = f"POST {REQUESTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\n{{"
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            line = stack.enter_context(
                socket.create_connection((url.hostname or "", url.port or 0), timeout=10)
            )
            line.sendall(head.encode())
        assert server.get("/").status_code == 200


@pytest.mark.parametrize(
    "kind", [OptimizerSettings, OrchestratorSettings, DashboardSettings, MonitoredSettings]
)
def test_by_default_on_this_machine_alone_and_no_token(kind: type) -> None:
    settings = kind()
    hosts = [getattr(settings, name) for name in ("service_host", "metrics_host") if hasattr(settings, name)]
    assert set(hosts) == {"127.0.0.1"}
    assert getattr(settings, "token", "") == ""
