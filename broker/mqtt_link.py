"""One MQTT connection: paho-mqtt driven by the event loop, its errors turned into ours.

paho's own thread, its reconnect and its queue are not used: a link lives as long as its connection,
and what it could not hand over is the caller's again.
"""

import asyncio
import math
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, error_string
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.errors import BusError, BusRefusedError, BusUnavailableError
from broker.mqtt_client import MQTT5, make_client, properties_of
from broker.mqtt_url import Target
from broker.tls import what_failed
from broker.transport import Outgoing
from broker.unsent import Unsent

ANSWER_S = 10.0
"""A broker that owes an answer longer than this is not waited for."""
LEAVE_S = 1.0
"""A broker that does not answer to a leave within this is left without."""
IN_FLIGHT_MAX = 20
NO_SUBSCRIBERS = 0x10
"""The reason of a PUBACK: nobody takes the message, not even a session that is away."""
_OTHER_VERSION = 0x84
_CREDENTIALS = {0x85, 0x86, 0x87, 0x8A, 0x8C}
"""Reasons of a CONNACK that trying again does not change: client id, password, right, ban, method."""
_LATER = {0x83, 0x88, 0x89, 0x93, 0x97, 0x9F}
"""Reasons of a PUBACK that time may change: implementation, not available, busy, quota, rate."""


class OtherVersionError(BusUnavailableError):
    """The broker closed, or refused, this version of MQTT."""


class Link:
    """One connection, from its CONNECT until it is lost; never used again after that.

    Args:
        target: the broker.
        version: 3 (3.1.1) or 5.
        client_id: whose session it is.
        durable: the broker keeps the session, and messages are acknowledged by hand.
        will: the retained last will.
        receive: called with each message that arrives.
        dropped: called with the number of LIVE messages that could not be sent.
        on_lost: called when the connection is no more, before anybody who waits is told.
    """

    def __init__(
        self,
        target: Target,
        version: int,
        client_id: str,
        *,
        durable: bool,
        will: Outgoing | None,
        receive: Callable[["Link", MQTTMessage], None],
        dropped: Callable[[int], None],
        on_lost: Callable[["Link"], None],
    ) -> None:
        self.lost = asyncio.Event()
        self.version = version
        self.has_ids = False
        """Whether the broker tells which subscription a message came for."""
        self.why = "not connected"
        self._target = target
        self._durable = durable
        self._receive = receive
        self._drop = dropped
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._client = make_client(target, version, client_id, durable=durable, will=will)
        self._hook_up(self._client)
        self._socket: Any = None
        self._fd: int | None = None
        self._writing = False
        self._abandoned = False
        self._greeted: asyncio.Future[ReasonCode] = self._loop.create_future()
        self._answers: dict[int, asyncio.Future[Sequence[ReasonCode]]] = {}
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._unsent = Unsent()
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Connect and wait for the broker's welcome.

        Raises:
            OtherVersionError: it may speak another version of MQTT.
            BusUnavailableError: it is not there.
            BusRefusedError: wrong password, no right, or a certificate nobody vouches for.
        """
        await self._connect_socket()
        try:
            async with asyncio.timeout(ANSWER_S):
                reason = await self._greeted
        except TimeoutError:
            self.abort("no CONNACK")
            raise BusUnavailableError(
                f"broker at {self._target.where} did not answer in {ANSWER_S:g} s"
            ) from None
        except asyncio.CancelledError:
            self.leave()
            raise
        if not reason.is_failure:
            return
        self.abort(str(reason))
        if reason.value == _OTHER_VERSION:
            raise OtherVersionError(f"broker at {self._target.where} does not speak MQTT {self.version}")
        line = f"broker at {self._target.where} refused the connection: {reason}"
        if reason.value in _CREDENTIALS:
            raise BusRefusedError(f"{line}: check the user and password in its URL")
        raise BusUnavailableError(line)

    async def close(self) -> None:
        """Take leave, so that no last will is published; a durable session stays with the broker.

        Returns when the broker has seen it. What it sends to a reader who has gone it counts as under way,
        and at the next start HiveMQ sends that alone until it is acknowledged.
        """
        if self.lost.is_set() or self._fd is None:
            return
        with socket.socket(fileno=os.dup(self._fd)) as line:  # paho closes its own with its last word
            self._say_goodbye()
            try:
                async with asyncio.timeout(LEAVE_S):
                    await self.lost.wait()
                    line.shutdown(socket.SHUT_WR)
                    while await self._loop.sock_recv(line, 1 << 16):
                        pass
            except OSError:
                pass  # too late, or gone before us: it notices by itself
            finally:
                self.abort("closed")

    def leave(self) -> None:
        """As `close`, without waiting for the words to be on their way."""
        if not self.lost.is_set():
            self._say_goodbye()
            self.abort("closed")

    async def confirm(self, out: Outgoing, *, retain: bool) -> int:
        """Publish at QoS 1; returns the PUBACK's reason.

        Raises:
            BusUnavailableError: the connection was lost before the PUBACK, or it did not come in time.
            BusRefusedError: the broker does not want it.
        """
        properties = None
        if self.version == MQTT5 and out.expires_s is not None:
            properties = properties_of(PacketTypes.PUBLISH)
            properties.MessageExpiryInterval = max(1, math.ceil(out.expires_s))
        async with self._slots:
            self._check()
            info = self._client.publish(out.name, out.payload, 1, retain, properties)
            (reason,) = await self._answer(info.rc, info.mid)
        if reason.is_failure:
            line = f"broker at {self._target.where} refused {out.name}: {reason}"
            raise BusUnavailableError(line) if reason.value in _LATER else BusRefusedError(line)
        return reason.value

    def send(self, out: Outgoing) -> None:
        """Publish at QoS 0; when the broker does not keep up, the oldest unsent is dropped and counted."""
        if dropped := self._unsent.put(out.name, out.payload):
            self._drop(dropped)
        if not self._client.want_write():
            self._writable()

    async def subscribe(self, patterns: Iterable[tuple[str, int]]) -> None:
        """Subscribe to each (pattern, identifier), and be sent its retained messages.

        Raises:
            BusRefusedError: one of them is not allowed.
            BusUnavailableError: the connection was lost.
        """
        # A durable session is not sent what it had; QoS 1 is no promise for what is published at 0.
        options = SubscribeOptions(qos=1, retainHandling=1 if self._durable else 0)
        for pattern, identifier in patterns:
            self._check()
            if self.version == MQTT5:
                properties = properties_of(PacketTypes.SUBSCRIBE)
                if self.has_ids and not self._durable:
                    properties.SubscriptionIdentifier = identifier
                sent = self._client.subscribe(pattern, options=options, properties=properties)
            else:
                sent = self._client.subscribe(pattern, 1)
            (reason,) = await self._answer(sent[0], sent[1])
            if reason.is_failure:
                raise BusRefusedError(
                    f"broker at {self._target.where} refused the subscription to {pattern}: {reason}"
                )

    def unsubscribe(self, patterns: list[str]) -> None:
        """Ask for these no more; what is under way may still arrive."""
        if patterns and not self.lost.is_set():
            self._client.unsubscribe(patterns)

    def ack(self, mid: int, qos: int) -> None:
        """Acknowledge a message of this connection; after its loss the message comes again anyhow."""
        if not self.lost.is_set():
            self._client.ack(mid, qos)

    def _hook_up(self, client: Client) -> None:
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write

    async def _connect_socket(self) -> None:
        where = self._target.where
        try:
            # Names, TCP, TLS and the WebSocket's handshake block: in a thread.
            await self._loop.run_in_executor(None, self._client.reconnect)
        except asyncio.CancelledError:
            self._abandoned = True
            if self._socket is not None:
                self._socket.close()
            raise
        except OSError as error:
            if self._client.opened is not None:
                self._client.opened.close()
            if (failed := what_failed(error)) is not None:
                raise BusRefusedError(f"broker at {where}: {failed}") from error
            line = f"broker at {where} can't be reached: {error.strerror or error}"
            raise BusUnavailableError(line) from error
        self._fd = self._socket.fileno()
        self._loop.add_reader(self._fd, self._readable)
        self._watch_writable()
        self._timer = self._loop.call_later(1.0, self._tick)

    async def _answer(self, sent: MQTTErrorCode, mid: int | None) -> Sequence[ReasonCode]:
        if sent != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise BusUnavailableError(f"broker at {self._target.where}: {error_string(sent)}")
        answer: asyncio.Future[Sequence[ReasonCode]] = self._loop.create_future()
        self._answers[mid] = answer
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            line = f"broker at {self._target.where} did not answer in {ANSWER_S:g} s"
            self.abort(line)
            raise BusUnavailableError(line) from None
        finally:
            self._answers.pop(mid, None)

    def _check(self) -> None:
        if self.lost.is_set():
            raise BusUnavailableError(f"broker at {self._target.where}: {self.why}")

    def abort(self, why: str) -> None:
        """The connection is no more, without a word to the broker; everybody who waits is told."""
        if self.lost.is_set():
            return
        self.why = why
        self.lost.set()
        self._on_lost(self)
        self._unwatch()
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()
        if not self._greeted.done():
            self._greeted.set_exception(self._unwelcome(why))
            self._greeted.exception()  # nobody may be waiting for it any more
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(BusUnavailableError(f"broker at {self._target.where}: {why}"))
        self._drop(self._unsent.clear())

    def _unwelcome(self, why: str) -> BusError:
        where = self._target.where
        if (failed := what_failed(getattr(self._client.opened, "failure", None))) is not None:
            return BusRefusedError(f"broker at {where}: {failed}")
        hint = "" if self._target.tls is not None else "; if it always does so: does it want TLS?"
        return OtherVersionError(f"broker at {where} did not welcome us, MQTT {self.version}: {why}{hint}")

    def _watch_writable(self) -> None:
        # Not twice: adding it again cancels a call that is already due.
        if self._fd is not None and not self._writing:
            self._loop.add_writer(self._fd, self._writable)
            self._writing = True

    def _say_goodbye(self) -> None:
        self._writable()
        self._client.disconnect()
        self._client.loop_write()

    def _unwatch_writable(self) -> None:
        if self._fd is not None and self._writing:
            self._loop.remove_writer(self._fd)
            self._writing = False

    def _unwatch(self) -> None:
        if self._fd is not None:
            self._unwatch_writable()
            self._loop.remove_reader(self._fd)
            self._fd = None

    def _readable(self) -> None:
        self._client.loop_read()
        # What TLS has decrypted already wakes no selector.
        while not self.lost.is_set() and self._target.tls is not None and self._socket.pending():
            self._client.loop_read()

    def _writable(self) -> None:
        self._client.loop_write()
        while self._unsent and not self.lost.is_set() and not self._client.want_write():
            self._client.publish(*self._unsent.take(), 0)
            self._client.loop_write()
        if not self._client.want_write():
            self._unwatch_writable()

    def _tick(self) -> None:
        self._client.loop_misc()
        if not self.lost.is_set():
            self._timer = self._loop.call_later(1.0, self._tick)

    def _on_socket_open(self, _client: Client, _userdata: object, sock: Any) -> None:  # noqa: ANN401 - paho's
        """In the connecting thread."""
        self._socket = sock
        if self._abandoned:
            sock.close()

    def _on_socket_close(self, _client: Client, _userdata: object, _sock: object) -> None:
        self._unwatch()

    def _on_register_write(self, _client: Client, _userdata: object, _sock: object) -> None:
        # Also called in the connecting thread, when there is nothing to watch yet.
        self._watch_writable()

    def _on_connect(
        self,
        _client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if self.version == MQTT5:
            self.has_ids = getattr(properties, "SubscriptionIdentifierAvailable", 1) == 1
            limit = getattr(properties, "ReceiveMaximum", IN_FLIGHT_MAX)
            self._slots = asyncio.Semaphore(min(IN_FLIGHT_MAX, limit))
        if not self._greeted.done():
            self._greeted.set_result(reason)

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.abort(
            f"it ended the connection: {reason}" if flags.is_disconnect_packet_from_server else "it hung up"
        )

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self._receive(self, message)

    def _on_publish(
        self, _client: Client, _userdata: object, mid: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        self._on_answer(mid, [reason])

    def _on_subscribe(
        self, _client: Client, _userdata: object, mid: int, reasons: list[ReasonCode], _: Properties | None
    ) -> None:
        self._on_answer(mid, reasons)

    def _on_answer(self, mid: int, reasons: Sequence[ReasonCode]) -> None:
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(reasons)
