"""Messages, ids, topics and the codec."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import codec, topics
from contracts.errors import BadIdError, BadMessageError
from contracts.ids import check_id, refuse_case_twins
from contracts.instant import Instant
from contracts.messages import MeterReading, PowerSnapshot, Schedule

AT = Instant.parse("2024-02-16T14:30:25.123Z")
READING = MeterReading(house="house-a", meter="main", boot=1, seq=2, timestamp=AT, power_w=512.5)
ADDRESS = topics.METER_READING.at(house="house-a", meter="main")

instants = st.integers(min_value=0, max_value=4_102_444_800_000).map(Instant.at_ms)
numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e8, max_value=1e8)


@given(instants, numbers, st.integers(0, 2**62))
def test_a_reading_survives_the_wire(at: Instant, power_w: float, seq: int) -> None:
    reading = MeterReading(house="house-a", meter="main", boot=1, seq=seq, timestamp=at, power_w=power_w)
    assert codec.decode_at(ADDRESS, codec.encode(reading)) == reading


def test_time_on_the_wire_has_milliseconds_and_z() -> None:
    assert b'"timestamp":"2024-02-16T14:30:25.123Z"' in codec.encode(READING)
    whole = MeterReading(
        house="h", meter="m", boot=1, seq=1, timestamp=Instant.parse("2024-01-01T00:00:00+01:00"), power_w=1
    )
    assert b'"timestamp":"2023-12-31T23:00:00.000Z"' in codec.encode(whole)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_no_message(value: float) -> None:
    with pytest.raises(ValueError, match="power_w"):
        MeterReading(house="h", meter="m", boot=1, seq=1, timestamp=AT, power_w=value)
    with pytest.raises(ValueError, match="battery_power_kw"):
        Schedule(
            house="h", der_id="b", issued_at=AT, valid_until=AT, start=AT, step_s=900, status="optimal",
            battery_power_kw=[value], grid_power_kw=[0.0], curtailed_kw=[0.0], soc_percent=[1.0, 1.0], load_kw=[0.0],
            pv_kw=[0.0], import_price=[1.0], currency="EUR", energy_cost=0, demand_cost=0, total_cost=0, peak_kw=0,
        )  # fmt: skip


GOOD = codec.encode(READING)


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "not a MeterReading"),
        (b"\xff\xfe", "not a MeterReading"),
        (b"[]", "Expected `object`"),
        (GOOD.replace(b"512.5", b"NaN"), "malformed"),
        (GOOD.replace(b"512.5", b"1e999"), "out of range"),
        (GOOD.replace(b"512.5", b"1e9"), "power_w"),
        (GOOD.replace(b"512.5", b"null"), "power_w"),
        (GOOD.replace(b"512.5", b'"512.5"'), "power_w"),
        (GOOD.replace(b'"seq":2', b'"seq":-2'), "seq"),
        (GOOD.replace(b".123Z", b".123"), "timezone"),
        (GOOD.replace(b'"house":"house-a"', b'"house":"house-b"'), "house-b"),
        (GOOD.replace(b"house-a", b"house-a\\n"), "house"),
        (b"[" * 200_000, "not a MeterReading"),
        (b" " * (codec.MAX_BYTES + 1), "bytes"),
    ],
)
def test_a_bad_payload_is_named(payload: bytes, says: str) -> None:
    with pytest.raises(BadMessageError, match=says):
        codec.decode_at(ADDRESS, payload)


def test_an_unknown_field_is_ignored_on_the_wire() -> None:
    assert codec.decode_at(ADDRESS, GOOD[:-1] + b',"from_a_newer_version":1}') == READING


@pytest.mark.parametrize("text", ["a", "house-a", "DER_123456", "0", "a" * 64])
def test_ids(text: str) -> None:
    assert check_id(text) == text


HOSTILE = [
    "",
    ".*",
    "a|b",
    "../x",
    "+",
    "#",
    "a\0",
    "a\n",
    "-a",
    "_a",
    "a/b",
    "a.b",
    "hоuse",
    "a" * 65,
    "x" * 5000,
    " a",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_ids_are_refused_wherever_they_enter(text: str) -> None:
    with pytest.raises(BadIdError):
        check_id(text)
    with pytest.raises(BadIdError):
        topics.METER_READING.at(house=text, meter="main")
    with pytest.raises(BadMessageError):
        codec.decode(
            MeterReading, GOOD.replace(b"house-a", repr(text)[1:-1].replace("\\x00", "\\u0000").encode())
        )


def test_ids_that_differ_only_in_case_are_refused() -> None:
    refuse_case_twins(["a", "b"])
    with pytest.raises(BadIdError, match="'House-A' and 'house-a'"):
        refuse_case_twins(["House-A", "house-a"])


@given(st.text(max_size=80))
def test_no_name_makes_find_fail_otherwise_than_by_saying_so(name: str) -> None:
    try:
        found = topics.find(name)
    except BadIdError:
        return
    assert found is None or found.name == name


def test_every_topic_finds_its_own_addresses() -> None:
    for topic in topics.TOPICS:
        address = topic.at(**dict.fromkeys(topic.slots, "x"))
        found = topics.find(address.name)
        assert found is not None
        assert (found.topic.pattern, found.ids) == (topic.pattern, address.ids)


def test_a_narrowed_topic() -> None:
    mine = topics.METER_READING.of(house="house-a")
    assert mine.filter == "wattbus/house-a/meter/+/reading"
    assert mine.match("wattbus/house-b/meter/main/reading") is None
    assert mine.match("wattbus/house-a/meter/main/reading") is not None


@given(instants, st.sampled_from([1.0, 10.0, 60.0, 900.0, 3600.0]))
def test_floor_is_aligned_and_not_later(at: Instant, step_s: float) -> None:
    floor = at.floor(step_s)
    assert 0 <= at.seconds_since(floor) < step_s
    assert floor.unix_ms % round(step_s * 1000) == 0


def test_a_local_time_is_never_guessed() -> None:
    with pytest.raises(ValueError, match="timezone"):
        Instant.parse("2024-02-16T14:30:25")


def test_the_balance_of_a_snapshot() -> None:
    good = PowerSnapshot(
        house="h", timestamp=AT, pv_kw=5, house_load_kw=2, battery_power_kw=1, ev_power_kw=0.5, grid_import_kw=0,
        grid_export_kw=1, curtailed_kw=0.5,
    )  # fmt: skip
    assert good.verify_power_balance()
    assert not good.exceeds_fuse_limit(0)
    bad = PowerSnapshot(
        house="h", timestamp=AT, pv_kw=5, house_load_kw=2, battery_power_kw=1, ev_power_kw=0.5, grid_import_kw=0,
        grid_export_kw=1, curtailed_kw=0.4,
    )  # fmt: skip
    assert not bad.verify_power_balance()
    assert bad.imbalance_kw() == pytest.approx(0.1)
