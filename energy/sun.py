"""Clear-sky PV production of a site: pvlib once a day and site, then looked up by time."""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

import msgspec
import pandas as pd
import pvlib

from contracts.instant import Instant
from energy.checks import check_range

STEP_S = 60
GAMMA_PER_K = -0.004
"""Power lost per kelvin, between PVWatts 5's standard (-0.0047) and premium module (-0.0035)."""
AIR_C = 20.0
WIND_M_S = 1.0
"""Air and wind are not simulated: a mild day."""
INVERTER_EFFICIENCY = 0.96


class Site(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a PV array stands and how it looks at the sky.

    Raises:
        SpecError: no such place or direction.
    """

    latitude: float
    longitude: float
    tilt: float = 25.0
    """Degrees from horizontal."""
    azimuth: float = 180.0
    """Degrees clockwise from north; 180 looks south."""
    peak_w: float = 4000.0
    """What the inverter gives at most [W, AC]."""
    dc_ac_ratio: float = 1.2
    """The modules' rated power over the inverter's."""

    def __post_init__(self) -> None:
        check_range("site latitude", self.latitude, -90, 90)
        check_range("site longitude", self.longitude, -180, 180)
        check_range("site tilt", self.tilt, 0, 90)
        check_range("site azimuth", self.azimuth, 0, 360)
        check_range("site peak_w", self.peak_w, 0, 1e8)
        check_range("site dc_ac_ratio", self.dc_ac_ratio, 0, 10, above_low=True)


def clear_sky_w(site: Site, instant: Instant) -> float:
    """AC power under a clear sky at an instant [W], 0..peak_w."""
    minutes, second = divmod(instant.hour * 3600 + instant.minute * 60 + instant.second, STEP_S)
    table = clear_day_w(site, instant.date())
    part = (second + instant.microsecond / 1e6) / STEP_S
    return table[minutes] + (table[minutes + 1] - table[minutes]) * part


@lru_cache(maxsize=1024)
def clear_day_w(site: Site, day: date) -> tuple[float, ...]:
    """AC power under a clear sky over a UTC day [W], each minute from 00:00 to 24:00, both included.

    Source: clear sky Ineichen and Perez (2002) with pvlib's monthly Linke turbidity (SoDa, Remund 2003);
    transposition Hay and Davies (1980); angle losses ASHRAE 93-1977; cell temperature Faiman (2008);
    DC, system losses and inverter Dobos, PVWatts version 5 manual, NREL/TP-6A20-62641 (2014).
    """
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    times = pd.date_range(start, start + timedelta(days=1), freq=f"{STEP_S}s")
    place = pvlib.location.Location(site.latitude, site.longitude)
    sun = place.get_solarposition(times)
    extra = pvlib.irradiance.get_extra_radiation(day.timetuple().tm_yday)
    # Turbidity by month, extra radiation by day: for finer ones pvlib calls what pandas 3 deprecates.
    sky = place.get_clearsky(
        times, model="ineichen", solar_position=sun, dni_extra=extra, interp_turbidity=False
    )
    plane = pvlib.irradiance.get_total_irradiance(
        site.tilt,
        site.azimuth,
        sun["apparent_zenith"],
        sun["azimuth"],
        sky["dni"],
        sky["ghi"],
        sky["dhi"],
        dni_extra=extra,
        model="haydavies",
    )
    angle = pvlib.irradiance.aoi(site.tilt, site.azimuth, sun["apparent_zenith"], sun["azimuth"])
    reaching = plane["poa_direct"] * pvlib.iam.ashrae(angle) + plane["poa_diffuse"]
    cell_c = pvlib.temperature.faiman(plane["poa_global"], AIR_C, WIND_M_S)
    rated_dc_w = site.peak_w * site.dc_ac_ratio
    dc_w = pvlib.pvsystem.pvwatts_dc(reaching, cell_c, rated_dc_w, GAMMA_PER_K)
    dc_w = dc_w * (1.0 - pvlib.pvsystem.pvwatts_losses() / 100.0)
    ac_w = pvlib.inverter.pvwatts(dc_w, site.peak_w / INVERTER_EFFICIENCY, INVERTER_EFFICIENCY)
    return tuple(float(power) for power in ac_w.fillna(0.0).clip(0.0, site.peak_w))
