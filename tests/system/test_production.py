"""compose.production.yaml as docs/deploy.md has it: certificates alone; houses come, get new keys, and go meanwhile."""

import json
import re
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import docker
import httpx
import pytest
from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from runtime.clock import SystemClock
from tests.brokers import HIVEMQ, free_ports
from tests.compose import REPOSITORY, Stack, provide_images
from tests.production_site import HOUSE, PRODUCTION, House, Server
from wattbus.access.authority import client_identity, new_authority

SERVICES = ("recorder", "pvsim", "optimizer", "orchestrator", "dashboard")
BROKERS = {"rabbitmq", "mqtt"}
CONTAINERS_UID = 10001
TWO_WEEKS_S = 14 * 86400

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]  # the first build of the image takes minutes


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("production") / "srv"
    folder.mkdir()
    for parent in (folder.parent, folder.parent.parent, folder.parent.parent.parent):
        parent.chmod(0o755)  # pytest's own folders are closed to the containers' user
    shutil.copy(PRODUCTION / "site.toml", folder / "site.toml")
    (folder / "site.toml").chmod(0o644)
    return folder


@pytest.fixture(scope="module")
def server(docker_engine: docker.DockerClient, home: Path) -> Iterator[Server]:
    images = provide_images("rabbitmq", "mosquitto", "hivemq")
    amqps, mqtts, page = map(str, free_ports(3))
    env = {
        "SITE_HOME": str(home),
        "SITE_BIND": "127.0.0.1",
        "RABBITMQ_TLS_PORT": amqps,
        "MQTT_TLS_PORT": mqtts,
        "DASHBOARD_PORT": page,
    }
    stack = Stack(docker_engine, "compose.production.yaml", env)
    mine = Server(home, stack)
    mine.run(PRODUCTION / "identities", "127.0.0.1")
    try:
        stack.up({*SERVICES, *BROKERS}, images)
        yield mine
    finally:
        stack.down()


@pytest.fixture(scope="module")
def stack(server: Server) -> Stack:
    return server.stack


@pytest.fixture(scope="module")
def house(server: Server) -> Iterator[House]:
    """Enrolled while everything runs, and its meter at work."""
    amqps, mqtts = server.stack.env["RABBITMQ_TLS_PORT"], server.stack.env["MQTT_TLS_PORT"]
    urls = ("--readings-url", f"amqps://127.0.0.1:{amqps}", "--live-url", f"mqtts://127.0.0.1:{mqtts}")
    server.run("wattbus", "enroll", HOUSE, "--meter", "main", "--der", "battery", *urls)
    server.tell_brokers()
    root = server.home.parent / "house"
    root.mkdir()
    mine = House(server, root)
    mine.install()
    mine.start()
    try:
        yield mine
    finally:
        mine.stop()


def test_a_house_comes_while_the_brokers_run(house: House) -> None:
    house.wait_for_readings()


def shown(stack: Stack) -> str:
    """What the dashboard says first of the house; empty: it is not there."""
    url = f"http://127.0.0.1:{stack.env['DASHBOARD_PORT']}/api/stream"
    with suppress(httpx.TransportError), httpx.stream("GET", url, trust_env=False, timeout=60.0) as stream:
        for line in stream.iter_lines():
            if f'"{HOUSE}"' in line:
                return line
    return ""


def test_the_dashboard_shows_the_house(house: House, stack: Stack) -> None:
    assert shown(stack)


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
    stack: Stack, house: House, port: str, tmp_path: Path
) -> None:
    ca = house.settings / "ca.crt"
    stranger = tmp_path / "stranger.pem"
    now = SystemClock().now()
    stranger.write_bytes(client_identity(new_authority("another", now), "service.recorder", now).pem)
    assert handshake(stack.env[port], ca, house.settings / "client.pem") == ""
    assert handshake(stack.env[port], ca, None)
    assert handshake(stack.env[port], ca, stranger)


def test_identities_do_not_go_on_without_a_key(server: Server, tmp_path: Path) -> None:
    """A file that install refuses: the bundle, the only copy of the new key, stays."""
    settings = tmp_path / "etc" / "wattbus" / "service.recorder" / "wattbus.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("no [toml")
    done = server.attempt(PRODUCTION / "identities", "127.0.0.1", SITE_HOME=str(tmp_path))
    assert done.returncode != 0
    assert str(settings) in done.stderr
    assert (tmp_path / "service.recorder.bundle").exists()
    assert not (settings.parent / ".env").exists()


def test_containers_are_hardened(stack: Stack) -> None:
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
        if ports := {port for port, where in attrs["NetworkSettings"]["Ports"].items() if where}:
            published[service] = ports
    assert published == {"rabbitmq": {"5671/tcp"}, "mqtt": {"8883/tcp"}, "dashboard": {"8080/tcp"}}
    page = containers["dashboard"].attrs["NetworkSettings"]["Ports"]["8080/tcp"]
    assert {where["HostIp"] for where in page} == {"127.0.0.1"}


def test_what_is_secret_is_its_owners_alone(home: Path, stack: Stack) -> None:
    folders = [home / name for name in ("access", "brokers", "etc")]
    modes = {path: path.stat().st_mode for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert [path for path in modes if path.name == "ca.key"]
    assert [path for path, mode in modes.items() if mode & 0o077] == []


def test_a_service_has_no_way_out_and_sees_its_own_key_alone(stack: Stack) -> None:
    script = (
        "import os, socket; print(sorted(os.listdir('/run/wattbus'))); s = socket.socket(); s.settimeout(3); "
        "print(s.connect_ex(('192.0.2.1', 443)) != 0)"
    )
    said = stack.compose("exec", "-T", "recorder", "python", "-c", script)
    assert said.splitlines() == ["['.env', 'ca.crt', 'client.pem', 'code', 'wattbus.toml']", "True"]


def rabbitmqctl(stack: Stack, *words: str) -> str:
    return stack.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", *words)


def test_what_is_too_large_is_refused(stack: Stack) -> None:
    # A house that sent such would otherwise soon have the broker refuse everybody's for want of memory.
    said = rabbitmqctl(stack, "eval", "application:get_env(rabbit, max_message_size).")
    assert said.strip() == "{ok,1100000}"


def test_readings_wait_in_quorum_queues(stack: Stack) -> None:
    listed = rabbitmqctl(stack, "list_queues", "name", "type")
    durable = {
        line.split()[0]: line.split()[1] for line in listed.splitlines()[1:] if line.startswith("wattbus.")
    }
    assert durable == dict.fromkeys(("wattbus.recorder", "wattbus.pvsim", "wattbus.dead"), "quorum")


def test_the_data_outlive_the_containers(house: House, stack: Stack, home: Path) -> None:
    before = {path: path.read_bytes() for path in home.glob("data/house-a/main/*.csv")}
    stack.compose("up", "--detach", "--force-recreate", "--no-deps", "recorder")
    stack.wait_for("the recorder is healthy again", lambda: stack.health()["recorder"] == "healthy", 90)
    assert before
    assert all(path.read_bytes().startswith(content) for path, content in before.items())


def test_a_house_gets_a_new_key_and_the_old_one_ends(server: Server, house: House) -> None:
    old = house.connections()
    assert len(old) == 2
    server.run("wattbus", "rotate", HOUSE)
    server.tell_brokers()
    code = house.install()
    assert house.connections() == old  # its meter knows nothing of it yet: the old one counts beside the new
    server.run("wattbus", "rotate", HOUSE, "--finish", code)
    server.tell_brokers()
    house.wait_until_cut_off(old)
    house.stop()
    house.start()
    house.wait_for_readings()


def ways_of(stack: Stack, exchange: str) -> set[tuple[str, ...]]:
    """What leads from it to other exchanges, and to it: source, target, key."""
    columns = ("source_name", "destination_name", "routing_key")
    lines = rabbitmqctl(stack, "list_bindings", "--no-table-headers", *columns).splitlines()
    return {way for line in lines if exchange in (way := tuple(line.split("\t")))[:2]}


def test_a_broker_that_is_away_keeps_nothing_from_the_other(
    server: Server, house: House, stack: Stack
) -> None:
    """The house has no battery any more; a thief has led what all hear to its exchange; Mosquitto is down."""
    own = f"wattbus.from.house.{HOUSE}"
    made = ("wattbus", own, "wattbus.site.bus.*.get")
    ends = [f'{{resource, <<"/">>, exchange, <<"{name}">>}}' for name in made[:2]]
    way = f'{{binding, {ends[0]}, <<"{made[2]}">>, {ends[1]}, [{{<<"a">>, longstr, <<"b">>}}]}}'
    rabbitmqctl(stack, "eval", f'ok = rabbit_binding:add({way}, <<"thief">>).')
    rabbitmqctl(stack, "add_user", "admin", "of-no-use-elsewhere")
    of_battery = (own, "wattbus", f"wattbus.{HOUSE}.der.battery.telemetry")
    assert {made, of_battery} <= ways_of(stack, own)
    stack.compose("stop", "mqtt")
    server.run("wattbus", "enroll", HOUSE, "--meter", "main")
    told = server.attempt(PRODUCTION / "tell-brokers")
    assert told.returncode == 1
    assert "tell-brokers: not told: mqtt:" in told.stderr
    left = ways_of(stack, own)
    assert left.isdisjoint({made, of_battery})
    assert (own, "wattbus", f"wattbus.{HOUSE}.meter.main.status") in left
    users = {line.split()[0] for line in rabbitmqctl(stack, "list_users").splitlines()[1:]}
    assert {"admin", f"house.{HOUSE}.2", f"house.{HOUSE}.3"} <= users
    stack.compose("up", "--detach", "--wait", "--no-deps", "mqtt")
    server.tell_brokers()
    house.wait_for_readings()


def session_kept_s(home: Path, port: str) -> int:
    """What the MQTT broker makes of a wish to be remembered for ever [s]."""
    answered: list[int] = []
    client = Client(CallbackAPIVersion.VERSION2, client_id="check-dashboard-main", protocol=MQTTv5)
    own = home / "etc" / "wattbus" / "dashboard.main"
    client.tls_set(str(own / "ca.crt"), str(own / "client.pem"))
    wish = Properties(PacketTypes.CONNECT)
    wish.SessionExpiryInterval = 0xFFFFFFFF

    def take(_client: Client, _userdata: object, _flags: object, _reason: object, said: Properties) -> None:
        answered.append(said.SessionExpiryInterval)
        client.disconnect()

    client.on_connect = take
    client.connect("127.0.0.1", int(port), clean_start=True, properties=wish)
    client.loop_forever()
    return answered[0]


def test_hivemq_takes_mosquittos_place(server: Server, house: House, stack: Stack) -> None:
    jars = server.run(HIVEMQ / "jars").strip()
    build = REPOSITORY / "examples" / "hivemq-access" / "build"
    server.run(build, server.home / "extensions", CLASSPATH=f"{jars}/*")
    stack.env["COMPOSE_FILE"] += ":compose.hivemq.yaml"
    stack.compose("up", "--detach", "--wait", "--no-deps", "mqtt")
    # What it has heard before is forgotten: all that it shows now came through HiveMQ.
    stack.compose("restart", "dashboard")
    stack.wait_for("the house is shown again", lambda: shown(stack), 60)
    one = stack.containers()["mqtt"].attrs
    assert one["HostConfig"]["ReadonlyRootfs"]
    assert one["Config"]["User"] == f"{CONTAINERS_UID}:{CONTAINERS_UID}"
    house.wait_for_readings()
    # It has each queue on its disk: nobody may leave one there for ever.
    assert session_kept_s(server.home, stack.env["MQTT_TLS_PORT"]) == TWO_WEEKS_S


def test_a_revoked_house_is_cut_off(server: Server, house: House, stack: Stack) -> None:
    stack.wait_for("both brokers have it", lambda: len(house.connections()) == 2, 60)
    old = house.connections()
    server.run("wattbus", "revoke", HOUSE)
    server.tell_brokers()
    house.wait_until_cut_off(old)
    last = len(server.rows())
    time.sleep(3)
    assert len(server.rows()) == last
    stack.wait_for("all others are well", lambda: set(stack.health().values()) == {"healthy"}, 60)


def test_no_secret_is_in_a_log_a_command_or_the_image(house: House, stack: Stack, home: Path) -> None:
    settings = [*home.glob("etc/wattbus/*/.env"), house.settings / "wattbus.toml"]
    secrets = {found for path in settings for found in re.findall(r"//[^:/]*:([^@]+)@", path.read_text())}
    keys = [*home.glob("etc/wattbus/*/client.pem"), home / "access" / "ca.key", house.settings / "client.pem"]
    for path in keys:
        secrets |= set(re.findall(r"-{5}BEGIN PRIVATE KEY-{5}\n(\S+)", path.read_text()))
    assert len(secrets) == len(settings) + len(keys)
    for service, one in stack.containers().items():
        shown = one.logs().decode() + json.dumps(one.attrs) + json.dumps(one.image.history())
        assert not [secret for secret in secrets if secret in shown], service
