"""Every service as its own process, on a real RabbitMQ and a real HiveMQ CE."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from contracts.instant import Instant
from runtime.clock import SystemClock
from tests.brokers import Broker, vhost
from tests.system.test_run import CLEAN, REPOSITORY, wattbus

SITE = str(REPOSITORY / "examples" / "neighbourhood.toml")
HOUSES = ("house-a", "house-b", "house-c")
SPEED = 60
LEAD_S = 15
ROWS = 120


@contextlib.contextmanager
def service(name: str, *arguments: str, cwd: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", name, "--config", SITE, *arguments]
    environment = {**CLEAN, "PYTHONPATH": str(REPOSITORY), **env}
    cwd.mkdir(parents=True, exist_ok=True)
    with (cwd / "stderr").open("w") as stderr, subprocess.Popen(command, stderr=stderr, text=True, env=environment, cwd=cwd) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                began = time.monotonic()
                code = process.wait(timeout=10)
                assert code == 0, (cwd / "stderr").read_text()
                assert time.monotonic() - began < 6


def rows_of(data: Path) -> dict[str, pd.DataFrame]:
    frames = {}
    for house in HOUSES:
        files = sorted(data.glob(f"{house}/main/*.csv"))
        frames[house] = pd.concat([pd.read_csv(path) for path in files]) if files else pd.DataFrame()
    return frames


@pytest.mark.timeout(180)
def test_separate_processes_on_real_brokers_give_the_same_readings(
    tmp_path: Path, rabbitmq: Broker, hivemq: Broker
) -> None:
    with vhost(rabbitmq) as mine, contextlib.ExitStack() as stack:
        assert mine.amqp_url is not None
        assert hivemq.mqtt_url is not None
        start = Instant.of(SystemClock().now()).floor(10).after(LEAD_S + 10)
        env = {
            "WATTBUS_READINGS_URL": mine.amqp_url,
            "WATTBUS_LIVE_URL": hivemq.mqtt_url,
            "WATTBUS_SPEED": str(SPEED),
            "WATTBUS_START": str(start),
            "WATTBUS_OPTIMIZER_SERVICE_PORT": "0",
            "WATTBUS_ORCHESTRATOR_SERVICE_PORT": "0",
        }
        stack.enter_context(service("recorder", cwd=tmp_path / "recorder", **env))
        stack.enter_context(service("pvsim", cwd=tmp_path / "pvsim", **env))
        stack.enter_context(service("optimizer", cwd=tmp_path / "optimizer", **env))
        stack.enter_context(service("orchestrator", cwd=tmp_path / "orchestrator", **env))
        for house in HOUSES:
            stack.enter_context(service("der_controller", "--house", house, cwd=tmp_path / house, **env))
            stack.enter_context(service("meter", "--house", house, cwd=tmp_path / house, **env))
        port = hivemq.mqtt_url.rsplit(":", 1)[1].split("/")[0]
        seen = subprocess.run(
            ["mosquitto_sub", "-h", "127.0.0.1", "-p", port, "-t", "wattbus/#", "-W", "30", "-F", "%t %p"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while min(len(frame) for frame in rows_of(tmp_path / "recorder" / "DATA").values()) < ROWS:
            assert time.monotonic() < deadline, "\n".join(p.read_text() for p in tmp_path.rglob("stderr"))
            time.sleep(0.5)
    together = tmp_path / "together"
    done = wattbus(
        "run", SITE, "--start", str(start), "--for", f"{ROWS * 10}s", "--speed", "max", "--out", str(together)
    )
    assert done.returncode == 0, done.stderr
    apart, alone = rows_of(tmp_path / "recorder" / "DATA"), rows_of(together / "DATA")
    for house in HOUSES:
        assert len(alone[house]) == ROWS
        first = apart[house].sort_values("seq").head(ROWS).reset_index(drop=True)
        pd.testing.assert_frame_equal(first, alone[house].reset_index(drop=True))
    kinds = {"/".join(line.split(" ", 1)[0].split("/")[2::2]) for line in seen.stdout.splitlines()}
    wanted = {"meter/reading", "pv/reading", "der/telemetry", "der/command", "der/ack", "optimizer/schedule"}
    assert kinds >= {*wanted, "orchestrator/snapshot", "orchestrator/decision"}
    acks = [json.loads(line.split(" ", 1)[1]) for line in seen.stdout.splitlines() if "/ack " in line]
    assert {ack["house"] for ack in acks if ack["result"] == "accepted"} == set(HOUSES)


def test_a_wrong_password_is_one_clear_line(rabbitmq: Broker, tmp_path: Path) -> None:
    assert rabbitmq.amqp_url is not None
    url = rabbitmq.amqp_url.replace(f":{rabbitmq.password}@", ":notthepassword@")
    done = wattbus("meter", "--house", "house-a", "--readings-url", url, cwd=tmp_path, PYTHONWARNINGS="error")
    assert done.returncode == 2
    assert "refused" in done.stderr
    assert "notthepassword" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broker_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    from tests.brokers import running

    with running("mosquitto") as broker, contextlib.ExitStack() as stack:
        broker.stop()
        assert broker.mqtt_url is not None
        env = {"WATTBUS_LIVE_URL": broker.mqtt_url}
        stack.enter_context(service("recorder", cwd=tmp_path / "recorder", **env))
        stack.enter_context(
            service(
                "meter", "--house", "house-a", "--interval-s", "1", "--no-pv", cwd=tmp_path / "meter", **env
            )
        )
        time.sleep(4)
        said = (tmp_path / "meter" / "stderr").read_text()
        assert "waiting" in said
        assert "Traceback" not in said
        broker.start()
        deadline = time.monotonic() + 40
        while not list((tmp_path / "recorder").glob("DATA/house-a/main/*.csv")):
            assert time.monotonic() < deadline, (tmp_path / "meter" / "stderr").read_text()
            time.sleep(0.5)
