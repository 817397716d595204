"""Clients of a Reporter and a BMS."""

import httpx
import msgspec

from optimizer.views import Dispatch
from optimizer.wire import BatteryReading, PowerForecast
from runtime.asking import Asker
from runtime.clock import Clock


class Reporter:
    """Whoever forecasts load and solar power.

    Args:
        token: what it asks for, if it does.
    """

    def __init__(self, base_url: str, http: httpx.AsyncClient, clock: Clock, token: str = "") -> None:
        self._asker = Asker("Reporter", base_url, http, clock, token=token)

    async def load(self, hours: int) -> PowerForecast:
        """Consumption, hourly as a rule.

        Raises:
            RemoteError: no answer, or none that makes sense.
        """
        return await self._asker.ask(PowerForecast, "GET", f"/api/forecasts/load?hours={hours}")

    async def solar(self, hours: int) -> PowerForecast:
        """Production.

        Raises:
            RemoteError: no answer, or none that makes sense.
        """
        return await self._asker.ask(PowerForecast, "GET", f"/api/forecasts/solar?hours={hours}")


class Bms:
    """Whoever runs the battery.

    Args:
        token: what it asks for, if it does.
    """

    def __init__(self, base_url: str, http: httpx.AsyncClient, clock: Clock, token: str = "") -> None:
        self._asker = Asker("BMS", base_url, http, clock, token=token)

    async def read(self) -> BatteryReading:
        """The battery now.

        Raises:
            RemoteError: no answer, or none that makes sense.
        """
        return await self._asker.ask(BatteryReading, "GET", "/api/battery/soc")

    async def dispatch(self, command: Dispatch) -> None:
        """Send a command.

        Raises:
            RemoteError: it is not known to be obeyed.
        """
        await self._asker.ask(msgspec.Raw, "POST", "/api/battery/dispatch", msgspec.json.encode(command))
