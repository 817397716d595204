"""What the service for Home Assistant can be told."""

from typing import Annotated

from msgspec import Meta

from runtime.settings import MonitoredSettings


class HomeAssistantSettings(MonitoredSettings, frozen=True, kw_only=True):
    """Whether houses are shown there, and how often their values are renewed."""

    enabled: Annotated[
        bool, Meta(description="show the houses; without it, take away what was shown, and end")
    ] = False
    interval_s: Annotated[float, Meta(ge=1, le=3600, description="between two values")] = 10.0
