"""Hears the houses, keeps their energies, and tells Home Assistant, each beat."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from typing import Any

import msgspec

from broker.bus import PlanesBus
from broker.errors import BusError
from broker.port import Delivery
from contracts import topics
from contracts.ids import RESERVED_HOUSES
from contracts.instant import Instant
from contracts.topics import Address
from home_assistant.discovery import Teller
from home_assistant.messages import DeviceConfig, config_at, der_state_at, house_state_at
from home_assistant.model import Energies, HouseModel
from home_assistant.settings import HomeAssistantSettings
from runtime.clock import Clock
from runtime.errors import StoreError
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.metrics import Metric, counter, gauge
from runtime.store import Store

HEARD = (topics.SNAPSHOT, topics.DER_TELEMETRY, topics.DECISION, topics.PRICE)
HOUSES_MAX = 1000
MISSED_BEATS = 6
"""After so many beats without a value Home Assistant shows it as unavailable."""


class Shown(msgspec.Struct, frozen=True):
    """What outlives a restart."""

    energies: dict[str, Energies] = {}
    """By house."""
    houses: dict[str, list[str]] = {}
    """The houses that Home Assistant was told of, and their batteries and cars."""


class HomeAssistantService:
    """Any number of houses, for one Home Assistant.

    Args:
        settings: the rhythm.
        bus: whose live plane is the broker that Home Assistant listens to.
        clock: its time.
        life: says when to stop.
        store: what was shown before.
        presence: the topic of our own Status.
    """

    def __init__(
        self,
        settings: HomeAssistantSettings,
        bus: PlanesBus,
        clock: Clock,
        life: Lifecycle,
        store: Store[Shown],
        presence: str,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._life = life
        self._store = store
        self._log = get_log("home_assistant")
        self._teller = Teller(presence, version("wattbus"), round(MISSED_BEATS * settings.interval_s))
        self._houses: dict[str, HouseModel] = {}
        self._told: dict[str, DeviceConfig] = {}
        self.unsent = 0

    def metrics(self) -> Iterator[Metric]:
        """What it counts, for Prometheus."""
        yield gauge("wattbus_houses", "Houses heard of.", len(self._houses))
        yield counter("wattbus_unsent", "Messages the broker did not take.", self.unsent)

    async def run(self) -> None:
        """Serve until stopped."""
        async with self._bus.subscribe(*HEARD) as deliveries, asyncio.TaskGroup() as group:
            group.create_task(self._hear(deliveries))
            self._log.info("shown to Home Assistant")
            async for _ in self._life.each(self._clock.every(self._settings.interval_s)):
                await self._tell()
        self._log.info("stopped: Home Assistant keeps what it was shown", unsent=self.unsent)

    async def remove(self) -> None:
        """Take away what was shown; the energies are kept, so that no counter starts anew.

        Raises:
            BusError: the broker did not take it: what is left is taken away the next time.
            StoreError: that it is gone can't be stored.
        """
        shown = self._store.load()
        for house, ders in shown.houses.items():
            for der_id in ders:
                await self._bus.clear(config_at(house, der_id))
                await self._bus.clear(der_state_at(house, der_id))
            await self._bus.clear(config_at(house))
            await self._bus.clear(house_state_at(house))
        self._store.save(Shown(shown.energies, {}))
        self._log.info("not enabled: nothing is shown to Home Assistant", taken_away=len(shown.houses))

    async def _hear(self, deliveries: AsyncIterator[Delivery[Any]]) -> None:
        async for delivery in self._life.each(deliveries):
            house = delivery.message.house
            if (model := self._model_of(house)) is not None:
                model.hear(delivery.message)
            await delivery.ack()

    def _model_of(self, house: str) -> HouseModel | None:
        model = self._houses.get(house)
        if model is None and house.lower() not in RESERVED_HOUSES and len(self._houses) < HOUSES_MAX:
            kept = self._store.load().energies.get(house, Energies())
            model = self._houses[house] = HouseModel(kept)
        return model

    async def _tell(self) -> None:
        now = self._clock.now()
        try:
            # Stored before they are told: after a crash no counter runs backwards.
            self._store.save(self._shown())
        except StoreError as error:
            self._log.error("energies not stored, so not told", why=str(error))
            return
        for house, model in self._houses.items():
            if not model.is_alive(now):
                continue
            try:
                await self._tell_house(house, model, now)
            except BusError as error:
                # The next beat brings newer values.
                self.unsent += 1
                self._log.debug("not told", house=house, why=str(error))

    def _shown(self) -> Shown:
        before = self._store.load()
        energies = {**before.energies, **{house: model.energies for house, model in self._houses.items()}}
        told = {
            house: list(dict.fromkeys([*before.houses.get(house, []), *model.ders]))
            for house, model in self._houses.items()
        }
        return Shown(energies, {**before.houses, **told})

    async def _tell_house(self, house: str, model: HouseModel, now: Instant) -> None:
        currency = None if model.price is None else model.price.currency
        await self._configure(config_at(house), self._teller.house(house, currency))
        await self._bus.publish(house_state_at(house), model.house_state(now))
        for der_id, der in list(model.ders.items()):
            await self._configure(config_at(house, der_id), self._teller.der(der))
            await self._bus.publish(der_state_at(house, der_id), model.der_state(der_id, now))

    async def _configure(self, address: Address[DeviceConfig], config: DeviceConfig) -> None:
        """Tell of a device when there is something new about it: what is retained needs no second telling."""
        if self._told.get(address.name) != config:
            await self._bus.publish(address, config)
            self._told[address.name] = config
