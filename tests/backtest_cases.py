"""Recorded days of a real house, as cases for the backtest's tests."""

from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from der_controller.devices import ChargingCar
from energy.battery import BatterySpec
from energy.ev import EvseSpec, EvSpec, TripPattern
from energy.series import read_series
from energy.tariff import load_tariff
from optimizer.settings import OptimizerSettings
from orchestrator.inputs import HouseLimits
from wattbus.backtest.case import DAY_S, Case, Devices, days_of

DATA = Path(__file__).parents[1] / "examples" / "data"
HOUSE = DATA / "fr_house_30min.csv"
ZONE = ZoneInfo("Europe/Paris")
BATTERY = BatterySpec(capacity_kwh=10.0, max_charge_kw=5.0, max_discharge_kw=5.0)
CAR = ChargingCar(
    car=EvSpec(max_charge_kw=7.36),
    evse=EvseSpec(max_current_a=32, phases=1),
    trips=TripPattern(timezone="Europe/Paris"),
)
HOME = Devices(BATTERY)
LOAD, PV = read_series(HOUSE, "meter_w"), read_series(HOUSE, "pv_w")


def case_of(
    days: float,
    *,
    first_day: float = 40.0,
    tariff: str = "costa_rica",
    tick_s: float = 900.0,
    export_kw: float = 0.0,
    devices: Devices = HOME,
) -> Case:
    """So many days of the house, from that one on; what was before is known."""
    start = LOAD.start.after(first_day * DAY_S)
    return Case(
        house="fr",
        variant="",
        days=days_of(LOAD, PV, start, start.after(days * DAY_S), tick_s),
        devices=devices,
        tariff=msgspec.structs.replace(load_tariff(tariff), zone=ZONE),
        settings=OptimizerSettings(max_grid_import_kw=16.0, max_grid_export_kw=export_kw),
        limits=HouseLimits(
            max_grid_import_kw=16.0,
            max_grid_export_kw=export_kw,
            reading_fresh_s=30.0,
            ttl_s=tick_s + 60.0,
        ),
    )
