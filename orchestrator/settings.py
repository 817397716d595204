"""What the orchestrator can be told; `[house.house-a.orchestrator]` says what one house has different."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from contracts.ids import Id
from orchestrator.balance import Order
from runtime.door import ServedSettings

DEFAULT_ISSUER = "main"


class OrchestratorSettings(ServedSettings, frozen=True, kw_only=True):
    """The control loop's rhythm and the limits of a house's grid connection."""

    issuer: Annotated[
        Id, Meta(max_length=24, description="the name on its commands; two orchestrators never share one")
    ] = DEFAULT_ISSUER
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
    fuse_a: Annotated[
        float | None,
        Meta(ge=0, le=1e4, description="the main fuse on each phase; by default from max_grid_import_kw"),
    ] = None
    arbitrage_threshold: Annotated[
        float | None,
        Meta(
            ge=-1e6,
            le=1e6,
            description="below this price electricity is cheap; by default the next day's mean",
        ),
    ] = None
    prefer_self_consumption: Annotated[bool, Meta(description="solar power is stored before it is sold")] = (
        True
    )
    house_priority: Annotated[
        bool, Meta(description="what is stored is for the house: no battery feeds a car")
    ] = True
    reserve_soc_percent: Annotated[
        float, Meta(ge=0, le=100, description="below it a battery charges first; 0: no reserve")
    ] = 0.0
    reserve_charge_kw: Annotated[float, Meta(ge=0, le=1e5, description="with how much it does")] = 1.0
    max_battery_cycles_per_day: Annotated[
        float, Meta(ge=0, le=100, description="after so many full cycles a battery rests")
    ] = 2.0
    max_battery_temp_c: Annotated[float, Meta(ge=-90, le=200, description="a warmer battery rests")] = 50.0
    ev_hold_s: Annotated[
        float, Meta(ge=0, le=86400, description="a car is not switched on or off more often")
    ] = 300.0
    balancer_interval_s: Annotated[
        float, Meta(ge=1, le=86400, description="how often a plant's power is shared among its loads")
    ] = 60.0
    balancer_cooldown_s: Annotated[
        float, Meta(ge=0, le=86400, description="a load is not changed more often")
    ] = 30.0
    balancer_reserve_kw: Annotated[
        float, Meta(ge=0, le=1e5, description="of a plant's available power, left alone")
    ] = 2.0
    balancer_tolerance_kw: Annotated[
        float, Meta(ge=0, le=1e5, description="so near to what is available no load is changed")
    ] = 2.0
    balancer_order: Annotated[
        Order, Meta(description="fair: the lowest rises and the highest falls first; priority: by priority")
    ] = "fair"
    plant_fresh_s: Annotated[
        float,
        Meta(ge=1, le=86400, description="without a reading for so long, loads go to their safe presets"),
    ] = 120.0
    consumption_includes_loads: Annotated[
        bool, Meta(description="the plant's consumption counts the managed loads too")
    ] = False
    service_port: Annotated[int, Meta(ge=0, le=65535, description="its port; 0: no HTTP")] = 8003

    @property
    def mark_path(self) -> Path:
        """Where its memory is kept."""
        return self.state_dir / f"orchestrator-{self.issuer}.json"

    @property
    def audit_path(self) -> Path:
        """Where every request is written down."""
        return self.state_dir / f"orchestrator-{self.issuer}-requests.jsonl"
