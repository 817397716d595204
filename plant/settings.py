"""What the plant can be told; the flags are those of the plant API document, in MW."""

import json
import secrets
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from contracts.ids import Id
from plant.model import Bounds, PlantModel
from runtime.errors import UsageError
from runtime.settings import CommonSettings
from runtime.token import checked_token

PLANT = "complexo-paranhos"
CONFIG_JSON = Path("config.json")
PLACEHOLDER = "<token>"
"""What the document's own config.json has in the token's place."""


class PlantSettings(CommonSettings, frozen=True, kw_only=True):
    """The bounds of the walks, their rhythm, and how the plant is asked.

    Raises:
        SpecError: a bound that is none, or min above max.
    """

    gen_min: Annotated[float, Meta(description="minimum generation in MW")]
    gen_max: Annotated[float, Meta(description="maximum generation in MW")]
    cons_min: Annotated[float, Meta(description="minimum consumption in MW")]
    cons_max: Annotated[float, Meta(description="maximum consumption in MW")]
    step: Annotated[float, Meta(description="maximum change per update (MW)")] = 0.01
    interval: Annotated[float, Meta(ge=0.1, le=86400, description="update interval in seconds")] = 10.0
    host: Annotated[str, Meta(min_length=1, description="address of the HTTP server")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="HTTP server port")] = 8090
    token: Annotated[
        str,
        Meta(description="bearer token for auth", extra={"env": "PLANT_TOKEN"}),
    ] = ""
    config_json: Annotated[
        Path, Meta(description="where the token (plant.api_key) and plant_id stand if no flag says them")
    ] = CONFIG_JSON
    plant_id: Annotated[
        Id | None, Meta(description=f"which plant it is; else config.json's, else {PLANT}")
    ] = None
    debug: Annotated[bool, Meta(description="enable debug logging")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model()

    def model(self) -> PlantModel:
        """The plant, as the seed begins it."""
        return PlantModel(
            Bounds("gen", self.gen_min, self.gen_max),
            Bounds("cons", self.cons_min, self.cons_max),
            self.step,
            f"{self.seed}/plant",
        )


class PlantTable(msgspec.Struct, frozen=True, kw_only=True):
    """The `plant` of a config.json: for the server and for its poller."""

    api_endpoint: str = ""
    api_key: str = ""
    plant_id: Id | None = None


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True):
    """A config.json; what else stands in it is somebody else's."""

    plant: PlantTable = PlantTable()


def read_config(path: Path) -> PlantTable:
    """The `plant` of a config.json; the usual one need not be there, and says nothing then.

    Raises:
        UsageError: it can't be read, or is no such file.
    """
    if path == CONFIG_JSON and not path.exists():
        return PlantTable()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from error
    try:
        return msgspec.convert(json.loads(content), ConfigFile).plant
    except (ValueError, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: {error}") from error


class Access(NamedTuple):
    """Which plant is asked for, and the token that must be shown."""

    plant_id: str
    token: str
    is_new: bool
    """The token was made now, and must be told once."""


def access_of(settings: PlantSettings) -> Access:
    """From flags, then the environment, then config.json; without any token, a random one.

    Raises:
        UsageError: config.json can't be read, or the token could be guessed.
    """
    config = read_config(settings.config_json)
    plant_id = settings.plant_id or config.plant_id or PLANT
    if settings.token:
        return Access(plant_id, checked_token(settings.token, "token"), is_new=False)
    if config.api_key not in ("", PLACEHOLDER):
        where = f"{settings.config_json}: plant.api_key"
        return Access(plant_id, checked_token(config.api_key, where), is_new=False)
    return Access(plant_id, secrets.token_urlsafe(24), is_new=True)
