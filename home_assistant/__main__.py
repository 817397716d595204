"""`wattbus home-assistant`: settings, bus and service put together."""

import sys
from collections.abc import Sequence

from broker.connect import open_bus, presence_of
from contracts.topics import SITE
from home_assistant.service import HomeAssistantService, Shown
from home_assistant.settings import HomeAssistantSettings
from runtime.errors import UsageError
from runtime.logs import get_log
from runtime.monitor import monitored
from runtime.process import Context, launch
from runtime.settings import Layered
from runtime.store import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; returns the exit code."""
    return launch(
        "home_assistant",
        HomeAssistantSettings,
        serve,
        argv,
        description="Shows every house, battery and car to Home Assistant, by its MQTT discovery.",
        example="wattbus home-assistant --enabled --live-url mqtt://user:password@homeassistant.local:1883",
    )


async def serve(settings: Layered[HomeAssistantSettings], context: Context) -> None:
    """Run the service on the bus its settings name.

    Raises:
        UsageError: the live broker speaks no MQTT, which Home Assistant needs.
    """
    own = settings.base
    if (own.live_url or own.readings_url).startswith("amqp"):
        raise UsageError("home-assistant: --live-url must be an MQTT broker's: the one Home Assistant is at")
    presence = presence_of(SITE, "home_assistant", "main")
    store = Store(own.state_dir / "home-assistant.json", Shown, Shown())
    async with open_bus(own, context.clock, client="home-assistant", presence=presence) as bus:
        service = HomeAssistantService(own, bus, context.clock, context.life, store, presence.name)
        if not own.enabled:
            await service.remove()
            return
        metrics, log = [bus.metrics, service.metrics], get_log("home_assistant")
        async with monitored(own, metrics, lambda: bus.ailing, log):
            await service.run()


if __name__ == "__main__":
    sys.exit(main())
