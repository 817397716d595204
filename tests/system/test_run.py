"""`wattbus run` as a user types it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.broker_life import free_ports
from wattbus.__main__ import COMMANDS

REPOSITORY = Path(__file__).parents[2]
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("WATTBUS_")}


def wattbus(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return module("wattbus", *arguments, cwd=cwd, **env)


def module(
    name: str, *arguments: str, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", name, *arguments]
    environment = {**CLEAN, "PYTHONPATH": str(REPOSITORY), **env}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=110, env=environment, cwd=cwd, check=False
    )


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_two_hours_of_three_houses(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = wattbus("run", "--for", "2h", "--speed", "max", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    frames = {path.parts[-3]: pd.read_csv(path) for path in out.glob("DATA/*/main/*.csv")}
    assert sorted(frames) == ["house-a", "house-b", "house-c"]
    for frame in frames.values():
        assert list(frame.columns) == ["timestamp", "meter_w", "pv_w", "sum_w", "boot", "seq"]
        assert len(frame) == 720
        assert frame["seq"].tolist() == list(range(1, 721))
        assert frame["sum_w"].to_numpy() == pytest.approx((frame["meter_w"] + frame["pv_w"]).to_numpy())
    summary = json.loads((out / "summary.json").read_text())
    for house in summary.values():
        assert house["commands"]["accepted"] > 0
        assert house["commands"]["rejected"] == 0
        assert house["commands"]["expired"] == 0
        assert house["unbalanced"] == 0
        assert house["snapshots"] == 720
    assert {path.name for path in (out / "log").iterdir()} >= {
        "meter.log",
        "pv_simulator.log",
        "recorder.log",
    }
    for path in (out / "log").glob("*.log"):
        assert not path.stat().st_size or "stopped" in path.read_text(), path


def test_a_house_may_have_a_battery_and_no_meter(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(
        '[house.house-x.der_controller.devices.battery]\ntype = "battery_storage"\ncapacity_kwh = 10\n'
    )
    done = wattbus("run", str(site), "--for", "10m", "--speed", "max", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "house-x" in done.stdout


def test_one_seed_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    site = str(REPOSITORY / "examples" / "neighbourhood.toml")
    runs = []
    for name, seed in (("one", "5"), ("two", "5"), ("three", "6")):
        out = tmp_path / name / "out"
        out.parent.mkdir()
        done = wattbus(
            "run", site, "--for", "40m", "--speed", "max", "--seed", seed, "--out", "out", cwd=out.parent
        )
        assert done.returncode == 0, done.stderr
        runs.append(files_of(out))
    assert runs[0] == runs[1]
    assert runs[0].keys() == runs[2].keys()
    assert runs[0] != runs[2]


def test_a_second_run_into_the_same_folder_adds_its_rows(tmp_path: Path) -> None:
    for _ in range(2):
        done = wattbus("run", "--for", "5m", "--speed", "max", "--out", str(tmp_path / "out"))
        assert done.returncode == 0, done.stderr
    frame = pd.read_csv(next(tmp_path.glob("out/DATA/house-a/main/*.csv")))
    assert frame.groupby("boot").size().tolist() == [30, 30]


def test_ctrl_c_ends_cleanly_with_the_summary(tmp_path: Path) -> None:
    port, ws_port = free_ports(2)
    command = [sys.executable, "-m", "wattbus", "run", "--speed", "20", "--out", str(tmp_path / "out")]
    command += ["--window-port", str(port), "--window-ws-port", str(ws_port), "--no-dashboard"]
    environment = {**CLEAN, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as run:
        assert run.stdout is not None
        lines = [run.stdout.readline(), run.stdout.readline()]
        assert f"mqtt://127.0.0.1:{port}" in lines[1]
        seen = subprocess.run(
            ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-t", "wattbus/+/meter/+/reading", "-C", "6", "-W", "30"],
            capture_output=True, text=True, timeout=40, check=False,
        )  # fmt: skip
        assert len(seen.stdout.splitlines()) == 6, seen.stderr
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=10)
    assert (run.returncode, err) == (0, "")
    assert "snapshots in balance" in out
    rows = sum(len(pd.read_csv(path)) for path in tmp_path.glob("out/DATA/*/*/*.csv"))
    assert rows >= 6


MARS = Path(__file__).parent / "mars.toml"
BOUNDS = ("--gen-min", "0", "--gen-max", "1", "--cons-min", "0", "--cons-max", "1")
BAD = [
    (("run", "nowhere.toml"), 2, "nowhere.toml: can't be read"),
    (("run", "--for", "soon"), 2, "--for 'soon' is no duration"),
    (("run", "--speed", "fast"), 2, "--speed 'fast' won't do"),
    (("run", "--start", "later"), 2, "--start 'later'"),
    (("run", "--for", "999999999d"), 2, "--for '999999999d'"),
    (("run", "--start", "9999-12-31T23:59:30Z"), 2, "--start"),
    (("run", "--window-port", "99999"), 2, "no port"),
    (("meter", "--hosue", "x"), 2, "--hosue"),
    (("meter", "--house", "site", "--live-url", "mqtt://x"), 2, "'site'"),
    (("meter", "--house", "h", "--speed", "60", "--live-url", "mqtt://x"), 2, "--speed needs --start"),
    (("dance",), 2, "'dance' is no command; there are run, "),
    (("metr",), 2, "'metr' is no command; did you mean meter?"),
    (("meter",), 2, "--house is missing"),
    (("meter", "--house", "house-a"), 2, "no broker: set WATTBUS_READINGS_URL"),
    (
        ("meter", "--house", "a/b", "--live-url", "mqtt://x"),
        2,
        "--house: 'a/b' won't do: it must be 1 to 64 of",
    ),
    (("meter", "--house", "h", "--live-url", "mqtt://127.0.0.1:1", "--wait", "0"), 1, "127.0.0.1:1"),
    (
        ("meter", "--house", "h", "--readings-url", "amqp://u:secret@127.0.0.1:1", "--wait-s", "0"),
        1,
        "127.0.0.1:1",
    ),
    (("meter", "--house", "h", "--live-url", "http://127.0.0.1"), 2, "a broker's URL starts with"),
    (
        ("meter", "--house", "h", "--source", "csv", "--csv", "nothing.csv", "--live-url", "mqtt://x"),
        2,
        "nothing.csv",
    ),
    (("pvsim", "--latitude", "100", "--live-url", "mqtt://x"), 2, "--latitude"),
    (("optimizer", "--tariff", "free", "--live-url", "mqtt://x"), 2, "free"),
    (("orchestrator", "--ttl-s", "NaN", "--live-url", "mqtt://x"), 2, "--ttl-s"),
    (("recorder", "--day-timezone", "Mars/Base", "--live-url", "mqtt://x"), 2, "Mars/Base"),
    (("run", str(MARS)), 2, "'Mars/Base' is no timezone"),
    (("pvsim", "--timezone", "Mars/Base", "--live-url", "mqtt://x"), 2, "'Mars/Base' is no timezone"),
    (("plant", "--config-json", "nowhere.json", *BOUNDS), 2, "nowhere.json: can't be read"),
    (("der-controller", "--house", "h", "--ders", "6", "--live-url", "mqtt://x"), 2, "--ders"),
]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            '[house.house-x.der_controller.devices.store]\ntype = "battery_storage"\ncapacity_kwh = -3\n',
            "house.house-x.der_controller.devices.store: battery capacity_kwh is -3",
        ),
        (
            '[house.house-x.meter]\nsource = "csv"\ncsv = "none.csv"\n',
            "house.house-x.meter: {folder}/none.csv: no such file",
        ),
    ],
)
def test_what_is_wrong_with_a_house_names_it(table: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(table)
    done = wattbus("run", "site.toml", "--for", "10m", "--speed", "max", cwd=tmp_path)
    assert done.returncode == 2
    assert says.format(folder=tmp_path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("arguments", "code", "says"), BAD, ids=[" ".join(case[0])[:60] for case in BAD])
def test_bad_usage_is_one_clear_line(
    arguments: tuple[str, ...], code: int, says: str, tmp_path: Path
) -> None:
    done = wattbus(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = wattbus("run", "--for", "1m", "--window-port", port, cwd=tmp_path)
    assert done.returncode == 2
    assert port in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_its_module_have_help_with_an_example(command: str) -> None:
    done = module(COMMANDS[command].module, "--help")
    assert done.returncode == 0, done.stderr
    assert "example: " in done.stdout


def test_topics_prints_the_readme_s_table() -> None:
    done = wattbus("topics", "--markdown")
    assert done.returncode == 0
    assert done.stdout.strip() in (REPOSITORY / "README.md").read_text()
