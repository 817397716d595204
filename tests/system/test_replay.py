"""`wattbus replay` as a user types it."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contracts.archive import HEADER, parse_row
from tests.broker_life import free_ports
from tests.brokers import Broker
from tests.system.test_run import CLEAN, REPOSITORY, wattbus
from tests.unit.replay_corpus import GOOD, corpus

EXAMPLE = REPOSITORY / "examples" / "foreign.csv"


def ports() -> list[str]:
    mqtt, websocket = free_ports(2)
    return ["--window-port", str(mqtt), "--window-ws-port", str(websocket)]


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "wattbus", "replay", *arguments]
    environment = {**CLEAN, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=cwd)  # fmt: skip


def test_all_bad_files_are_named_and_the_good_one_is_played(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    bad = [one for one in corpus() if not one.name.startswith(("missing", "folder"))]
    for one in bad:
        one.write(folder / f"{one.name}.csv")
    (folder / "good.csv").write_text(GOOD)
    done = wattbus("replay", str(folder), "--speed", "max", *ports(), cwd=tmp_path)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "no broker is named" not in line]
    assert len(said) == len(bad)
    for one in bad:
        [line] = [line for line in said if line.startswith(f"wattbus: {folder / one.name}.csv:")]
        assert one.line is None or line.startswith(f"wattbus: {folder / one.name}.csv:{one.line}: ")
    plays = sum(one.plays for one in bad)
    assert f"files      {plays + 1} played, {len(bad)} with an error" in done.stdout


def test_without_a_broker_any_client_looks_in(tmp_path: Path) -> None:
    """The example of the docs: another logger's file, in local time and kW."""
    mqtt, websocket = free_ports(2)
    arguments = [
        str(EXAMPLE),
        "--map",
        "timestamp=Time,meter_w=Load:kW,pv_w=Solar:kW",
        "--timezone",
        "Europe/Paris",
    ]
    arguments += ["--house", "loft", "--from", "2024-03-31", "--speed", "7200", "--loop", "--window-port", str(mqtt), "--window-ws-port", str(websocket)]  # fmt: skip
    with start(*arguments, cwd=tmp_path) as process:
        try:
            deadline = time.monotonic() + 60
            seen: list[str] = []
            while len(seen) < 12 and time.monotonic() < deadline:
                command = ["mosquitto_sub", "-V", "mqttv311", "-h", "127.0.0.1", "-p", str(mqtt), "-t", "wattbus/loft/+/main/reading", "-C", "12", "-W", "10"]  # fmt: skip
                seen = subprocess.run(
                    command, capture_output=True, text=True, check=False
                ).stdout.splitlines()
        finally:
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            out, _ = process.communicate(timeout=10)
        assert time.monotonic() - began < 6
    assert len(seen) == 12
    assert all('"historical":true' in line and '"run":"2024-' in line for line in seen)
    assert process.returncode == 0
    assert re.search(r"^rows +\d+ read, \d+ played", out, re.MULTILINE)
    assert "local times that do not exist" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing-here.csv"], "nothing-here.csv: no such file\n"),
        (["--speed", "fast", "x.csv"], "--speed 'fast' won't do"),
        (["--map", "power=Load", "x.csv"], "--map"),
        (["--map", "meter_w=Load,meter_w=B", "x.csv"], "twice"),
        (["--from", "monday", "x.csv"], "--from 'monday' is no time"),
        (["--timezone", "Paris", "x.csv"], "'Paris' is no timezone"),
        (["--house", "a/b", "x.csv"], "--house 'a/b' is not an id"),
        (["--run", "../x", "x.csv"], "--run '../x' is not an id"),
        ([], "the following arguments are required: PATH"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = wattbus("replay", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == (2 if "nothing-here" in said else 1)


def test_a_replay_is_recorded_over_a_real_broker(tmp_path: Path, rabbitmq: Broker) -> None:
    """What the docs say: replay DATA, with a recorder on the same broker."""
    from tests.brokers import vhost

    out = tmp_path / "out"
    run = wattbus("run", "--for", "10m", "--speed", "max", "--out", str(out))
    assert run.returncode == 0
    with vhost(rabbitmq) as mine:
        assert mine.amqp_url is not None
        url = {"WATTBUS_READINGS_URL": mine.amqp_url}
        done = wattbus("replay", str(out / "DATA"), "--speed", "max", "--run", "again", cwd=tmp_path, **url)
        assert done.returncode == 0, done.stderr
        environment = {**CLEAN, "PYTHONPATH": str(REPOSITORY), **url}
        command = [sys.executable, "-m", "wattbus", "recorder", "--data-dir", "again"]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as recorder:
            try:
                wanted = {path.relative_to(out / "DATA"): path for path in (out / "DATA").glob("*/*/*.csv")}
                made = {name: tmp_path / "again" / "replay" / "again" / name for name in wanted}
                deadline = time.monotonic() + 60
                while not all(rows(made[name]) == rows(path) for name, path in wanted.items()):
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
            finally:
                recorder.terminate()
    assert len(wanted) == 3


def rows(path: Path) -> list[tuple[object, ...]]:
    lines = path.read_text().splitlines() if path.exists() else []
    assert lines[:1] in ([], [HEADER])
    return sorted(tuple(parse_row(line)[:4]) for line in lines[1:])
