"""The JSON between the optimizer and its counterparts over HTTP: forecasts, a battery's state, commands.

A command is the `Dispatch` that the optimizer's own API shows.
"""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from contracts.messages import FlowKw, PowerKw


class PowerForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What will be consumed or produced: means over steps, the first of which begins at `start`."""

    timestamp: Annotated[datetime, Meta(tz=True, description="when it was made")]
    start: Annotated[datetime, Meta(tz=True)]
    time_step_minutes: Annotated[float, Meta(ge=1, le=1440)]
    power_kw: Annotated[list[FlowKw], Meta(min_length=1, max_length=10_000)]


class BatteryReading(msgspec.Struct, frozen=True, kw_only=True):
    """A battery now."""

    timestamp: Annotated[datetime, Meta(tz=True)]
    soc: Annotated[float, Meta(ge=0, le=1, description="0..1")]
    battery_power_kw: Annotated[PowerKw, Meta(description="+ charge / - discharge")] = 0.0
