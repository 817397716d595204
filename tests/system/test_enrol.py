"""Two houses from their enrolment to the end of one of them, as an operator does it, on a real Mosquitto with TLS."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from paho.mqtt.client import CallbackAPIVersion, Client, MQTTMessage, MQTTv5

from tests.access_site import guarded
from tests.broker_life import LOOPBACK, PASSWORD, USER, Process, free_ports
from tests.brokers import Missing, give_up
from tests.system.test_run import CLEAN, REPOSITORY, wattbus

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
MOSQUITTO_CONF = """\
listener {port} 127.0.0.1
cafile {folder}/ca.crt
certfile {folder}/127.0.0.1.pem
keyfile {folder}/127.0.0.1.pem
crlfile {folder}/ca.crl
require_certificate true
use_username_as_clientid true
allow_anonymous false
password_file {folder}/mosquitto.passwords
acl_file {folder}/mosquitto.acl
pid_file {home}/mosquitto.pid
persistence false
"""
WAIT_S = 30.0


class Operator:
    """An operator's folder, and the houses' computer below `root`."""

    port: int
    """The broker's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "root"
        self.told = ""
        self.metrics: dict[str, int] = {}

    def wattbus(self, *arguments: str) -> str:
        done = wattbus(*arguments, cwd=self.home)
        assert done.returncode == 0, done.stderr
        self.told += done.stdout + done.stderr
        return done.stdout

    def install(self, name: str) -> str:
        """Returns the certificate's code."""
        told = self.wattbus("install", f"{name}.bundle", "--root", "root")
        return re.search(r"certificate (\S+) is in place", told)[1]  # type: ignore[index]

    @contextmanager
    def meter(self, house: str) -> Iterator[subprocess.Popen[bytes]]:
        config = self.root / "etc/wattbus" / house / "wattbus.toml"
        command = [sys.executable, "-m", "wattbus", "meter", "--config", str(config)]
        (self.metrics[house],) = free_ports(1)
        command += ["--interval-s", "0.5", "--no-pv", "--metrics-port", str(self.metrics[house])]
        with subprocess.Popen(
            command, cwd=self.home, env={**CLEAN, "PYTHONPATH": str(REPOSITORY)}
        ) as process:
            try:
                yield process
            finally:
                process.terminate()

    def bundle(self, name: str) -> dict[str, str]:
        bundle: dict[str, str] = json.loads((self.home / f"{name}.bundle").read_text())
        return bundle

    def context(self, bundle: dict[str, str]) -> ssl.SSLContext:
        pem = self.home / "probe.pem"
        pem.write_text(bundle["certificate"] + bundle["key"])
        context = ssl.create_default_context(cadata=bundle["authority"])
        context.load_cert_chain(pem)
        return context

    def log(self, house: str) -> str:
        return (self.root / "var/log/wattbus" / house / "meter.log").read_text()

    def wait_for_line(self, house: str, pattern: str) -> float:
        """When the house's meter has noted it."""
        deadline = time.monotonic() + WAIT_S
        while not re.search(pattern, self.log(house)):
            assert time.monotonic() < deadline, self.log(house)
            time.sleep(0.05)
        return time.monotonic()

    def wait_for_sent(self, house: str) -> None:
        """Until the broker has confirmed three readings of this life of the meter."""
        deadline = time.monotonic() + WAIT_S
        while True:
            with (
                suppress(OSError),
                urlopen(f"http://{LOOPBACK}:{self.metrics[house]}/metrics", timeout=5) as page,
            ):
                counted = re.search(r"^wattbus_confirmed\S* ([\d.]+)$", page.read().decode(), re.MULTILINE)
                if counted and float(counted[1]) >= 3:
                    return
            assert time.monotonic() < deadline, self.log(house)
            time.sleep(0.1)


class Site(Operator):
    """With a Mosquitto."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        (self.port,) = free_ports(1)
        self.wattbus("enroll", "--broker", LOOPBACK)
        folder = home / "access/brokers"
        conf = MOSQUITTO_CONF.format(port=self.port, folder=folder, home=home)
        (home / "mosquitto.conf").write_text(conf + ("user root\n" if os.geteuid() == 0 else ""))
        apply = home / "access/apply.toml"
        apply.write_text(f'mosquitto_pid_file = "{home}/mosquitto.pid"\n')
        apply.chmod(0o600)

    def lets_in(self, bundle: dict[str, str]) -> bool:
        """Whether the broker takes a bundle's certificate."""
        with suppress(OSError), socket.create_connection((LOOPBACK, self.port), timeout=5) as line:
            link = self.context(bundle).wrap_socket(line, server_hostname=LOOPBACK)
            with link:
                link.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")  # a CONNECT of nobody
                return bool(link.recv(1))  # refused by name, but in words
        return False


class Wall:
    """A dashboard that keeps what it hears."""

    def __init__(self, site: Operator) -> None:
        bundle = site.bundle("dashboard.wall")
        self.readings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._news = threading.Condition()
        self._client = client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        client.username_pw_set("dashboard.wall", bundle["password"])
        client.tls_set_context(site.context(bundle))
        client.on_connect = lambda *_: client.subscribe("wattbus/+/meter/+/reading", qos=1)
        client.on_message = self._hear
        listening = threading.Event()
        client.on_subscribe = lambda *_: listening.set()
        client.reconnect_delay_set(1, 1)
        client.connect(LOOPBACK, site.port)
        client.loop_start()
        assert listening.wait(WAIT_S), "not let in"

    def _hear(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        said = json.loads(message.payload)
        with self._news:
            if message.topic.endswith("/reading"):
                self.readings[said["house"]].append((said["boot"], said["seq"]))
            self._news.notify()

    def wait(self, house: str, more: int) -> None:
        """Until so many readings more have come from a house."""
        with self._news:
            wanted = len(self.readings[house]) + more
            assert self._news.wait_for(lambda: len(self.readings[house]) >= wanted, WAIT_S), house

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if MOSQUITTO is None:
        give_up("mosquitto", "no mosquitto here (Debian: apt-get install mosquitto)")
    made = Site(tmp_path)
    broker = Process([str(MOSQUITTO), "-c", str(tmp_path / "mosquitto.conf")], tmp_path)
    deadline = time.monotonic() + WAIT_S
    while not (tmp_path / "mosquitto.pid").exists() or not (tmp_path / "mosquitto.pid").read_text():
        assert time.monotonic() < deadline, broker.last_words()
        time.sleep(0.05)
    try:
        yield made
    finally:
        broker.stop()


@pytest.mark.timeout(240)
def test_from_enrolment_to_the_end(site: Site) -> None:
    url = f"mqtts://{LOOPBACK}:{site.port}"
    site.wattbus("enroll", "--dashboard", "wall", "--live-url", url, "--apply")
    for house in ("house-d", "house-e"):
        site.wattbus("enroll", house, "--meter", "main", "--der", "battery", "--live-url", url, "--apply")
        site.install(house)
    wall = Wall(site)
    stolen, old = site.bundle("house-d"), site.bundle("house-e")
    assert site.lets_in(stolen)
    with site.meter("house-d") as one, site.meter("house-e") as two:
        wall.wait("house-d", 3)
        wall.wait("house-e", 3)
        commands = b"".join(Path(f"/proc/{process.pid}/cmdline").read_bytes() for process in (one, two))

        begun = time.monotonic()
        site.wattbus("revoke", "house-d", "--apply")
        took_s = site.wait_for_line("house-d", "broker lost") - begun
        assert took_s < 10, f"its live connection was closed after {took_s:.1f} s"
        print(f"closed {took_s:.2f} s after `wattbus revoke` was typed")  # noqa: T201
        assert not site.lets_in(stolen)
        before = len(wall.readings["house-d"])
        wall.wait("house-e", 6)
        assert len(wall.readings["house-d"]) == before
        site.wait_for_line("house-d", "our certificate has been revoked")

        site.wattbus("rotate", "house-e", "--apply")
        wall.wait("house-e", 3)  # the old one counts on
        assert site.lets_in(old)
        code = site.install("house-e")
        two.terminate()  # as `systemctl restart` does
        two.wait(10)
    with site.meter("house-e"):
        wall.wait("house-e", 3)
        site.wattbus("rotate", "house-e", "--finish", code, "--apply")
        assert not site.lets_in(old)
        wall.wait("house-e", 3)
    wall.close()
    for boot in (1, 2):
        seqs = sorted({seq for one_boot, seq in wall.readings["house-e"] if one_boot == boot})
        assert seqs == list(range(1, len(seqs) + 1)), f"boot {boot}: a reading is lost"
    assert "broker lost" not in site.log(
        "house-e"
    )  # neither by what was told to the broker, nor at the end of the old
    _no_secret(site, [stolen, old, site.bundle("house-e")], commands.decode())
    assert {process.returncode for process in (one, two)} == {0}


@pytest.mark.timeout(240)
def test_on_rabbitmq_a_revoked_house_is_cut_off_and_a_rotated_one_goes_on(tmp_path: Path) -> None:
    with operated("rabbitmq", tmp_path) as operator:
        url = f"amqps://{LOOPBACK}:{operator.port}"
        _enroll_two(operator, "--readings-url", url)
        _revoke_one_and_rotate_the_other(operator)


@pytest.mark.timeout(240)
def test_on_hivemq_a_revoked_house_is_cut_off_and_a_rotated_one_goes_on(tmp_path: Path) -> None:
    """With the stores that `wattbus enroll --broker` makes, and our extension's file."""
    with operated("hivemq", tmp_path) as operator:
        url = f"mqtts://{LOOPBACK}:{operator.port}"
        _enroll_two(operator, "--live-url", url)
        operator.wattbus("enroll", "--dashboard", "wall", "--live-url", url, "--apply")
        wall = Wall(operator)  # is let in once HiveMQ has read its list anew, and so are the houses
        _revoke_one_and_rotate_the_other(operator)
        assert wall.readings["house-y"]
        wall.close()


@contextmanager
def operated(name: str, home: Path) -> Iterator[Operator]:
    """An operator with a broker of this kind, who tells it by `--apply`."""
    operator = Operator(home)
    operator.wattbus("enroll", "--broker", LOOPBACK)
    (home / "broker").mkdir()
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(guarded(name, home / "broker", home / "access"))
        except Missing as missing:
            give_up(name, str(missing))
            return
        operator.port = broker.port
        told = {"hivemq_folder": str(home / "broker/extensions/wattbus-access")}
        if name == "rabbitmq":
            told = {"rabbitmq": f"http://{USER}:{PASSWORD}@{LOOPBACK}:{broker.ports['http']}"}
        path = home / "access/apply.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items()))
        path.chmod(0o600)
        yield operator


def _enroll_two(operator: Operator, *urls: str) -> None:
    for house in ("house-x", "house-y"):
        operator.wattbus("enroll", house, "--meter", "main", *urls, "--apply")
        operator.install(house)


def _revoke_one_and_rotate_the_other(operator: Operator) -> None:
    lost = re.compile("broker lost")
    with operator.meter("house-x"), operator.meter("house-y") as other:
        operator.wait_for_sent("house-x")
        operator.wait_for_sent("house-y")
        told = operator.wattbus("check", "--config", str(operator.root / "etc/wattbus/house-y/wattbus.toml"))
        assert "a message went there and back" in told
        begun = time.monotonic()
        operator.wattbus("revoke", "house-x", "--apply")
        took_s = operator.wait_for_line("house-x", lost.pattern) - begun
        assert took_s < 10, f"its live connection was closed after {took_s:.1f} s"
        print(f"closed {took_s:.2f} s after `wattbus revoke` was typed")  # noqa: T201
        operator.wait_for_line("house-x", "refused|not authorized|Not authorized")
        operator.wattbus("rotate", "house-y", "--apply")
        code = operator.install("house-y")
        other.terminate()
        other.wait(10)
    with operator.meter("house-y"):
        operator.wattbus("rotate", "house-y", "--finish", code, "--apply")
        operator.wait_for_sent("house-y")
    assert not lost.search(operator.log("house-y"))


def _no_secret(site: Site, bundles: list[dict[str, str]], commands: str) -> None:
    """Neither in logs, nor in process lists, nor in what was told; in files of mode 0600 alone."""
    secrets = [secret for bundle in bundles for secret in (bundle["password"], bundle["key"].splitlines()[1])]
    shown = site.told + commands
    shown += "".join(path.read_text(errors="replace") for path in site.home.rglob("*.log*"))
    assert not any(secret in shown for secret in secrets)
    for path in site.home.rglob("*"):
        if path.is_file() and path.name != "probe.pem":
            text = path.read_text(errors="replace")
            if any(secret in text for secret in secrets):
                assert path.stat().st_mode & 0o777 == 0o600, path
                assert path.parent.stat().st_mode & 0o077 == 0 or path.suffix == ".bundle", path.parent
