from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from energy.errors import TariffError
from energy.series import read_series
from energy.tariff import Day, Period, Tariff, TariffFile, builtin_tariffs, compile_tariff, load_tariff

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
COSTA_RICA = [(16, 4541)] + [(26, 7090)] * 9 + [(70, 10154)] * 7 + [(16, 4541)] * 7


def price_at(tariff: Tariff, instant: Instant) -> float:
    """Of the second that begins there."""
    return tariff.series(instant, 1.0, 1).import_price[0]


def test_costa_rica_hour_by_hour() -> None:
    tariff = load_tariff()
    midnight = Instant.parse("2024-06-03T06:00:00Z")
    prices = tariff.series(midnight, 3600, 24)
    assert list(zip(prices.import_price, prices.demand_price, strict=True)) == COSTA_RICA
    assert set(prices.export_price) == {0.0}
    assert tariff.currency == "CRC"
    assert tariff.period_at(midnight.after(3600 * 16.999)).name == "peak"
    assert price_at(tariff, midnight.after(3600 * 17)) == 16


def test_fontana_agrees_with_the_recorded_prices() -> None:
    tariff = load_tariff("fontana_tou")
    recorded = read_series(EXAMPLES / "ca_tou_price_60min.csv", "import_usd_per_kwh")
    zone = ZoneInfo("America/Los_Angeles")
    compared = 0
    for at_ms, price in zip(recorded.times_ms, recorded.values, strict=True):
        instant = Instant.at_ms(at_ms)
        # The record keeps daylight saving time all winter.
        if instant.local(zone).utcoffset() == timedelta(hours=-7):
            assert price_at(tariff, instant) == price, instant
            compared += 1
    assert compared > 5000
    assert price_at(tariff, Instant.parse("2017-01-11T00:30:00Z")) == 0.50
    assert tariff.series(Instant.parse("2017-01-11T00:30:00Z"), 60.0, 1).export_price[0] == 0.06


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
    hours = [price_at(tariff, Instant.at_ms(h * 3_600_000)) for h in range(24)]
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


# Holidays, seasons, daylight saving, billing months, measurement intervals


WORKDAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri")


def with_holidays(*holidays: str) -> Tariff:
    work = Period(name="work", hours=((0, 24),), weekdays=WORKDAYS, import_price=3.0)
    rest = Period(name="rest", hours=((0, 24),), weekdays=("sat", "sun", "holiday"), import_price=1.0)
    return compile_tariff(flat(timezone="America/Costa_Rica", periods=(work, rest), holidays=holidays))


def test_a_holiday_is_a_day_of_its_own_by_the_local_calendar() -> None:
    tariff = with_holidays("2024-04-11", "12-25")
    assert tariff.period_at(Instant.parse("2024-04-11T06:00:00Z")).name == "rest"  # local midnight
    assert tariff.period_at(Instant.parse("2024-04-11T05:59:59Z")).name == "work"
    assert tariff.period_at(Instant.parse("2024-04-12T06:00:00Z")).name == "work"
    assert tariff.period_at(Instant.parse("2025-04-11T12:00:00Z")).name == "work"  # that date only
    for year in (2023, 2024, 2025):
        assert tariff.period_at(Instant.parse(f"{year}-12-25T18:00:00Z")).name == "rest"


def test_a_holiday_in_no_period_is_named_only_where_there_are_holidays() -> None:
    periods = (
        Period(name="work", hours=((0, 24),), weekdays=WORKDAYS, import_price=3.0),
        Period(name="rest", hours=((0, 24),), weekdays=("sat", "sun"), import_price=1.0),
    )
    compile_tariff(flat(periods=periods))
    with pytest.raises(TariffError, match="Holiday 00:00 in January is in no period"):
        compile_tariff(flat(periods=periods, holidays=("01-01",)))


@pytest.mark.parametrize("text", ["2023-02-29", "13-01", "tomorrow", "1-1"])
def test_a_holiday_that_is_no_date_is_named(text: str) -> None:
    with pytest.raises(TariffError, match=f"holiday '{text}' is no date"):
        compile_tariff(flat(holidays=(text,)))
    compile_tariff(flat(holidays=("02-29",)))


def test_hours_follow_the_wall_clock_through_daylight_saving() -> None:
    """Fontana's peak begins at 16:00 on the wall: 00:00 UTC in winter, 23:00 UTC in summer."""
    tariff = load_tariff("fontana_tou")
    for first_peak_hour in (
        "2024-03-10T00:00:00Z",
        "2024-03-10T23:00:00Z",
        "2024-11-02T23:00:00Z",
        "2024-11-04T00:00:00Z",
    ):
        at = Instant.parse(first_peak_hour)
        assert price_at(tariff, at) == 0.50
        assert price_at(tariff, at.after(-1)) == 0.21


@pytest.mark.parametrize(("day", "hours"), [("2024-03-31", 23), ("2024-10-27", 25), ("2024-07-01", 24)])
def test_a_day_of_daylight_saving_has_as_many_prices_as_hours(day: str, hours: int) -> None:
    night = Period(name="night", hours=((0, 6),), import_price=1.0)
    rest = Period(name="rest", hours=((6, 24),), import_price=2.0)
    tariff = compile_tariff(flat(timezone="Europe/Paris", periods=(night, rest)))
    start = Instant.of(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Paris")))
    prices = tariff.series(start, 1800, hours * 2)
    assert prices.import_price.count(1.0) == (hours - 18) * 2
    assert prices.import_price[-36:] == [2.0] * 36


def test_a_billing_month_begins_on_its_day_at_local_midnight() -> None:
    tariff = compile_tariff(flat(timezone="Europe/Paris", billing_day=15))
    before, after = Instant.parse("2025-01-14T22:59:59Z"), Instant.parse("2025-01-14T23:00:00Z")
    assert tariff.billing_month(before) == (2024, 12)
    assert tariff.billing_month(after) == (2025, 1)
    assert tariff.billing_month_end(before) == after
    # Summer time began in between.
    assert tariff.billing_month_end(Instant.parse("2025-03-20T12:00:00Z")) == Instant.parse(
        "2025-04-14T22:00:00Z"
    )
    assert compile_tariff(flat()).billing_month_end(Instant.parse("2024-12-31T23:59:59Z")) == Instant.parse(
        "2025-01-01T00:00:00Z"
    )


@pytest.mark.parametrize(
    ("zone", "minutes", "at", "begins"),
    [
        ("UTC", 15, "2024-07-01T10:14:59Z", "2024-07-01T10:00:00Z"),
        ("UTC", 30, "2024-07-01T10:29:59Z", "2024-07-01T10:00:00Z"),
        ("Asia/Kathmandu", 30, "2024-07-01T10:14:59Z", "2024-07-01T09:45:00Z"),  # +05:45
        ("Asia/Kathmandu", 15, "2024-07-01T10:14:59Z", "2024-07-01T10:00:00Z"),
        ("Europe/Paris", 30, "2024-10-27T01:10:00Z", "2024-10-27T01:00:00Z"),  # the hour that comes twice
    ],
)
def test_intervals_stand_on_the_wall_clock(zone: str, minutes: int, at: str, begins: str) -> None:
    tariff = compile_tariff(flat(timezone=zone, demand_interval_min=minutes))
    assert tariff.demand_interval_at(Instant.parse(at)) == Instant.parse(begins)


def test_periods_of_a_group_have_one_price_for_their_peak() -> None:
    day = Period(name="day", hours=((8, 20),), import_price=2.0, demand_price=5.0, demand_group="any")
    night = Period(name="night", hours=((20, 8),), import_price=1.0, demand_price=5.0, demand_group="any")
    groups = {period.demand_group for period in compile_tariff(flat(periods=(day, night))).periods}
    assert groups == {"any"}
    cheap = Period(name="night", hours=((20, 8),), import_price=1.0, demand_group="any")
    with pytest.raises(TariffError, match="demand group any costs 5 and, in night, 0"):
        compile_tariff(flat(periods=(day, cheap)))


# Dynamic prices

DYNAMIC = """
demand_interval_min = 30
[dynamic]
file = "spot/day.csv"
column = "eur_per_mwh"
factor = 0.0012
surcharge = 0.1
"""


def dynamic_file(folder: Path, rows: str) -> Path:
    (folder / "spot").mkdir()
    (folder / "spot" / "day.csv").write_text("timestamp,eur_per_mwh\n" + rows)
    path = folder / "mine.toml"
    path.write_text(VALID.replace("[[periods]]", DYNAMIC + "[[periods]]", 1))
    return path


HOURS = "2024-07-01T04:00:00Z,100\n2024-07-01T05:00:00Z,-300\n2024-07-01T06:00:00Z,50\n"


def test_a_dynamic_price_holds_as_far_as_it_reaches(tmp_path: Path) -> None:
    tariff = load_tariff(str(dynamic_file(tmp_path, HOURS)))
    start = Instant.parse("2024-07-01T03:00:00Z")  # 05:00 in Paris: night until 06:00
    prices = tariff.series(start, 3600, 5)
    assert prices.import_price == pytest.approx([0.2, 0.22, -0.26, 0.16, 0.3])
    assert prices.export_price == [0.05, 0.1, 0.1, 0.1, 0.1]
    assert price_at(tariff, Instant.parse("2024-07-01T05:59:59Z")) == pytest.approx(-0.26)
    assert price_at(tariff, Instant.parse("2024-07-01T07:00:00Z")) == 0.3
    assert tariff.demand_interval_s == 1800.0


def test_a_dynamic_price_is_the_mean_of_a_longer_step_and_held_over_a_shorter(tmp_path: Path) -> None:
    tariff = load_tariff(str(dynamic_file(tmp_path, HOURS)))
    start = Instant.parse("2024-07-01T04:00:00Z")
    assert tariff.series(start, 7200, 1).import_price == pytest.approx([(0.22 - 0.26) / 2])
    assert tariff.series(start, 900, 5).import_price == pytest.approx([0.22] * 4 + [-0.26])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (HOURS.replace("50", "dear"), r"day\.csv:4: eur_per_mwh is 'dear': not a number"),
        (HOURS + "2024-07-01T09:00:00Z,1\n", r"day\.csv: no price from 2024-07-01T06:00:00.000Z on"),
    ],
)
def test_a_bad_price_file_is_named(tmp_path: Path, rows: str, message: str) -> None:
    path = dynamic_file(tmp_path, rows)
    with pytest.raises(TariffError, match=message) as caught:
        load_tariff(str(path))
    assert "mine.toml" in str(caught.value)
    (tmp_path / "spot" / "day.csv").unlink()
    with pytest.raises(TariffError, match=r"day\.csv: no such file"):
        load_tariff(str(path))
