"""A compose file as a user starts it: a project of its own, on ports of its own."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import docker

from tests.brokers import IMAGES, Missing, give_up, provide_image, started, unique

REPOSITORY = Path(__file__).parents[1]


def provide_images(*brokers: str) -> list[str]:
    """The images of these brokers and of Python, or the test is given up; returns the brokers'."""
    images = [
        os.environ.get(variable) or official for variable, official, _ in map(IMAGES.__getitem__, brokers)
    ]
    try:
        for image in (*images, os.environ.get("PYTHON_IMAGE") or "python:3.12-slim"):
            provide_image(image)
    except Missing as missing:
        give_up("docker", str(missing))
    return images


class Stack:
    """The containers of a compose file.

    Args:
        engine: where they run.
        file: its name in the repository; several, with colons between, lie over each other.
        env: what the file asks the environment for.
    """

    def __init__(self, engine: docker.DockerClient, file: str, env: Mapping[str, str]) -> None:
        self.engine = engine
        self.file = file
        self.project = unique("wattbus-test")
        self.env = {
            **os.environ,
            "COMPOSE_FILE": file,
            "COMPOSE_PROJECT_NAME": self.project,
            "WATTBUS_IMAGE": "wattbus:test",
            **env,
        }

    def compose(self, *arguments: str) -> str:
        done = subprocess.run(
            ["docker", "compose", "--env-file", os.devnull, *arguments],
            cwd=REPOSITORY, env=self.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def up(self, services: set[str], images: list[str]) -> None:
        """Build, start, and wait until these are healthy, and nothing else is there."""
        self.compose("build")
        began = time.monotonic()
        self.compose("up", "--detach")
        wanted = dict.fromkeys(services, "healthy")
        self.wait_for("all are healthy", lambda: self.health() == wanted, 180)
        seconds = time.monotonic() - began
        started.append(f"{self.file}: images {' and '.join(images)}, all healthy in {seconds:.0f} s")

    def containers(self) -> dict[str, docker.models.containers.Container]:
        """The containers by service, the ended ones too."""
        found = self.engine.containers.list(
            all=True, filters={"label": f"com.docker.compose.project={self.project}"}
        )
        return {one.labels["com.docker.compose.service"]: one for one in found}

    def health(self) -> dict[str, str]:
        return {
            service: one.attrs["State"].get("Health", {}).get("Status", "")
            for service, one in self.containers().items()
        }

    def wait_for(self, what: str, happened: Callable[[], object], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not happened():
            logs = "" if time.monotonic() < deadline else self.compose("logs", "--tail", "15")
            assert time.monotonic() < deadline, f"not in {timeout_s:g} s: {what}\n{self.health()}\n{logs}"
            time.sleep(1)

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "10")
