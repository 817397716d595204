"""Real brokers for the tests: RabbitMQ, HiveMQ CE and Mosquitto, started when a test first asks for one.

A container where Docker answers, else this machine's own program, else the test is skipped with one line
that says what to install; a broker named in WATTBUS_REQUIRE_BROKERS fails instead. The images are
RABBITMQ_IMAGE, MOSQUITTO_IMAGE and HIVEMQ_IMAGE, by default the official ones; what really ran is in the
summary. Everything listens on 127.0.0.1, on ports that stay the same over a restart.

The fixtures `rabbitmq`, `hivemq` and `mosquitto` share one broker in the session. A test that breaks its
broker starts its own: `with running("mosquitto") as broker: broker.kill()`.
"""

import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException, ImageNotFound
from testcontainers.core.container import DockerContainer

from tests.broker_life import (
    LOOPBACK,
    PASSWORD,
    USER,
    Container,
    Life,
    Process,
    answers,
    free_ports,
    last_line,
)

READY_S = 90.0
HIVEMQ = Path(__file__).parent / "containers" / "hivemq"
HIVEMQ_CONF = Path(__file__).parents[1] / "examples" / "hivemq.xml"
RABBITMQ_BIN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # Debian's one in PATH wants root and su

# The same settings in a container and out of it: {address}, {home} and the ports differ.
MOSQUITTO_CONF = """\
listener {mqtt} {address}
listener {ws} {address}
protocol websockets
allow_anonymous true
persistence true
persistence_location {home}/
max_queued_messages 1000000
log_type warning
log_type error
"""
RABBITMQ_PLUGINS = "[rabbitmq_management,rabbitmq_mqtt]."
RABBITMQ_CONF = f"""\
listeners.tcp.1 = {LOOPBACK}:{{amqp}}
mqtt.listeners.tcp.1 = {LOOPBACK}:{{mqtt}}
management.tcp.ip = {LOOPBACK}
management.tcp.port = {{http}}
default_user = {USER}
default_pass = {PASSWORD}
log.console = true
"""

started: list[str] = []  # what really ran, for the summary


class Missing(Exception):  # noqa: N818
    """This broker can't be had here; the text says why and what to install."""


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A running broker. Its methods block: in a coroutine, `await asyncio.to_thread(broker.kill)`."""

    name: str
    what: str
    life: Life
    ports: Mapping[str, int]
    user: str = USER
    password: str = PASSWORD
    amqp_url: str | None = None
    mqtt_url: str | None = None
    ws_url: str | None = None

    def kill(self) -> None:
        """As a power cut does."""
        self.life.kill()

    def stop(self) -> None:
        """As an administrator does."""
        self.life.stop()

    def start(self) -> None:
        """After `kill` or `stop`, on the same ports and data; returns when it answers."""
        self.life.start()
        self.wait()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Leave its connections open and answer nothing, until `thaw`."""
        self.life.freeze()

    def thaw(self) -> None:
        self.life.thaw()

    def wait(self, timeout_s: float = READY_S) -> None:
        """Until every listener has answered in its own protocol."""
        deadline = time.monotonic() + timeout_s
        for protocol, port in self.ports.items():
            while not answers(protocol, port):
                if (words := self.life.last_words()) is not None:
                    raise Missing(f"{self.what} stopped while starting; its log ends: {words}")
                if time.monotonic() > deadline:
                    raise Missing(f"{self.what} did not answer {protocol} on port {port} in {timeout_s:g} s")
                time.sleep(0.1)


# --- in a container -----------------------------------------------------------


def docker_client() -> docker.DockerClient:
    """A client of an engine that answers.

    Raises:
        Missing: none does.
    """
    url = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    try:
        if url.startswith("unix://"):  # docker-py leaves a socket open when it cannot connect
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(url.removeprefix("unix://"))
        return docker.from_env(timeout=60)  # asks the engine for its version
    except (DockerException, OSError) as error:
        raise Missing(f"Docker does not answer at {url} ({last_line(str(error))})") from None


def provide_image(image: str) -> None:
    client = docker_client()
    try:
        client.images.get(image)
    except ImageNotFound:
        try:
            client.images.pull(image)
        except DockerException as error:
            raise Missing(f"Docker has no image {image} ({last_line(str(error))})") from None
    finally:
        client.close()


@contextmanager
def _in_container(name: str, ports: Mapping[str, int]) -> Iterator[tuple[str, Life]]:
    variable, official, inside = IMAGES[name]
    image = os.environ.get(variable) or official
    provide_image(image)
    container = DockerContainer(image)
    container.ports.update({f"{inside[protocol]}/tcp": (LOOPBACK, port) for protocol, port in ports.items()})
    match name:
        case "rabbitmq":
            container.with_envs(RABBITMQ_DEFAULT_USER=USER, RABBITMQ_DEFAULT_PASS=PASSWORD)
            container.with_copy_into_container(RABBITMQ_PLUGINS.encode(), "/etc/rabbitmq/enabled_plugins")
        case "hivemq":
            container.with_copy_into_container(HIVEMQ_CONF, "/opt/hivemq/conf/config.xml")
        case _:
            conf = MOSQUITTO_CONF.format(**inside, address="0.0.0.0", home="/mosquitto/data")  # noqa: S104
            container.with_copy_into_container(conf.encode(), "/mosquitto/config/mosquitto.conf")
    with container:
        yield f"image {image}", Container(container)


# Each image: its variable, the official one, and the ports inside.
IMAGES: dict[str, tuple[str, str, dict[str, int]]] = {
    "rabbitmq": ("RABBITMQ_IMAGE", "rabbitmq:4-management", {"amqp": 5672, "mqtt": 1883, "http": 15672}),
    "hivemq": ("HIVEMQ_IMAGE", "hivemq/hivemq-ce", {"mqtt": 1883, "ws": 8000}),
    "mosquitto": ("MOSQUITTO_IMAGE", "eclipse-mosquitto:2", {"mqtt": 1883, "ws": 9001}),
}


# --- as a process -------------------------------------------------------------


def _need(install: str, *programs: str | Path) -> None:
    if absent := [str(program) for program in programs if not shutil.which(program)]:
        raise Missing(f"this machine has no {' and no '.join(absent)}; {install}")


@contextmanager
def _own_mosquitto(home: Path, ports: Mapping[str, int]) -> Iterator[Process]:
    path = f"{os.environ['PATH']}:/usr/sbin"
    program = shutil.which("mosquitto", path=path) or "mosquitto"
    _need("start Docker, or install it (Debian: apt-get install mosquitto)", program)
    conf = home / "mosquitto.conf"
    as_root = "user root\n" if os.geteuid() == 0 else ""  # or it gives up root and then its own data
    conf.write_text(MOSQUITTO_CONF.format(**ports, address=LOOPBACK, home=home) + as_root)
    yield Process([program, "-c", str(conf)], home)


@contextmanager
def _own_hivemq(home: Path, ports: Mapping[str, int]) -> Iterator[Process]:
    _need("start Docker, or install them (Debian: apt install maven default-jdk-headless)", "javac", "mvn")
    resolved = subprocess.run([HIVEMQ / "jars"], capture_output=True, text=True, timeout=600, check=False)
    if resolved.returncode:
        raise Missing(f"Maven cannot resolve HiveMQ CE: {last_line(resolved.stderr + resolved.stdout)}")
    conf = home / "conf" / "config.xml"
    conf.parent.mkdir()
    inside = IMAGES["hivemq"][2]
    text = HIVEMQ_CONF.read_text().replace("0.0.0.0", LOOPBACK)  # noqa: S104
    for protocol, port in ports.items():
        text = text.replace(f"<port>{inside[protocol]}<", f"<port>{port}<")
    conf.write_text(text)
    options = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
    yield Process(["java", *options, "-cp", f"{resolved.stdout.strip()}/*", "HiveMq", str(home)], home)


@contextmanager
def _own_rabbitmq(home: Path, ports: Mapping[str, int]) -> Iterator[Process]:
    """A node apart from any that the machine runs already: own epmd, cookie, ports and folders."""
    program = str(RABBITMQ_BIN) if RABBITMQ_BIN.exists() else "rabbitmq-server"
    _need("start Docker, or install it (Debian: apt-get install rabbitmq-server)", program, "epmd")
    (home / "rabbitmq.conf").write_text(RABBITMQ_CONF.format(**ports))
    (home / "enabled_plugins").write_text(RABBITMQ_PLUGINS)
    (home / "epmd").mkdir()
    distribution, epmd_port = free_ports(2)
    env = {
        "HOME": str(home),
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "RUNNING_UNDER_SYSTEMD": "1",  # no shell between us and the node, to signal it and to reap it
        "RABBITMQ_NODENAME": f"wattbus-{distribution}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
    }
    # Started by us, it is ours to stop: one that the node starts itself would outlive it.
    epmd = Process(["epmd"], home / "epmd", env)
    try:
        yield Process([program], home, env)
    finally:
        epmd.kill()


OWN = {"rabbitmq": _own_rabbitmq, "hivemq": _own_hivemq, "mosquitto": _own_mosquitto}


@contextmanager
def _on_machine(name: str, ports: Mapping[str, int]) -> Iterator[tuple[str, Life]]:
    with ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix=f"wattbus-{name}-", ignore_cleanup_errors=True)
        process = stack.enter_context(OWN[name](Path(stack.enter_context(folder)), ports))
        stack.callback(process.kill)
        yield f"this machine's own {name}", process


# --- either -------------------------------------------------------------------


@contextmanager
def running(name: str) -> Iterator[Broker]:
    """A broker of one's own, for as long as the context lasts.

    Raises:
        Missing: neither Docker nor this machine can give it.
    """
    protocols = IMAGES[name][2]
    ports = dict(zip(protocols, free_ports(len(protocols)), strict=True))
    with ExitStack() as stack:
        try:
            what, life = stack.enter_context(_in_container(name, ports))
        except Missing as no_container:
            try:
                what, life = stack.enter_context(_on_machine(name, ports))
            except Missing as no_program:
                raise Missing(f"no {name}: {no_container}; {no_program}") from None
        login = f"{USER}:{PASSWORD}@{LOOPBACK}" if name == "rabbitmq" else LOOPBACK
        broker = Broker(
            name=name,
            what=what,
            life=life,
            ports=ports,
            amqp_url=f"amqp://{login}:{ports['amqp']}/" if "amqp" in ports else None,
            mqtt_url=f"mqtt://{login}:{ports['mqtt']}",
            ws_url=f"ws://{LOOPBACK}:{ports['ws']}/mqtt" if "ws" in ports else None,
        )
        begun = time.monotonic()
        broker.wait()
        started.append(f"{name}: {what}, ready in {time.monotonic() - begun:.1f} s")
        yield broker


@contextmanager
def vhost(rabbitmq: Broker) -> Iterator[Broker]:
    """The same RabbitMQ seen through a virtual host of one's own, so that queues don't meet."""
    name = unique("test")
    _manage(rabbitmq, "PUT", f"vhosts/{name}")
    _manage(
        rabbitmq,
        "PUT",
        f"permissions/{name}/{rabbitmq.user}",
        {"configure": ".*", "write": ".*", "read": ".*"},
    )
    login = f"{rabbitmq.user}:{rabbitmq.password}@{LOOPBACK}"
    yield replace(
        rabbitmq,
        amqp_url=f"amqp://{login}:{rabbitmq.ports['amqp']}/{name}",
        mqtt_url=f"mqtt://{name}%3A{login}:{rabbitmq.ports['mqtt']}",  # its MQTT user is vhost:user
    )
    _manage(rabbitmq, "DELETE", f"vhosts/{name}")


def _manage(rabbitmq: Broker, method: str, path: str, body: Mapping[str, str] | None = None) -> None:
    login = base64.b64encode(f"{rabbitmq.user}:{rabbitmq.password}".encode()).decode()
    request = urllib.request.Request(
        f"http://{LOOPBACK}:{rabbitmq.ports['http']}/api/{path}",
        method=method,
        data=json.dumps(body or {}).encode(),
        headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30):  # noqa: S310
        pass


def unique(stem: str) -> str:
    """An id that no other test uses: a house, a queue, a virtual host."""
    return f"{stem}-{secrets.token_hex(4)}"


# --- fixtures -----------------------------------------------------------------


def give_up(name: str, why: str) -> None:
    """Skip the test, or fail it where WATTBUS_REQUIRE_BROKERS names what it misses."""
    required = os.environ.get("WATTBUS_REQUIRE_BROKERS", "").replace(" ", "").split(",")
    if name in required:
        pytest.fail(f"WATTBUS_REQUIRE_BROKERS names {name}, but {why}", pytrace=False)
    pytest.skip(why)


@contextmanager
def _shared(name: str) -> Iterator[Broker]:
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(running(name))
        except Missing as missing:
            give_up(name, str(missing))
        else:
            yield broker


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Broker]:
    with _shared("rabbitmq") as broker:
        yield broker


@pytest.fixture(scope="session")
def hivemq() -> Iterator[Broker]:
    with _shared("hivemq") as broker:
        yield broker


@pytest.fixture(scope="session")
def mosquitto() -> Iterator[Broker]:
    with _shared("mosquitto") as broker:
        yield broker


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker.DockerClient]:
    try:
        client = docker_client()
    except Missing as missing:
        give_up("docker", str(missing))
    else:
        yield client
        client.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Which brokers ran: stand-in images are not the official ones, and the reader should know."""
    for line in started:
        terminalreporter.write_line(f"broker {line}")
