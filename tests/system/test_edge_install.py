"""A house's install, in an environment of its own: it runs a meter and a DER controller, and stays small."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.system.test_run import CLEAN, REPOSITORY, wattbus

TOO_MUCH = (
    "numpy",
    "pandas",
    "cvxpy",
    "highspy",
    "pvlib",
    "scipy",
    "rich",
    "amqtt",
    "litestar",
    "uvicorn",
    "plotly",
    "cryptography",
)


def run(*command: str | Path, cwd: Path, timeout: float = 200) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=CLEAN, capture_output=True, text=True, timeout=timeout, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("house")
    run(sys.executable, "-m", "venv", "venv", cwd=home)
    # A copy, so that the build leaves nothing in the working tree.
    run("git", "clone", "--quiet", REPOSITORY, "source", cwd=home)
    pip = home / "venv" / "bin" / "pip"
    run(
        pip,
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-c",
        "source/constraints.txt",
        "./source",
        cwd=home,
    )
    return home


@pytest.mark.timeout(300)
def test_nothing_heavy_is_installed(house: Path) -> None:
    listed = run(
        house / "venv/bin/pip", "list", "--format", "freeze", "--disable-pip-version-check", cwd=house
    )
    installed = {line.split("==")[0].lower() for line in listed.splitlines()}
    assert not installed & set(TOO_MUCH)
    assert "wattbus" in installed


def test_a_meter_and_a_der_controller_run(house: Path, mosquitto: Broker) -> None:
    assert mosquitto.mqtt_url is not None
    program = house / "venv/bin/wattbus"
    arguments = ["--house", "edge-house", "--live-url", mosquitto.mqtt_url]
    meter = [str(program), "meter", *arguments, "--interval-s", "1", "--no-pv"]
    controller = [str(program), "der-controller", *arguments, "--ders", "2"]
    port = mosquitto.mqtt_url.rsplit(":", 1)[1].split("/")[0]
    with (
        subprocess.Popen(meter, cwd=house, env=CLEAN) as one,
        subprocess.Popen(controller, cwd=house, env=CLEAN) as two,
    ):
        try:
            for topic, count in (
                ("wattbus/edge-house/meter/main/reading", 2),
                ("wattbus/edge-house/der/+/telemetry", 4),
            ):
                seen = run(
                    "mosquitto_sub",
                    "-h",
                    "127.0.0.1",
                    "-p",
                    port,
                    "-t",
                    topic,
                    "-C",
                    str(count),
                    "-W",
                    "20",
                    cwd=house,
                )
                assert len(seen.splitlines()) == count
        finally:
            one.terminate()
            two.terminate()
    assert (one.returncode, two.returncode) == (0, 0)


@pytest.mark.parametrize(
    ("command", "extra"), [("run", "all"), ("optimizer", "optimizer"), ("broker", "server")]
)
def test_what_is_missing_is_said_in_one_line(house: Path, command: str, extra: str) -> None:
    done = subprocess.run([house / "venv/bin/wattbus", command], cwd=house, env=CLEAN, capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 2
    assert f"pip install 'wattbus[{extra}]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_the_package_needs_is_installed_with_it(house: Path) -> None:
    script = "import energy, wattbus, pathlib; print(*(pathlib.Path(p.__file__).parent for p in (energy, wattbus)))"
    energy, wattbus = run(house / "venv/bin/python", "-c", script, cwd=house).split()
    assert (Path(energy) / "tariffs" / "costa_rica.toml").is_file()
    assert (Path(wattbus) / "sites" / "simulated.toml").is_file()


def test_it_installs_a_bundle(house: Path, tmp_path: Path) -> None:
    done = wattbus("enroll", "house-d", "--meter", "main", "--live-url", "mqtts://hive.example", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = run(house / "venv/bin/wattbus", "install", "house-d.bundle", "--root", "root", cwd=tmp_path)
    assert "house.house-d: certificate" in told
    unit = tmp_path / "root/etc/systemd/system/wattbus-meter-house-d-main.service"
    assert f'ExecStart="{house}/venv/bin/python' in unit.read_text()


FOOTPRINT_S = 60
RSS_MAX_MB = 45
CPU_MAX = 0.01
"""Of one core, at one reading in ten seconds."""
NOT_ITS_OWN = ("numpy", "cryptography", "aio_pika", "aiormq", "wattbus.access", "wattbus.run")


@pytest.mark.timeout(FOOTPRINT_S + 240)
def test_a_meter_is_small(house: Path, mosquitto: Broker, tmp_path: Path) -> None:
    python = house / "venv/bin/python"
    settings = ["--house", "small-house", "--live-url", str(mosquitto.mqtt_url), "--no-pv"]
    command = [python, "-X", "importtime", "-m", "wattbus", "meter", *settings]
    said = tmp_path / "stderr"
    with (
        said.open("wb") as stderr,
        subprocess.Popen(command, cwd=tmp_path, env=CLEAN, stderr=stderr) as meter,
    ):
        try:
            time.sleep(10)  # its start is another matter
            begun_s, began = cpu_s(meter.pid), time.monotonic()
            time.sleep(FOOTPRINT_S)
            share = (cpu_s(meter.pid) - begun_s) / (time.monotonic() - began)
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{meter.pid}/status").read_text().splitlines()
            )
            rss_mb = int(status["VmRSS"].split()[0]) / 1024
        finally:
            meter.terminate()
    print(f"a meter: {rss_mb:.1f} MB, {share:.2%} of a core")  # noqa: T201
    assert rss_mb < RSS_MAX_MB
    assert share < 2 * CPU_MAX  # this machine is shared
    imported = {
        line.rpartition("|")[2].strip() for line in said.read_text().splitlines() if "import time:" in line
    }
    assert "paho.mqtt.client" in imported
    assert not {name for name in imported if name.startswith(NOT_ITS_OWN)}


def cpu_s(pid: int) -> float:
    """What a process has used of the processors [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
