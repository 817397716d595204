"""A raw MQTT client of one account, to try at a broker what our own transports never would."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from paho.mqtt.client import CallbackAPIVersion, Client, MQTTMessage, MQTTv5
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.access_site import Guarded
from tests.broker_life import LOOPBACK

ANSWER_S = 10.0


class Refused(Exception):  # noqa: N818
    """The broker said no; the text is its reason."""


class Ended(Refused):
    """It ended the connection, which may be its late word about what was tried before."""


class Probe:
    """One connection; it is made again when the broker ends it for what was tried."""

    def __init__(
        self, broker: Guarded, user: str, client_id: str, *, durable: bool = False, will: str | None = None
    ) -> None:
        self.heard: dict[str, set[bytes]] = {}
        self._broker, self._user, self._client_id, self._durable = broker, user, client_id, durable
        self._will = will
        self.connect()

    def login(self) -> tuple[str, str | None]:
        """The name and password of its CONNECT."""
        return self._broker.login(self._user, self._client_id)

    def connect(self, *, clean: bool = True) -> None:
        """Or again: with a client anew, for paho would send again what was refused."""
        self.ended = threading.Event()
        self._answers: queue.Queue[tuple[str, str, bool]] = queue.Queue()
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=MQTTv5,
            reconnect_on_failure=False,
        )
        client.username_pw_set(*self.login())
        client.tls_set_context(self._broker.site.context(self._user))
        client.on_connect = lambda *said: self._answer("connect", said[3])
        client.on_subscribe = lambda *said: self._answer("subscribe", said[3][0])
        client.on_publish = lambda *said: self._answer("publish", said[3])
        client.on_disconnect = lambda *said: (self.ended.set(), self._answer("ended", said[3]))
        client.on_message = self._hear
        if self._will is not None:
            client.will_set(self._will, b"stolen", qos=1)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600 if self._durable else 0
        client.connect(LOOPBACK, self._broker.port, clean_start=clean, properties=properties)
        client.loop_start()
        try:
            self._wait("connect")
        except Refused:
            self.close()
            raise

    def subscribe(self, pattern: str) -> None:
        """Raises Refused."""
        self._twice("subscribe", lambda: self._client.subscribe(pattern, 1))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Raises Refused, where the broker says so: Mosquitto's word to a client of MQTT 3 is always yes."""
        self._twice("publish", lambda: self._client.publish(topic, payload, 1, retain))

    def cut(self) -> None:
        """Leave as a power cut does: with the will."""
        line = self._client.socket()
        assert line is not None
        line.shutdown(socket.SHUT_RDWR)
        self.ended.wait(ANSWER_S)
        self._client.loop_stop()

    def close(self) -> None:
        """Take leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _hear(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self.heard.setdefault(message.topic, set()).add(bytes(message.payload))

    def _answer(self, what: str, reason: object) -> None:
        self._answers.put((what, str(reason), bool(getattr(reason, "is_failure", False))))

    def _wait(self, wanted: str) -> None:
        while True:
            what, reason, is_failure = self._answers.get(timeout=ANSWER_S)
            if what == wanted and not is_failure:
                return
            if what == wanted:
                raise Refused(reason)
            if what == "ended":
                raise Ended(reason)

    def _twice(self, what: str, attempt: Callable[[], object]) -> None:
        for is_last in (False, True):
            if self.ended.is_set():
                self.close()
                self.connect()
            try:
                attempt()
                self._wait(what)
            except Ended:
                if is_last:
                    raise
            else:
                return


@contextmanager
def probe(broker: Guarded, user: str, client_id: str, *, durable: bool = False) -> Iterator[Probe]:
    """Raises Refused: it is not let in."""
    one = Probe(broker, user, client_id, durable=durable)
    try:
        yield one
    finally:
        one.close()


def until(heard: dict[str, set[bytes]], topic: str, payload: bytes) -> None:
    """Wait for the last message: what was published before it has arrived, or never will."""
    deadline = time.monotonic() + ANSWER_S
    while payload not in heard.get(topic, ()):
        assert time.monotonic() < deadline, f"{topic} did not arrive"
        time.sleep(0.01)
