"""What the recorder can be told."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from energy.zones import zone_of
from runtime.settings import MonitoredSettings


class RecorderSettings(MonitoredSettings, frozen=True, kw_only=True):
    """Where the files stand, when a day begins, how much is written at once."""

    data_dir: Annotated[Path, Meta(description="the folder of the daily CSV files")] = Path("DATA")
    day_timezone: Annotated[
        str, Meta(description="whose days the files are; fixed once for a data folder")
    ] = "UTC"
    batch_s: Annotated[
        float, Meta(ge=0, le=3600, description="the longest a reading waits for company before it is written")
    ] = 0.2
    batch_max: Annotated[
        int, Meta(ge=1, le=100_000, description="readings written and synchronised at once, at most")
    ] = 500
    gap_patience_s: Annotated[
        float, Meta(ge=0, le=86400, description="how long a missing reading may be late before an alert")
    ] = 60.0

    flood_per_s: Annotated[
        float, Meta(gt=0, description="readings a second of a house, in the long run, before an alert")
    ] = 10.0
    diary: Annotated[
        bool, Meta(description="write what is decided for each house, and why, for `wattbus explain`")
    ] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        zone_of(self.day_timezone)
