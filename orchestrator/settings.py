"""What the orchestrator can be told; `[house.house-a.orchestrator]` says what one house has different."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from contracts.ids import Id
from runtime.settings import CommonSettings


class OrchestratorSettings(CommonSettings, frozen=True, kw_only=True):
    """The control loop's rhythm and the limits of a house's grid connection."""

    issuer: Annotated[
        Id, Meta(max_length=24, description="the name on its commands; two orchestrators never share one")
    ] = "main"
    interval_s: Annotated[float, Meta(ge=1, le=3600, description="the control loop's beat")] = 10.0
    settle_s: Annotated[
        float,
        Meta(ge=0, le=10, description="wait after each beat, so that what was published for it is heard"),
    ] = 0.5
    ttl_s: Annotated[float, Meta(ge=2, le=3600, description="how long a command is valid")] = 30.0
    reading_fresh_s: Annotated[float, Meta(gt=0, le=86400, description="an older reading counts as none")] = (
        30.0
    )
    max_grid_import_kw: Annotated[float, Meta(ge=0, le=1e5, description="the main fuse")] = 16.0
    max_grid_export_kw: Annotated[float, Meta(ge=0, le=1e5, description="what may flow into the grid")] = 16.0
    arbitrage_threshold: Annotated[
        float | None,
        Meta(description="below this price electricity is cheap; by default the next day's mean"),
    ] = None

    @property
    def mark_path(self) -> Path:
        """Where the highest epoch is kept."""
        return self.state_dir / f"orchestrator-{self.issuer}.json"
