"""PV production as a pure function of house and time: a redelivered reading gets the same answer."""

from collections.abc import Callable

from contracts.instant import Instant
from contracts.messages import MeterReading, PvReading
from energy.clouds import cloud_factor
from energy.errors import EnergyError, OutsideSeriesError
from energy.series import Series

ClearSky = Callable[[Instant], float]
Production = Callable[[Instant], float]


def simulated(clear_sky_w: ClearSky, seed: str, place: str, cloudiness: float, peak_w: float) -> Production:
    """Clear sky times clouds [W], 0..peak_w."""

    def production_w(at: Instant) -> float:
        clear_w = clear_sky_w(at)
        if clear_w <= 0:
            return 0.0
        return round(min(clear_w * cloud_factor(seed, place, at, cloudiness), peak_w), 1)

    return production_w


def recorded(series: Series) -> Production:
    """A recording [W]: between the middles of its steps it changes gradually, as the sun does."""

    def production_w(at: Instant) -> float:
        half = series.step_s / 2
        first, second = at.after(-half), at.after(half)
        try:
            before, after = series.at(first), series.at(second)
        except OutsideSeriesError:
            return round(series.at(at), 1)
        share = first.seconds_since(series.start) % series.step_s / series.step_s
        return round(max(before + (after - before) * share, 0.0), 1)

    return production_w


def answer(reading: MeterReading, production_w: Production) -> PvReading:
    """The PV reading for a meter reading, whose identity and time it keeps; `pv_w` None if unknown."""
    try:
        pv_w = production_w(reading.timestamp)
    except EnergyError:
        pv_w = None
    return PvReading(
        house=reading.house,
        meter=reading.meter,
        boot=reading.boot,
        seq=reading.seq,
        timestamp=reading.timestamp,
        meter_w=reading.power_w,
        pv_w=pv_w,
        sum_w=None if pv_w is None else round(reading.power_w + pv_w, 3),
        measures=reading.measures,
        historical=reading.historical,
    )
