"""Enrolment on both sides, without a broker: bundles, what is refused, files and their modes."""

import json
import os
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contracts.instant import Instant
from runtime.clock import SystemClock
from tests.bundles import house_bundle
from wattbus.access import enroll, install, revoke, rotate
from wattbus.access.authority import client_identity, new_authority
from wattbus.access.brokers import write_files
from wattbus.access.bundle import Bundle, encode_bundle
from wattbus.access.identity import CertificateError, Identity, check_holder, holder_of
from wattbus.access.records import Brokers, Entry
from wattbus.access.register import Register
from wattbus.access.unit import parts_of

NOW = SystemClock().now()
URLS = ("--readings-url", "amqps://rabbit.example", "--live-url", "mqtts://hive.example")
HOUSE = ("house-d", "--meter", "main", "--der", "battery")
DAY_S = 86400.0


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def place() -> Path:
    return Path("root/etc/wattbus/house-d")


def installed(*more: str) -> int:
    return install.main(["house-d.bundle", "--root", "root", *more])


def bundle_of(
    issuer: Identity, name: str = "house.house-d", *, now: Instant = NOW, signed_by: Identity | None = None
) -> Bundle:
    return house_bundle(issuer, name, now, signed_by=signed_by)


def test_enrol_install_rotate_finish_revoke(capsys: pytest.CaptureFixture[str]) -> None:
    assert enroll.main([*HOUSE, *URLS]) == 0
    assert installed() == 0
    first = {path.name: path.read_bytes() for path in place().iterdir()}
    assert sorted(first) == ["ca.crt", "client.pem", "wattbus.toml"]
    assert installed() == 0
    assert "as it was" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in place().iterdir()} == first

    toml = place() / "wattbus.toml"
    toml.write_text(toml.read_text().replace("[meter]\n", "[meter]\npv = false # no panels here\n"))
    shutil.copy("house-d.bundle", "first.bundle")
    assert rotate.main(["house-d"]) == 0
    assert [user.account.name for user in Register(Path("access")).users] == [
        "house.house-d",
        "house.house-d.2",
    ]
    assert installed() == 0
    assert "pv = false # no panels here" in toml.read_text()
    assert "{client}.2:" in tomllib.loads(toml.read_text())["live_url"]
    assert (place() / "client.pem").read_bytes() != first["client.pem"]
    assert install.main(["first.bundle", "--root", "root"]) == 1
    assert "newer than this bundle" in capsys.readouterr().err

    assert rotate.main(["house-d", "--finish", "0000-0000"]) == 1
    (old, new) = Register(Path("access")).entries["house.house-d"].held
    assert rotate.main(["house-d", "--finish", new.code.lower()]) == 0
    assert [user.account.name for user in Register(Path("access")).users] == ["house.house-d.2"]
    assert _revoked() == {int(old.serial)}
    assert revoke.main(["house-d"]) == 0
    assert revoke.main(["house-d"]) == 0  # again: a broker may have been away
    assert revoke.main(["house-x"]) == 1
    assert _revoked() == {int(old.serial), int(new.serial)}
    assert Register(Path("access")).users == []
    assert "house-d" not in Path("access/brokers/mosquitto.acl").read_text()
    assert enroll.main([*HOUSE]) == 2  # nobody is left whose brokers could be taken
    assert enroll.main([*HOUSE, *URLS]) == 0
    assert [user.account.name for user in Register(Path("access")).users] == ["house.house-d.3"]


def test_a_device_that_comes_later_is_added_to_the_settings() -> None:
    assert enroll.main(["house-d", "--meter", "main", *URLS]) == 0
    assert installed() == 0
    toml = place() / "wattbus.toml"
    toml.write_text(toml.read_text() + "interval_s = 5 # mine\n")
    assert enroll.main(["house-d", "--meter", "main", "--der", "battery", "--der", "ev"]) == 0
    assert installed() == 0
    document = tomllib.loads(toml.read_text())
    assert document["meter"] == {"house": "house-d", "meter": "main", "interval_s": 5}
    assert document["der_controller"] == {
        "house": "house-d",
        "devices": {"battery": {"type": "battery_storage"}, "ev": {"type": "electric_vehicle"}},
    }
    assert installed() == 0
    assert tomllib.loads(toml.read_text()) == document


def test_a_damaged_certificate_here_is_mended_by_its_bundle() -> None:
    assert enroll.main([*HOUSE, *URLS]) == 0
    assert installed() == 0
    good = (place() / "client.pem").read_bytes()
    (place() / "client.pem").write_bytes(good[:300])
    assert installed() == 0
    assert (place() / "client.pem").read_bytes() == good


def _revoked() -> set[int]:
    from cryptography import x509

    revoked = x509.load_pem_x509_crl(Path("access/brokers/ca.crl").read_bytes())
    return {one.serial_number for one in revoked}


@pytest.fixture
def _a_usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_a_usual_umask")
def test_what_is_secret_is_its_owners_alone() -> None:
    assert enroll.main([*HOUSE, *URLS]) == 0
    assert enroll.main(["--broker", "rabbit.example,192.168.1.5"]) == 0
    assert installed() == 0
    for folder in (Path("access"), Path("access/brokers"), place()):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for path in folder.iterdir():
            if path.is_file() and path.name != ".lock":
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(Path("house-d.bundle").stat().st_mode) == 0o600
    kept = Path("access/register.json").read_text()
    bundle = json.loads(Path("house-d.bundle").read_text())
    assert bundle["password"] not in kept
    assert "PRIVATE KEY" not in kept


def test_the_repository_ignores_secrets() -> None:
    repository = Path(__file__).parents[2]
    names = ["access/ca.key", "access/register.json", "house-d.bundle"]
    done = subprocess.run(
        ["git", "check-ignore", *names], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == names


OTHER = new_authority("other", NOW)
OURS = new_authority("ours", NOW)
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "no bundle": (lambda: b"hello", "no bundle, or damaged on its way"),
    "cut short": (lambda: encode_bundle(bundle_of(OURS))[:500], "no bundle, or damaged on its way"),
    "a byte changed": (
        lambda: encode_bundle(bundle_of(OURS)).replace(b"hive.example", b"evil.example"),
        "damaged on its way, or changed by hand",
    ),
    "too large": (lambda: b" " * 200_000, "too large"),
    "hostile id": (lambda: encode_bundle(bundle_of(OURS)).replace(b'"house-d"', b'"../x"'), "no bundle"),
    "another house's": (
        lambda: encode_bundle(bundle_of(OURS, "house.house-e")),
        "the certificate is house.house-e's, not house.house-d's",
    ),
    "another authority's": (
        lambda: encode_bundle(bundle_of(OURS, signed_by=OTHER)),
        "not of the authority it comes with",
    ),
    "ended": (
        lambda: encode_bundle(bundle_of(OURS, now=NOW.after(-1000 * DAY_S))),
        "the certificate ended on",
    ),
    "not yet": (lambda: encode_bundle(bundle_of(OURS, now=NOW.after(5 * DAY_S))), "is the clock right?"),
    "another's key": (lambda: _with_key_of(bundle_of(OURS)), "the private key is not the certificate's"),
    "no key": (lambda: _with_key(bundle_of(OURS), "nothing"), "can't be read"),
}


def _with_key(bundle: Bundle, key: str) -> bytes:
    import msgspec

    return encode_bundle(msgspec.structs.replace(bundle, key=key))


def _with_key_of(bundle: Bundle) -> bytes:
    return _with_key(bundle, bundle_of(OURS).key)


@pytest.mark.parametrize("case", list(BAD))
def test_a_bad_bundle_is_one_line_and_nothing_is_written(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, line = BAD[case]
    Path("house-d.bundle").write_bytes(make())
    assert installed() in (1, 2)
    said = capsys.readouterr()
    assert line in said.err
    assert len(said.err.splitlines()) == 1
    assert "PRIVATE" not in said.err
    assert said.out == ""
    assert not Path("root").exists()


def test_another_sites_bundle_does_not_take_over(capsys: pytest.CaptureFixture[str]) -> None:
    Path("house-d.bundle").write_bytes(encode_bundle(bundle_of(OURS)))
    assert installed() == 0
    Path("house-d.bundle").write_bytes(encode_bundle(bundle_of(OTHER)))
    assert installed() == 1
    assert "another authority's" in capsys.readouterr().err
    assert (place() / "ca.crt").read_bytes() == OURS.certificate


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((".*", "--meter", "main"), "is not an id"),
        (("a|b", "--meter", "main"), "is not an id"),
        (("house-d", "--meter", "../x"), "is not an id"),
        (("house-d", "--meter", "a/b#"), "is not an id"),
        (("house-d", "--der", "+=battery_storage"), "is not an id"),
        (("х" * 5000, "--meter", "main"), "is not an id"),
        (("site", "--meter", "main"), "taken by wattbus itself"),
        (("house-d", "--meter", "main", "--meter", "main"), "two meters of one name"),
        (("house-d", "--der", "thing"), "say what it is"),
        (("house-d",), "needs --meter"),
        (("--service", "evil"), "no such service; there are "),
        (("--dashboard", "wall", "--meter", "main"), "--meter is of no use with --dashboard"),
        (("--broker", "rabbit.example"), "--readings-url is of no use with --broker"),
        ((), "say who"),
    ],
)
def test_what_can_not_be_enrolled(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enroll.main([*arguments, *URLS]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert len(said) < 400
    assert list(Path().glob("*.bundle")) == []


def test_every_kind_of_account_has_a_bundle_that_installs(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, name, parts in (
        (("--service", "optimizer"), "service.optimizer", ["wattbus-optimizer.service"]),
        (("--plant", "plant-a"), "plant.plant-a", ["wattbus-plant-poller-plant-a.service"]),
        (("--dashboard", "wall"), "dashboard.wall", []),
        (("--service", "replay"), "service.replay", []),
        (("--operator", "ann"), "operator.ann", []),
    ):
        assert enroll.main([*arguments, *URLS]) == 0
        told = capsys.readouterr().out
        # Who runs nothing gets files for whoever asks, not a system's user.
        assert f"wattbus install {name}.bundle {'--start' if parts else '--root .'}" in told
        assert install.main([f"{name}.bundle", "--root", name]) == 0
        told = capsys.readouterr().out
        assert "systemctl" not in told  # nothing of it is this machine's
        assert told.count("to try it here: wattbus ") == len(parts)
        units = sorted(path.name for path in Path(name).glob("etc/systemd/system/*"))
        assert units == parts


def test_a_house_and_a_plant_have_not_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Both are recorded under it."""
    assert enroll.main([*HOUSE, *URLS]) == 0
    assert enroll.main(["--plant", "House-D", *URLS]) == 2
    assert "house-d is a house already" in capsys.readouterr().err
    assert enroll.main(["--plant", "plant-a", *URLS]) == 0
    assert enroll.main(["plant-a", "--meter", "main", *URLS]) == 2
    assert "plant-a is a plant already" in capsys.readouterr().err


def test_where_the_brokers_are_is_remembered_for_each_role(capsys: pytest.CaptureFixture[str]) -> None:
    """The services of the centre may reach them by names that no house knows."""
    assert enroll.main(["--service", "recorder", "--readings-url", "amqps://inside"]) == 0
    assert enroll.main([*HOUSE]) == 2
    assert "--readings-url" in capsys.readouterr().err
    assert enroll.main([*HOUSE, *URLS]) == 0
    assert enroll.main(["house-e", "--meter", "main"]) == 0
    assert json.loads(Path("house-e.bundle").read_text())["readings_url"] == URLS[1]


@pytest.mark.parametrize("lost", ["ca.key", "ca.crt"])
def test_half_an_authority_is_made_anew_by_nobody(lost: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert enroll.main(["--broker", "rabbit.example"]) == 0
    Path("access", lost).unlink()
    assert enroll.main([*HOUSE, *URLS]) == 1
    assert "is gone" in capsys.readouterr().err
    assert not Path("access", lost).exists()


def test_a_broker_that_is_away_is_told_later(capsys: pytest.CaptureFixture[str]) -> None:
    """By --apply alone: the same command again would make one more identity."""
    assert enroll.main([*HOUSE, *URLS]) == 0
    capsys.readouterr()
    path = Path("access/apply.toml")
    path.write_text('folder = "brokers-of-this-machine"\n')
    path.chmod(0o600)
    assert enroll.main([*HOUSE, "--apply"]) == 1
    said = capsys.readouterr()
    assert "house-d.bundle: house.house-d.2" in said.out
    assert "tell them again: wattbus enroll --apply" in said.err
    Path("brokers-of-this-machine").mkdir()
    assert enroll.main(["--apply"]) == 0
    assert capsys.readouterr().out == "copied to brokers-of-this-machine\n"
    assert b"house.house-d.2:" in Path("brokers-of-this-machine/mosquitto.passwords").read_bytes()


def test_a_register_that_is_lost_is_not_taken_for_an_empty_one(capsys: pytest.CaptureFixture[str]) -> None:
    """The brokers would be told to put everybody out."""
    assert enroll.main(["--broker", "rabbit.example"]) == 0
    assert enroll.main([*HOUSE, *URLS]) == 0
    Path("access/register.json").unlink()
    assert enroll.main(["--broker", "rabbit.example"]) == 1
    assert "register.json is gone" in capsys.readouterr().err
    assert b"house.house-d" in Path("access/brokers/mosquitto.passwords").read_bytes()


def test_a_file_in_the_brokers_folders_place_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("access").mkdir(mode=0o700)
    Path("access/brokers").touch()
    assert enroll.main([*HOUSE, *URLS]) == 1
    assert "access/brokers: can't be made" in capsys.readouterr().err


def test_a_register_without_its_key_makes_no_other(tmp_path: Path) -> None:
    register = Register(tmp_path)
    entry = Entry(role="house", id="house-d", meters=["main"], brokers=Brokers(live_url="mqtts://x"))
    register.enroll(entry, NOW)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(Exception, match=r"ca\.key or ca\.crt is gone"):
        write_files(Register(tmp_path), NOW)


def test_apply_needs_a_file_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert enroll.main([*HOUSE, *URLS, "--apply"]) == 2
    assert "apply.toml" in capsys.readouterr().err
    assert not Path("house-d.bundle").exists()
    path = Path("access/apply.toml")
    path.write_text("rabbitmq = 'https://ann:secret@127.0.0.1'\n")
    path.chmod(0o644)
    assert enroll.main([*HOUSE, *URLS, "--apply"]) == 2
    said = capsys.readouterr().err
    assert "chmod 600" in said
    assert "secret" not in said


def test_a_certificate_by_a_handshake_with_itself() -> None:
    identity = client_identity(OURS, "house.house-d", NOW)
    holder = holder_of(OURS.certificate, identity.pem)
    check_holder(holder, "house.house-d", NOW)
    assert 824 < holder.days_left(NOW) <= 825
    with pytest.raises(CertificateError, match="authority"):
        holder_of(b"nonsense", identity.pem)


def test_a_house_runs_a_unit_for_each_meter() -> None:
    bundle = bundle_of(OURS)
    assert [part.unit for part in parts_of(bundle)] == ["wattbus-meter-house-d-main.service"]
