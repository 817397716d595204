"""What an orchestrator keeps across restarts: epoch, alerts' boot, persons' orders, the batteries' day."""

from collections.abc import Mapping

import msgspec

from contracts.instant import Instant
from orchestrator.model import HouseModel
from orchestrator.requests import Orders
from orchestrator.wear import DayWear
from runtime.errors import StoreError
from runtime.logs import Log
from runtime.store import Store

WEAR_EVERY_S = 300.0
"""So much of a battery's work is forgotten at most when the process is killed."""


class Mark(msgspec.Struct, frozen=True):
    """What an orchestrator must not forget."""

    epoch: int = 0
    alert_boot: int = 0
    orders: dict[str, Orders] = {}
    """What persons have ordered, by house."""
    wear: dict[str, DayWear] = {}
    """What the batteries have done today, by house."""


class Memory:
    """The mark of one life; stored before it is used, so that two lives never share an epoch.

    Raises:
        StoreError: the disk is full, or the folder can't be written.
    """

    def __init__(self, store: Store[Mark], log: Log) -> None:
        self._store = store
        self._log = log
        self._wear_at: Instant | None = None
        mark = store.load()
        self._mark = msgspec.structs.replace(mark, epoch=mark.epoch + 1, alert_boot=mark.alert_boot + 1)
        store.save(self._mark)

    @property
    def epoch(self) -> int:
        """The highest that is stored."""
        return self._mark.epoch

    @property
    def alert_boot(self) -> int:
        """This life's, for alerts."""
        return self._mark.alert_boot

    def orders_of(self, house: str) -> Orders | None:
        """What was ordered in a house the last time it was kept."""
        return self._mark.orders.get(house)

    def wear_of(self, house: str) -> DayWear | None:
        """What the batteries of a house had done the last time it was kept."""
        return self._mark.wear.get(house)

    def keep_epoch(self, epoch: int) -> None:
        """Store an epoch; if that fails it holds for this life, and the DERs' answers tell the next one."""
        try:
            self._save(msgspec.structs.replace(self._mark, epoch=epoch))
        except StoreError as error:
            self._log.error("epoch not stored", epoch=epoch, why=str(error))

    def keep_orders(self, houses: Mapping[str, HouseModel]) -> None:
        """Store what is in force; a house that was not heard of in this life keeps what it had.

        Raises:
            StoreError: the disk is full, or the folder can't be written.
        """
        heard = {name: house.orders for name, house in houses.items() if house.orders != Orders()}
        self._save(msgspec.structs.replace(self._mark, orders={**self._mark.orders, **heard}))

    def keep_wear(self, houses: Mapping[str, HouseModel], now: Instant, *, is_last: bool = False) -> None:
        """Store from time to time, and at the end, what the batteries have done today."""
        if not is_last and self._wear_at and abs(now.seconds_since(self._wear_at)) < WEAR_EVERY_S:
            return
        self._wear_at = now
        heard = {name: today for name, house in houses.items() if (today := house.known.wear.today)}
        wear = {name: day for name, day in {**self._mark.wear, **heard}.items() if day.until > now}
        if wear == self._mark.wear:
            return
        try:
            self._save(msgspec.structs.replace(self._mark, wear=wear))
        except StoreError as error:
            self._log.error("the batteries' cycles are not stored", why=str(error))

    def _save(self, mark: Mark) -> None:
        self._store.save(mark)
        self._mark = mark
