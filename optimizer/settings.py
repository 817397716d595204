"""What the optimizer can be told; `[house.house-a.optimizer]` says what one house has different."""

from typing import Annotated, Literal

from msgspec import Meta

from energy.tariff import DEFAULT, load_tariff
from runtime.settings import CommonSettings


class OptimizerSettings(CommonSettings, frozen=True, kw_only=True):
    """The planning rhythm, the horizon, the tariff and the limits of a house's grid connection.

    Raises:
        ValueError: no such tariff, or a horizon that is no whole number of steps.
    """

    interval_min: Annotated[int, Meta(ge=1, le=1440, description="how often a battery is planned anew")] = 15
    horizon_h: Annotated[float, Meta(gt=0, le=168, description="how far ahead")] = 48.0
    step_min: Annotated[
        Literal[5, 10, 15, 30, 60], Meta(description="length of a plan's steps: 5, 10, 15, 30 or 60")
    ] = 15
    tariff: Annotated[str, Meta(description="a built-in tariff's name, or the path of a .toml file")] = (
        DEFAULT
    )
    max_grid_import_kw: Annotated[float, Meta(ge=0, le=1e5, description="the main fuse")] = 16.0
    max_grid_export_kw: Annotated[
        float, Meta(ge=0, le=1e5, description="what may flow into the grid; 0: no export, PV is curtailed")
    ] = 0.0

    def __post_init__(self) -> None:
        load_tariff(self.tariff)
        if self.horizon_h * 60 % self.step_min:
            raise ValueError(
                f"horizon_h {self.horizon_h:g} is no whole number of steps of step_min {self.step_min}"
            )

    @property
    def step_s(self) -> float:
        """Length of a step [s]."""
        return self.step_min * 60.0

    @property
    def steps(self) -> int:
        """N."""
        return round(self.horizon_h * 60 / self.step_min)
