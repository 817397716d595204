"""What keeps a test's broker alive, a container or a process, and whether it answers."""

import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

from testcontainers.core.container import DockerContainer

LOOPBACK = "127.0.0.1"
USER, PASSWORD = "wattbus", "of-no-use-elsewhere"


class Life(Protocol):
    """What keeps a broker alive: a container or a process."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def last_words(self) -> str | None:
        """The end of its log, if it is no longer running."""
        ...


class Container:
    """A broker in Docker."""

    def __init__(self, container: DockerContainer) -> None:
        self.container = container.get_wrapped_container()

    def start(self) -> None:
        self.container.start()

    def stop(self) -> None:
        self.container.stop(timeout=20)

    def kill(self) -> None:
        self.container.kill()

    def freeze(self) -> None:
        self.container.pause()

    def thaw(self) -> None:
        self.container.unpause()

    def last_words(self) -> str | None:
        self.container.reload()
        if self.container.status == "running":
            return None
        return last_line(self.container.logs(tail=5).decode(errors="replace"))


class Process:
    """A broker of this machine's own, in a session of its own."""

    def __init__(self, command: Sequence[str], home: Path, env: Mapping[str, str] | None = None) -> None:
        self.command, self.env = command, {**os.environ, **(env or {})}
        self.log = home / "broker.log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def stop(self) -> None:
        self._signal(signal.SIGTERM)
        self.process.wait(30)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self.process.wait(10)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def last_words(self) -> str | None:
        return None if self.process.poll() is None else last_line(self.log.read_text(errors="replace"))


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing"])[-1].strip()[:300]


_WS_UPGRADE = b"\r\n".join(
    (
        b"GET /mqtt HTTP/1.1",
        b"Host: localhost",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        b"Sec-WebSocket-Protocol: mqtt",
        b"\r\n",
    )
)


def _mqtt_connect() -> bytes:
    """An MQTT 3.1.1 CONNECT with user and password, which all three brokers accept."""
    fields = (b"probe-" + secrets.token_hex(4).encode(), USER.encode(), PASSWORD.encode())
    body = b"\x00\x04MQTT\x04\xc2\x00\x0a" + b"".join(len(f).to_bytes(2) + f for f in fields)
    return bytes([0x10, len(body)]) + body


def answers(protocol: str, port: int) -> bool:
    """Whether a broker speaks the protocol there: an open port alone may be Docker's proxy."""
    hello, reply = {
        "amqp": (b"AMQP\x00\x00\x09\x01", b"\x01"),
        "mqtt": (_mqtt_connect(), b"\x20\x02\x00\x00"),
        "ws": (_WS_UPGRADE, b"HTTP/1.1 101"),
        "http": (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1."),
    }[protocol]
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=5) as connection:
        connection.sendall(hello)
        return connection.recv(len(reply), socket.MSG_WAITALL) == reply
    return False


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]
