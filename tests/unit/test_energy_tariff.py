from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from energy.errors import TariffError
from energy.series import read_series
from energy.tariff import Period, TariffFile, builtin_tariffs, compile_tariff, load_tariff

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
COSTA_RICA = [(16, 4541)] + [(26, 7090)] * 9 + [(70, 10154)] * 7 + [(16, 4541)] * 7


def test_costa_rica_hour_by_hour() -> None:
    tariff = load_tariff()
    midnight = Instant.parse("2024-06-03T06:00:00Z")
    prices = tariff.series(midnight, 3600, 24)
    assert list(zip(prices.import_price, prices.demand_price, strict=True)) == COSTA_RICA
    assert set(prices.export_price) == {0.0}
    assert tariff.currency == "CRC"
    assert tariff.period_at(midnight.after(3600 * 16.999)).name == "peak"
    assert tariff.price_at(midnight.after(3600 * 17)) == 16


def test_fontana_agrees_with_the_recorded_prices() -> None:
    tariff = load_tariff("fontana_tou")
    recorded = read_series(EXAMPLES / "ca_tou_price_60min.csv", "import_usd_per_kwh")
    zone = ZoneInfo("America/Los_Angeles")
    compared = 0
    for at_ms, price in zip(recorded.times_ms, recorded.values, strict=True):
        instant = Instant.at_ms(at_ms)
        # The record keeps daylight saving time all winter.
        if instant.local(zone).utcoffset() == timedelta(hours=-7):
            assert tariff.price_at(instant) == price, instant
            compared += 1
    assert compared > 5000
    assert tariff.price_at(Instant.parse("2017-01-11T00:30:00Z")) == 0.50
    assert tariff.export_price(Instant.parse("2017-01-11T00:30:00Z")) == 0.06


@pytest.mark.parametrize("name", builtin_tariffs())
@given(at_ms=st.integers(0, 4_000_000_000_000))
def test_every_instant_has_a_price(name: str, at_ms: int) -> None:
    tariff = load_tariff(name)
    period = tariff.period_at(Instant.at_ms(at_ms))
    hour = Instant.at_ms(at_ms).local(tariff.zone).hour
    assert hour in period.clock_hours()
    assert period.export_price is not None


def flat(**changes: object) -> TariffFile:
    period = Period(name="flat", hours=((0, 24),), import_price=1.0)
    fields: dict[str, object] = {"name": "t", "currency": "EUR", "timezone": "UTC", "periods": (period,)}
    return TariffFile(**(fields | changes))  # type: ignore[arg-type]


@given(st.integers(0, 23), st.integers(0, 23))
def test_two_ranges_that_share_the_clock_cover_it(start: int, end: int) -> None:
    periods: list[Period] = [Period(name="a", hours=((start, end),), import_price=1.0)]
    if start != end:
        periods.append(Period(name="b", hours=((end, start),), import_price=2.0))
    tariff = compile_tariff(flat(periods=tuple(periods)))
    hours = [tariff.price_at(Instant.at_ms(h * 3_600_000)) for h in range(24)]
    assert hours[start] == 1.0
    assert hours.count(1.0) == ((end - start) % 24 or 24)


def test_a_gap_and_an_overlap_name_the_hour() -> None:
    day = Period(name="day", hours=((8, 20),), import_price=2.0)
    night = Period(name="night", hours=((20, 7),), import_price=1.0)
    with pytest.raises(TariffError, match="Mon 07:00 in January is in no period"):
        compile_tariff(flat(periods=(day, night)))
    late = Period(name="late", hours=((19, 8),), import_price=1.0)
    with pytest.raises(TariffError, match="Mon 19:00 in January is in two periods: day and late"):
        compile_tariff(flat(periods=(day, late)))
    weekdays = Period(name="week", hours=((0, 24),), weekdays=("mon", "tue"), import_price=1.0)
    with pytest.raises(TariffError, match="Wed 00:00 in January is in no period"):
        compile_tariff(flat(periods=(weekdays,)))


VALID = """
name = "x"
currency = "EUR"
timezone = "Europe/Paris"
export_price = 0.1
[[periods]]
name = "day"
hours = [[6, 22]]
import_price = 0.3
[[periods]]
name = "night"
hours = [[22, 6]]
import_price = 0.2
export_price = 0.05
"""


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(VALID)
    prices = load_tariff(str(path)).series(Instant.parse("2024-07-01T02:00:00Z"), 3600, 3)
    assert prices.import_price == [0.2, 0.2, 0.3]
    assert prices.export_price == [0.05, 0.05, 0.1]
    assert prices.period == ["night", "night", "day"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.replace("0.3", '"dear"'), r"Expected `float`, got `str`"),
        (
            lambda t: t.replace("0.3", "nan"),
            r"Expected `float` >= -1000000.0 - at `\$.periods\[0\].import_price`",
        ),
        (lambda t: t.replace("Europe/Paris", "Europe/Pariss"), r"'Europe/Pariss' is no timezone"),
        (lambda t: t.replace("[[6, 22]]", "[[6, 25]]"), r"<= 24"),
        (lambda t: t.replace("night", "day"), r"two periods are named day"),
        (lambda t: t.replace("hours = [[6", "hour = [[6"), r"unknown field `hour`"),
        (lambda t: t + "]", r"mine\.toml: "),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, spoil: Callable[[str], str], message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(spoil(VALID))
    with pytest.raises(TariffError, match=message) as caught:
        load_tariff(str(path))
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_tariff_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(TariffError, match="there are costa_rica, fontana_tou"):
        load_tariff("atlantis")
    with pytest.raises(TariffError, match="No such file"):
        load_tariff(str(tmp_path / "none.toml"))
