"""`wattbus install` a second time, by another hand, beside others: what it keeps, takes away and refuses."""

import os
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.instant import Instant
from runtime.clock import SystemClock
from runtime.errors import StoreError, UsageError
from tests.brokers import give_up
from tests.bundles import house_bundle
from wattbus.access import install
from wattbus.access.authority import client_identity, new_authority
from wattbus.access.bundle import Bundle, encode_bundle
from wattbus.access.house_settings import settings_of
from wattbus.access.place import Owner, Place, make_folder, put_file
from wattbus.access.unit import parts_of, unit_text

NOW: Instant = SystemClock().now()
OURS = new_authority("ours", NOW)
ROOT = Path("root")
PLACE = Place(ROOT, "house-d")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o022)
    yield
    os.umask(before)


def bundle_of(house: str = "house-d", **changed: object) -> Bundle:
    bundle = house_bundle(OURS, f"house.{house}", NOW, house=house)
    usual = {"ders": {"battery": "battery_storage"}, "readings_url": "amqps://rabbit.example"}
    return msgspec.structs.replace(bundle, **{**usual, **changed})


BUNDLE = bundle_of()


def installed(bundle: Bundle = BUNDLE, root: Path = ROOT) -> int:
    path = Path(f"{bundle.name}.bundle")
    path.write_bytes(encode_bundle(bundle))
    return install.main([str(path), "--root", str(root)])


def document() -> dict[str, object]:
    return tomllib.loads(PLACE.toml.read_text())


def units() -> list[str]:
    return sorted(path.name for path in PLACE.units.iterdir())


# --- what people have written stays ------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        'live_url = """\nx"""\n',
        'meter = {house = "house-d"}\n',
        'timezone = """\n[meter]\n"""\n',
        'x = [\n["meter"]\n]\n',
        'meter.house = "house-d"\n',
        'x = """\nlive_url = "a"\n"""\nlive_url = """x\n"""\n',
        "meter = 5\n",
        "[[meter]]\n",
    ],
)
def test_what_can_not_be_changed_line_by_line_is_one_line_and_stays(
    written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installed() == 0
    PLACE.toml.write_text(written)
    assert installed() == 2
    said = capsys.readouterr().err
    assert "wattbus.toml: can't be changed here" in said
    assert len(said.splitlines()) == 1
    assert PLACE.toml.read_text() == written


def test_what_is_no_toml_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert installed() == 0
    for content in (b"live_url = ", b"\xff"):
        PLACE.toml.write_bytes(content)
        assert installed() == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


# --- what the next bundle does not name goes ---------------------------------------


def test_a_device_that_is_gone_takes_its_unit_and_settings_with_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = bundle_of(meters=["main", "heat"], ders={"battery": "battery_storage", "ev": "electric_vehicle"})
    assert installed(more) == 0
    assert installed(bundle_of("house-e")) == 0
    PLACE.toml.write_text(
        PLACE.toml.read_text().replace(
            "[der_controller.devices.ev]", "# the car of ann\n[der_controller.devices.ev]\nphases = 3"
        )
        + '\n[house.house-d.der_controller.devices.ev]\ncapacity_kwh = 9\n\n# all of us\n[optimizer]\ntariff = "x"\n'
    )
    capsys.readouterr()

    assert installed() == 0
    told = capsys.readouterr().out
    assert "wattbus-meter-house-d-heat.service: the bundle has no such device" in told
    assert "[der_controller.devices.ev] is a comment now" in told
    assert "wattbus-meter-house-d-heat.service" not in units()
    assert {"wattbus-der-controller-house-d.service", "wattbus-meter-house-e-main.service"} <= {*units()}
    assert document()["der_controller"] == {
        "house": "house-d",
        "devices": {"battery": {"type": "battery_storage"}},
    }
    assert document()["optimizer"] == {"tariff": "x"}
    assert "house" not in document() or not document()["house"]
    text = PLACE.toml.read_text()
    assert "# the car of ann\n# [der_controller.devices.ev]\n# phases = 3\n" in text
    assert "\n# all of us\n[optimizer]\n" in text

    fewer = bundle_of(meters=["heat"], ders={})
    assert installed(fewer) == 0
    assert document()["meter"] == {"house": "house-d", "meter": "heat"}
    assert "der_controller" not in document()
    assert [name for name in units() if "house-d" in name] == ["wattbus-meter-house-d-heat.service"]
    capsys.readouterr()
    assert installed(fewer) == 0
    assert "as it was" in capsys.readouterr().out


def test_a_url_that_the_bundle_does_not_name_goes() -> None:
    assert installed() == 0
    assert installed(bundle_of(readings_url="")) == 0
    assert {key for key in document() if key.endswith("_url")} == {"live_url"}


# --- whose it is --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wattbus.toml", "client.pem", "ca.crt"])
def test_no_link_is_followed(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert installed() == 0
    others = tmp_path / "only-roots"
    others.write_bytes(b"token = 'secret'\n")
    for make in (lambda path: path.symlink_to(others), os.mkfifo, os.mkdir):
        there = PLACE.settings / name
        there.unlink(missing_ok=True)
        make(there)
        assert installed() == 2
        said = capsys.readouterr().err
        assert re.search(r"is a link|is no file", said)
        assert len(said.splitlines()) == 1
        if there.is_dir():
            there.rmdir()
    assert others.read_bytes() == b"token = 'secret'\n"


def test_another_accounts_certificate_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert installed(bundle_of("house-e")) == 0
    (ROOT / "etc/wattbus/house-e").rename(PLACE.settings)
    assert installed() == 1
    said = capsys.readouterr().err
    assert "is house.house-e's, not house.house-d's: remove" in said
    assert len(said.splitlines()) == 1


def test_a_unit_of_another_account_is_not_taken_over(capsys: pytest.CaptureFixture[str]) -> None:
    """Both would be `wattbus-meter-house-d-x-main.service`."""
    assert installed(bundle_of("house-d-x")) == 0
    assert installed(bundle_of(meters=["x-main"])) == 2
    assert "is not house.house-d's" in capsys.readouterr().err
    assert not PLACE.settings.exists()


def test_what_others_have_linked_or_written_beside_is_passed_over() -> None:
    PLACE.units.mkdir(parents=True)
    (PLACE.units / "wattbus-old.service").symlink_to("/dev/null")
    (PLACE.units / "wattbus-notes.service").write_bytes(b"\xff")
    assert installed(bundle_of()) == 0
    assert {"wattbus-old.service", "wattbus-notes.service"} <= {path.name for path in PLACE.units.iterdir()}


def test_a_python_that_the_units_can_not_reach_is_seen(tmp_path: Path) -> None:
    """A venv elsewhere on a Python in a home, and a venv in a home on the system's Python."""
    home, opt = tmp_path / "home", tmp_path / "opt"
    home.mkdir()
    opt.mkdir()
    (home / "python").touch()
    (opt / "python").symlink_to(home / "python")
    (home / "link").symlink_to("/usr/bin/env")
    home.chmod(0o700)
    for python in (opt / "python", home / "link"):
        assert home in install.closed_to_others(python)
        assert opt not in install.closed_to_others(python)
    assert install.closed_to_others(Path("/usr/bin/env")) == []


def test_each_account_has_a_user_of_its_own() -> None:
    assert PLACE.user == "wattbus-house-d"
    long = [Place(ROOT, "h" * 60 + end).user for end in ("a", "b")]
    assert len({*long, PLACE.user, Place(ROOT, "service.pvsim").user}) == 4
    assert all(len(user) <= 31 for user in long)


def test_folders_above_are_for_all_to_pass_whatever_roots_umask() -> None:
    os.umask(0o077)
    assert installed() == 0
    assert os.umask(0o022) == 0o077
    for path, mode in (
        (ROOT / "etc/wattbus", 0o755),
        (PLACE.units, 0o755),
        (PLACE.settings, 0o700),
        (PLACE.toml, 0o600),
        (PLACE.units / "wattbus-meter-house-d-main.service", 0o644),
    ):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path


def test_a_file_that_others_may_read_is_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "client.pem"
    path.write_bytes(b"key")
    path.chmod(0o644)
    assert put_file(path, b"key", 0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not put_file(path, b"key", 0o600)


def test_only_root_puts_files_where_an_accounts_user_looks(tmp_path: Path) -> None:
    folder, user = tmp_path / "etc/house-d", Owner(4711, 4712)
    if os.geteuid() != 0:
        with pytest.raises(StoreError, match="run it with sudo"):
            make_folder(folder, user)
        return
    make_folder(folder, user)
    assert put_file(folder / "client.pem", b"key", 0o600, user)
    assert not put_file(folder / "client.pem", b"key", 0o600, user)
    assert put_file(folder / "client.pem", b"key", 0o600, Owner(4713, 4712))  # of another user before
    there, key = folder.stat(), (folder / "client.pem").stat()
    assert (there.st_uid, there.st_gid, stat.S_IMODE(there.st_mode)) == (0, 4712, 0o750)
    assert (key.st_uid, key.st_gid, stat.S_IMODE(key.st_mode)) == (4713, 4712, 0o600)


# --- bundles made by hand -----------------------------------------------------------

FORGED: dict[str, dict[str, object]] = {
    "no TLS": {"live_url": "mqtt://evil"},
    "no broker": {"live_url": "", "readings_url": ""},
    "two lines": {"live_url": "mqtts://evil\nstate_dir = 1"},
    "half an address": {"live_url": "mqtts://[::1"},
    "a port that is none": {"readings_url": "amqps://host:99999"},
    "a password that is none": {"password": "\U0001f600"},
    "a login with an end": {"login": 'x"@evil/'},
    "a login with another's place": {"login": "{secret}"},
}


@pytest.mark.parametrize("case", list(FORGED))
def test_a_forged_bundle_is_one_line_and_nothing_is_written(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installed(bundle_of(**FORGED[case])) == 2
    said = capsys.readouterr().err
    assert "no bundle, or damaged on its way" in said
    assert len(said.splitlines()) == 1
    assert not ROOT.exists()


# --- units ----------------------------------------------------------------------------


def serial(port: str) -> str:
    return f'[meter]\nhouse = "house-d"\nsource = "dsmr"\ndevice = "{port}"\n'


def test_a_meter_at_a_serial_port_may_open_it_and_nothing_else_may() -> None:
    assert installed() == 0
    PLACE.toml.write_text(serial("/dev/ttyUSB0"))
    assert installed() == 0
    meter, controller = (
        (PLACE.units / f"wattbus-{name}.service").read_text()
        for name in ("meter-house-d-main", "der-controller-house-d")
    )
    assert "\nDevicePolicy=closed\nDeviceAllow=/dev/ttyUSB0 rw\nSupplementaryGroups=dialout\n" in meter
    assert "PrivateDevices" not in meter
    assert "\nPrivateDevices=yes\n" in controller
    assert "DeviceAllow" not in controller
    assert settings_of(BUNDLE, PLACE, serial("192.168.1.9:2001")).port == ""
    for port in ("/dev/tty USB0", "/dev/../etc/shadow", "/dev/x\\nExecStartPre=y"):
        with pytest.raises(UsageError, match="no serial port"):
            settings_of(BUNDLE, PLACE, serial(port))


def test_a_unit_runs_its_own_user_on_what_only_root_writes() -> None:
    (part, _) = parts_of(BUNDLE)
    lines = unit_text(part, Place(Path("/"), "house-d"), "").splitlines()
    config = '"--config" "/etc/wattbus/house-d/wattbus.toml"'
    for line in (
        f'ExecStart="{sys.executable}" "-P" "-m" "wattbus" "meter" "--meter" "main" {config}',
        "User=wattbus-house-d",
        "WorkingDirectory=/etc/wattbus/house-d",
        "StateDirectory=wattbus/house-d",
        "PrivateDevices=yes",
        "Restart=always",
        "WatchdogSec=60",
        "MemoryMax=128M",
        "MemorySwapMax=0",
        "NoNewPrivileges=yes",
        "Type=notify",
    ):
        assert line in lines


def test_a_unit_imports_nothing_from_where_it_stands() -> None:
    assert installed() == 0
    Path("msgspec.py").write_text("raise SystemExit(9)")
    unit = (PLACE.units / "wattbus-meter-house-d-main.service").read_text()
    command = shlex.split(re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)[1])  # type: ignore[index]
    done = subprocess.run(
        [*command, "--help"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: wattbus meter" in done.stdout


def test_a_command_that_a_person_gives_has_no_unit() -> None:
    for tool in ("replay", "quarantine"):
        assert parts_of(bundle_of(role="service", id=tool, meters=[], ders={})) == []


def installed_service(name: str) -> dict[str, Any]:
    """The settings of a service that has just been installed."""
    identity = client_identity(OURS, f"service.{name}", NOW)
    bundle = bundle_of(
        role="service",
        id=name,
        meters=[],
        ders={},
        certificate=identity.certificate.decode(),
        key=identity.key.decode(),
    )
    assert installed(bundle) == 0
    return tomllib.loads((ROOT / f"etc/wattbus/service.{name}/wattbus.toml").read_text())


def test_home_assistant_is_shown_what_there_is_once_it_is_installed() -> None:
    assert installed_service("home-assistant")["home_assistant"] == {"enabled": True}


def test_a_recorder_writes_where_it_may() -> None:
    """Its own default is a folder beside where it was started."""
    toml = installed_service("recorder")
    assert toml["recorder"] == {"data_dir": f"{ROOT.absolute()}/var/lib/wattbus/service.recorder/DATA"}
    (unit,) = PLACE.units.iterdir()
    assert "TasksMax=512" in unit.read_text()


SYSTEMD: dict[str, Callable[[], int]] = {
    "a house": installed,
    "a serial port": lambda: (
        (
            PLACE.settings.mkdir(parents=True),
            PLACE.toml.write_text(serial("/dev/ttyUSB0")),
        )
        and installed()
    ),
    "a folder with marks": lambda: installed(root=Path("50% of $HOME")),
}


@pytest.mark.parametrize("case", list(SYSTEMD))
def test_the_units_are_what_systemd_takes(case: str) -> None:
    assert SYSTEMD[case]() == 0
    units = sorted(str(path) for path in Path().glob("*/etc/systemd/system/*"))
    assert len(units) == 2
    assert said("verify", *units) == ""
    said("security", "--offline=true", "--threshold=20", *units)  # exposure 2.0 of 10 at most


def said(*words: str) -> str:
    try:
        done = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        give_up("systemd", "no systemd-analyze here (Debian: apt-get install systemd)")
        raise
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    return done.stderr


@pytest.mark.parametrize("command", ["enroll", "install", "rotate", "revoke"])
def test_a_command_run_as_a_module_is_the_command(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"wattbus.access.{command}", "nobody"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith(f"wattbus {command}: ")
