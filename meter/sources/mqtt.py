"""A meter that speaks MQTT, on the house's own broker."""

import asyncio
from contextlib import suppress
from math import inf

from broker.errors import BusError
from broker.mqtt import open_mqtt
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
        self._hearing: asyncio.Task[None] | None = None

    async def measure(self, at: Instant) -> Measured:
        """See `meter.source.Source`."""
        del at  # a meter knows only what it measures now
        if self._hearing is None:
            self._hearing = asyncio.create_task(self._hear())
        return await self._newest.get()

    async def close(self) -> None:
        """Hear no more."""
        if self._hearing is not None:
            self._hearing.cancel()
            with suppress(asyncio.CancelledError):
                await self._hearing

    async def _hear(self) -> None:
        filters = tuple(Filter(pattern, DeliveryClass.LIVE) for pattern in self._dialect.patterns)
        while True:
            try:
                async with (
                    open_mqtt(self._url, client=self._client, wait_s=inf, will=None) as broker,
                    broker.subscribe(filters, None) as heard,
                ):
                    async for incoming in heard:
                        self._take(incoming.name, incoming.payload)
                        await incoming.ack()
            except BusError as error:
                self._newest.trouble(str(error))
            await self._clock.sleep(AGAIN_S)

    def _take(self, topic: str, payload: bytes) -> None:
        try:
            measured = self._dialect.hear(topic, payload)
        except ValueError as error:
            self._newest.trouble(f"{topic}: {error}")
            return
        if measured is not None:
            self._newest.put(measured)
