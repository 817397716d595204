"""`docker compose up`, as a user starts it: every service healthy, readings on HiveMQ, rows in the recorder's volume."""

import csv
import json
import queue
import time
from collections.abc import Iterator

import docker
import httpx
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.brokers import free_ports, unique
from tests.compose import Stack, provide_images

SERVICES = {
    *("meter-a", "meter-b", "meter-c", "pvsim", "der-a", "der-b", "der-c"),
    *("optimizer", "orchestrator", "recorder", "dashboard"),
}
HOUSES = {"house-a", "house-b", "house-c"}

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]  # the first build of the image takes minutes


@pytest.fixture(scope="module")
def stack(docker_engine: docker.DockerClient) -> Iterator[Stack]:
    images = provide_images("rabbitmq", "hivemq")
    mqtt, amqp, management, optimizer, dashboard = map(str, free_ports(5))
    env = {
        "HIVEMQ_PORT": mqtt,
        "RABBITMQ_PORT": amqp,
        "RABBITMQ_MANAGEMENT_PORT": management,
        "OPTIMIZER_PORT": optimizer,
        "DASHBOARD_PORT": dashboard,
        "RABBITMQ_PASSWORD": unique("password"),
    }
    mine = Stack(docker_engine, "compose.yaml", env)
    try:
        mine.up({*SERVICES, "rabbitmq", "hivemq"}, images)
        yield mine
    finally:
        mine.down()


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
    client.connect("127.0.0.1", int(stack.env["HIVEMQ_PORT"]))
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
    url = f"http://127.0.0.1:{stack.env['OPTIMIZER_PORT']}/api/mpc/status"

    def planned() -> bool:
        status = httpx.get(url, trust_env=False, timeout=10.0).json()
        return {battery["house"] for battery in status["batteries"]} == HOUSES

    stack.wait_for("a plan of each house", planned, 90)


def test_the_dashboard_shows_every_house_on_this_machine(stack: Stack) -> None:
    base = f"http://127.0.0.1:{stack.env['DASHBOARD_PORT']}"
    assert "<title>" in httpx.get(f"{base}/", trust_env=False).text
    shown: set[str] = set()
    with httpx.stream("GET", f"{base}/api/stream", trust_env=False, timeout=60.0) as stream:
        for line in stream.iter_lines():
            shown |= {house for house in HOUSES if f'"{house}"' in line}
            if shown == HOUSES:
                break
    assert shown == HOUSES


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
    containers = stack.containers()
    for service in SERVICES:
        one = containers[service]
        assert one.attrs["State"]["ExitCode"] == 0, one.logs(tail=15).decode()
