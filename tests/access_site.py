"""A site with accounts of every role, and real brokers that let in nobody else, over TLS.

As in tests/brokers.py: a container where Docker answers, else this machine's own program. Both read their files in
one folder of the test's, so that what changes there changes at the broker.
"""

import base64
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from testcontainers.core.container import DockerContainer

from runtime.clock import SystemClock
from tests.broker_life import LOOPBACK, PASSWORD, USER, Container, Life, Process, free_ports, last_line
from tests.brokers import (
    HIVEMQ,
    IMAGES,
    RABBITMQ_BIN,
    READY_S,
    Missing,
    give_up,
    provide_image,
    started,
)
from wattbus.access import hivemq, mosquitto, rabbitmq
from wattbus.access.authority import client_identity, new_authority, server_identity
from wattbus.access.identity import Identity
from wattbus.access.password import Verifier, new_password, verifier_of
from wattbus.access.roles import (
    SERVICES,
    Account,
    Devices,
    house_account,
    operator_account,
    owner_of,
    plant_account,
    service_account,
    viewer_account,
)

PROBER = "prober"
"""A user of the tests' own who may do everything."""
HIVEMQ_ACCESS = Path(__file__).parents[1] / "examples" / "hivemq-access"
A_DAY_S = 86400.0

DEVICES = Devices(("main",), ("battery",))


def accounts() -> list[Account]:
    """One of each role, and a second house."""
    return [
        house_account("house-d", DEVICES),
        house_account("house-e", DEVICES),
        *(service_account(name) for name in SERVICES),
        plant_account("plant-p"),
        viewer_account("wall"),
        operator_account("ann"),
    ]


def client_of(account: Account) -> str:
    """A client id that the account may use."""
    return account.clients[0].replace("*", f"probe-{account.name.replace('.', '-')}")


class Site:
    """Everybody's certificates and passwords, in a folder that the brokers may read.

    Args:
        folder: it.
        access: an operator's, whose authority it is then, and whose stores HiveMQ has.
    """

    def __init__(self, folder: Path, access: Path | None) -> None:
        self.folder = folder
        folder.chmod(0o755)
        self.now = SystemClock().now()
        if access is None:
            self.authority = new_authority("test", self.now)
        else:
            self.authority = Identity((access / "ca.crt").read_bytes(), (access / "ca.key").read_bytes())
        self.ca = self.write("ca.crt", self.authority.certificate)
        self.passwords: dict[str, str] = {}
        self.users: dict[str, tuple[Account, Verifier]] = {}
        for account in accounts():
            self.enroll(account)
        self.identity(PROBER)
        server = server_identity(self.authority, [LOOPBACK], self.now)
        self.write("server.crt", server.certificate)
        self.write("server.key", server.key)
        self.stores = hivemq.key_store(server), hivemq.trust_store(self.authority.certificate)
        if access is not None:
            brokers = access / "brokers"
            self.stores = (brokers / f"{LOOPBACK}.p12").read_bytes(), (brokers / "trust.p12").read_bytes()

    def enroll(self, account: Account) -> None:
        self.identity(account.name)
        self.passwords[account.name] = new_password()
        self.users[account.name] = (account, verifier_of(self.passwords[account.name]))

    def revoke(self, user: str) -> None:
        del self.users[user]

    def identity(
        self, name: str, *, authority: Identity | None = None, age_days: float = 0, at: str = ""
    ) -> Path:
        """A certificate and its key in one file."""
        made = client_identity(authority or self.authority, name, self.now.after(-age_days * A_DAY_S))
        return self.write(f"{at or name}.pem", made.pem)

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content)  # the same file, which a container may hold on to
        path.chmod(0o644)
        return path

    def context(self, user: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.folder / f"{user}.pem")
        return context


@dataclass
class Guarded:
    """A broker that lets in the site's accounts alone."""

    name: str
    site: Site
    ports: Mapping[str, int]
    life: Life = field(init=False)

    @property
    def port(self) -> int:
        return self.ports["tls"]

    def url(self, user: str, *, cert: str | None = None, host: str = LOOPBACK, ca: Path | None = None) -> str:
        """Of the broker, for this user's transport."""
        files = f"?ca={ca or self.site.ca}&cert={self.site.folder / (cert or user)}.pem"
        if self.name == "rabbitmq":
            return f"amqps://{host}:{self.port}/{files}&account={owner_of(user)}"
        login = ""
        if self.name == "mosquitto":
            login = f"{mosquitto.login(self.site.users[user][0])}:{self.site.passwords[user]}@"
        return f"mqtts://{login}{host}:{self.port}{files}"

    def login(self, user: str, client: str) -> tuple[str, str | None]:
        """The name and password of an MQTT CONNECT."""
        if user == PROBER:
            return PROBER, PASSWORD
        account = self.site.users[user][0]
        return mosquitto.login(account).format(client=client), self.site.passwords[user]

    def apply(self) -> None:
        """Have the broker know who of the site's users counts now."""
        users = self.site.users.values()
        match self.name:
            case "mosquitto":
                files = mosquitto.files(users)
                prober = verifier_of(PASSWORD).mosquitto
                self.site.write("passwords", files.passwords + f"{PROBER}:{prober}\n".encode())
                self.site.write("acl", files.acl + f"user {PROBER}\ntopic readwrite #\n".encode())
            case "hivemq":
                everything = "".join(f"{what}\n" for what in ("client *", "retain #", "subscribe #"))
                extra = f"user {PROBER}\n{everything}".encode()
                rules = extra + hivemq.access_file(users)
                self.site.write(f"extensions/wattbus-access/{hivemq.FILE}", rules)
            case _:
                self.site.write("definitions.json", rabbitmq.definitions(users))

    def reload(self) -> None:
        """As the operator does once the files have changed."""
        self.apply()
        if self.name == "mosquitto":
            if isinstance(self.life, Container):
                self.life.container.kill(signal="SIGHUP")
            else:
                assert isinstance(self.life, Process)
                os.kill(self.life.process.pid, signal.SIGHUP)
        elif self.name == "rabbitmq":
            self.management.load((self.site.folder / "definitions.json").read_bytes())

    def asked(self, path: str) -> Any:
        """What RabbitMQ's management tells."""
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = Request(
            f"http://{LOOPBACK}:{self.ports['http']}/api/{path}", headers={"Authorization": f"Basic {login}"}
        )
        with urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.loads(answer.read())

    @property
    def management(self) -> rabbitmq.Management:
        return rabbitmq.Management(f"http://{USER}:{PASSWORD}@{LOOPBACK}:{self.ports['http']}")

    def wait(self) -> None:
        deadline = time.monotonic() + READY_S
        while not self._answers():
            if (words := self.life.last_words()) is not None:
                raise Missing(f"{self.name} stopped while starting; its log ends: {words}")
            if time.monotonic() > deadline:
                raise Missing(f"{self.name} did not answer in {READY_S:g} s")
            time.sleep(0.2)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((LOOPBACK, self.port), timeout=5) as line:
            context = self.site.context(PROBER)
            with context.wrap_socket(line, server_hostname=LOOPBACK):
                if self.name != "rabbitmq":
                    return True
                with suppress(URLError), urlopen(f"http://{LOOPBACK}:{self.ports['http']}", timeout=5):
                    return True
        return False


MOSQUITTO_CONF = """\
listener {port} {address}
cafile {home}/ca.crt
certfile {home}/server.crt
keyfile {home}/server.key
require_certificate true
use_username_as_clientid true
tls_version tlsv1.2
allow_anonymous false
password_file {home}/passwords
acl_file {home}/acl
persistence false
user root
"""
RABBITMQ_CONF = f"""\
listeners.tcp = none
listeners.ssl.1 = {{address}}:{{port}}
ssl_options.cacertfile = {{home}}/ca.crt
ssl_options.certfile = {{home}}/server.crt
ssl_options.keyfile = {{home}}/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_options.versions.1 = tlsv1.2
ssl_options.versions.2 = tlsv1.3
auth_mechanisms.1 = EXTERNAL
auth_mechanisms.2 = PLAIN
ssl_cert_login_from = common_name
management.tcp.ip = {{address}}
management.tcp.port = {{http}}
default_user = {USER}
default_pass = {PASSWORD}
loopback_users = none
log.console = true
"""
HIVEMQ_CONF = """\
<?xml version="1.0"?>
<hivemq>
  <listeners>
    <tls-tcp-listener>
      <port>{port}</port>
      <bind-address>{address}</bind-address>
      <tls>
        <protocols><protocol>TLSv1.2</protocol><protocol>TLSv1.3</protocol></protocols>
        <keystore>
          <path>{inside}/conf/key.p12</path>
          <password>{password}</password>
          <private-key-password>{password}</private-key-password>
        </keystore>
        <truststore><path>{inside}/conf/trust.p12</path><password>{password}</password></truststore>
        <client-authentication-mode>REQUIRED</client-authentication-mode>
      </tls>
    </tls-tcp-listener>
  </listeners>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
</hivemq>
"""
PLUGINS = "[rabbitmq_management,rabbitmq_auth_mechanism_ssl]."


@contextmanager
def guarded(name: str, folder: Path, access: Path | None = None) -> Iterator[Guarded]:
    """A broker of the test's own.

    Args:
        name: which.
        folder: its files'.
        access: of an operator whose commands it is for, if there is one.

    Raises:
        Missing: neither Docker nor this machine can give it.
    """
    site = Site(folder, access)
    tls, http = free_ports(2)
    broker = Guarded(name, site, {"tls": tls, **({"http": http} if name == "rabbitmq" else {})})
    broker.apply()
    with ExitStack() as stack:
        try:
            image = os.environ.get(IMAGES[name][0]) or IMAGES[name][1]
            provide_image(image)
            how = f"image {image}"
            _configure(broker, "0.0.0.0", "/opt/hivemq")  # noqa: S104 - of the container
            broker.life = stack.enter_context(_container(broker, image))
        except Missing:
            how = f"this machine's own {name}"
            _configure(broker, LOOPBACK, str(folder))
            broker.life = stack.enter_context(_process(broker))
        begun = time.monotonic()
        broker.wait()
        if name == "rabbitmq":
            broker.reload()
        started.append(f"{name} with TLS: {how}, ready in {time.monotonic() - begun:.1f} s")
        yield broker


def _configure(broker: Guarded, address: str, inside: str) -> None:
    site = broker.site
    values = {**broker.ports, "port": broker.port, "address": address, "home": site.folder, "inside": inside}
    match broker.name:
        case "mosquitto":
            site.write("mosquitto.conf", MOSQUITTO_CONF.format(**values).encode())
        case "rabbitmq":
            site.write("rabbitmq.conf", RABBITMQ_CONF.format(**values).encode())
            site.write("enabled_plugins", PLUGINS.encode())
        case _:
            site.write(
                "conf/config.xml", HIVEMQ_CONF.format(**values, password=hivemq.STORE_PASSWORD).encode()
            )
            for name, store in zip(("key", "trust"), site.stores, strict=True):
                site.write(f"conf/{name}.p12", store)
            jars = _run(HIVEMQ / "jars")
            _run(HIVEMQ_ACCESS / "build", site.folder / "extensions", CLASSPATH=f"{jars}/*")


def _run(program: Path, *arguments: Path, **environment: str) -> str:
    done = subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, **environment},
    )
    if done.returncode:
        raise Missing(f"{program}: {last_line(done.stderr + done.stdout)}")
    return done.stdout.strip()


@contextmanager
def _container(broker: Guarded, image: str) -> Iterator[Life]:
    home = str(broker.site.folder)
    container = DockerContainer(image)
    container.ports.update({f"{port}/tcp": (LOOPBACK, port) for port in broker.ports.values()})
    match broker.name:
        case "mosquitto":
            container.with_volume_mapping(home, home, "ro")
            container.with_command(f"mosquitto -c {home}/mosquitto.conf")
        case "rabbitmq":
            container.with_volume_mapping(home, home, "ro")
            container.with_envs(
                RABBITMQ_CONFIG_FILE=f"{home}/rabbitmq.conf",
                RABBITMQ_ENABLED_PLUGINS_FILE=f"{home}/enabled_plugins",
            )
        case _:
            container.with_kwargs(
                user=str(os.geteuid())
            )  # what `--apply` writes is the folder's owner's alone
            for part in ("conf", "extensions"):
                container.with_volume_mapping(f"{home}/{part}", f"/opt/hivemq/{part}", "ro")
    with container:
        yield Container(container)


@contextmanager
def _process(broker: Guarded) -> Iterator[Life]:
    home = broker.site.folder
    env: dict[str, str] = {}
    with ExitStack() as stack:
        match broker.name:
            case "mosquitto":
                command = ["/usr/sbin/mosquitto", "-c", str(home / "mosquitto.conf")]
            case "hivemq":
                command = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
                command += ["-cp", f"{_run(HIVEMQ / 'jars')}/*", "HiveMq", str(home)]
            case _:
                command = [str(RABBITMQ_BIN) if RABBITMQ_BIN.exists() else "rabbitmq-server"]
                env = _rabbitmq_environment(home)
                (home / "epmd").mkdir()
                epmd = Process(["epmd"], home / "epmd", env)
                stack.callback(epmd.kill)
        try:
            process = Process(command, home, env)
        except OSError as error:
            raise Missing(f"no {broker.name}: start Docker, or install it ({error})") from error
        stack.callback(process.kill)
        yield process


def _rabbitmq_environment(home: Path) -> dict[str, str]:
    """As tests/brokers.py has it: a node apart from any other."""
    distribution, epmd_port = free_ports(2)
    return {
        "HOME": str(home),
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "RUNNING_UNDER_SYSTEMD": "1",
        "RABBITMQ_NODENAME": f"wattbus-{distribution}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
    }


@pytest.fixture(scope="session")
def access_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Guarded]]:
    """Gives a guarded broker by name, started when it is first asked for."""
    there: dict[str, Guarded] = {}
    with ExitStack() as stack:

        def give(name: str) -> Guarded:
            if name not in there:
                folder = tmp_path_factory.mktemp(f"access-{name}")
                try:
                    there[name] = stack.enter_context(guarded(name, folder))
                except Missing as missing:
                    give_up(name, str(missing))
            return there[name]

        yield give
