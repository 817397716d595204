"""The dashboard as a user starts it: in a run, or as a command."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from tests.broker_life import free_ports
from tests.system.test_run import CLEAN, REPOSITORY, wattbus


def test_a_run_serves_the_page_and_says_where(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [
        sys.executable,
        "-m",
        "wattbus",
        "run",
        "--speed",
        "20",
        "--no-window",
        "--dashboard-port",
        str(port),
    ]
    environment = {**CLEAN, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    ) as run:
        assert run.stdout is not None
        said = [run.stdout.readline() for _ in range(2)]
        assert said[1] == f"Dashboard: http://127.0.0.1:{port}\n"
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
            assert "<title>wattbus</title>" in client.get("/").text
            with client.stream("GET", "/api/stream") as stream:
                assert next(line for line in stream.iter_lines() if '"house":"house-a"' in line)
                run.send_signal(signal.SIGINT)  # an open page holds nothing up
                out, err = run.communicate(timeout=10)
    assert (run.returncode, err) == (0, "")
    assert "snapshots in balance" in out


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = wattbus("run", "--for", "1m", "--no-window", "--dashboard-port", port, cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(
        rf"wattbus: 127.0.0.1:{port}: can't listen there .*: choose another --dashboard-port\n", done.stderr
    )


def test_the_command_has_help_and_wants_a_broker(tmp_path: Path) -> None:
    told = wattbus("dashboard", "--help")
    assert "example: wattbus dashboard" in told.stdout
    for flag in ("--service-port", "--token-file", "--data-dir", "--stale-s", "--max-grid-export-kw"):
        assert flag in told.stdout
    done = wattbus("dashboard", cwd=tmp_path)
    assert (done.returncode, "no broker: set WATTBUS_READINGS_URL" in done.stderr) == (2, True)
