"""`wattbus check` and `wattbus top` as a user calls them, on real brokers."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from paho.mqtt import publish

from contracts.codec import encode
from contracts.messages import DerTelemetry
from runtime.clock import SystemClock
from tests.brokers import Broker, free_ports, unique
from tests.system.test_run import CLEAN, REPOSITORY
from tests.unit.test_optimizer_model import der


def wattbus(cwd: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wattbus", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60,
        env={**CLEAN, "PYTHONPATH": str(REPOSITORY), **env}, check=False,
    )  # fmt: skip


def put(broker: Broker, message: DerTelemetry) -> None:
    topic = f"wattbus/{message.house}/der/{message.der_id}/telemetry"
    publish.single(topic, encode(message), hostname="127.0.0.1", port=broker.ports["mqtt"])


def telemetry(house: str, late_s: float = 0.0) -> DerTelemetry:
    at = SystemClock().now().after(-late_s)
    return der(at, house=house, der_id="battery", current_output=1.25, current_soc=51.0)


def while_running(command: list[str], cwd: Path, env: dict[str, str], act: Callable[[], None]) -> str:
    """What a command prints while something is done again and again."""
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True, env=env) as process:
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            act()
            time.sleep(0.1)
        return process.communicate(timeout=30)[0]


def test_without_a_broker_everything_else_is_checked(tmp_path: Path) -> None:
    done = wattbus(tmp_path, "check", "--config", str(REPOSITORY / "examples" / "neighbourhood.toml"))
    assert done.returncode == 0, done.stdout + done.stderr
    for what in ("settings", "state folder", "log folder", "data folder", "clock", "brokers"):
        assert f"ok       {what}" in done.stdout


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({"WATTBUS_LIVE_URI": "mqtt://127.0.0.1"}, "settings: WATTBUS_LIVE_URI: no such setting"),
        ({"WATTBUS_METER_INTERVAL_S": "never"}, "settings: WATTBUS_METER_INTERVAL_S"),
        ({"WATTBUS_STATE_DIR": "/proc/nowhere"}, "state folder /proc/nowhere"),
        ({"WATTBUS_LIVE_URL": "gopher://127.0.0.1"}, "live broker"),
    ],
)
def test_a_problem_is_one_line_that_says_what(tmp_path: Path, env: dict[str, str], problem: str) -> None:
    done = wattbus(tmp_path, "check", **env)
    assert done.returncode == 1
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("problem"))
    assert line.startswith(f"problem  {problem}")
    assert done.stderr == ""


def test_a_broker_that_is_away_is_a_problem(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    done = wattbus(tmp_path, "check", WATTBUS_LIVE_URL=f"mqtt://127.0.0.1:{port}")
    assert done.returncode == 1
    assert "is it running" in done.stdout


def test_a_wrong_password_is_a_problem(tmp_path: Path, rabbitmq: Broker) -> None:
    assert rabbitmq.amqp_url is not None
    url = rabbitmq.amqp_url.replace(rabbitmq.password, "wrong")
    done = wattbus(tmp_path, "check", WATTBUS_READINGS_URL=url)
    assert done.returncode == 1
    assert "problem  readings broker" in done.stdout
    assert "wrong@" not in done.stdout


def test_two_good_brokers(tmp_path: Path, rabbitmq: Broker, mosquitto: Broker) -> None:
    assert rabbitmq.amqp_url is not None
    assert mosquitto.mqtt_url is not None
    env = {"WATTBUS_READINGS_URL": rabbitmq.amqp_url, "WATTBUS_LIVE_URL": mosquitto.mqtt_url}
    done = wattbus(tmp_path, "check", "--house", unique("quiet"), **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("there and back") == 2
    assert "none was heard to compare with" in done.stdout


@pytest.mark.parametrize(("late_s", "found"), [(0.0, "ok  "), (60.0, "problem")])
def test_the_clock_is_held_beside_the_ders(
    tmp_path: Path, mosquitto: Broker, late_s: float, found: str
) -> None:
    assert mosquitto.mqtt_url is not None
    house = unique("clock")
    command = [sys.executable, "-m", "wattbus", "check", "--house", house]
    env = {**CLEAN, "PYTHONPATH": str(REPOSITORY), "WATTBUS_LIVE_URL": mosquitto.mqtt_url}
    out = while_running(command, tmp_path, env, lambda: put(mosquitto, telemetry(house, late_s)))
    (line,) = (line for line in out.splitlines() if "clock beside the DERs'" in line)
    assert line.startswith(found), line


def test_top_prints_the_fleet_once(tmp_path: Path, mosquitto: Broker) -> None:
    assert mosquitto.mqtt_url is not None
    house = unique("top")
    command = [
        sys.executable,
        "-m",
        "wattbus",
        "top",
        "--once",
        "--listen-s",
        "3",
        "--live-url",
        mosquitto.mqtt_url,
    ]
    env = {**CLEAN, "PYTHONPATH": str(REPOSITORY)}
    out = while_running(command, tmp_path, env, lambda: put(mosquitto, telemetry(house)))
    assert house in out
    assert "+1.25" in out


def test_top_without_a_broker_says_what_to_set(tmp_path: Path) -> None:
    done = wattbus(tmp_path, "top", "--once")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "wattbus top --window" in done.stderr
