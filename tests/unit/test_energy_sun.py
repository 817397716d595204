from datetime import date
from itertools import pairwise

import pytest

from contracts.instant import Instant
from energy.errors import SpecError
from energy.sun import Site, clear_day_w, clear_sky_w

# PVDAQ system 50; its record does not state the modules' power: 3.7 kW fits the year.
GOLDEN = Site(latitude=39.7406, longitude=-105.1775, tilt=45, azimuth=158, peak_w=4000, dc_ac_ratio=3.7 / 4.0)


@pytest.mark.parametrize(
    ("day", "measured_kwh", "measured_peak_w"),
    [
        ("2012-06-10", 19.7, 2490.2),
        ("2012-10-17", 22.4, 3067.9),
        ("2012-12-20", 18.7, 2843.6),
        ("2013-02-18", 22.5, 3209.0),
    ],
)
def test_clear_days_agree_with_what_was_measured(
    day: str, measured_kwh: float, measured_peak_w: float
) -> None:
    begin = Instant.parse(f"{day}T07:00:00Z")
    quarters = [clear_sky_w(GOLDEN, begin.after(900.0 * i + 450)) for i in range(96)]
    assert sum(quarters) / 4000 == pytest.approx(measured_kwh, rel=0.15)
    assert max(quarters) == pytest.approx(measured_peak_w, rel=0.20)


def test_nights_are_dark_and_the_inverter_limits() -> None:
    site = Site(latitude=34.1, longitude=-117.4)
    table = clear_day_w(site, date(2024, 6, 21))
    assert len(table) == 1441
    assert min(table) == 0.0
    assert 3300 < max(table) <= 4000.0
    assert clear_sky_w(site, Instant.parse("2024-06-21T08:00:00Z")) == 0.0
    small = Site(latitude=34.1, longitude=-117.4, dc_ac_ratio=2.0)
    assert max(clear_day_w(small, date(2024, 6, 21))) == 4000.0


def test_power_is_looked_up_between_minutes_and_over_midnight() -> None:
    site = Site(latitude=-33.9, longitude=151.2, azimuth=0)
    noon = Instant.parse("2024-01-01T23:00:00Z")
    course = [clear_sky_w(site, noon.after(10.0 * i)) for i in range(2 * 360)]
    assert min(course) > 1000
    assert max(abs(b - a) for a, b in pairwise(course)) < 20
    table = clear_day_w(site, date(2024, 1, 1))
    assert clear_sky_w(site, noon.after(30)) == pytest.approx((table[23 * 60] + table[23 * 60 + 1]) / 2)


@pytest.mark.parametrize("latitude", [-90.0, 0.0, 78.0, 90.0])
def test_every_latitude_has_a_day(latitude: float) -> None:
    table = clear_day_w(Site(latitude=latitude, longitude=180.0), date(2024, 12, 21))
    assert 0.0 <= min(table) <= max(table) <= 4000.0


def test_an_impossible_site_is_named() -> None:
    with pytest.raises(SpecError, match="site latitude is 91"):
        Site(latitude=91, longitude=0)
    with pytest.raises(SpecError, match="site tilt"):
        Site(latitude=0, longitude=0, tilt=-1)
