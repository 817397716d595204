"""`wattbus backtest` as a user starts it: files, exit codes, processes, a Dask cluster, the report in a browser."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.backtest_cases import DATA, HOUSE

CHROMIUM = "/usr/bin/chromium"
FRENCH = ("--tariff", "costa_rica", "--timezone", "Europe/Paris")
TWO_DAYS = (*FRENCH, "--from", "2024-04-10", "--to", "2024-04-12")


def backtest(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wattbus", "backtest", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "COLUMNS": "80"},
        check=False,
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of two days, and what it printed."""
    out = tmp_path_factory.mktemp("backtest")
    result = backtest(HOUSE, *TWO_DAYS, "--out", out, "--report", out / "report.html")
    assert result.returncode == 0, result.stderr
    return out, result.stdout


def test_the_table_fits_a_terminal_and_says_what_was_saved(done: tuple[Path, str]) -> None:
    lines = done[1].splitlines()
    assert max(map(len, lines)) <= 80
    for policy in ("no battery", "simple rule", "optimizer", "foresight", "Violations: none"):
        assert any(policy in line for line in lines), policy
    assert "…" not in done[1]


def test_the_files_say_the_same(done: tuple[Path, str]) -> None:
    (house,) = json.loads((done[0] / "results.json").read_bytes())["houses"]
    rows = list(csv.DictReader((done[0] / "results.csv").read_text().splitlines()))
    assert [row["policy"] for row in rows] == ["none", "rule", "mpc", "perfect"]
    for line, row in zip(house["lines"], rows, strict=True):
        assert float(row["total"]) == line["figures"]["total"]
        assert row["violations"] == "0"
        assert sum(month["demand"] for month in line["figures"]["months"]) == pytest.approx(
            line["figures"]["demand"]
        )
        assert {peak["group"] for month in line["figures"]["months"] for peak in month["peaks"]} == {
            "peak",
            "valley",
            "night",
        }
    assert house["lines"][2]["figures"]["errors"]["plans"] == 192


def test_processes_give_the_same_bytes(done: tuple[Path, str], tmp_path: Path) -> None:
    result = backtest(HOUSE, *TWO_DAYS, "--jobs", "2", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "results.json").read_bytes() == (done[0] / "results.json").read_bytes()
    assert result.stdout == done[1]


def test_a_cluster_gives_the_same_bytes(done: tuple[Path, str], tmp_path: Path) -> None:
    with cluster(tmp_path / "scheduler.json") as address:
        result = backtest(HOUSE, *TWO_DAYS, "--scheduler", address, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "results.json").read_bytes() == (done[0] / "results.json").read_bytes()


@contextmanager
def cluster(file: Path) -> Iterator[str]:
    """A Dask scheduler and a worker on loopback."""
    roles = (
        ("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
        ("dask_worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--no-nanny"),
    )
    started = []
    try:
        for module, *flags in roles:
            command = [
                sys.executable,
                "-m",
                f"distributed.cli.{module}",
                *flags,
                "--scheduler-file",
                str(file),
            ]
            started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + 30
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            process.wait(20)


def test_nobody_at_the_scheduler_is_one_line() -> None:
    result = backtest(HOUSE, *TWO_DAYS, "--scheduler", "tcp://127.0.0.1:9")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "tcp://127.0.0.1:9" in result.stderr


def test_a_bad_file_does_not_hold_up_the_good_ones(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("timestamp,meter_w,pv_w\n2024-01-01T00:00:00Z,watts,0\n")
    result = backtest(HOUSE, bad, *TWO_DAYS, "--policy", "none,rule", "--out", tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [f"wattbus backtest: {bad}:2: meter_w is 'watts': not a number"]
    assert "simple rule" in result.stdout
    results = json.loads((tmp_path / "results.json").read_bytes())
    assert len(results["houses"]) == 1
    assert results["failures"][0]["house"] == "bad"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--battery", "big"], "--battery 'big'"),
        (["--battery", "0kWh:5kW"], "--battery '0kWh:5kW'"),
        (["--battery", "none"], "--ev"),
        (["--ev", "60kWh"], "--ev '60kWh'"),
        (["--tariff", "free"], "free"),
        (["--timezone", "Mars/Olympus"], "Mars/Olympus"),
        (["--policy", "mpc,luck"], "luck"),
        (["--policy", "mpc,mpc"], "mpc"),
        (["--sweep", "roof=1,2"], "--sweep 'roof=1,2'"),
        (["--from", "yesterday"], "--from 'yesterday'"),
        (["--jobs", "0"], "--jobs"),
        (["--tick", "7"], "--tick"),
        (["--site", "missing.toml"], "missing.toml"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(flags: list[str], said: str) -> None:
    result = backtest(HOUSE, *flags)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


def test_no_file_no_days_exit_code_1(tmp_path: Path) -> None:
    for arguments in (["nowhere.csv"], [str(tmp_path)], [str(HOUSE), "--from", "2030-01-01"]):
        result = backtest(*arguments)
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1


def test_a_sweep_runs_each_size(tmp_path: Path) -> None:
    result = backtest(
        HOUSE, *TWO_DAYS, "--policy", "none,perfect", "--sweep", "battery=5,15kWh:7kW", "--out", tmp_path
    )
    assert result.returncode == 0, result.stderr
    small, large = json.loads((tmp_path / "results.json").read_bytes())["houses"]
    assert (small["battery"], large["battery"]) == ("5kWh:5kW", "15kWh:7kW")
    assert large["lines"][1]["figures"]["total"] <= small["lines"][1]["figures"]["total"] + 1e-3


def test_the_site_file_says_each_house_its_battery(tmp_path: Path) -> None:
    houses = [DATA / "ca_house1_60min.csv", HOUSE]
    site = DATA.parent / "backtest.toml"
    result = backtest(*houses, "--site", site, "--policy", "none", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "results.json").read_bytes())["houses"]
    told = [(house["house"], house["battery"], house["timezone"], house["tariff"]) for house in found]
    assert told == [
        ("ca_house1_60min", "6.4kWh:5kW", "America/Los_Angeles", "fontana_tou"),
        ("fr_house_30min", "10kWh:5kW", "Europe/Paris", "fontana_tou"),
    ]


def test_what_the_recorder_wrote_is_found(tmp_path: Path) -> None:
    write_recorded(tmp_path / "DATA", "house-a", with_pv=True)
    write_recorded(tmp_path / "DATA", "house-b", with_pv=False)
    write_recorded(tmp_path / "DATA" / "replay" / "run-1", "house-c", with_pv=True)
    result = backtest(tmp_path / "DATA", "--policy", "none,rule", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "results.json").read_bytes())["houses"]
    assert [(house["house"], house["pv_kwh"] > 0) for house in found] == [
        ("house-a", True),
        ("house-b", False),
    ]


def write_recorded(data: Path, house: str, *, with_pv: bool) -> None:
    for day in (1, 2):
        folder = data / house / "main"
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            f"2024-06-{day:02}T{hour:02}:{minute:02}:00.000Z,500.0,{'900.0,1400.0' if with_pv else ','},1,{day}{hour:02}{minute:02}"
            for hour in range(24)
            for minute in range(0, 60, 5)
        ]
        header = "timestamp,meter_w,pv_w,sum_w,boot,seq"
        (folder / f"main_2024-06-{day:02}.csv").write_text("\n".join([header, *rows]) + "\n")


def test_a_stop_leaves_no_process_behind() -> None:
    command = [
        sys.executable,
        "-m",
        "wattbus",
        "backtest",
        str(HOUSE),
        *FRENCH,
        "--policy",
        "none,mpc",
        "--jobs",
        "2",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while len(group(process.pid)) < 4 and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
    deadline = time.monotonic() + 10
    while (left := group(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def group(session: int) -> list[int]:
    """The processes of a session."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def test_the_report_opens_without_the_internet(done: tuple[Path, str]) -> None:
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.on("requestfailed", lambda request: errors.append(request.url))
        page.goto((done[0] / "report.html").as_uri())
        page.wait_for_selector("#h0-heat .heatmaplayer")
        assert page.locator(".chart .main-svg .titletext, .chart .gtitle").count() >= 5
        assert page.locator("tr.mpc td").first.inner_text() == "optimizer"
        browser.close()
    assert errors == []
