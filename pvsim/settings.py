"""What the PV simulator can be told; `[house.house-a.pvsim]` says what one house has different."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from runtime.settings import MonitoredSettings


class PvsimSettings(MonitoredSettings, frozen=True, kw_only=True):
    """Where the arrays stand, how they look at the sky, and how cloudy it is."""

    source: Annotated[
        Literal["simulated", "csv"], Meta(description="simulated: clear sky and clouds; csv: a recorded file")
    ] = "simulated"
    csv: Annotated[Path | None, Meta(description="the recorded file, or a folder of them")] = None
    csv_column: Annotated[str, Meta(description="the column of powers in W")] = "pv_w"
    csv_rebase: Annotated[
        bool, Meta(description="move the recorded days to the present, by whole multiples of 52 weeks")
    ] = False
    peak_w: Annotated[float, Meta(ge=0, le=1e7, description="most the array gives, in W")] = 4000.0
    tilt_deg: Annotated[float, Meta(ge=0, le=90, description="from horizontal")] = 25.0
    azimuth_deg: Annotated[float, Meta(ge=0, le=360, description="180 looks south")] = 180.0
    cloudiness: Annotated[float, Meta(ge=0, le=1, description="0 clear sky, 1 overcast")] = 0.3
