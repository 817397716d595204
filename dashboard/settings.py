"""What the dashboard can be told."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from runtime.door import ServedSettings


class DashboardSettings(ServedSettings, frozen=True, kw_only=True):
    """Where the page is served, what it may change, and where the recorded days stand."""

    service_port: Annotated[int, Meta(ge=1, le=65535, description="its port")] = 8080
    data_dir: Annotated[Path, Meta(description="the recorder's folder of daily CSV files")] = Path("DATA")
    stale_s: Annotated[
        float, Meta(ge=1, le=3600, description="a device that was silent for so long looks stale")
    ] = 25.0
    max_grid_export_kw: Annotated[
        float, Meta(ge=0, le=1e5, description="what a house may feed in, to reckon what its battery saves")
    ] = 16.0
