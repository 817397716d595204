"""`wattbus bridge`: carries the readings of houses that reach only the MQTT broker into RabbitMQ."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from broker.connect import open_bus, presence_of
from broker.errors import BusError
from broker.pipe import Parcel, Pipe
from broker.port import Bus, Delivery
from contracts import topics
from contracts.errors import ContractError
from contracts.ids import check_id
from contracts.topics import SITE, Topic
from runtime.clock import Clock
from runtime.errors import UsageError
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.process import Context, launch
from runtime.settings import CommonSettings, Layered

DURABLE = "bridge"
"""Its session at the MQTT broker, which keeps what comes while it is away."""
CARRIED = (topics.METER_READING, topics.PV_READING, topics.PLANT_READING, topics.ALERT)


class BridgeSettings(CommonSettings, frozen=True, kw_only=True):
    """From which broker to which, and whose readings."""

    houses: Annotated[
        str,
        Meta(max_length=100_000, description="whose, such as house-d,house-e; by default of all houses"),
    ] = ""
    pv: Annotated[bool, Meta(description="a PV simulator answers these houses' readings")] = True


class BridgeService:
    """Acknowledges a reading to the MQTT broker once RabbitMQ has confirmed it, and keeps nothing itself.

    Args:
        houses: whose readings; none means all.
        source: the bus of the MQTT broker.
        target: the bus of RabbitMQ alone: on a live plane it would show what everybody there has seen.
        has_pv: a PV simulator reads at RabbitMQ.
    """

    def __init__(
        self,
        houses: Sequence[str],
        source: Bus,
        target: Bus,
        clock: Clock,
        life: Lifecycle,
        *,
        has_pv: bool = True,
    ) -> None:
        self._wanted: list[Topic[Any]] = [
            topic.of(house=house) for house in houses for topic in CARRIED
        ] or list(CARRIED)
        self._source = source
        self._target = target
        self._life = life
        self._has_pv = has_pv
        self._log = get_log("bridge")
        self._pipe = Pipe(target, clock, life, self._log, self._acknowledge, self._declare)
        self._carrying: dict[int, Delivery[Any]] = {}
        self._number = 0

    @property
    def carried(self) -> int:
        """Readings that RabbitMQ has."""
        return self._pipe.published

    async def run(self) -> None:
        """Serve until stopped."""
        async with (
            self._source.subscribe(*self._wanted, durable=DURABLE) as deliveries,
            asyncio.TaskGroup() as group,
        ):
            publishing = group.create_task(self._pipe.run())
            self._log.info("bridge started")
            async for delivery in self._life.each(deliveries):
                self._number += 1
                self._carrying[self._number] = delivery
                self._pipe.put(Parcel(self._number, delivery.address, delivery.message))
                await self._pipe.room()
            self._pipe.close()
            await publishing
        self._log.info("bridge stopped", carried=self.carried)

    async def _declare(self) -> None:
        """Whoever reads them at RabbitMQ finds them, also if it has not been there yet."""
        await self._target.declare(*CARRIED, durable=topics.RECORDER)
        if self._has_pv:  # a queue that nobody reads would fill up, and stop them all
            await self._target.declare(topics.METER_READING, durable=topics.PVSIM)

    async def _acknowledge(self, parcel: Parcel) -> None:
        delivery = self._carrying.pop(parcel.number)
        try:
            await delivery.ack()
        except BusError as error:
            self._log.debug("not acknowledged: it comes again", topic=delivery.address.name, why=str(error))


def houses_of(text: str) -> list[str]:
    """The houses in `house-d,house-e`.

    Raises:
        UsageError: one is no id.
    """
    try:
        return [check_id(house.strip(), "house") for house in text.split(",") if house.strip()]
    except ContractError as error:
        raise UsageError(f"bridge: --houses: {error}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; returns the exit code."""
    return launch(
        "bridge",
        BridgeSettings,
        serve,
        argv,
        description="Carries readings from the MQTT broker (the live URL) into RabbitMQ (the readings URL).",
        example="wattbus bridge --live-url mqtt://hive.example --readings-url amqp://rabbit.example "
        "--houses house-d,house-e",
    )


async def serve(settings: Layered[BridgeSettings], context: Context) -> None:
    """Run the service between the two brokers its settings name."""
    own = settings.base
    if not own.readings_url or not own.live_url or own.readings_url == own.live_url:
        raise UsageError("bridge: it needs two brokers: --live-url of MQTT, and --readings-url of RabbitMQ")
    async with AsyncExitStack() as stack:
        presence = presence_of(SITE, "bridge", "main")
        source, target = [
            await stack.enter_async_context(
                open_bus(
                    msgspec.structs.replace(own, readings_url=url, live_url=url),
                    context.clock,
                    client="bridge",
                    presence=presence,
                )
            )
            for url in (own.live_url, own.readings_url)
        ]
        await BridgeService(
            houses_of(own.houses), source, target, context.clock, context.life, has_pv=own.pv
        ).run()


if __name__ == "__main__":
    sys.exit(main())
