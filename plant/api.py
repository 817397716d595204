"""The plant's HTTP API: `/data/latest` and `/metrics` for who has the token, `/health` for all."""

from collections.abc import Callable, Sequence
from typing import Annotated

from litestar import Litestar, get
from litestar.exceptions import NotFoundException
from litestar.params import Parameter
from prometheus_client.registry import Collector

from plant.model import PlantModel
from plant.settings import Access, PlantSettings
from plant.views import mw
from plant.wire import Health, Latest
from runtime.bearer import Guards
from runtime.door import Door
from runtime.logs import get_log
from runtime.refusals import refusals
from runtime.token import SITE, Tokens
from runtime.web import web_app

PlantId = Annotated[str, Parameter(min_length=1, max_length=64, description="which plant")]
REFUSED = refusals(http_404="no such plant", http_422="plant_id is missing or is none")


def door_of(access: Access) -> Door:
    """Who may read the plant: whoever has its token, wherever it is bound."""
    return Door(tokens=Tokens({access.token: SITE}), is_open=False, is_local=False)


def plant_api(
    settings: PlantSettings,
    access: Access,
    plant: PlantModel,
    latest: Callable[[], Latest],
    collectors: Sequence[Collector] = (),
) -> Litestar:
    """The application; /metrics shows what the collectors give.

    Args:
        settings: the ranges it tells.
        access: which plant it is, and the token.
        plant: what it is about.
        latest: the last reading.
    """
    guards = Guards(door_of(access), "plant")

    @get("/data/latest", sync_to_thread=False, **guards.reads(REFUSED))
    def data_latest(plant_id: PlantId) -> Latest:
        """The plant's last reading."""
        if plant_id != access.plant_id:
            raise NotFoundException("no such plant")
        return latest()

    @get("/health", sync_to_thread=False)
    def health() -> Health:
        """Whether it runs, and between what it walks."""
        return Health(
            status="ok",
            generation_range=[settings.gen_min, settings.gen_max],
            consumption_range=[settings.cons_min, settings.cons_max],
            current_generation=mw(plant.generation.total_w),
            current_consumption=mw(plant.consumption.total_w),
        )

    return web_app(
        [data_latest, health],
        title="Test power plant",
        description="A power plant that drifts between its bounds.",
        log=get_log("plant"),
        guards=guards,
        collectors=collectors,
        invalid_code=422,
    )
