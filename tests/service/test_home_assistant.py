"""The service for Home Assistant: on the bus in memory, over restarts, and on a real MQTT broker."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
from paho.mqtt import publish

from broker.bus import PlanesBus
from broker.memory import MemoryTransport
from contracts.codec import encode
from contracts.topics import DER_TELEMETRY, SNAPSHOT
from home_assistant.service import HomeAssistantService, Shown
from home_assistant.settings import HomeAssistantSettings
from runtime.clock import SystemClock, VirtualClock
from runtime.lifecycle import Lifecycle
from runtime.store import Store
from tests.brokers import Broker, unique
from tests.conftest import START, memory_bus, run_virtual
from tests.home_assistant_schema import DEVICE_DISCOVERY
from tests.system.test_run import CLEAN, REPOSITORY
from tests.unit.test_home_assistant import battery, snapshot

HOUSE_CONFIG = "homeassistant/device/wattbus-house-a/house/config"
HOUSE_STATE = "homeassistant/wattbus/house-a/house/state"
BATTERY_CONFIG = "homeassistant/device/wattbus-house-a/der-battery/config"
BATTERY_STATE = "homeassistant/wattbus/house-a/der-battery/state"


def service(
    bus: PlanesBus, clock: VirtualClock, life: Lifecycle, store: Store[Shown]
) -> HomeAssistantService:
    return HomeAssistantService(
        HomeAssistantSettings(), bus, clock, life, store, "wattbus/site/x/main/status"
    )


def shown(transport: MemoryTransport) -> dict[str, Any]:
    return {
        name: msgspec.json.decode(out.payload)
        for name, out in transport._states.items()
        if name.startswith("homeassistant/")
    }


async def live(bus: PlanesBus, clock: VirtualClock, store: Store[Shown], seconds: int) -> None:
    """An hour, say, of a house that takes 6 kW from the grid."""
    life = Lifecycle()
    running = asyncio.create_task(service(bus, clock, life, store).run())
    await clock.sleep(0.5)
    for _ in range(seconds // 10):
        await bus.publish(
            SNAPSHOT.at(house="house-a"), snapshot(clock.now(), house_load_kw=6.0, grid_import_kw=6.0)
        )
        await bus.publish(DER_TELEMETRY.at(house="house-a", der_id="battery"), battery(clock.now(), 0.0))
        await clock.sleep(10)
    life.stop()
    await running


def test_houses_are_shown_and_counters_go_on_after_a_restart(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> tuple[dict[str, Any], dict[str, Any]]:
        bus, transport = memory_bus(clock)
        path = tmp_path / "home-assistant.json"
        await live(bus, clock, Store(path, Shown, Shown()), 600)
        first = shown(transport)
        await live(bus, clock, Store(path, Shown, Shown()), 600)
        return first, shown(transport)

    first, second = run_virtual(main)
    assert set(first) == {HOUSE_CONFIG, HOUSE_STATE, BATTERY_CONFIG, BATTERY_STATE}
    for name in (HOUSE_CONFIG, BATTERY_CONFIG):
        jsonschema_rs.validator_for(DEVICE_DISCOVERY).validate(first[name])
        assert first[name]["state_topic"] in first
    assert 0.9 < first[HOUSE_STATE]["load_kwh"] <= 1.0
    assert 1.9 < second[HOUSE_STATE]["load_kwh"] <= 2.0


def test_what_was_shown_is_taken_away_and_the_energies_stay(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> tuple[dict[str, Any], Shown]:
        bus, transport = memory_bus(clock)
        store = Store(tmp_path / "home-assistant.json", Shown, Shown())
        await live(bus, clock, store, 600)
        await service(bus, clock, Lifecycle(), store).remove()
        return shown(transport), store.load()

    left, kept = run_virtual(main)
    assert left == {}
    assert kept.houses == {}
    assert kept.energies["house-a"].load > 0.9


def test_energies_that_cant_be_stored_are_not_told(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> dict[str, Any]:
        bus, transport = memory_bus(clock)
        (tmp_path / "file").write_text("")
        await live(bus, clock, Store(tmp_path / "file" / "x.json", Shown, Shown()), 60)
        return shown(transport)

    assert run_virtual(main) == {}


def test_a_silent_house_is_told_no_more() -> None:
    async def main(clock: VirtualClock) -> int:
        bus, _ = memory_bus(clock)
        life = Lifecycle()
        running = asyncio.create_task(service(bus, clock, life, Store(None, Shown, Shown())).run())
        await clock.sleep(0.5)
        await bus.publish(SNAPSHOT.at(house="house-a"), snapshot(START, house_load_kw=6.0))
        await clock.sleep(600)
        life.stop()
        await running
        return bus.counts.published["HouseState"]

    assert 5 <= run_virtual(main) <= 7


def home_assistant(cwd: Path, url: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "wattbus", "home-assistant", "--live-url", url, *arguments]
    env = {**CLEAN, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, cwd=cwd, env=env, text=True, stderr=subprocess.PIPE)


def test_on_a_real_broker_it_is_retained_and_removed(tmp_path: Path, mosquitto: Broker) -> None:
    assert mosquitto.mqtt_url is not None
    house, port = unique("ha"), mosquitto.ports["mqtt"]

    def retained(wait_s: float = 3.0) -> set[str]:
        seen = subprocess.run(
            ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-t", f"homeassistant/device/wattbus-{house}/#",
             "--retained-only", "-W", f"{wait_s:g}", "-F", "%t"],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return set(seen.stdout.split())

    with home_assistant(tmp_path, mosquitto.mqtt_url, "--enabled", "--interval-s", "1") as process:
        try:
            deadline = SystemClock().monotonic() + 30
            while SystemClock().monotonic() < deadline:
                told = encode(msgspec.structs.replace(battery(SystemClock().now(), 1.0), house=house))
                publish.single(
                    f"wattbus/{house}/der/battery/telemetry", told, hostname="127.0.0.1", port=port
                )
                if retained(1):
                    break
            assert retained() == {
                f"homeassistant/device/wattbus-{house}/house/config",
                f"homeassistant/device/wattbus-{house}/der-battery/config",
            }
        finally:
            process.terminate()
    assert process.returncode == 0
    with home_assistant(tmp_path, mosquitto.mqtt_url) as process:
        assert process.wait(timeout=30) == 0
    assert retained() == set()


def test_an_amqp_broker_is_refused_in_one_line(tmp_path: Path) -> None:
    with home_assistant(tmp_path, "amqp://127.0.0.1:1") as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err.count("\n") == 1
