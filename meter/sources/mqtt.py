"""A meter that speaks MQTT, on the house's own broker."""

import asyncio
from contextlib import suppress

from broker.errors import BusError
from broker.mqtt import MqttTransport, open_mqtt
from broker.transport import Filter
from contracts.instant import Instant
from contracts.topics import DeliveryClass
from meter.source import Measured
from meter.sources.mqtt_says import Dialect
from meter.sources.newest import Newest
from runtime.clock import Clock

AGAIN_S = 5.0


class MqttSource:
    """Hears what the meter says.

    Args:
        url: the house's broker.
        client: the client id there.
        dialect: how the meter speaks.
        age_max_s: what was heard longer ago is no measurement of now.
        clock: tells how old it is.
    """

    def __init__(self, url: str, client: str, dialect: Dialect, age_max_s: float, clock: Clock) -> None:
        self._url = url
        self._client = client
        self._dialect = dialect
        self._clock = clock
        self._newest = Newest(clock, age_max_s, f"the meter on {dialect.patterns[0]}")
        self._broker: MqttTransport | None = None
        self._hearing: asyncio.Task[None] | None = None

    async def measure(self, at: Instant) -> Measured:
        """See `meter.source.Source`."""
        del at  # a meter knows only what it measures now
        if self._hearing is None:
            self._hearing = asyncio.create_task(self._hear())
        return await self._newest.get("" if self._broker is None else self._broker.trouble)

    async def close(self) -> None:
        """Hear no more."""
        if self._hearing is not None:
            self._hearing.cancel()
            with suppress(asyncio.CancelledError):
                await self._hearing

    async def _hear(self) -> None:
        while True:
            try:
                # Once, and again below: each time why it failed is known.
                async with open_mqtt(self._url, client=self._client, wait_s=0, will=None) as broker:
                    await self._hear_from(broker)
            except BusError as error:
                self._newest.trouble(str(error))
            await self._clock.sleep(AGAIN_S)

    async def _hear_from(self, broker: MqttTransport) -> None:
        """Hear it for ever, however often the broker is lost; once it is there, that is."""
        filters = tuple(Filter(pattern, DeliveryClass.LIVE) for pattern in self._dialect.patterns)
        async with broker.subscribe(filters, None) as heard:
            self._broker = broker
            self._newest.trouble("")
            async for incoming in heard:
                if not incoming.retained:  # nobody knows how old that is
                    self._take(incoming.name, incoming.payload)
                await incoming.ack()

    def _take(self, topic: str, payload: bytes) -> None:
        if self._newest.lapse():
            self._dialect.forget()  # of some of its channels it would tell what was long ago
        try:
            measured = self._dialect.hear(topic, payload)
        except ValueError as error:
            self._newest.trouble(f"{topic}: {error}")
            return
        if measured is not None:
            self._newest.put(measured)
