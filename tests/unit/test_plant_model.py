"""The plant drifts within its bounds, step by step, and its parts add up to the last digit."""

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from energy.errors import SpecError
from plant.model import Bounds, PlantModel
from plant.views import latest_of, stamp

AT = Instant.parse("2025-11-12T15:34:25.829Z")
megawatts = st.floats(0, 500)


def plant(seed: str = "0", step_mw: float = 0.01) -> PlantModel:
    return PlantModel(Bounds("gen", 0.05, 0.15), Bounds("cons", 0.03, 0.10), step_mw, seed)


@given(ends=st.tuples(megawatts, megawatts), step=st.floats(0, 100), seed=st.text(max_size=5))
def test_it_stays_within_its_bounds_and_moves_by_no_more_than_a_step(
    ends: tuple[float, float], step: float, seed: str
) -> None:
    low, high = sorted(ends)
    model = PlantModel(Bounds("gen", low, high), Bounds("cons", low, high), step, seed)
    before = model.generation.total_w
    for _ in range(20):
        model.update()
        for power_w in (model.generation.total_w, model.consumption.total_w):
            assert round(low * 1e6) <= power_w <= round(high * 1e6)
        assert abs(model.generation.total_w - before) <= step * 1e6 + 1
        before = model.generation.total_w


def test_the_same_seed_walks_the_same_way_and_the_two_walk_independently() -> None:
    runs = []
    for seed in ("1", "1", "2"):
        model = plant(seed)
        walked = []
        for _ in range(50):
            model.update()
            walked.append((model.generation.total_w, model.consumption.total_w))
        runs.append(walked)
    assert runs[0] == runs[1] != runs[2]
    ups = [(b[0] > a[0], b[1] > a[1]) for a, b in zip(runs[0], runs[0][1:], strict=False)]
    assert len(set(ups)) == 4  # up and up, up and down, ...


def test_what_is_written_adds_up_to_the_last_digit() -> None:
    model = plant()
    for _ in range(200):
        model.update()
        text = msgspec.json.encode(latest_of(model, AT))
        reading = json.loads(text, parse_float=Decimal)["reading"]
        totals = reading["totals"]
        for name in ("generation", "consumption"):
            parts = sum(part["value_mw"] for part in reading[name].values())
            assert parts == totals[f"{name}_mw"]
        assert totals["exported_mw"] == totals["generation_mw"] - totals["consumption_mw"]


def test_times_have_microseconds_and_z() -> None:
    assert stamp(AT) == "2025-11-12T15:34:25.829000Z"
    assert stamp(Instant.parse("2025-11-12T15:34:25Z")) == "2025-11-12T15:34:25.000000Z"


@pytest.mark.parametrize(
    ("low", "high", "why"),
    [
        (0.2, 0.1, "--gen-min 0.2 is above --gen-max 0.1 (MW)"),
        (-0.1, 0.1, "--gen-min is -0.1: it must be finite and not negative (MW)"),
        (0.1, float("inf"), "--gen-max is inf: it must be finite and not negative (MW)"),
        (float("nan"), 0.1, "--gen-min is nan: it must be finite and not negative (MW)"),
    ],
)
def test_bounds_that_are_none_are_refused(low: float, high: float, why: str) -> None:
    with pytest.raises(SpecError) as caught:
        Bounds("gen", low, high)
    assert str(caught.value) == why


def test_a_step_that_is_none_is_refused() -> None:
    with pytest.raises(SpecError, match="--step is -1"):
        plant(step_mw=-1.0)
