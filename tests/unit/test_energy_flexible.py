"""A load with presets: nothing while it starts, a line to nothing while it stops, never more than its preset."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.errors import SpecError
from energy.flexible import (
    MINER_PRESETS_KW,
    STILL,
    FlexibleLoadSpec,
    LoadState,
    check_preset,
    settles_in_s,
    step,
)

SPEC = FlexibleLoadSpec(presets_kw=(1.0, 2.0, 3.0), start_s=10.0, stop_s=4.0)
RUNNING = LoadState("running", 2.0)


def test_the_usual_presets_are_twenty_from_1_to_3_kw() -> None:
    assert (len(MINER_PRESETS_KW), MINER_PRESETS_KW[0], MINER_PRESETS_KW[-1]) == (20, 1.0, 3.0)
    assert FlexibleLoadSpec().presets_kw == MINER_PRESETS_KW


def test_it_draws_nothing_until_it_has_started() -> None:
    state, kw = step(SPEC, STILL, 2.0, 9.0)
    assert (state.phase, kw, settles_in_s(SPEC, state, 2.0)) == ("starting", 0.0, 1.0)
    state, kw = step(SPEC, state, 2.0, 2.0)
    assert (state, kw) == (RUNNING, 1.0)  # half of the two seconds at 2 kW


def test_a_start_goes_on_towards_another_preset_and_ends_at_once_when_told_to_stop() -> None:
    state, _ = step(SPEC, STILL, 2.0, 5.0)
    state, kw = step(SPEC, state, 3.0, 6.0)
    assert (state, kw) == (LoadState("running", 3.0), 0.5)
    state, _ = step(SPEC, STILL, 2.0, 5.0)
    assert step(SPEC, state, 0.0, 1.0) == (STILL, 0.0)


def test_its_power_falls_in_a_line_while_it_stops() -> None:
    state, kw = step(SPEC, RUNNING, 0.0, 2.0)
    assert (state.phase, kw) == ("stopping", 1.5)
    state, kw = step(SPEC, state, 0.0, 2.0)
    assert (state, kw) == (STILL, 0.5)


def test_one_that_stops_does_so_to_the_end_before_it_starts_again() -> None:
    state, _ = step(SPEC, RUNNING, 0.0, 1.0)
    assert settles_in_s(SPEC, state, 3.0) == 13.0
    state, _ = step(SPEC, state, 3.0, 12.0)
    assert (state.phase, state.left_s) == ("starting", 1.0)


def test_between_presets_it_changes_at_once() -> None:
    assert step(SPEC, RUNNING, 3.0, 1.0) == (LoadState("running", 3.0), 3.0)


def test_without_a_time_to_start_or_stop_it_does_so_at_once() -> None:
    spec = FlexibleLoadSpec(presets_kw=(1.0,), start_s=0.0, stop_s=0.0)
    assert step(spec, STILL, 1.0, 1.0) == (LoadState("running", 1.0), 1.0)
    assert step(spec, LoadState("running", 1.0), 0.0, 1.0) == (STILL, 0.0)


@given(
    st.lists(st.tuples(st.sampled_from((0.0, 1.0, 2.0, 3.0)), st.floats(0.01, 30.0)), max_size=8),
    st.integers(1, 7),
)
def test_in_small_steps_it_does_the_same_as_in_one(orders: list[tuple[float, float]], pieces: int) -> None:
    whole, cut = STILL, STILL
    for preset_kw, dt_s in orders:
        whole, kw = step(SPEC, whole, preset_kw, dt_s)
        parts = []
        for _ in range(pieces):
            cut, part_kw = step(SPEC, cut, preset_kw, dt_s / pieces)
            parts.append(part_kw)
        assert 0.0 <= kw <= 3.0 + 1e-9
        assert sum(parts) / pieces == pytest.approx(kw, abs=1e-6)
        assert settles_in_s(SPEC, cut, preset_kw) == pytest.approx(
            settles_in_s(SPEC, whole, preset_kw), abs=1e-6
        )


@pytest.mark.parametrize("kw", [0.0, 1.0, 2.0, 3.0])
def test_a_preset_is_taken_as_it_is(kw: float) -> None:
    assert check_preset(SPEC, kw) == kw


@pytest.mark.parametrize("kw", [0.5, 1.001, 4.0, -1.0, float("nan")])
def test_any_other_power_is_refused(kw: float) -> None:
    with pytest.raises(SpecError, match=r"is no preset: 0, or one of 3 from 1 to 3 kW"):
        check_preset(SPEC, kw)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"presets_kw": ()}, "presets_kw has 0 values: 1 to 100 are needed"),
        ({"presets_kw": (0.0, 1.0)}, "presets_kw has 0 after 0: they must rise, from above 0"),
        ({"presets_kw": (2.0, 2.0)}, "presets_kw has 2 after 2: they must rise, from above 0"),
        ({"presets_kw": (1.0, float("inf"))}, "presets_kw has inf after 1: they must rise, from above 0"),
        ({"start_s": -1.0}, "start_s is -1: it must be 0 to 3600"),
        ({"stop_s": float("nan")}, "stop_s is nan: it must be 0 to 3600"),
    ],
)
def test_a_load_that_can_not_be_is_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(SpecError) as caught:
        FlexibleLoadSpec(**changes)  # type: ignore[arg-type]
    assert str(caught.value) == why
