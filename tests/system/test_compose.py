"""`docker compose up`, as a user starts it: every service healthy, readings on HiveMQ, rows in the recorder's volume."""

import csv
import json
import os
import queue
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import httpx
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.brokers import IMAGES, Missing, free_ports, give_up, provide_image, started, unique

REPOSITORY = Path(__file__).parents[2]
SERVICES = {
    *("meter-a", "meter-b", "meter-c", "pvsim", "der-a", "der-b", "der-c"),
    *("optimizer", "orchestrator", "recorder"),
}
HOUSES = {"house-a", "house-b", "house-c"}

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]  # the first build of the image takes minutes


class Stack:
    """A project of its own, on ports of its own."""

    def __init__(self, engine: docker.DockerClient) -> None:
        self.engine = engine
        self.project = unique("wattbus-test")
        self.mqtt_port, amqp, management, self.optimizer_port = free_ports(4)
        self.env = {
            **os.environ,
            "WATTBUS_IMAGE": "wattbus:test",
            "HIVEMQ_PORT": str(self.mqtt_port),
            "RABBITMQ_PORT": str(amqp),
            "RABBITMQ_MANAGEMENT_PORT": str(management),
            "OPTIMIZER_PORT": str(self.optimizer_port),
            "RABBITMQ_PASSWORD": unique("password"),
        }

    def compose(self, *arguments: str) -> str:
        command = ["docker", "compose", "--env-file", os.devnull, "--project-name", self.project, *arguments]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def health(self) -> dict[str, str]:
        found = self.engine.containers.list(
            all=True, filters={"label": f"com.docker.compose.project={self.project}"}
        )
        return {
            one.labels["com.docker.compose.service"]: one.attrs["State"].get("Health", {}).get("Status", "")
            for one in found
        }

    def wait_for(self, what: str, happened: Callable[[], object], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not happened():
            logs = "" if time.monotonic() < deadline else self.compose("logs", "--tail", "15")
            assert time.monotonic() < deadline, f"not in {timeout_s:g} s: {what}\n{self.health()}\n{logs}"
            time.sleep(1)


@pytest.fixture(scope="module")
def stack(docker_engine: docker.DockerClient) -> Iterator[Stack]:
    brokers = [IMAGES[name] for name in ("rabbitmq", "hivemq")]
    images = [os.environ.get(variable) or official for variable, official, _ in brokers]
    try:
        for image in (*images, os.environ.get("PYTHON_IMAGE") or "python:3.12-slim"):
            provide_image(image)
    except Missing as missing:
        give_up("docker", str(missing))
    mine = Stack(docker_engine)
    try:
        mine.compose("build")
        began = time.monotonic()
        mine.compose("up", "--detach")
        wanted = dict.fromkeys({*SERVICES, "rabbitmq", "hivemq"}, "healthy")
        mine.wait_for("all are healthy", lambda: mine.health() == wanted, 180)
        seconds = time.monotonic() - began
        started.append(f"compose.yaml: images {' and '.join(images)}, all healthy in {seconds:.0f} s")
        yield mine
    finally:
        mine.compose("down", "--volumes", "--timeout", "10")


def rows(stack: Stack) -> dict[str, list[dict[str, str]]]:
    """What the recorder wrote, by house."""
    found: dict[str, list[dict[str, str]]] = {}
    for house in HOUSES:
        text = stack.compose(
            "exec", "-T", "recorder", "sh", "-c", f"cat DATA/{house}/main/main_*.csv || true"
        )
        found[house] = list(csv.DictReader(text.splitlines()))
    return found


def test_readings_and_acknowledged_commands_are_seen_on_hivemq(stack: Stack) -> None:
    seen: queue.Queue[tuple[str, dict[str, object]]] = queue.Queue()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_connect = lambda *_: client.subscribe(
        [("wattbus/+/meter/+/reading", 1), ("wattbus/+/der/+/ack", 1)]
    )
    client.on_message = lambda _, __, message: seen.put((message.topic, json.loads(message.payload)))
    client.connect("127.0.0.1", stack.mqtt_port)
    client.loop_start()
    metered: set[object] = set()
    obeyed: set[object] = set()

    def everywhere() -> bool:
        while not seen.empty():
            topic, message = seen.get()
            if topic.endswith("/reading"):
                metered.add(message["house"])
            elif message["result"] == "accepted":
                obeyed.add(message["house"])
        return metered == HOUSES == obeyed

    try:
        stack.wait_for("a reading and an accepted command of each house", everywhere, 90)
    finally:
        client.disconnect()
        client.loop_stop()


def test_the_optimizer_answers_on_this_machine(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.optimizer_port}/api/mpc/status"

    def planned() -> bool:
        status = httpx.get(url, trust_env=False, timeout=10.0).json()
        return {battery["house"] for battery in status["batteries"]} == HOUSES

    stack.wait_for("a plan of each house", planned, 90)


def test_rows_are_written_and_survive_new_containers(stack: Stack) -> None:
    stack.wait_for("two rows of each house", lambda: all(len(r) >= 2 for r in rows(stack).values()), 60)
    before = rows(stack)
    assert all(float(row["sum_w"]) >= float(row["meter_w"]) for row in before["house-a"])
    stack.compose("up", "--detach", "--force-recreate", "--no-deps", "recorder", "meter-a")
    stack.wait_for("a row of the meter's next life", lambda: rows(stack)["house-a"][-1]["boot"] == "2", 90)
    after = rows(stack)
    for house in HOUSES:
        assert after[house][: len(before[house])] == before[house]
        identities = [(row["boot"], row["seq"]) for row in after[house]]
        assert len(set(identities)) == len(identities)


def test_services_end_cleanly_and_as_nobody_special(stack: Stack) -> None:
    assert "uid=0" not in stack.compose("exec", "-T", "recorder", "id")
    began = time.monotonic()
    stack.compose("stop", *sorted(SERVICES))
    assert time.monotonic() - began < 20
    for one in stack.engine.containers.list(
        all=True, filters={"label": f"com.docker.compose.project={stack.project}"}
    ):
        if one.labels["com.docker.compose.service"] in SERVICES:
            assert one.attrs["State"]["ExitCode"] == 0, one.logs(tail=15).decode()
