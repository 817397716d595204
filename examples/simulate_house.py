"""A house and its roof over a day: 24 hourly factors with noise and appliances, sun by geometry with clouds.

    python examples/simulate_house.py

The same models that `wattbus meter` and `wattbus pvsim` run, without a bus.
"""

from statistics import fmean

from contracts.instant import Instant
from energy.clouds import cloud_factor
from energy.load import HouseProfile, load_w
from energy.sun import Site, clear_sky_w

HOUSE = HouseProfile(timezone="America/Costa_Rica", base_w=350.0, noise=0.3)
ROOF = Site(latitude=9.93, longitude=-84.08, tilt=15.0, azimuth=180.0, peak_w=4000.0)
CLOUDINESS = 0.4
MIDNIGHT = Instant.parse("2024-06-03T00:00:00-06:00")
SEED = "example"


def main() -> None:
    """Print each hour's means."""
    print("hour  load W  clear sky W    PV W")
    load_kwh = pv_kwh = 0.0
    for hour in range(24):
        times = [MIDNIGHT.after(3600 * hour + 60 * minute) for minute in range(60)]
        load = fmean(load_w(HOUSE, SEED, at) for at in times)
        clear = fmean(clear_sky_w(ROOF, at) for at in times)
        pv = fmean(clear_sky_w(ROOF, at) * cloud_factor(SEED, "my-place", at, CLOUDINESS) for at in times)
        load_kwh += load / 1000
        pv_kwh += pv / 1000
        print(f"{hour:4d} {load:7.0f} {clear:12.0f} {pv:7.0f}")
    print(f"consumed {load_kwh:.1f} kWh, produced {pv_kwh:.1f} kWh")


if __name__ == "__main__":
    main()
