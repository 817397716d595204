"""The plant's HTTP API: `/data/latest` for who has the token, `/health` for all."""

from collections.abc import Callable
from typing import Annotated

from litestar import Litestar, get
from litestar.exceptions import NotFoundException
from litestar.params import Parameter

from plant.model import PlantModel
from plant.settings import Access, PlantSettings
from plant.views import mw
from plant.wire import Health, Latest
from runtime.bearer import SECURITY, BearerGuard
from runtime.logs import get_log
from runtime.web import refusals, web_app

PlantId = Annotated[str, Parameter(min_length=1, max_length=64, description="which plant")]
REFUSED = refusals(
    http_401="no token, or a wrong one", http_404="no such plant", http_422="plant_id is missing or is none"
)


def plant_api(
    settings: PlantSettings, access: Access, plant: PlantModel, latest: Callable[[], Latest]
) -> Litestar:
    """The application.

    Args:
        settings: the ranges it tells.
        access: which plant it is, and the token.
        plant: what it is about.
        latest: the last reading.
    """

    @get(
        "/data/latest",
        sync_to_thread=False,
        guards=[BearerGuard(access.token)],
        security=SECURITY,
        responses=REFUSED,
    )
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
        invalid_code=422,
    )
