"""compute_flows: the balance and the limits hold whatever comes in."""

import msgspec
import pytest
from hypothesis import given, settings

from orchestrator.errors import InputRangeError, LimitError, PowerBalanceError
from orchestrator.ev import demand_of
from orchestrator.flow import compute_flows
from orchestrator.limits import (
    Constraints,
    EconomicObjectives,
    PhysicalConstraints,
    PowerFlowInputs,
    SafetyConstraints,
)
from orchestrator.verify import verify
from tests.unit.houses import (
    battery,
    car,
    check,
    house,
    inputs,
    limits,
    money,
    objectives,
    physical,
    physicals,
    plan,
    safeties,
    unknown,
)

LADDER = (0.0, 0.1, 0.3, 0.6, 0.9, 1.0, 1.1, 2.0, 10.0)
"""Each house is tried with so many times its fuse."""


@settings(max_examples=1150, deadline=None)
@given(inputs, physicals, safeties, objectives)
def test_balance_and_every_limit_and_more_fuse_never_gives_less(
    i: PowerFlowInputs, p: PhysicalConstraints, s: SafetyConstraints, o: EconomicObjectives
) -> None:
    """1,150 houses, nine fuses each, with and without priority for the house: 20,700 cases."""
    for priority in (True, False):
        safety = msgspec.structs.replace(s, house_priority=priority)
        first_kw = ev_kw = charged_kw = 0.0
        for factor in LADDER:
            fused = msgspec.structs.replace(
                p,
                max_grid_import_kw=min(p.max_grid_import_kw * factor, 1e5),
                fuse_a=None if p.fuse_a is None else p.fuse_a * factor,
            )
            flows = check(i, Constraints(physical=fused, safety=safety), o)
            assert flows.snapshot is not None
            charges = [verdict.given_kw for verdict in flows.verdicts[: len(i.cars)]]
            if charges:
                # Whatever is measured: the first in the queue never gets less.
                ranks = [
                    demand_of(car, i.timestamp, Constraints(physical=p, safety=s), o).rank for car in i.cars
                ]
                first = charges[ranks.index(min(ranks))]
                assert first >= first_kw
                first_kw = first
            if i.phase_a is None:
                total_kw = sum(charges) + max(flows.snapshot.battery_power_kw, 0.0)
                assert sum(charges) >= ev_kw - 1e-9
                assert total_kw >= charged_kw - 0.01  # a plan's trifle of 5 W
                ev_kw, charged_kw = sum(charges), total_kw


@settings(max_examples=150, deadline=None)
@given(unknown, physicals, safeties, objectives)
def test_what_is_not_known_is_not_dispatched(
    i: PowerFlowInputs, p: PhysicalConstraints, s: SafetyConstraints, o: EconomicObjectives
) -> None:
    flows = check(i, Constraints(physical=p, safety=s), o)
    assert flows.snapshot is None
    assert {verdict.limit for verdict in flows.verdicts} <= {"stale readings"}
    assert {verdict.tier for verdict in flows.verdicts} <= {"safety"}


@pytest.mark.parametrize(
    "bad",
    [
        house(1e5 + 1),
        house(float("nan")),
        house(1, 2e5),
        house(1, phase_a=(1.0, 2.0)),
        house(1, phase_a=(1.0, -2.0, 1.0)),
        house(1, phase_a=(1.0, float("inf"), 1.0)),
    ],
)
def test_what_no_house_has_is_refused(bad: PowerFlowInputs) -> None:
    with pytest.raises(InputRangeError, match="can't be"):
        compute_flows(bad, limits(), money())


def test_only_the_house_may_exceed_its_fuse_and_that_is_said() -> None:
    c = limits(physical(max_grid_import_kw=11.0))
    flows = check(house(20, 0, cars=(car(20, 1),)), c, money(scheduled_kw={"battery": 5.0}))
    assert flows.snapshot is not None
    assert flows.snapshot.battery_power_kw == -5
    assert flows.snapshot.grid_import_kw == 15
    assert flows.overloads == [
        "The house takes 15.00 kW, 4.00 kW more than its main fuse carries, and nothing is left to switch off."
    ]
    assert [(verdict.tier, verdict.limit) for verdict in flows.verdicts] == [
        ("physical", "main fuse"),
        ("physical", "it can't discharge faster"),
    ]


def test_what_can_neither_be_stored_nor_exported_is_curtailed() -> None:
    c = limits(physical(max_grid_export_kw=0.0))
    snapshot = check(house(1, 9, (battery(95),)), c, EconomicObjectives()).snapshot
    assert snapshot is not None
    assert (snapshot.curtailed_kw, snapshot.battery_power_kw, snapshot.grid_export_kw) == (8, 0, 0)


def test_the_check_sees_what_is_wrong() -> None:
    i, c = house(2, 0, cars=(car(),)), limits()
    flows = compute_flows(i, c, money(scheduled_kw={"battery": -1.0}))
    assert flows.snapshot is not None
    right = flows.snapshot
    good_car, good_battery = flows.verdicts

    def look(changes: dict[str, float], first: object = good_car, second: object = good_battery) -> None:
        verify(msgspec.structs.replace(right, **changes), [first, second], i, c)  # type: ignore[list-item]

    look({})
    with pytest.raises(PowerBalanceError):
        look({"house_load_kw": 3.0})
    for changes, text in (
        (
            {
                "grid_import_kw": 17.0,
                "house_load_kw": 2 + 17 - right.grid_import_kw,
                "pv_kw": 5,
                "curtailed_kw": 5,
            },
            "fuse",
        ),
        (
            {"grid_import_kw": 0.0, "grid_export_kw": 11.0, "pv_kw": right.grid_import_kw + 11},
            "into the grid",
        ),
        ({"curtailed_kw": 1.0, "grid_import_kw": right.grid_import_kw + 1}, "curtailed"),
    ):
        with pytest.raises(LimitError, match=text):
            look(changes)
    with pytest.raises(LimitError, match="car can't charge"):
        look({}, first=msgspec.structs.replace(good_car, given_a=5.0))
    with pytest.raises(LimitError, match="battery can't do"):
        look({}, second=msgspec.structs.replace(good_battery, given_kw=-6.0))
    for state, text in ((battery(9), "limit of charge"), (battery(temperature_c=70.0), "too warm")):
        i = msgspec.structs.replace(i, batteries=(state,))
        with pytest.raises(LimitError, match=text):
            look({})


@pytest.mark.parametrize(
    ("planned", "grid", "demand", "load", "does", "why"),
    [
        (-3.0, 0.0, False, 3.0, -3.0, "schedule"),
        (-3.0, 0.0, False, 1.0, -1.0, "schedule"),  # less load than planned: never into the grid unasked
        (-3.0, 0.0, False, 4.0, -4.0, "schedule"),  # more: the grid stays where the plan has it
        (-3.0, -2.0, False, 1.0, -3.0, "schedule"),  # an export on purpose
        (2.0, 3.0, False, 5.0, 2.0, "schedule"),  # charging at a low price, whatever the load
        (2.0, 3.0, True, 1.0, 2.0, "schedule"),
        (2.0, 3.0, True, 2.0, 1.0, "planned peak"),  # a demand charge: no new peak for the sake of charging
        (0.0, 2.0, True, 3.0, -1.0, "planned peak"),
        (0.0, 2.0, False, 3.0, 0.0, "schedule"),
    ],
)
def test_a_plan_meets_another_load_than_it_foresaw(
    *, planned: float, grid: float, demand: bool, load: float, does: float, why: str
) -> None:
    snapshot, verdicts, _ = check(house(load), limits(), plan(planned, grid, demand=demand))
    assert snapshot is not None
    assert snapshot.battery_power_kw == pytest.approx(does)
    assert verdicts[0].limit == why
