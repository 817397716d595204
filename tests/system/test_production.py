"""compose.production.yaml as docs/deploy.md starts it: certificates alone, and a house's reading gets to the CSV."""

import json
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

from contracts.instant import Instant
from runtime.clock import SystemClock
from tests.brokers import free_ports
from tests.compose import REPOSITORY, Stack, provide_images
from tests.system.test_run import CLEAN
from wattbus.access.authority import client_identity, new_authority, revocation_list, server_identity

SERVICES = ("recorder", "pvsim", "optimizer", "orchestrator")
BROKERS = {"rabbitmq", "mosquitto"}
HOUSE = "house-a"
CONTAINERS_UID = 10001
PEMS = (*SERVICES, HOUSE)

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]  # the first build of the image takes minutes


def make_home(home: Path) -> None:
    """What docs/deploy.md has made below WATTBUS_HOME before the first start."""
    now = Instant.of(SystemClock().now())
    secrets = home / "secrets"
    secrets.mkdir(mode=0o700)
    authority = new_authority("test", now)
    files = {
        "ca.crt": authority.certificate,
        "ca.crl": revocation_list(authority, [], now),
        "broker.pem": server_identity(authority, ["127.0.0.1", "rabbitmq", "mosquitto"], now).pem,
        "stranger.pem": client_identity(new_authority("another", now), "service.recorder", now).pem,
        **{f"{name}.pem": client_identity(authority, name, now).pem for name in PEMS},
    }
    everything = {"vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    definitions = {
        "vhosts": [{"name": "/"}],
        "users": [{"name": name, "password_hash": "", "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": []} for name in PEMS],
        "permissions": [{"user": name, **everything} for name in PEMS],
    }  # fmt: skip
    files["rabbitmq.json"] = json.dumps(definitions).encode()
    files["mosquitto.acl"] = "".join(f"user {name}\ntopic readwrite wattbus/#\n" for name in PEMS).encode()
    for name, content in files.items():
        (secrets / name).write_bytes(content)
        (secrets / name).chmod(0o600)
    for folder in ("rabbitmq", "mosquitto", "data", *(f"state/{name}" for name in SERVICES)):
        (home / folder).mkdir(parents=True)
    shutil.copy(REPOSITORY / "examples" / "neighbourhood.toml", home / "site.toml")
    for path in (home, *home.rglob("*")):
        os.chown(path, CONTAINERS_UID, CONTAINERS_UID)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("production") / "srv"
    folder.mkdir()
    for parent in (folder.parent, folder.parent.parent, folder.parent.parent.parent):
        parent.chmod(0o755)  # pytest's own folders are closed to the containers' user
    make_home(folder)
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
    mine = Stack(docker_engine, "compose.production.yaml", env)
    try:
        mine.up({*SERVICES, *BROKERS}, images)
        yield mine
    finally:
        mine.down()


def test_a_houses_reading_gets_to_the_csv(stack: Stack, home: Path, tmp_path: Path) -> None:
    ca, pem = home / "secrets/ca.crt", home / f"secrets/{HOUSE}.pem"
    amqps, mqtts = stack.env["RABBITMQ_TLS_PORT"], stack.env["MQTT_TLS_PORT"]
    env = {
        **CLEAN,
        "PYTHONPATH": str(REPOSITORY),
        "WATTBUS_READINGS_URL": f"amqps://127.0.0.1:{amqps}/?auth=external&cafile={ca}&certfile={pem}",
        "WATTBUS_LIVE_URL": f"mqtts://127.0.0.1:{mqtts}?ca={ca}&cert={pem}",
    }
    command = [sys.executable, "-m", "meter", "--house", HOUSE, "--interval-s", "1"]
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


def handshake(port: str, ca: Path, pem: Path | None, maximum: ssl.TLSVersion) -> str:
    """What a server says to a client with this certificate: empty if it takes it."""
    context = ssl.create_default_context(cafile=str(ca))
    context.maximum_version = maximum
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
def test_who_has_no_certificate_of_ours_is_refused(stack: Stack, home: Path, port: str) -> None:
    ca, secrets = home / "secrets/ca.crt", home / "secrets"
    newest = ssl.TLSVersion.TLSv1_3
    assert handshake(stack.env[port], ca, secrets / f"{HOUSE}.pem", newest) == ""
    assert handshake(stack.env[port], ca, None, newest)
    assert handshake(stack.env[port], ca, secrets / "stranger.pem", newest)


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
        "import os, socket; print(sorted(os.listdir('/run/secrets'))); s = socket.socket(); s.settimeout(3); "
        "print(s.connect_ex(('192.0.2.1', 443)) != 0)"
    )
    said = stack.compose("exec", "-T", "recorder", "python", "-c", script)
    assert said.splitlines() == ["['ca.crt', 'client.pem']", "True"]


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
