"""Prints each reading, and why each battery does what it does: python mqtt_client.py HOST PORT."""

import json
import sys

from paho.mqtt import client as mqtt

WANTED = ("meter/+/reading", "orchestrator/+/decision")


def show(_client, _userdata, message):
    told = json.loads(message.payload)
    print(told["house"], told.get("sentence") or f"{told['power_w']} W", flush=True)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_message = show
client.on_connect = lambda *_: client.subscribe([(f"wattbus/+/{what}", 1) for what in WANTED])
client.connect(sys.argv[1], int(sys.argv[2]))
client.loop_forever()
