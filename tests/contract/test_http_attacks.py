"""One list of attacks on every server: none gets a 500, a traceback or another house's data; each one clear line."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dashboard.settings import DashboardSettings
from optimizer.counterparts.reporter import ReporterSettings
from optimizer.counterparts.validator import ValidatorSettings
from optimizer.settings import OptimizerSettings
from orchestrator.settings import OrchestratorSettings
from plant.poller import PollerSettings
from runtime.armour import HEADERS
from runtime.settings import MonitoredSettings
from runtime.web import BODY_BYTES_MAX
from tests.http_servers import ANAS_TOKEN, HOUSES, KNOWN, SITE_TOKEN, Server, http_servers, token_of

GUARDED = [name for name in KNOWN if name != "monitor"]
BEARER = f"Authorization: Bearer {SITE_TOKEN}\r\n"
HOSTILE = [".*", "a|b", "..%2fx", "+", "%23", "%00", "ｈouse-a", "house-а", "a" * 5000, "x%0d%0aX-Evil:%201"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    with http_servers(tmp_path_factory.mktemp("servers")) as served:
        yield served


@pytest.fixture(params=KNOWN)
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    return servers[request.param]


@pytest.fixture(params=GUARDED)
def guarded(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    return servers[request.param]


def raw(server: Server, request: bytes) -> tuple[int, bytes, bytes]:
    """Status, headers and body of the answer to bytes that no client would send; 0: it hung up."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        with contextlib.suppress(ConnectionError):
            line.sendall(request)
        line.settimeout(10)
        with contextlib.suppress(ConnectionError):
            while part := line.recv(65536):
                answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]) if head else 0, head, body


def get(path: str, more: str = "", method: str = "GET") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n"
    return head.encode("utf-8", "surrogateescape")


def post(path: str, body: bytes, more: str = "Content-Type: application/json\r\n") -> bytes:
    return get(path, f"{BEARER}{more}Content-Length: {len(body)}\r\n", "POST") + body


def check_refusal(status: int, head: bytes, body: bytes, *, wanted: range = range(400, 500)) -> None:
    """One of ours: a status that is not the server's fault, our headers once, and one line of JSON."""
    assert status in wanted, (status, head, body[:300])
    assert b"traceback" not in body.lower()
    assert b"x-evil" not in head.lower()
    for name, value in HEADERS:
        assert head.lower().split(b"\r\n").count(name + b": " + value.lower()) == 1, (name, head)
    told = json.loads(body)
    assert (told["status_code"], "\n" in told["detail"]) == (status, False)


# What is no request, or no good one

PATHS = [
    "/page/../../../../etc/passwd",
    "/docs/swagger-ui/../../../../etc/passwd",
    "/docs/swagger-ui/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/docs/swagger-ui/..%2f..%2f..%2fetc/passwd",
    "/docs/swagger-ui//etc/passwd",
    "/..%5c..%5cetc%5cpasswd",
    "//evil.example/%2e%2e",
    "/%00",
    "/%ff%fe",
    "/%0d%0aX-Evil:%201",
    "/" + "a" * 5000,
    "/nothing?token=" + SITE_TOKEN,
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_leads_nowhere(server: Server, path: str) -> None:
    status, head, body = raw(server, get(path))
    check_refusal(status, head, body)
    assert b"root:" not in body


NO_HTTP = {
    "header-of-100-kb": get("/", "X: " + "a" * 100_000 + "\r\n"),
    "ten-thousand-headers": get("/", "X: a\r\n" * 10_000),
    "header-without-end": b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000,
    "no-http": b"\xff\xfe\x00 no HTTP\r\n\r\n",
    "tls": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\x00" * 100 + b"\r\n\r\n",
    "http-9": b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "nul-in-the-path": b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another-s-name": b"GET /health HTTP/1.1\r\nHost: evil.example\r\nX-Too: " + b"a" * 17_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("attack", NO_HTTP)
def test_what_is_no_http_is_refused(server: Server, attack: str) -> None:
    check_refusal(*raw(server, NO_HTTP[attack]))
    assert server.ask("GET", server.reads, SITE_TOKEN).status_code == 200


NO_REQUEST = {
    "negative-length": "Content-Length: -1\r\n",
    "two-lengths": "Content-Length: 5\r\nContent-Length: 6\r\n",
    "no-name": ": nothing\r\n",
    "no-name-of-a-header": "X Y: 1\r\n",
    "two-hosts": "Host: evil.example\r\n",
    "nul-in-a-header": "X: a\x00b\r\n",
    "folded-into-nothing": "X: a\rX-Evil: 1\r\n",
}


@pytest.mark.parametrize("attack", NO_REQUEST)
def test_headers_that_are_none_are_refused(guarded: Server, attack: str) -> None:
    check_refusal(*raw(guarded, get("/health", NO_REQUEST[attack])))


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "DELETE", "PROPFIND", "GET\tX", "g" * 300])
def test_other_methods_do_nothing(server: Server, method: str) -> None:
    status, head, body = raw(server, get(server.reads, f"{BEARER}X-Secret: echo-me\r\n", method))
    check_refusal(status, head, body)
    assert b"echo-me" not in head + body


def test_head_and_options_tell_nothing(server: Server) -> None:
    for method, more in (("HEAD", ""), ("OPTIONS", "Origin: https://evil.example\r\n")):
        status, head, body = raw(server, get(server.reads, f"{more}Range: bytes=0-10\r\n", method))
        assert status in (200, 204, 401, 403, 405)
        assert b"access-control" not in head.lower()
        assert method == "OPTIONS" or not body


HARMLESS = {
    "upgrade-to-websocket": "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n",
    "upgrade-to-http-2": "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "a-page-s-question": "Access-Control-Request-Method: POST\r\n",
    "ranges": "Range: bytes=" + ",".join(["0-1"] * 1000) + "\r\n",
    "who-he-says-he-is": "X-Forwarded-For: 1.2.3.4\r\nX-Real-IP: ::1\r\nForwarded: for=_x\r\n",
    "encodings": "Accept-Encoding: gzip;q=\udcff\r\nAccept: \udcff\r\n",
    "cookies": "Cookie: " + "a=b;" * 1000 + "\r\n",
}


@pytest.mark.parametrize("attack", HARMLESS)
def test_what_else_is_said_changes_nothing(server: Server, attack: str) -> None:
    status, head, body = raw(server, get(server.reads, BEARER + HARMLESS[attack]))
    assert status == 200, (head, body)
    assert b"access-control" not in head.lower()


# Bodies

BODIES = {
    "too-large": (b'{"user": "' + b"a" * BODY_BYTES_MAX + b'"}', (413,)),
    "deep-list": (b"[" * 50_000, (400,)),
    "deep-object": (b'{"a":' * 15_000, (400,)),
    "no-utf-8": (b'{"user": "\xff\xfe"}', (400,)),
    "nul": (b'{"user": "ana\\u0000", "action": "pause"}', (400,)),
    "infinite": (b'{"user": "ana", "action": "ev_plan", "target_soc_percent": 1e999}', (400, 409)),
    "nothing": (b"", (400,)),
    "null": (b"null", (400,)),
    "not-a-number": (b"NaN", (400,)),
    "unknown-field": (b'{"action": "pause", "user": "ana", "added": 1}', (400,)),
    "of-house-b": (b'{"action": "pause", "user": "ana", "house": "house-b"}', (400,)),
}


@pytest.mark.parametrize("attack", BODIES)
@pytest.mark.parametrize("name", ["orchestrator", "dashboard", "validator"])
def test_a_body_that_is_none(servers: dict[str, Server], name: str, attack: str) -> None:
    server, (body, codes) = servers[name], BODIES[attack]
    assert server.acts is not None
    status, head, answer = raw(server, post(server.acts[0], body))
    check_refusal(status, head, answer)
    assert status in codes


@pytest.mark.parametrize("attack", BODIES)
@pytest.mark.parametrize("name", ["plant", "plant_poller", "reporter", "monitor"])
def test_who_takes_no_body_refuses_all(servers: dict[str, Server], name: str, attack: str) -> None:
    server = servers[name]
    check_refusal(*raw(server, post(server.reads, BODIES[attack][0])))


@pytest.mark.parametrize("name", ["orchestrator", "dashboard", "validator"])
def test_a_chunked_body_that_is_too_large(servers: dict[str, Server], name: str) -> None:
    acts = servers[name].acts
    assert acts is not None
    chunk = b"C350\r\n" + b"a" * 50_000 + b"\r\n"
    head = get(acts[0], f"{BEARER}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n", "POST")
    status, _, _ = raw(servers[name], head + chunk * 3 + b"0\r\n\r\n")
    assert status == 413
    check_refusal(*raw(servers[name], head + b"no chunk\r\n"))


# Another site's page, open in a browser on this machine, where no token is set

FROM_ELSEWHERE = {
    "another-site": "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n",
    "an-older-browser": "Origin: https://evil.example\r\n",
    "another-port-here": "Origin: http://localhost:9\r\nSec-Fetch-Site: same-site\r\n",
    "a-file-or-a-frame": "Origin: null\r\n",
    "a-form": "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n",
    "an-image": "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
}
NOT_ASKED_FIRST = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
"""The types of bodies that a page may send anywhere."""


@pytest.fixture(scope="module")
def open_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    with http_servers(tmp_path_factory.mktemp("open"), guarded=False) as served:
        yield served


@pytest.mark.parametrize("page", FROM_ELSEWHERE)
@pytest.mark.parametrize("name", KNOWN)
def test_another_site_s_page_gets_nothing(open_servers: dict[str, Server], name: str, page: str) -> None:
    server = open_servers[name]
    wanted = range(401, 402) if name == "plant" else range(403, 404)
    check_refusal(*raw(server, get(server.reads, FROM_ELSEWHERE[page])), wanted=wanted)


@pytest.mark.parametrize("page", FROM_ELSEWHERE)
@pytest.mark.parametrize("name", ["optimizer", "validator"])
def test_another_site_s_page_changes_nothing(open_servers: dict[str, Server], name: str, page: str) -> None:
    """These two obey without a token; the others' handlers refuse whoever shows none."""
    server = open_servers[name]
    assert server.acts is not None
    path, told = server.acts
    body = json.dumps(told).encode()
    before = acted(server)
    for kind in NOT_ASKED_FIRST:
        head = (f"Content-Type: {kind}\r\n" if kind else "") + f"Content-Length: {len(body)}\r\n"
        check_refusal(
            *raw(server, get(path, head + FROM_ELSEWHERE[page], "POST") + body), wanted=range(403, 404)
        )
    assert acted(server) == before
    own = {"origin": server.url, "sec-fetch-site": "same-origin"}
    assert server.ask("POST", path, json=told, headers=own).status_code == 200
    assert server.ask("POST", path, json=told).status_code == 200
    assert acted(server) == before + 2


def acted(server: Server) -> int:
    """How often it has done what it was told to."""
    if server.name == "validator":
        commands: int = server.ask("GET", "/api/account").json()["commands"]
        return commands
    replans: dict[str, int] = server.ask("GET", server.reads).json()["replans"]
    return replans.get("trigger", 0)


def test_a_link_from_elsewhere_shows_our_page(open_servers: dict[str, Server]) -> None:
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert open_servers["dashboard"].ask("GET", "/", headers=followed).status_code == 200


@pytest.mark.parametrize("page", FROM_ELSEWHERE)
def test_who_shows_a_token_is_let_in_from_anywhere(servers: dict[str, Server], page: str) -> None:
    """No browser adds a token by itself; and a proxy may give the server another name than the page's."""
    server = servers["optimizer"]
    assert raw(server, get(server.reads, BEARER + FROM_ELSEWHERE[page]))[0] == 200


# Who slows others down


def test_a_head_or_a_body_that_does_not_come(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (
        "runtime.http.HEAD_WITHIN_S",
        "runtime.armour.BODY_WITHIN_S",
        "runtime.monitor.READ_WITHIN_S",
    ):
        monkeypatch.setattr(limit, 0.3)
    check_refusal(*raw(server, b"GET / HTTP/1.1\r\nHost: loc"), wanted=range(408, 409))
    check_refusal(*raw(server, b""), wanted=range(408, 409))
    if server.acts is not None and server.name != "optimizer":
        slow = get(
            server.acts[0], f"{BEARER}Content-Type: application/json\r\nContent-Length: 90\r\n", "POST"
        )
        check_refusal(*raw(server, slow + b"{"), wanted=range(408, 409))


def test_idle_connections_make_room(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.http.CONNECTIONS_MAX", 20)
    monkeypatch.setattr("runtime.monitor.READ_WITHIN_S", 0.3)
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
        until = time.monotonic() + 20
        while server.ask("GET", server.reads, SITE_TOKEN).status_code != 200:
            assert time.monotonic() < until


# Who may see what

WRONG = ["", "Bearer", "Bearer ", "Bearer  x", f"Bearer {SITE_TOKEN[:-1]}", f"bearer {SITE_TOKEN}x"]
WRONG += [SITE_TOKEN, f"Basic {SITE_TOKEN}", "Bearer \udcff", "Bearer " + "a" * 5000]


@pytest.mark.parametrize("shown", WRONG)
def test_a_guessed_token_is_refused(guarded: Server, shown: str) -> None:
    status, head, body = raw(guarded, get(guarded.reads, f"Authorization: {shown}\r\n"))
    check_refusal(status, head, body, wanted=range(401, 402))
    assert b"www-authenticate: bearer" in head.lower()
    assert SITE_TOKEN.encode() not in body


def test_a_token_elsewhere_is_none(guarded: Server) -> None:
    mark = "&" if "?" in guarded.reads else "?"
    for path in (
        f"{guarded.reads}{mark}token={SITE_TOKEN}",
        f"{guarded.reads}{mark}access_token={SITE_TOKEN}",
    ):
        assert guarded.ask("GET", path).status_code == 401
    told = {"cookie": f"token={SITE_TOKEN}", "x-api-key": SITE_TOKEN, "proxy-authorization": SITE_TOKEN}
    assert guarded.ask("GET", guarded.reads, headers=told).status_code == 401
    # Two tokens are none: which of them counts, a proxy may see otherwise.
    assert raw(guarded, get(guarded.reads, BEARER + "Authorization: Bearer x\r\n"))[0] == 401


def test_nothing_is_read_without_a_token(guarded: Server) -> None:
    paths = [guarded.reads, *(path.format(house="house-a") for path in guarded.of_house)]
    for path in [*paths, "/metrics"]:
        assert guarded.ask("GET", path).status_code == 401, path
        assert guarded.ask("GET", path, SITE_TOKEN).status_code == 200, path
    if guarded.acts is not None:
        path, body = guarded.acts
        assert guarded.ask("POST", path, json=body).status_code == 401
        assert guarded.ask("POST", path, token_of("house-a"), json=body).status_code == 403
        # A house is not told which others there are.
        other = guarded.ask("POST", path.replace("house-a", "house-z"), token_of("house-a"), json=body)
        assert other.status_code == 403


@pytest.mark.parametrize("name", ["orchestrator", "optimizer", "dashboard"])
def test_a_house_sees_itself_and_no_other(servers: dict[str, Server], name: str) -> None:
    server, own = servers[name], token_of("house-a")
    for path in server.of_house:
        assert server.ask("GET", path.format(house="house-a"), own).status_code == 200, path
        other, none = (server.ask("GET", path.format(house=house), own) for house in ("house-b", "house-z"))
        assert other.status_code == none.status_code == 404
        assert other.text.replace("house-b", "house-z") == none.text
    listed = server.ask("GET", server.reads, own)
    assert "house-a" in listed.text
    assert "house-b" not in listed.text
    assert "house-b" in server.ask("GET", server.reads, SITE_TOKEN).text
    assert server.ask("GET", "/metrics", own).status_code == 403


def test_a_house_is_told_no_count_of_all(servers: dict[str, Server]) -> None:
    counts = ("optimizations", "optimizations_by_status", "replans", "skipped_runs", "mean_solver_time")
    path = "/api/mpc/status"
    house, site = (
        servers["optimizer"].ask("GET", path, token).json() for token in (token_of("house-a"), SITE_TOKEN)
    )
    assert [house[name] for name in counts] == [None] * len(counts)
    assert None not in [site[name] for name in counts]


def test_who_names_no_house_means_his_own(servers: dict[str, Server]) -> None:
    optimizer = servers["optimizer"]
    several = optimizer.ask("GET", "/api/mpc/current_dispatch", SITE_TOKEN)
    assert (several.status_code, "house-b" in several.text) == (400, True)
    assert optimizer.ask("GET", "/api/mpc/current_dispatch", token_of("house-b")).status_code == 200


@pytest.mark.parametrize("house", HOUSES)
def test_the_stream_of_a_house_tells_of_no_other(servers: dict[str, Server], house: str) -> None:
    (other,) = set(HOUSES) - {house}
    headers = {"authorization": f"Bearer {token_of(house)}"}
    seen = ""
    with (
        httpx.Client(base_url=servers["dashboard"].url, trust_env=False, timeout=20.0) as client,
        client.stream("GET", "/api/stream", params={"house": other}, headers=headers) as answer,
    ):
        for line in answer.iter_lines():
            seen += line
            if seen.count("event: fleet") == 4:
                break
    assert '"may_act":false' in seen
    assert f'"house":"{house}"' in seen
    assert other not in seen
    assert servers["dashboard"].ask("GET", "/api/stream").status_code == 401


@pytest.mark.parametrize("house", HOSTILE)
def test_a_hostile_id_is_no_house(servers: dict[str, Server], house: str) -> None:
    for name in ("orchestrator", "optimizer", "dashboard"):
        for path in servers[name].of_house:
            told = path.format(house=house).encode().decode("latin-1")
            head = f"GET {told} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{BEARER}\r\n".encode(
                "latin-1"
            )
            check_refusal(*raw(servers[name], head))


def test_a_person_s_token_names_him(servers: dict[str, Server]) -> None:
    server = servers["orchestrator"]
    path = "/api/houses/house-b/requests"
    pause = {"action": "pause", "reason": "a test"}
    assert server.ask("POST", path, ANAS_TOKEN, json={**pause, "user": "eve"}).status_code == 403
    done = server.ask("POST", path, ANAS_TOKEN, json=pause)
    assert (done.status_code, "paused by ana" in done.text) == (200, True)
    written = "/api/houses/house-b/objectives?user=eve"
    assert server.ask("PUT", written, ANAS_TOKEN, json={}).status_code == 403
    assert (
        servers["dashboard"]
        .ask("POST", path, ANAS_TOKEN, json={"action": "resume", "user": "eve"})
        .status_code
        == 403
    )


def test_a_name_that_only_leads_here_is_not_answered(servers: dict[str, Server]) -> None:
    monitor = servers["monitor"]
    assert monitor.ask("GET", "/metrics", headers={"host": "evil.example"}).status_code == 421
    assert raw(monitor, b"GET /metrics HTTP/1.1\r\n\r\n")[0] == 421
    # With tokens a page elsewhere gets nothing, and a proxy here may keep the name it goes by.
    assert (
        servers["orchestrator"].ask("GET", "/health", headers={"host": "energy.example"}).status_code == 200
    )


# What all have alike


def test_every_answer_has_the_headers_once(server: Server) -> None:
    paths = (
        [server.reads, "/", "/health", "/nothing"]
        if server.name == "monitor"
        else [server.reads, "/", "/docs", "/nothing"]
    )
    for path in paths:
        answer = server.ask("GET", path, SITE_TOKEN)
        for name, value in HEADERS:
            assert answer.headers.get_list(name.decode()) == [value.decode()], (path, name)
        assert len(answer.headers.get_list("content-security-policy")) == 1
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    "kind",
    [
        OptimizerSettings,
        OrchestratorSettings,
        DashboardSettings,
        MonitoredSettings,
        PollerSettings,
        ReporterSettings,
        ValidatorSettings,
    ],
)
def test_by_default_on_this_machine_alone_and_no_token(kind: type) -> None:
    settings = kind()
    hosts = [getattr(settings, name) for name in ("service_host", "metrics_host") if hasattr(settings, name)]
    assert set(hosts) == {"127.0.0.1"}
    assert getattr(settings, "token", "") == ""


def test_who_comes_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    with http_servers(tmp_path, requests_per_s=3.0) as few:
        for server in few.values():
            until = time.monotonic() + 30
            while (answer := server.ask("GET", "/nothing")).status_code == 404:
                assert time.monotonic() < until
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert answer.json()["detail"] == "too many requests: come again in 1 s"
            assert answer.headers["x-content-type-options"] == "nosniff"
            if server.name != "monitor":
                # Whoever has a token has a limit of his own, whatever is guessed from where he is.
                assert server.ask("GET", server.reads, SITE_TOKEN).status_code == 200
                server.ask("GET", server.reads, SITE_TOKEN[::-1])
                wrong = server.ask("GET", server.reads, SITE_TOKEN[::-1])
                assert wrong.json()["detail"].startswith("too many wrong tokens: come again in ")
                assert server.ask("GET", server.reads, SITE_TOKEN).status_code == 200
