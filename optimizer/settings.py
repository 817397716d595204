"""What the optimizer can be told; `[house.house-a.optimizer]` says what one house has different.

Where the MPC service's specification has a name of its own for a setting, that variable is read too.
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from energy.battery import BatterySpec
from energy.tariff import DEFAULT, load_tariff
from runtime.door import ServedSettings

Port = Annotated[int, Meta(ge=0, le=65535)]
TariffName = Annotated[
    str,
    Meta(
        description="a built-in tariff's name, or the path of a .toml file",
        extra={"file": ".toml"},
    ),
]


def check_url(name: str, url: str) -> None:
    """Refuse what is no address of an HTTP service; empty is none, and fine.

    Raises:
        ValueError: it is named, and what it should look like.
    """
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment):
        raise ValueError(f"{name} {url[:80]!r} is no address: write http://host:port")


class BatterySettings(ServedSettings, frozen=True, kw_only=True):
    """A battery that does not tell its own nameplate: the one behind a BMS, and the validator's.

    Raises:
        ValueError: no state of charge is allowed at all.
    """

    battery_capacity_kwh: Annotated[
        float, Meta(gt=0, le=1e6, description="kWh", extra={"env": "BATTERY_CAPACITY_KWH"})
    ] = 500.0
    battery_power_max_kw: Annotated[
        float, Meta(ge=0, le=1e5, description="kW, each way", extra={"env": "BATTERY_POWER_MAX_KW"})
    ] = 250.0
    battery_efficiency_roundtrip: Annotated[
        float,
        Meta(gt=0, le=1, description="out of 1 kWh, 0..1", extra={"env": "BATTERY_EFFICIENCY_ROUNDTRIP"}),
    ] = 0.9
    battery_soc_min: Annotated[
        float, Meta(ge=0, le=1, description="it is worked from here, 0..1", extra={"env": "BATTERY_SOC_MIN"})
    ] = 0.1
    battery_soc_max: Annotated[
        float, Meta(ge=0, le=1, description="up to here, 0..1", extra={"env": "BATTERY_SOC_MAX"})
    ] = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.battery_soc_min >= self.battery_soc_max:
            raise ValueError(
                f"battery_soc_min {self.battery_soc_min:g} must be below "
                f"battery_soc_max {self.battery_soc_max:g}"
            )

    def battery(self) -> BatterySpec:
        """The nameplate."""
        return BatterySpec(
            capacity_kwh=self.battery_capacity_kwh,
            max_charge_kw=self.battery_power_max_kw,
            max_discharge_kw=self.battery_power_max_kw,
            efficiency_roundtrip=self.battery_efficiency_roundtrip,
            min_soc_percent=100.0 * self.battery_soc_min,
            max_soc_percent=100.0 * self.battery_soc_max,
        )


class OptimizerSettings(BatterySettings, frozen=True, kw_only=True):
    """The planning rhythm, the horizon, the tariff, the limits of a house's grid connection, and HTTP.

    Raises:
        ValueError: no such tariff, or a horizon that is no whole number of steps.
    """

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Meta(description="DEBUG, INFO, WARNING or ERROR", extra={"env": "LOG_LEVEL"}),
    ] = "INFO"
    interval_min: Annotated[
        int,
        Meta(
            ge=1, le=1440, description="how often a battery is planned", extra={"env": "MPC_INTERVAL_MINUTES"}
        ),
    ] = 15
    horizon_h: Annotated[
        float, Meta(gt=0, le=168, description="how far ahead", extra={"env": "MPC_HORIZON_HOURS"})
    ] = 48.0
    step_min: Annotated[
        Literal[5, 10, 15, 30, 60],
        Meta(
            description="length of a plan's steps: 5, 10, 15, 30 or 60",
            extra={"env": "MPC_TIME_STEP_MINUTES"},
        ),
    ] = 15
    tariff: TariffName = DEFAULT
    max_grid_import_kw: Annotated[float, Meta(ge=0, le=1e5, description="the main fuse")] = 16.0
    degradation_cost: Annotated[
        float,
        Meta(
            ge=0,
            le=1e6,
            description="what a kWh into or out of a battery wears of it, in the tariff's currency",
        ),
    ] = 0.0
    replan_soc_percent: Annotated[
        float, Meta(gt=0, le=100, description="a state of charge so far from the plan's has it made anew")
    ] = 5.0
    replan_power_kw: Annotated[
        float,
        Meta(gt=0, le=1e5, description="and so does net load, its mean of two minutes, from its forecast"),
    ] = 2.0
    recordings_dir: Annotated[
        Path | None,
        Meta(description="the recorder's data folder: what the houses have measured before the start"),
    ] = None
    max_grid_export_kw: Annotated[
        float, Meta(ge=0, le=1e5, description="what may flow into the grid; 0: no export, PV is curtailed")
    ] = 0.0
    service_host: Annotated[
        str, Meta(min_length=1, description="address of the HTTP API", extra={"env": "SERVICE_HOST"})
    ] = "127.0.0.1"
    service_port: Annotated[Port, Meta(description="its port; 0: no HTTP", extra={"env": "SERVICE_PORT"})] = (
        8001
    )
    reporter_base_url: Annotated[
        str,
        Meta(
            description="forecasts come from this Reporter, not from what is measured on the bus",
            extra={"env": "REPORTER_BASE_URL"},
        ),
    ] = ""
    reporter_token_file: Annotated[
        Path | None, Meta(description="where the bearer token stands that the Reporter asks for")
    ] = None
    bms_base_url: Annotated[
        str,
        Meta(
            description="the battery is behind this BMS or validator, not on the bus",
            extra={"env": "BMS_BASE_URL"},
        ),
    ] = ""
    bms_token_file: Annotated[
        Path | None, Meta(description="where the bearer token stands that the BMS asks for")
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        load_tariff(self.tariff)
        if self.horizon_h * 60 % self.step_min:
            raise ValueError(
                f"horizon_h {self.horizon_h:g} is no whole number of steps of step_min {self.step_min}"
            )
        for name in ("reporter_base_url", "bms_base_url"):
            check_url(name, getattr(self, name))

    @property
    def interval_s(self) -> float:
        """How often a house is planned [s]."""
        return self.interval_min * 60.0

    @property
    def step_s(self) -> float:
        """Length of a step [s]."""
        return self.step_min * 60.0

    @property
    def steps(self) -> int:
        """N."""
        return round(self.horizon_h * 60 / self.step_min)
