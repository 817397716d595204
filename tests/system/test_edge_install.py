"""A house's install, in an environment of its own: it runs a meter and a DER controller, and stays small."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.system.test_run import CLEAN, REPOSITORY

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
    wattbus = house / "venv/bin/wattbus"
    arguments = ["--house", "edge-house", "--live-url", mosquitto.mqtt_url]
    meter = [str(wattbus), "meter", *arguments, "--interval-s", "1", "--no-pv"]
    controller = [str(wattbus), "der-controller", *arguments, "--ders", "2"]
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
