"""From two URLs to a bus: the only place that chooses a transport."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from broker.bus import PlanesBus
from broker.errors import BusError, BusUrlError
from broker.port import Bus
from broker.quarantine import Quarantine
from broker.transport import Outgoing, Transport
from contracts import topics
from contracts.codec import encode
from contracts.messages import Status
from contracts.topics import Address, DeliveryClass
from runtime.clock import Clock, SystemClock
from runtime.errors import UsageError
from runtime.logs import get_log
from runtime.settings import CommonSettings

HEARTBEAT_S = 30.0
HEALTH_S = 5.0
NO_BROKER = (
    "no broker: set WATTBUS_READINGS_URL and WATTBUS_LIVE_URL (one may serve both), e.g. "
    "WATTBUS_LIVE_URL=mqtt://127.0.0.1:1883, or start everything in one process with `wattbus run`"
)


@asynccontextmanager
async def open_bus(
    settings: CommonSettings, clock: Clock, *, client: str, presence: Address[Status]
) -> AsyncIterator[PlanesBus]:
    """The bus the settings name, connected; it says who is there, and takes leave at the end.

    Args:
        settings: the two URLs; where only one is given it serves both planes.
        clock: the service's.
        client: the name brokers know this service by; an id.
        presence: where its Status stands.

    Raises:
        UsageError: no URL at all.
        BusUrlError: a URL that names no transport.
        BusUnavailableError: a broker was not there within `settings.wait_s`.
        BusRefusedError: a wrong password, or a right that is missing.
    """
    readings_url = settings.readings_url or settings.live_url
    live_url = settings.live_url or settings.readings_url
    if not readings_url:
        raise UsageError(NO_BROKER)
    offline = Outgoing(presence.name, encode(_status(presence, clock, online=False)), DeliveryClass.STATE)
    async with AsyncExitStack() as stack:
        live = await stack.enter_async_context(_open(live_url, client, settings.wait_s, offline))
        readings = live
        if readings_url != live_url:
            readings = await stack.enter_async_context(_open(readings_url, client, settings.wait_s, None))
        quarantine = Quarantine(settings.state_dir / "quarantine" / client, clock)
        bus = PlanesBus(readings, live, clock, client=client, quarantine=quarantine)
        stack.push_async_callback(bus.close)
        async with announce(bus, clock, presence):
            health = asyncio.create_task(_keep_health(bus))
            try:
                yield bus
            finally:
                health.cancel()
                await asyncio.wait([health])


@asynccontextmanager
async def open_spectator(url: str, clock: Clock, *, client: str, wait_s: float) -> AsyncIterator[PlanesBus]:
    """A bus for who looks in from outside: nobody is told of it, and it keeps nothing.

    Args:
        url: of the one broker.
        clock: its time.
        client: the name the broker knows it by; an id.
        wait_s: how long to wait for the broker [real s].

    Raises:
        BusUrlError: a URL that names no transport.
        BusUnavailableError: the broker was not there within `wait_s`.
        BusRefusedError: a wrong password, or a right that is missing.
    """
    async with _open(url, client, wait_s, None) as transport:
        bus = PlanesBus(transport, transport, clock, client=client, quarantine=Quarantine(None, clock))
        try:
            yield bus
        finally:
            await bus.close()


@asynccontextmanager
async def announce(bus: Bus, clock: Clock, presence: Address[Status]) -> AsyncIterator[None]:
    """Say that a device or service is online, again and again, and at the end that it is not."""
    beat = asyncio.create_task(_keep_status(bus, clock, presence))
    try:
        yield
    finally:
        beat.cancel()
        await asyncio.wait([beat])
        await _publish_status(bus, clock, presence, online=False)


async def _keep_status(bus: Bus, clock: Clock, presence: Address[Status]) -> None:
    while True:
        await _publish_status(bus, clock, presence, online=True)
        await clock.sleep(HEARTBEAT_S)


async def _publish_status(bus: Bus, clock: Clock, presence: Address[Status], *, online: bool) -> None:
    try:
        await bus.publish(presence, _status(presence, clock, online=online))
    except BusError as error:
        # The last will, or the status's own expiry, says it in our place.
        get_log("broker").info("status not published", topic=presence.name, why=str(error))


def _status(presence: Address[Status], clock: Clock, *, online: bool) -> Status:
    return Status(
        house=presence.ids["house"], device=presence.ids["device"], online=online, timestamp=clock.now()
    )


async def _keep_health(bus: PlanesBus) -> None:
    """Touch the file a container's health check looks at, as long as the brokers are there."""
    path = os.environ.get("WATTBUS_HEALTH_FILE")
    machine = SystemClock()  # who looks at the file runs on real time, whatever the service runs on
    while path:
        if bus.connected:
            _touch(path)
        await machine.sleep(HEALTH_S)


def _touch(path: str) -> None:
    Path(path).touch()


@asynccontextmanager
async def _open(url: str, client: str, wait_s: float, will: Outgoing | None) -> AsyncIterator[Transport]:
    # Imported here: a house loads only the transport it uses.
    match urlsplit(url).scheme:
        case "amqp" | "amqps":
            from broker.amqp import open_amqp

            async with open_amqp(url, client=client, wait_s=wait_s) as amqp:
                yield amqp
        case "mqtt" | "mqtts" | "ws" | "wss":
            from broker.mqtt import open_mqtt

            async with open_mqtt(url, client=client, wait_s=wait_s, will=will) as mqtt:
                yield mqtt
        case scheme:
            raise BusUrlError(
                f"{scheme or 'no scheme'}: a broker's URL starts with amqp, amqps, mqtt, mqtts, ws or wss"
            )


def presence_of(house: str, service: str, device: str) -> Address[Status]:
    """Where a service or device says that it is online."""
    return topics.STATUS.at(house=house, device=device, **{"class": service})
