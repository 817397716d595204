"""What can't be planned: it is named, leaves batteries and cars alone, and is never an exception."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.plan import Plan, idle_plan
from optimizer.problem import Battery, Car, DemandPeriod, Problem, fault_in
from optimizer.solver import Solver
from tests.optimizer_cases import BATTERY, battery, car, problem

SOLVER = Solver()


def is_finite(plan: Plan) -> bool:
    costs = [plan.energy_cost, plan.demand_cost, plan.peak_kw]
    of_ders = [x for der in plan.ders for x in (*der.power_kw, *der.stored_kwh, *der.stored_value)]
    return all(map(math.isfinite, [*costs, *plan.grid_kw, *plan.curtailed_kw, *of_ders]))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"load_kw": [1.0, math.nan]}, "load_kw[1] is nan"),
        ({"pv_kw": [math.inf, 0.0]}, "pv_kw[0] is inf"),
        ({"pv_kw": [-1.0, 0.0]}, "pv_kw[0] is -1"),
        ({"import_price": [1.0]}, "import_price has 1 numbers, load_kw 2"),
        (
            {"load_kw": [], "pv_kw": [], "import_price": [], "export_price": []},
            "load_kw has 0 numbers: it must have 1 to 5000",
        ),
        ({"max_grid_import_kw": -1.0}, "max_grid_import_kw is -1"),
        ({"max_grid_export_kw": math.nan}, "max_grid_export_kw is nan"),
        ({"batteries": [battery(end_value_per_kwh=math.nan)]}, "battery end_value_per_kwh is nan"),
        ({"batteries": [BATTERY, BATTERY]}, "battery is there twice"),
        ({"step_h": 0.0}, "step_h is 0: it must be above 0 to 24"),
        ({"step_h": math.nan}, "step_h is nan"),
        ({"batteries": [battery(capacity_kwh=0.0)]}, "battery capacity_kwh is 0"),
        ({"batteries": [battery(soc_percent=math.nan)]}, "battery soc_percent is nan"),
        ({"batteries": [battery(efficiency_roundtrip=-1.0)]}, "battery efficiency_roundtrip is -1"),
        ({"batteries": [battery(min_soc_percent=90.0, max_soc_percent=10.0)]}, "battery min_soc_percent 90"),
        (
            {
                "demand": [DemandPeriod(name="day", price_per_kw=-1.0, floor_kw=0.0)],
                "demand_of_interval": [0, 0],
            },
            "demand price of day is -1",
        ),
        (
            {
                "demand": [DemandPeriod(name="day", price_per_kw=1.0, floor_kw=0.0)],
                "demand_of_interval": [0, 1],
            },
            "demand_of_interval names a period outside 0..0",
        ),
        ({"load_kw": [1.0, 1e6]}, "load_kw[1] is 1e+06: it must be 0 to 100000"),
        ({"import_price": [1.0, -1e9]}, "import_price[1] is -1e+09"),
        ({"first_step_h": 0.0}, "first_step_h is 0: it must be above 0 to 1"),
        ({"first_step_h": 1.5}, "first_step_h is 1.5"),
        ({"max_grid_import_kw": math.inf}, "max_grid_import_kw is inf"),
        ({"passed_steps": 1}, "passed_steps is 1: it must be in 0..0"),
        ({"interval_steps": 0}, "interval_steps is 0: it must be 1 or more"),
        ({"passed_kwh": -1.0}, "passed_kwh is -1"),
        ({"demand_of_interval": [0, 0]}, "demand_of_interval names a period, demand has none"),
        ({"batteries": [battery(wear_per_kwh=0.0)]}, "battery wear_per_kwh is 0: it must be above 0"),
        ({"cars": [car(capacity_kwh=0.0)]}, "ev capacity_kwh is 0"),
        ({"cars": [car(min_charge_kw=6.0)]}, "ev min_charge_kw is 6: it must be 0 to 5"),
        ({"cars": [car(departure_step=3)]}, "ev departure_step is 3: it must be 0 to 2"),
        ({"cars": [car(efficiency=0.0)]}, "ev efficiency is 0"),
        ({"cars": [car(soc_percent=101.0)]}, "ev soc_percent is 101"),
        ({"cars": [car(target_soc_percent=math.nan)]}, "ev target_soc_percent is nan"),
        ({"cars": [car(der_id="battery")]}, "battery is there twice"),
        (
            {
                "demand": [DemandPeriod(name="day", price_per_kw=1.0, floor_kw=0.0, expected_kw=[1.0])],
                "demand_of_interval": [0, 0],
            },
            "expected_kw of day has 1 levels: it must be 4",
        ),
        (
            {
                "demand": [DemandPeriod(name="day", price_per_kw=1.0, floor_kw=math.inf)],
                "demand_of_interval": [0, 0],
            },
            "demand floor of day is inf",
        ),
        (
            {
                "demand": [DemandPeriod(name="day", price_per_kw=1.0, floor_kw=1.0)],
                "demand_of_interval": [0],
            },
            "demand_of_interval has 1 numbers, the steps 2 intervals",
        ),
    ],
)
def test_a_fault_in_the_input_is_named(change: dict[str, Any], cause: str) -> None:
    plan = SOLVER.plan(faulty(change))
    assert plan.status == "error"
    assert plan.reason.startswith(cause)
    assert not any(kw for der in plan.ders for kw in der.power_kw)
    assert is_finite(plan)


def faulty(change: dict[str, Any]) -> Problem:
    return msgspec.structs.replace(problem([1.0, 1.0], [1.0, 1.0]), **change)


def test_an_idle_plan_of_a_sound_problem_says_what_it_costs_and_misses() -> None:
    peak = DemandPeriod(name="day", price_per_kw=100.0, floor_kw=1.0)
    case = problem(
        [2.0, 3.0],
        [10.0, 20.0],
        battery(soc_percent=50.0),
        pv_kw=[0.0, 5.0],
        cars=[car()],
        demand=[peak],
        demand_of_interval=[0, 0],
        first_step_h=0.5,
        max_grid_import_kw=1.5,
    )
    plan = idle_plan(case, "fallback", "out of time")
    assert [der.power_kw for der in plan.ders] == [[0.0, 0.0]] * 2
    assert plan.ders[0].stored_kwh == [5.0, 5.0, 5.0]
    assert plan.grid_kw == [2.0, 0.0]
    assert plan.curtailed_kw == [0.0, 2.0]
    assert (plan.energy_cost, plan.demand_cost) == (10.0, 100.0)
    assert plan.violations == [
        "max_grid_import_kw of 1.5 kW is passed by up to 0.5 kW (step 0)",
        "target_soc_percent of ev, 20 %, is missed by 10 kWh at its departure",
    ]


def test_an_idle_plan_keeps_what_is_sound() -> None:
    case = faulty({"load_kw": [1.0, math.nan], "batteries": [battery(soc_percent=50.0)], "cars": [car()]})
    plan = idle_plan(case, "error", "")
    assert plan.grid_kw == [1.0, 0.0]
    assert plan.ders[0].stored_kwh == [5.0, 5.0, 5.0]


# Whatever a problem holds, there is a plan

ODD = [math.nan, math.inf, -math.inf, -1.0, 1e6, 1e12, 1e300, 1e-300]
SOUND = [0.0, 1e-9, 1e-3, 0.3, 1.0, 3.0, 50.0, 1e3, 1e5]
odd = st.sampled_from(SOUND + ODD) | st.floats()
"""Any number at all, now and then one that could be."""


@st.composite
def wild_problems(draw: st.DrawFn, numbers: st.SearchStrategy[float]) -> Problem:
    """Anything that the types allow."""
    n = draw(st.integers(0, 3))
    count = st.integers(-1, 3)

    def listed() -> list[float]:
        return draw(st.lists(numbers, min_size=n, max_size=n) | st.lists(numbers, max_size=4))

    def fields(*names: str) -> dict[str, float]:
        return {name: draw(numbers) for name in names}

    return Problem(
        step_h=draw(numbers | st.just(0.25)),
        first_step_h=draw(st.none() | numbers),
        load_kw=draw(st.lists(numbers, min_size=n, max_size=n)),
        pv_kw=listed(),
        import_price=listed(),
        export_price=listed(),
        batteries=[Battery(**fields(*BATTERY_NUMBERS)) for _ in range(draw(st.integers(0, 2)))],
        cars=[
            Car(**fields(*CAR_NUMBERS), departure_step=draw(count)) for _ in range(draw(st.integers(0, 2)))
        ],
        demand=[
            DemandPeriod(
                name="day",
                price_per_kw=draw(numbers),
                floor_kw=draw(numbers),
                expected_kw=draw(st.just([]) | st.lists(numbers, max_size=5)),
            )
            for _ in range(draw(st.integers(0, 2)))
        ],
        demand_of_interval=draw(st.lists(count, max_size=4)),
        interval_steps=draw(count),
        passed_steps=draw(count),
        passed_kwh=draw(numbers),
        max_grid_import_kw=draw(numbers),
        max_grid_export_kw=draw(numbers),
    )


BATTERY_NUMBERS = [name for name in Battery.__struct_fields__ if name != "der_id"]
CAR_NUMBERS = [name for name in Car.__struct_fields__ if name not in ("der_id", "departure_step")]


@settings(max_examples=300, deadline=None)
@given(wild_problems(odd))
def test_anything_has_a_plan(case: Problem) -> None:
    plan = SOLVER.plan(case)
    assert plan.status != "optimal" or fault_in(case) is None
    assert plan.reason or plan.status == "optimal"
    assert is_finite(plan)
    assert len(plan.grid_kw) == len(plan.curtailed_kw) == case.steps
    assert [der.der_id for der in plan.ders] == [der.der_id for der in case.ders]
    if plan.status == "error":
        assert not any(kw for der in plan.ders for kw in der.power_kw)


@st.composite
def extreme_problems(draw: st.DrawFn) -> Problem:
    """Nothing a house could not have; but all of it at the ends of what it could."""
    size = st.sampled_from(SOUND)
    price = st.sampled_from([-1e6, -1.0, 0.0, 1e-6, 1.0, 50.0, 1e6])

    def listed(values: st.SearchStrategy[float]) -> list[float]:
        return draw(st.lists(values, min_size=2, max_size=2))

    return Problem(
        step_h=0.25,
        first_step_h=draw(st.sampled_from([0.25, 1 / 3600])),
        load_kw=listed(size),
        pv_kw=listed(size),
        import_price=listed(price),
        export_price=listed(price),
        batteries=[
            battery(
                capacity_kwh=max(1e-6, draw(size)),
                max_charge_kw=draw(size),
                max_discharge_kw=draw(size),
                efficiency_roundtrip=draw(st.sampled_from([1e-3, 0.9, 1.0])),
                min_soc_percent=draw(st.sampled_from([0.0, 49.0])),
                max_soc_percent=draw(st.sampled_from([50.0, 100.0])),
                soc_percent=draw(st.sampled_from([0.0, 1e-9, 49.5, 100.0])),
                wear_per_kwh=draw(st.sampled_from([1e-6, 1.0, 1e6])),
            )
        ],
        max_grid_import_kw=draw(size),
        max_grid_export_kw=draw(size),
    )


@settings(max_examples=150, deadline=None)
@given(extreme_problems())
def test_extremes_are_planned_or_named(case: Problem) -> None:
    plan = SOLVER.plan(case)
    assert fault_in(case) is None
    assert is_finite(plan)
    assert plan.status == "optimal" or plan.reason
