"""A paho client as we want it: which version, whose session, what it may keep us waiting for."""

import socket
import ssl

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker.mqtt_url import Target
from broker.transport import Outgoing

CONNECT_S = 3.0
"""Each step of opening a connection; below what a process may take to stop."""
KEEPALIVE_S = 6
"""paho sees a dead peer after two of these: a black hole is noticed within 15 s."""
RECEIVE_MAX = 1_000
"""Unacknowledged messages a durable reader takes at a time, where the broker asks (MQTT 5)."""
NEVER_EXPIRES = 0xFFFFFFFF

MQTT5 = 5


def properties_of(packet: int) -> Properties:
    """Empty MQTT 5 properties for a kind of packet."""
    return Properties(packet)  # type: ignore[no-untyped-call]


class TidyClient(Client):
    """Remembers the socket it opens, for paho forgets it when the WebSocket's handshake fails.

    These are paho's own steps; should it rename them, only that tidiness is lost.
    """

    opened: socket.socket | None = None

    def _create_socket_connection(self) -> socket.socket:
        self.opened = super()._create_socket_connection()
        return self.opened

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        self.opened = wrapped = super()._ssl_wrap_socket(tcp_sock)
        return wrapped


def make_client(
    target: Target, version: int, client_id: str, *, durable: bool, will: Outgoing | None
) -> TidyClient:
    """A paho client that is ready to connect, once: it neither reconnects nor queues."""
    five = version == MQTT5
    client = TidyClient(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if five else not durable,
        protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        transport="tcp" if target.path is None else "websockets",
        reconnect_on_failure=False,
        manual_ack=durable,
    )
    client.max_inflight_messages = 0  # unlimited here: the link's slots limit it
    client.connect_timeout = CONNECT_S
    if target.username is not None:
        client.username_pw_set(target.username.replace("{client}", client_id), target.password)
    if target.tls is not None:
        client.tls_set_context(target.tls)
    if target.path is not None:
        client.ws_set_options(path=target.path)
    if will is not None:
        client.will_set(will.name, will.payload, qos=1, retain=True)
    properties = None
    if five:
        properties = properties_of(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = NEVER_EXPIRES if durable else 0
        properties.ReceiveMaximum = RECEIVE_MAX
    client.connect_async(
        target.host, target.port, KEEPALIVE_S, clean_start=not durable, properties=properties
    )
    return client
