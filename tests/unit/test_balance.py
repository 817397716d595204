"""The balancer: never above what is available, few changes, little left over, only what is managed."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.balance import Balance, BalanceSettings, FlexibleLoad, balance
from tests.conftest import START

PRESETS = tuple(round(1 + 2 * i / 19, 3) for i in range(20))
"""A miner's: 20 from 1 to 3 kW."""
SETTINGS = BalanceSettings()


def load(name: str, power_kw: float = 0.0, **more: object) -> FlexibleLoad:
    fields = {"der_id": name, "presets_kw": PRESETS, "power_kw": power_kw, **more}
    return FlexibleLoad(**fields)  # type: ignore[arg-type]


def miners(*powers_kw: float) -> list[FlexibleLoad]:
    return [load(f"miner-{i:02}", kw) for i, kw in enumerate(powers_kw)]


def share(loads: list[FlexibleLoad], available_kw: float, settings: BalanceSettings = SETTINGS) -> Balance:
    return balance(loads, available_kw, settings, START)


def test_within_the_band_nothing_is_changed() -> None:
    for available_kw in (6.0, 7.9, 4.1):
        assert share(miners(2.0, 2.0), available_kw).changes == []


def test_what_is_left_over_is_used_by_as_few_loads_as_can_be() -> None:
    done = share(miners(*[1.0] * 20), 26.0)
    assert done.target_kw == 24.0
    assert len(done.changes) == 2  # 4 kW are two loads from 1 to 3
    assert done.after_kw == pytest.approx(24.0)


def test_too_much_is_taken_back_and_no_more_than_is_available_remains() -> None:
    done = share(miners(*[3.0] * 20), 50.0)
    assert done.after_kw <= 48.0
    assert done.after_kw == pytest.approx(48.0, abs=0.11)
    assert len(done.changes) == 4


def test_without_any_power_all_stand_still() -> None:
    done = share(miners(*[2.0] * 5), -30.0)
    assert done.after_kw == 0.0
    assert {change.after_kw for change in done.changes} == {0.0}


def test_loads_that_are_not_managed_or_not_ready_are_left_alone() -> None:
    loads = [
        load("stranger", 3.0, managed=False),
        load("cooling", 3.0, ready_at=START.after(5)),
        load("mine", 3.0),
    ]
    done = share(loads, 3.0)
    assert done.current_kw == 6.0  # a stranger's power is in the plant's consumption
    assert [change.der_id for change in done.changes] == ["mine"]


def test_all_cooling_down_says_so() -> None:
    done = share([load("a", 3.0, ready_at=START.after(5))], 0.0)
    assert (done.changes, done.why) == ([], "the others are not ready yet")
    assert share(miners(3.0), 50.0).why == "every load is at its limit"


def test_fair_raises_the_lowest_and_lowers_the_highest() -> None:
    assert [c.der_id for c in share(miners(2.5, 1.0, 2.0), 9.6).changes] == ["miner-01"]
    assert share(miners(1.5, 1.0, 3.0), 3.5).changes[0].der_id == "miner-02"


def test_priority_serves_the_important_ones() -> None:
    ranked = BalanceSettings(order="priority")
    loads = [load("low", 1.0, priority=1), load("high", 1.0, priority=9)]
    assert [c.der_id for c in share(loads, 6.05, ranked).changes] == ["high"]
    loads = [load("low", 3.0, priority=1), load("high", 3.0, priority=9)]
    assert [c.der_id for c in share(loads, 5.0, ranked).changes] == ["low"]


def test_a_preset_is_fitted_to_what_is_left() -> None:
    coarse = [
        load("a", 0.0, presets_kw=(1.0, 4.0)),
        load("b", 0.0, presets_kw=(2.5,)),
        load("c", 0.0, presets_kw=(1.6,)),
    ]
    done = share(coarse, 7.1 + 2.0)
    assert done.after_kw == pytest.approx(6.5)  # 4 + 2.5: no choice comes nearer to 7.1


presets = st.lists(st.floats(0.1, 5).map(lambda kw: round(kw, 3)), min_size=1, max_size=6, unique=True).map(
    lambda kws: tuple(sorted(kws))
)


@st.composite
def plants(draw: st.DrawFn) -> list[FlexibleLoad]:
    loads = []
    for i in range(draw(st.integers(0, 12))):
        kws = draw(presets)
        loads.append(
            FlexibleLoad(
                der_id=f"load-{i}",
                presets_kw=kws,
                power_kw=draw(st.sampled_from((0.0, *kws))),
                priority=draw(st.integers(0, 3)),
                managed=draw(st.booleans()),
                ready_at=draw(st.sampled_from((None, None, START.after(10), START.after(-10)))),
            )
        )
    return loads


@given(
    loads=plants(),
    available_kw=st.floats(-50, 80),
    settings=st.builds(
        BalanceSettings,
        reserve_kw=st.floats(0, 5),
        tolerance_kw=st.floats(0, 5),
        order=st.sampled_from(("fair", "priority")),
    ),
)
def test_whatever_there_is(loads: list[FlexibleLoad], available_kw: float, settings: BalanceSettings) -> None:
    done = balance(loads, available_kw, settings, START)
    by_id = {one.der_id: one for one in loads}
    for change in done.changes:
        one = by_id[change.der_id]
        assert one.managed
        assert one.ready_at is None or one.ready_at <= START
        assert change.before_kw == one.power_kw != change.after_kw
        assert change.after_kw in (0.0, *one.presets_kw)
        assert (change.after_kw > change.before_kw) == (done.delta_kw > 0)
    if done.delta_kw > 0:
        assert done.after_kw <= done.target_kw + 1e-9
    stuck_kw = sum(
        one.power_kw for one in loads if one.managed and one.ready_at is not None and one.ready_at > START
    )
    assert done.after_kw <= max(available_kw, stuck_kw, 0.0) + 1e-9


@given(loads=plants(), available_kw=st.floats(-50, 80))
def test_it_does_not_oscillate(loads: list[FlexibleLoad], available_kw: float) -> None:
    """With the same power available, the first answer settles it but for what the presets can't reach."""
    loads = [one for one in loads if one.ready_at is None]
    powers = []
    for _ in range(4):
        done = balance(loads, available_kw, SETTINGS, START)
        powers.append(done.after_kw)
        after = {change.der_id: change.after_kw for change in done.changes}
        loads = [
            FlexibleLoad(
                der_id=one.der_id,
                presets_kw=one.presets_kw,
                power_kw=after.get(one.der_id, one.power_kw),
                priority=one.priority,
                managed=one.managed,
            )
            for one in loads
        ]
    for before, after_kw in pairwise(powers):
        assert after_kw >= before - 1e-9  # never down again


def test_no_choice_of_three_loads_is_better() -> None:
    """Against all there are; another change must be worth 100 W."""
    choices = [(0.0, 1.3, 2.9), (0.0, 1.7), (0.0, 0.9, 2.2)]
    loads = [load(f"l{i}", 0.0, presets_kw=kws[1:]) for i, kws in enumerate(choices)]
    for target in (2.0, 3.1, 4.4, 5.0, 6.7):
        fit = [chosen for chosen in product(*choices) if sum(chosen) <= target]
        least = min(target - sum(chosen) + 0.1 * sum(map(bool, chosen)) for chosen in fit)
        done = share(loads, target + 2.0, BalanceSettings(tolerance_kw=0.0))
        assert target - done.after_kw + 0.1 * len(done.changes) == pytest.approx(least)
