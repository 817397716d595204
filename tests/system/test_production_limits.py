"""What examples/production/mosquitto.conf leaves to who publishes, whatever a reader who is away has ordered."""

import asyncio

import pytest
from paho.mqtt.client import CallbackAPIVersion, Client

from broker.mqtt import open_mqtt
from broker.transport import Outgoing
from contracts.topics import DeliveryClass
from tests import brokers
from tests.brokers import Missing, give_up, running
from tests.compose import REPOSITORY

LIMITS = ("max_", "memory_", "persistent_")
FLOOD_BYTES = 450_000_000
"""More than Mosquitto may have in memory."""
PAYLOAD = bytes(500_000)


def leave_a_session_behind(port: int, client_id: str) -> None:
    """As a tool does that anybody may have on a phone: everything, kept for it, and away."""
    reader = Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
    reader.on_connect = lambda *_: reader.subscribe("#", 1)
    reader.on_subscribe = lambda *_: reader.disconnect()
    reader.connect(brokers.LOOPBACK, port)
    reader.loop_forever()


async def test_a_reader_who_is_away_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (REPOSITORY / "examples" / "production" / "mosquitto.conf").read_text().splitlines()
    limits = "".join(f"{line}\n" for line in lines if line.startswith(LIMITS))
    own = "max_queued_messages 1000000\n"
    assert own in brokers.MOSQUITTO_CONF
    monkeypatch.setattr(brokers, "MOSQUITTO_CONF", brokers.MOSQUITTO_CONF.replace(own, limits))
    try:
        with running("mosquitto") as broker:
            await asyncio.to_thread(leave_a_session_behind, broker.ports["mqtt"], "phone")
            out = Outgoing("wattbus/house-a/meter/main/reading", PAYLOAD, DeliveryClass.READING)
            async with open_mqtt(broker.mqtt_url or "", client="meter", wait_s=0, will=None) as meter:
                for _ in range(FLOOD_BYTES // len(PAYLOAD)):
                    await meter.publish(out)
    except Missing as missing:
        give_up("mosquitto", str(missing))
