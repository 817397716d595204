"""A site of compose.production.yaml for tests: the server as root works there, and a house's computer."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.compose import REPOSITORY, Stack
from tests.system.test_run import CLEAN

HOUSE = "house-a"
PRODUCTION = REPOSITORY / "examples" / "production"


class Server:
    """The machine of the centre, as root works there.

    Args:
        home: SITE_HOME.
        stack: its containers.
    """

    def __init__(self, home: Path, stack: Stack) -> None:
        self.home, self.stack = home, stack
        self._commands = home.parent / "bin"
        self._commands.mkdir()
        command = self._commands / "wattbus"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m wattbus "$@"\n')
        command.chmod(0o755)

    def run(self, *words: str | Path, **environment: str) -> str:
        done = self.attempt(*words, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def attempt(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """It may fail."""
        env = {
            **CLEAN,
            **self.stack.env,
            "PYTHONPATH": str(REPOSITORY),
            "PATH": f"{self._commands}:{os.environ['PATH']}",
            **environment,
        }
        return subprocess.run(words, cwd=self.home, env=env, capture_output=True, text=True, check=False)

    def tell_brokers(self) -> None:
        self.run(PRODUCTION / "tell-brokers")

    def rows(self) -> list[list[str]]:
        files = sorted(self.home.glob(f"data/{HOUSE}/main/main_*.csv"))
        return [line.split(",") for path in files for line in path.read_text().splitlines()[1:]]


class House:
    """A house's computer: what is installed there, and its meter.

    Args:
        server: whose site it is of.
        root: instead of its `/`.
    """

    def __init__(self, server: Server, root: Path) -> None:
        self.server, self.root = server, root
        self.settings = root / "etc" / "wattbus" / HOUSE
        self._said = root.parent / "meter.err"
        self._meter: subprocess.Popen[bytes] | None = None

    def install(self) -> str:
        """Returns the code of its certificate."""
        told = self.server.run("wattbus", "install", f"{HOUSE}.bundle", "--root", str(self.root))
        found = re.search(r"certificate (\S+) is in place", told)
        assert found, told
        return found[1]

    def start(self) -> None:
        config = self.settings / "wattbus.toml"
        command = [sys.executable, "-m", "meter", "--config", str(config), "--interval-s", "1"]
        env = {**CLEAN, "PYTHONPATH": str(REPOSITORY)}
        with self._said.open("ab") as said:
            self._meter = subprocess.Popen(command, cwd=self.root, env=env, stderr=said)

    def stop(self) -> None:
        if self._meter is not None:
            self._meter.terminate()
            assert self._meter.wait(30) == 0, self._said.read_text()[-2000:]

    def connections(self) -> set[str]:
        """Those its meter has at the brokers, by the kernel's numbers."""
        assert self._meter is not None
        proc = Path(f"/proc/{self._meter.pid}")
        own = {str(fd.readlink()) for fd in proc.glob("fd/*") if fd.is_symlink()}
        ports = {f"{int(self.server.stack.env[name]):04X}" for name in ("RABBITMQ_TLS_PORT", "MQTT_TLS_PORT")}
        lines = [line.split() for line in (proc / "net" / "tcp").read_text().splitlines()[1:]]
        return {
            one[9]
            for one in lines
            if one[2].rpartition(":")[2] in ports and one[3] == "01" and f"socket:[{one[9]}]" in own
        }

    def wait_for_readings(self) -> None:
        begun = len(self.server.rows())
        self.server.stack.wait_for("rows of the house", lambda: len(self.server.rows()) > begun + 1, 60)

    def wait_until_cut_off(self, before: set[str]) -> None:
        """Until none of these connections is left."""
        self.server.stack.wait_for("its connections end", lambda: not before & self.connections(), 60)
