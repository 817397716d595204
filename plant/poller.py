"""`wattbus plant-poller`: settings, bus, HTTP and service put together."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import SplitResult, urlsplit

from msgspec import Meta

from broker.connect import presence_of
from broker.late import open_late_bus
from broker.outbox_file import OutboxFile
from contracts.ids import Id
from plant.boots import next_boot
from plant.settings import CONFIG_JSON, PLACEHOLDER, PLANT, read_config
from plant.trust import Trust
from runtime.door import Doorman, ServedSettings, open_door
from runtime.errors import UsageError
from runtime.logs import get_log
from runtime.needs import SERVER, complain, missing
from runtime.process import Context, launch
from runtime.settings import Layered

EXAMPLE = (
    "wattbus plant-poller --api-endpoint http://localhost:8090/data/latest --live-url mqtt://127.0.0.1:1883"
)


class PollerSettings(ServedSettings, frozen=True, kw_only=True):
    """Which plant API is asked, how often, and what of its answers is believed."""

    api_endpoint: Annotated[
        str,
        Meta(
            max_length=2000,
            description="the plant API; else config.json's, e.g. http://localhost:8090/data/latest",
            extra={"env": "PLANT_API_ENDPOINT"},
        ),
    ] = ""
    api_key: Annotated[
        str,
        Meta(
            max_length=2000, description="its bearer token; else config.json's", extra={"env": "PLANT_TOKEN"}
        ),
    ] = ""
    plant_id: Annotated[Id | None, Meta(description=f"which plant; else config.json's, else {PLANT}")] = None
    config_json: Annotated[
        Path,
        Meta(description="where plant.api_endpoint, api_key and plant_id stand if nothing else says them"),
    ] = CONFIG_JSON
    interval_s: Annotated[float, Meta(ge=0.1, le=3600, description="between two questions")] = 10.0
    max_age_s: Annotated[float, Meta(ge=1, le=86400, description="an older answer is not believed")] = 120.0
    min_confidence: Annotated[
        float, Meta(ge=0, le=1, description="an answer with less confidence is not believed")
    ] = 0.5
    failures: Annotated[int, Meta(ge=1, le=1000, description="so many in a row are told in an alert")] = 5
    service_port: Annotated[int, Meta(ge=0, le=65535, description="its port; 0: no HTTP")] = 8004


class Target(NamedTuple):
    """Which plant is asked, where, and with what."""

    plant_id: str
    endpoint: str
    query: str
    api_key: str


def target_of(settings: PollerSettings) -> Target:
    """From flags, then the environment, then config.json.

    Raises:
        UsageError: no address or token, or one that can't be.
    """
    config = read_config(settings.config_json)
    plant_id = settings.plant_id or config.plant_id or PLANT
    endpoint = settings.api_endpoint or config.api_endpoint
    api_key = settings.api_key or ("" if config.api_key == PLACEHOLDER else config.api_key)
    for flag, value in (("api_endpoint", endpoint), ("api_key", api_key)):
        if not value:
            name = flag.replace("_", "-")
            raise UsageError(f"plant-poller: --{name} is missing; or plant.{flag} in {settings.config_json}")
    parts = _split(endpoint)
    if not (api_key.isascii() and api_key.isprintable()):
        raise UsageError("api_key: a bearer token is printable ASCII")
    query = f"?{parts.query}&" if parts.query else "?"
    return Target(plant_id, parts._replace(query="").geturl(), f"{query}plant_id={plant_id}", api_key)


def _split(endpoint: str) -> SplitResult:
    try:
        parts = urlsplit(endpoint)
        is_address = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        parts, is_address = SplitResult("", "", "", "", ""), False
    if not is_address or parts.username or parts.fragment:
        shown = endpoint.rpartition("@")[2][:80]
        raise UsageError(
            f"api_endpoint {shown!r} is no address: write it as http://localhost:8090/data/latest"
        )
    return parts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the poller; returns the exit code."""
    if lacking := missing(SERVER):
        return complain(lacking, "server")
    return launch(
        "plant_poller",
        PollerSettings,
        serve,
        argv,
        description="Asks a plant API every 10 s, and puts what can be believed on the bus.",
        example=EXAMPLE,
    )


async def serve(settings: Layered[PollerSettings], context: Context) -> None:
    """Poll until stopped."""
    # Imported here: --help does not wait for a web framework, and what is missing is said in one line.
    from plant.poller_api import poller_api
    from plant.polling import PollerService
    from runtime.asking import Asker, open_client
    from runtime.http import serving
    from runtime.web import SourceCollector

    own, (clock, life) = settings.base, context
    target, door = target_of(own), open_door(own)
    boot = next_boot(own.state_dir / f"plant-poller-{target.plant_id}.json")
    presence = presence_of(target.plant_id, "plant", "poller")
    client = f"plant-poller-{target.plant_id}"
    async with open_client() as http, open_late_bus(own, clock, client=client, presence=presence) as bus:
        asker = Asker(
            f"plant {target.plant_id}",
            target.endpoint,
            http,
            clock,
            token=target.api_key,
            leave_alone_s=0.0,
        )
        trust = Trust(max_age_s=own.max_age_s, min_confidence=own.min_confidence)
        service = PollerService(
            target.plant_id,
            boot,
            asker,
            target.query,
            trust,
            own.interval_s,
            own.failures,
            bus,
            clock,
            life,
            OutboxFile(own.state_dir / f"outbox-plant-poller-{target.plant_id}.sqlite"),
        )
        if own.service_port == 0:
            await service.run()
            return
        counts = [SourceCollector(bus.metrics), SourceCollector(service.metrics)]
        app = poller_api(target.plant_id, service.condition, clock, counts, door)
        doorman, log = Doorman(door, own.requests_per_s), get_log("plant_poller")
        async with serving(app, own.service_host, own.service_port, log, doorman):
            await service.run()


if __name__ == "__main__":
    sys.exit(main())
