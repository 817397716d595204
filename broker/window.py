"""The window: an MQTT 3.1.1 broker (amqtt) inside the process, through which any client sees the bus.

It is no bus. Everything on the in-memory bus is shown to MQTT clients; what they publish on a topic of ours
goes to the bus, and comes back to them from there: so there is one path, and no echo. amqtt speaks MQTT;
whom to send what, what is retained, and what a slow client loses, is decided here.
"""

import asyncio
import errno
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from amqtt.adapters import (
    StreamReaderAdapter,
    StreamWriterAdapter,
    WebSocketsReader,
)
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig
from amqtt.errors import AMQTTError, BrokerError, MQTTError, NoDataError

from broker.errors import BusError
from broker.transport import Filter, Outgoing, Transport, matches
from broker.window_client import (
    CONNECT_S,
    MQTT_3_1_1,
    MQTT_5,
    TURN,
    Outbox,
    Replay,
    WebSocketWriter,
    level_of,
    read_connect,
)
from contracts import topics
from contracts.errors import BadIdError
from contracts.topics import DeliveryClass
from runtime.clock import Clock
from runtime.errors import UsageError
from runtime.logs import get_log

HOST = "127.0.0.1"
_REFUSED = b"\x20\x02\x00\x01"
"""CONNACK: unacceptable protocol version."""
_REFUSED_5 = b"\x20\x03\x00\x84\x00"
"""The same in MQTT 5."""
_NOISE = (
    OSError,
    EOFError,
    ValueError,
    IndexError,
    struct.error,
    AMQTTError,
    MQTTError,
    NoDataError,
)
"""What reading bytes that are no MQTT, or end too soon, comes to in amqtt."""
_SAY_EVERY = 1_000

Publish = Callable[[Outgoing], Awaitable[None]]


@asynccontextmanager
async def open_window(
    transport: Transport, clock: Clock, *, port: int, ws_port: int
) -> AsyncIterator["Window"]:
    """A window onto `transport`, on this machine only: MQTT on `port`, over WebSocket on `ws_port`.

    Raises:
        UsageError: a port is taken.
    """
    window = Window(transport.publish, clock, port, ws_port)
    async with transport.subscribe((Filter(f"{topics.ROOT}/#", DeliveryClass.LIVE),), None) as incoming:
        await window.open()
        showing = asyncio.create_task(_show_all(window, incoming, clock))
        try:
            yield window
        finally:
            showing.cancel()
            await asyncio.wait([showing])
            await window.close()


@asynccontextmanager
async def open_broker(clock: Clock, *, port: int, ws_port: int) -> AsyncIterator["Window"]:
    """The embedded broker alone, for services in processes of their own; it keeps nothing for who is away.

    Raises:
        UsageError: a port is taken.
    """

    async def publish(out: Outgoing) -> None:
        window.show(out.name, out.payload)

    window = Window(publish, clock, port, ws_port)
    await window.open()
    try:
        yield window
    finally:
        await window.close()


async def _show_all(window: "Window", incoming: AsyncIterator[Any], clock: Clock) -> None:
    shown = 0
    async for message in incoming:
        window.show(message.name, message.payload)
        shown += 1
        if shown % TURN == 0:
            await clock.sleep(0)


class Window(Broker):  # type: ignore[misc] # amqtt is not typed
    """amqtt's broker with its routing taken over.

    Args:
        publish: where a message of a client goes.
        clock: to give others a turn.
        port: for MQTT.
        ws_port: for MQTT over WebSocket.
    """

    def __init__(self, publish: Publish, clock: Clock, port: int, ws_port: int) -> None:
        for name in ("amqtt", "transitions", "websockets.server"):
            # They tell of every oddity of a client, with tracebacks; what matters is counted and told here.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        listeners = {
            "default": {"type": "tcp", "bind": f"{HOST}:{port}"},
            "ws": {"type": "ws", "bind": f"{HOST}:{ws_port}"},
        }
        plugins: dict[str, dict[str, Any]] = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {}}
        super().__init__(BrokerConfig.from_dict({"listeners": listeners, "plugins": plugins}))
        self.refused = 0
        """Messages of clients that are none of ours, or that the bus did not take."""
        self.dropped = 0
        """Messages that clients were too slow for."""
        self._publish = publish
        self._clock = clock
        self._ports = {"default": port, "ws": ws_port}
        self._states: dict[str, bytes] = {}
        self._is_state: dict[str, bool] = {}
        self._outboxes: dict[Any, Outbox] = {}
        self._connections: dict[Any, tuple[asyncio.Task[Any], Any]] = {}
        self._closing = False
        self._log = get_log("broker")

    async def open(self) -> None:
        """Listen.

        Raises:
            UsageError: a port is taken.
        """
        try:
            await self.start()
        except BrokerError as error:
            taken = next(port for name, port in self._ports.items() if name not in self._servers)
            for server in self._servers.values():
                await server.close_instance()
            why = error.__cause__
            if isinstance(why, OSError) and why.errno != errno.EADDRINUSE:
                raise UsageError(f"port {taken} can't be listened on: {why}") from error
            raise UsageError(
                f"port {taken} is taken: another broker or run listens there; choose others with "
                "--window-port and --window-ws-port (wattbus broker: --port and --ws-port)"
            ) from error

    async def close(self) -> None:
        """Put everybody out and stop listening."""
        self._closing = True
        tasks = [task for task, _ in self._connections.values()]
        for _, transport in self._connections.values():
            transport.abort()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=2.0)
            for task in late:
                task.cancel()
        await self.shutdown()

    def show(self, name: str, payload: bytes) -> None:
        """Send a message to who asked for it; keep it for who will, if it is a state."""
        if self._keeps(name):
            self._states[name] = payload
        best: dict[str, tuple[Any, int]] = {}
        for pattern, subscriptions in self._subscriptions.items():
            if matches(pattern, name):
                for session, qos in subscriptions:
                    _, known = best.get(session.client_id, (None, -1))
                    best[session.client_id] = (session, max(qos, known))
        for session, qos in best.values():
            self._post(session, [(name, payload, qos, False)])

    def _count_dropped(self) -> None:
        self.dropped += 1

    def _put_out(self, handler: Any) -> None:  # noqa: ANN401
        """End the connection of a client that is gone, or takes nothing any more."""
        _, transport = self._connections.get(handler.writer, (None, None))
        if transport is not None:
            transport.abort()

    def _keeps(self, name: str) -> bool:
        kept = self._is_state.get(name)
        if kept is None:
            address = topics.find(name)
            kept = self._is_state[name] = (
                address is not None and address.topic.delivery is DeliveryClass.STATE
            )
        return kept

    def _post(self, session: Any, messages: Iterable[tuple[str, bytes, int, bool]]) -> None:  # noqa: ANN401
        _, handler = self._sessions.get(session.client_id, (None, None))
        if handler is None or session.transitions.state != "connected":
            return
        outbox = self._outboxes.get(handler)
        if outbox is None:
            outbox = self._outboxes[handler] = Outbox(
                handler, self._clock, self._count_dropped, lambda: self._put_out(handler)
            )
        for message in messages:
            outbox.put(message)

    async def _take(self, name: str, payload: bytes) -> None:
        """Hand a client's message to the bus, by its topic's class."""
        try:
            address = topics.find(name)
        except BadIdError as error:
            return self._refuse(name, str(error))
        if address is None:
            return self._refuse(name, "no topic of ours")
        if not payload:
            return self._refuse(name, "empty")
        try:
            await self._publish(Outgoing(name, payload, address.topic.delivery))
        except BusError as error:
            self._refuse(name, str(error))

    def _refuse(self, name: str, why: str) -> None:
        self.refused += 1
        if self.refused % _SAY_EVERY == 1:
            self._log.warning("refused at the window", topic=name[:200], why=why, refused=self.refused)

    # From here on: what amqtt calls.

    async def _broadcast_message(
        self,
        _session: Any,  # noqa: ANN401
        topic: str | None,
        data: bytes | bytearray | None,
        _force_qos: int | None = None,
    ) -> None:
        """A client's message, or its last will."""
        if not self._closing:
            await self._take(topic or "", bytes(data or b""))

    async def retain_message(self, *_args: Any) -> None:  # noqa: ANN401
        """Nothing: the topic's class says what is retained, not the client."""

    async def _publish_retained_messages_for_subscription(
        self,
        subscription: tuple[str, int],
        session: Any,  # noqa: ANN401
    ) -> None:
        pattern, qos = subscription
        # At a connect amqtt asks for the subscriptions of everybody.
        if any(known is session for known, _ in self._subscriptions.get(pattern, ())):
            states = [(n, p, qos, True) for n, p in self._states.items() if matches(pattern, n)]
            self._post(session, states)

    async def _stop_handler(self, handler: Any) -> None:  # noqa: ANN401
        outbox = self._outboxes.pop(handler, None)
        if outbox is not None:
            await outbox.close()
        await super()._stop_handler(handler)

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        await self._serve(
            listener_name, StreamReaderAdapter(reader), StreamWriterAdapter(writer), writer.transport
        )

    async def ws_connected(self, websocket: Any, listener_name: str) -> None:  # noqa: ANN401
        await self._serve(
            listener_name, WebSocketsReader(websocket), WebSocketWriter(websocket), websocket.transport
        )

    async def _serve(
        self,
        listener: str,
        reader: Any,  # noqa: ANN401
        writer: Any,  # noqa: ANN401
        transport: Any,  # noqa: ANN401
    ) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._connections[writer] = (task, transport)
        try:
            async with asyncio.timeout(CONNECT_S):
                connect = await read_connect(reader)
            if (level := level_of(connect)) == MQTT_3_1_1:
                await self._client_connected(listener, Replay(connect, reader), writer)
            else:
                # amqtt takes MQTT 5's properties for a client id, and may wait for the rest of it for ever.
                writer.write(_REFUSED_5 if level == MQTT_5 else _REFUSED)
                await writer.drain()
        except _NOISE as error:
            self._log.debug("a client that speaks no MQTT, or broke off", why=str(error))
        except asyncio.CancelledError:
            # As the process ends. Nobody waits for this task, and asyncio would show it as an error.
            self._log.debug("a client was put out")
        finally:
            del self._connections[writer]
            transport.abort()
            # amqtt leaves the session of a client it throws out as if it were connected.
            for client_id, (_, handler) in list(self._sessions.items()):
                if handler.writer is writer:
                    await self._cleanup_session(client_id)
