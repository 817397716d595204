"""All houses as a spectator of the bus knows them, their alerts, and the services. Pure and bounded."""

from collections import deque
from collections.abc import Callable
from datetime import tzinfo
from typing import Any

from contracts.ids import RESERVED_HOUSES
from contracts.instant import Instant
from contracts.messages import Alert, PriceForecast, Status
from contracts.topics import SITE
from dashboard.house import House

HOUSES_MAX = 1000
ALERTS_MAX = 300
SERVICES_MAX = 100


class Fleet:
    """Turns messages into what is shown.

    Args:
        zone: whose days are counted.
        max_export_kw: what a house may feed into the grid, by its name.
    """

    def __init__(self, zone: tzinfo, max_export_kw: Callable[[str], float]) -> None:
        self.zone = zone
        self._max_export_kw = max_export_kw
        self.houses: dict[str, House] = {}
        self.alerts: deque[Alert] = deque(maxlen=ALERTS_MAX)
        """The newest last."""
        self.alerts_version = 0
        self.services: dict[str, Status] = {}
        """Those of no house, by their class."""
        self.changed: set[str] = set()
        """Houses of which there is something new since `take_changed`."""
        self.refused = 0
        """Messages of houses beyond HOUSES_MAX."""
        self._common_price: PriceForecast | None = None

    def hear(self, ids: dict[str, str], message: Any, now: Instant) -> None:  # noqa: ANN401 - any message
        """Take in one message.

        Args:
            ids: of the address it came to.
            message: it.
            now: by the dashboard's clock.
        """
        name = ids["house"]
        if isinstance(message, Alert):
            self._note_alert(message)
        if name.lower() in RESERVED_HOUSES:
            self._hear_common(ids, message)
            return
        house = self.houses.get(name)
        if house is None:
            if len(self.houses) >= HOUSES_MAX:
                self.refused += 1
                return
            house = self.houses[name] = House(name, self.zone, self._max_export_kw(name))
            house.price = self._common_price
        house.hear(message, now)
        self.changed.add(name)

    def take_changed(self) -> set[str]:
        """The houses of which there is something new since the last call."""
        changed, self.changed = self.changed, set()
        return changed

    def _note_alert(self, alert: Alert) -> None:
        self.alerts.append(alert)
        self.alerts_version += 1

    def _hear_common(self, ids: dict[str, str], message: Any) -> None:  # noqa: ANN401 - any message
        """What belongs to no house: a tariff for all, and the services."""
        if ids["house"] != SITE:
            return
        if isinstance(message, PriceForecast):
            self._common_price = message
            for house in self.houses.values():
                if house.price is None or house.price.house == SITE:
                    house.hear(message, message.issued_at)
        elif isinstance(message, Status):
            key = f"{ids['class']} {ids['device']}" if ids["device"] != "main" else ids["class"]
            if key in self.services or len(self.services) < SERVICES_MAX:
                self.services[key] = message
