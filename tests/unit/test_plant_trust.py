"""A plant's answer is believed if it stands by itself, adds up, and is about now."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from plant.model import Bounds, PlantModel
from plant.trust import Trust, UntrustedError, reading_of
from plant.views import latest_of, mw
from plant.wire import Latest, Part, Totals

NOW = Instant.parse("2025-11-12T15:34:27Z")
DOCUMENTED = b"""{"reading": {
    "collection_timestamp": "2025-11-12T15:34:25.829179Z",
    "consumption": {
      "container_eles": {"source_timestamp": "2025-11-12T15:34:26.103732Z", "status": "success", "value_mw": 45.2},
      "container_mazp": {"source_timestamp": "2025-11-12T15:34:26.103778Z", "status": "success", "value_mw": 54.8}},
    "generation": {
      "generoso": {"source_timestamp": "2025-11-12T15:34:26.103678Z", "status": "success", "value_mw": 120.5},
      "nogueira": {"source_timestamp": "2025-11-12T15:34:26.103772Z", "status": "success", "value_mw": 115.3}},
    "totals": {"consumption_mw": 100.0, "exported_mw": 135.8, "generation_mw": 235.8},
    "trust": {"confidence_score": 1.0, "status": "trusted", "summary": "Test data - all checks passed"}}}"""


def documented(**changes: Any) -> Latest:
    latest = msgspec.json.decode(DOCUMENTED, type=Latest)
    return Latest(reading=msgspec.structs.replace(latest.reading, **changes))


def believe(latest: Latest, now: Instant = NOW) -> Any:
    return reading_of(latest, Trust(), now, "plant", 2, 9)


def test_the_documents_example_is_a_reading() -> None:
    reading = believe(documented())
    assert (reading.house, reading.boot, reading.seq) == ("plant", 2, 9)
    assert reading.timestamp == Instant.parse("2025-11-12T15:34:25.829Z")
    assert reading.generation_w == pytest.approx(235.8e6)
    assert reading.consumption_w == pytest.approx(100e6)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_whole_watts_come_through_as_such(generation_w: int, consumption_w: int) -> None:
    """In MW they are six decimals, 1e6 times which is not always a whole number."""
    latest = documented(
        generation={"one": msgspec.structs.replace(PART, value_mw=mw(generation_w))},
        consumption={"one": msgspec.structs.replace(PART, value_mw=mw(consumption_w))},
        totals=Totals(
            generation_mw=mw(generation_w),
            consumption_mw=mw(consumption_w),
            exported_mw=mw(generation_w - consumption_w),
        ),
    )
    reading = believe(latest)
    assert (reading.generation_w, reading.consumption_w) == (generation_w, consumption_w)


READING = documented().reading
PART = Part(source_timestamp="2025-11-12T15:34:26Z", status="success", value_mw=1.0)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"trust": msgspec.structs.replace(READING.trust, status="suspect")},
            "it is 'suspect' with confidence 1",
        ),
        (
            {"trust": msgspec.structs.replace(READING.trust, confidence_score=0.2)},
            "it is 'trusted' with confidence 0.2",
        ),
        (
            {"totals": msgspec.structs.replace(READING.totals, generation_mw=236.8, exported_mw=136.8)},
            "totals.generation_mw is 236.8, its parts make 235.8",
        ),
        (
            {"totals": msgspec.structs.replace(READING.totals, exported_mw=1.0)},
            "totals.exported_mw is 1, its parts make 135.8",
        ),
        ({"generation": {}}, "generation has no parts"),
        (
            {"consumption": {"a": msgspec.structs.replace(PART, status="timeout", value_mw=100.0)}},
            "consumption.a has status 'timeout'",
        ),
        ({"collection_timestamp": "yesterday"}, "collection_timestamp 'yesterday' is no time"),
        (
            {"collection_timestamp": "2025-11-12T15:34:25"},
            "collection_timestamp '2025-11-12T15:34:25' is no time",
        ),
        (
            {"collection_timestamp": "2025-11-12T15:30:00Z"},
            "collection_timestamp 2025-11-12T15:30:00Z is 267 s old",
        ),
        (
            {"collection_timestamp": "2025-11-12T16:00:00Z"},
            "collection_timestamp 2025-11-12T16:00:00Z is 1533 s in the future",
        ),
        (
            {
                "consumption": {
                    "a": msgspec.structs.replace(
                        PART, source_timestamp="2024-01-01T00:00:00Z", value_mw=100.0
                    )
                }
            },
            "source_timestamp of a 2024-01-01T00:00:00Z is",
        ),
    ],
)
def test_what_can_not_be_believed_says_why(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UntrustedError) as caught:
        believe(documented(**changes))
    assert str(caught.value).startswith(why)


@given(st.integers(0, 2**32), st.integers(0, 50))
def test_whatever_our_own_server_says_is_believed(seed: int, updates: int) -> None:
    model = PlantModel(Bounds("gen", 0.0, 400.0), Bounds("cons", 0.0, 400.0), 10.0, str(seed))
    for _ in range(updates):
        model.update()
    latest = msgspec.json.decode(msgspec.json.encode(latest_of(model, NOW)), type=Latest)
    reading = believe(latest)
    assert reading.generation_w == pytest.approx(model.generation.total_w, abs=0.5)
    assert reading.consumption_w == pytest.approx(model.consumption.total_w, abs=0.5)
