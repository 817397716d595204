"""compose.production.yaml as docs/deploy.md starts it: certificates alone, and a house's reading gets to the CSV."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from runtime.clock import SystemClock
from tests.brokers import free_ports
from tests.compose import REPOSITORY, Stack, provide_images
from tests.system.test_run import CLEAN
from wattbus.access.authority import client_identity, new_authority

SERVICES = ("recorder", "pvsim", "optimizer", "orchestrator")
BROKERS = {"rabbitmq", "mosquitto"}
HOUSE = "house-a"
CONTAINERS_UID = 10001

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]  # the first build of the image takes minutes


def make_home(home: Path, amqps: str, mqtts: str) -> None:
    """What docs/deploy.md has made below WATTBUS_HOME before the first start, and a first house's bundle."""
    commands = home.parent / "bin"
    commands.mkdir()
    command = commands / "wattbus"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m wattbus "$@"\n')
    command.chmod(0o755)
    env = {
        **CLEAN,
        "PYTHONPATH": str(REPOSITORY),
        "WATTBUS_HOME": str(home),
        "PATH": f"{commands}:{os.environ['PATH']}",
    }

    def run(*words: str) -> None:
        done = subprocess.run(words, cwd=home, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    urls = ("--readings-url", f"amqps://127.0.0.1:{amqps}", "--live-url", f"mqtts://127.0.0.1:{mqtts}")
    run("wattbus", "enroll", HOUSE, "--meter", "main", "--der", "battery", *urls)
    run("wattbus", "install", f"{HOUSE}.bundle", "--root", str(home.parent / "house"))
    run(str(REPOSITORY / "examples" / "production" / "identities"), "rabbitmq,mosquitto,127.0.0.1")
    shutil.copy(REPOSITORY / "examples" / "production" / "site.toml", home / "site.toml")
    (home / "site.toml").chmod(0o644)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("production") / "srv"
    folder.mkdir()
    for parent in (folder.parent, folder.parent.parent, folder.parent.parent.parent):
        parent.chmod(0o755)  # pytest's own folders are closed to the containers' user
    return folder


@pytest.fixture(scope="module")
def stack(docker_engine: docker.DockerClient, home: Path) -> Iterator[Stack]:
    images = provide_images("rabbitmq", "mosquitto")
    amqps, mqtts = map(str, free_ports(2))
    env = {
        "WATTBUS_HOME": str(home),
        "WATTBUS_BIND": "127.0.0.1",
        "RABBITMQ_TLS_PORT": amqps,
        "MQTT_TLS_PORT": mqtts,
    }
    make_home(home, amqps, mqtts)
    mine = Stack(docker_engine, "compose.production.yaml", env)
    try:
        mine.up({*SERVICES, *BROKERS}, images)
        yield mine
    finally:
        mine.down()


def test_a_houses_reading_gets_to_the_csv(stack: Stack, home: Path, tmp_path: Path) -> None:
    config = home.parent / "house" / "etc" / "wattbus" / HOUSE / "wattbus.toml"
    command = [sys.executable, "-m", "meter", "--config", str(config), "--interval-s", "1"]
    env = {**CLEAN, "PYTHONPATH": str(REPOSITORY)}
    with (tmp_path / "stderr").open("w") as stderr, subprocess.Popen(command, cwd=tmp_path, env=env, stderr=stderr) as meter:  # fmt: skip
        try:
            stack.wait_for(
                "five rows of the house",
                lambda: (
                    sum(len(p.read_text().splitlines()) for p in home.glob("data/house-a/main/*.csv")) > 5
                ),
                60,
            )
        finally:
            meter.terminate()
    assert meter.returncode == 0, (tmp_path / "stderr").read_text()


def handshake(port: str, ca: Path, pem: Path | None) -> str:
    """What a server says to a client with this certificate: empty if it takes it."""
    context = ssl.create_default_context(cafile=str(ca))
    if pem is not None:
        context.load_cert_chain(pem)
    try:
        with socket.create_connection(("127.0.0.1", int(port)), 5) as raw, context.wrap_socket(raw, server_hostname="127.0.0.1") as tls:  # fmt: skip
            tls.settimeout(2)
            return "" if tls.recv(1) else "closed"  # TLS 1.3 refuses a client after the handshake
    except TimeoutError:
        return ""
    except OSError as error:
        return str(error) or "closed"


@pytest.mark.parametrize("port", ["RABBITMQ_TLS_PORT", "MQTT_TLS_PORT"])
def test_who_has_no_certificate_of_ours_is_refused(
    stack: Stack, home: Path, port: str, tmp_path: Path
) -> None:
    ca, house = home / "brokers" / "ca.crt", home.parent / "house" / "etc" / "wattbus" / HOUSE
    stranger = tmp_path / "stranger.pem"
    now = SystemClock().now()
    stranger.write_bytes(client_identity(new_authority("another", now), "service.recorder", now).pem)
    assert handshake(stack.env[port], ca, house / "client.pem") == ""
    assert handshake(stack.env[port], ca, None)
    assert handshake(stack.env[port], ca, stranger)


def test_containers_are_hardened_and_keep_no_secret(stack: Stack) -> None:
    containers = stack.containers()
    published = {}
    for service, one in containers.items():
        attrs = one.attrs
        host, config = attrs["HostConfig"], attrs["Config"]
        assert config["User"] == f"{CONTAINERS_UID}:{CONTAINERS_UID}", service
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        assert host["RestartPolicy"]["Name"] == "unless-stopped", service
        assert host["Memory"] > 0, service
        assert host["PidsLimit"] > 0, service
        assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "5"}, service
        assert not [line for line in config["Env"] if "PRIVATE" in line or "PASS" in line], service
        if ports := {port for port, where in attrs["NetworkSettings"]["Ports"].items() if where}:
            published[service] = ports
    assert published == {"rabbitmq": {"5671/tcp"}, "mosquitto": {"8883/tcp"}}


def test_a_service_has_no_way_out_and_sees_its_own_key_alone(stack: Stack) -> None:
    script = (
        "import os, socket; print(sorted(os.listdir('/run/wattbus'))); s = socket.socket(); s.settimeout(3); "
        "print(s.connect_ex(('192.0.2.1', 443)) != 0)"
    )
    said = stack.compose("exec", "-T", "recorder", "python", "-c", script)
    assert said.splitlines() == ["['.env', 'ca.crt', 'client.pem', 'wattbus.toml']", "True"]


def test_readings_wait_in_quorum_queues(stack: Stack) -> None:
    listed = stack.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", "list_queues", "name", "type")
    durable = {
        line.split()[0]: line.split()[1] for line in listed.splitlines()[1:] if line.startswith("wattbus.")
    }
    assert durable == dict.fromkeys(("wattbus.recorder", "wattbus.pvsim", "wattbus.dead"), "quorum")


def test_the_data_outlive_the_containers(stack: Stack, home: Path) -> None:
    before = {path: path.read_bytes() for path in home.glob("data/house-a/main/*.csv")}
    stack.compose("up", "--detach", "--force-recreate", "--no-deps", "recorder")
    stack.wait_for("the recorder is healthy again", lambda: stack.health()["recorder"] == "healthy", 90)
    assert before
    assert all(path.read_bytes().startswith(content) for path, content in before.items())
