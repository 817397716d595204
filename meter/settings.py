"""What a meter can be told."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from contracts.ids import Id
from runtime.settings import HouseSettings


class MeterSettings(HouseSettings, frozen=True, kw_only=True):
    """Which house, which meter, where its readings come from, how often."""

    meter: Annotated[Id, Meta(description="which meter of the house")] = "main"
    source: Annotated[
        Literal["simulated", "csv", "sunspec", "dsmr", "shelly", "tasmota"],
        Meta(description="simulated: a believable house; csv: a recorded file; or a real meter"),
    ] = "simulated"
    device: Annotated[
        str,
        Meta(
            max_length=2000,
            description="a real meter's: host[:port] (sunspec); /dev/ttyUSB0, host:port or a telegram file "
            "(dsmr); mqtt://user:password@host/its/topic (shelly, tasmota)",
        ),
    ] = ""
    device_unit: Annotated[int, Meta(ge=0, le=255, description="sunspec: the Modbus unit")] = 1
    device_version: Annotated[
        Literal["2", "4", "5", "5B", "5S"], Meta(description="dsmr: of the telegrams; 5B Belgium, 5S Sweden")
    ] = "5"
    device_inverted: Annotated[
        bool, Meta(description="the meter counts export as positive: turn its sign")
    ] = False
    device_age_max_s: Annotated[
        float, Meta(gt=0, le=3600, description="dsmr, shelly, tasmota: older is no measurement of now")
    ] = 30.0
    csv: Annotated[
        Path | None,
        Meta(description="the recorded file, or a folder of them: timestamp and a column of powers"),
    ] = None
    csv_column: Annotated[str, Meta(description="the column of powers in W")] = "meter_w"
    csv_rebase: Annotated[
        bool, Meta(description="move the recorded days to the present, by whole multiples of 52 weeks")
    ] = False
    interval_s: Annotated[float, Meta(ge=0.1, le=86400, description="time between readings")] = 10.0
    measures: Annotated[
        Literal["load", "grid"], Meta(description="load: gross consumption; grid: net of PV, - export")
    ] = "load"
    pv: Annotated[bool, Meta(description="the house has PV: a PV simulator answers each reading")] = True
    max_w: Annotated[float, Meta(gt=0, le=1e6, description="most a simulated house consumes, in W")] = 9000.0
    boot_floor: Annotated[
        int, Meta(ge=0, description="the boot counter starts above this, after a disk was replaced")
    ] = 0
    outbox_max_rows: Annotated[
        int, Meta(ge=1, le=100_000_000, description="readings that may wait for the broker")
    ] = 1_000_000
    outbox_max_mb: Annotated[
        int, Meta(ge=1, le=100_000, description="how large they may be together, in MiB")
    ] = 256
    outbox_max_days: Annotated[
        float | None, Meta(gt=0, description="how old the oldest may be; by default as old as it gets")
    ] = None
