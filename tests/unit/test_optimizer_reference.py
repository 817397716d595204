"""The MPC service's specification, point by point, on the horizon and with the settings that it has."""

import math
from itertools import pairwise

import msgspec
import pytest

from contracts.instant import Instant
from energy.tariff import load_tariff
from optimizer.plan import Plan
from optimizer.problem import Battery, DemandPeriod, Problem
from optimizer.solver import Solver

NOON = Instant.parse("2025-01-15T18:00:00Z")
"""12:00 in Costa Rica: peak, until 17:00."""
DT = 0.25
N = 192
BATTERY = Battery(
    capacity_kwh=500.0,
    max_charge_kw=250.0,
    max_discharge_kw=250.0,
    efficiency_roundtrip=0.90,
    min_soc_percent=10.0,
    max_soc_percent=90.0,
    soc_percent=65.0,
    wear_per_kwh=0.05,
)
SOLVER = Solver()
EXACT = 1e-4


def works() -> Problem:
    """A commercial customer over 48 h in steps of 15 min, with the sun on its roof."""
    prices = load_tariff().series(NOON, DT * 3600, N)
    names = sorted(set(prices.period))
    price_per_kw = dict(zip(prices.period, prices.demand_price, strict=True))
    hours = [(12 + i * DT) % 24 for i in range(N)]
    return Problem(
        step_h=DT,
        load_kw=[120.0 + 80.0 * math.exp(-((hour - 14.0) ** 2) / 8.0) for hour in hours],
        pv_kw=[max(0.0, 90.0 * math.sin(math.pi * (hour - 6.0) / 12.0)) for hour in hours],
        import_price=prices.import_price,
        export_price=prices.export_price,
        batteries=[BATTERY],
        demand=[DemandPeriod(name=name, price_per_kw=price_per_kw[name], floor_kw=0.0) for name in names],
        demand_of_interval=[names.index(name) for name in prices.period],
        max_grid_import_kw=1000.0,
    )


@pytest.fixture(scope="module")
def case() -> Problem:
    return works()


@pytest.fixture(scope="module")
def plan(case: Problem) -> Plan:
    return SOLVER.plan(case)


def test_the_rates_are_the_published_ones(case: Problem) -> None:
    """Peak 70 CRC/kWh and 10,154 CRC/kW, valley 26 and 7,090, night 16 and 4,541."""
    assert sorted(set(case.import_price)) == [16.0, 26.0, 70.0]
    assert {period.name: period.price_per_kw for period in case.demand} == {
        "peak": 10154.0,
        "valley": 7090.0,
        "night": 4541.0,
    }


def test_the_first_step_is_the_dispatch(plan: Plan) -> None:
    """Negative: it discharges at the peak hours' price."""
    assert plan.status == "optimal"
    assert plan.ders[0].power_kw[0] < 0


def test_the_schedule_has_the_reference_shape(plan: Plan) -> None:
    assert len(plan.ders[0].power_kw) == len(plan.grid_kw) == N
    assert len(plan.ders[0].stored_kwh) == N + 1


def test_initial_condition(plan: Plan) -> None:
    assert plan.ders[0].stored_kwh[0] / 500.0 == pytest.approx(0.65)


def test_power_balance(case: Problem, plan: Plan) -> None:
    """P_grid + solar == load + P_battery, with charging positive; what can't be used is curtailed."""
    flows = zip(plan.grid_kw, case.pv_kw, plan.curtailed_kw, case.load_kw, plan.ders[0].power_kw, strict=True)
    for grid, pv, curtailed, load, power in flows:
        assert grid + pv - curtailed == pytest.approx(load + power, abs=1e-9)


def test_soc_dynamics_with_efficiency(plan: Plan) -> None:
    one_way = math.sqrt(0.90)
    soc = [kwh / 500.0 for kwh in plan.ders[0].stored_kwh]
    for (before, after), power in zip(pairwise(soc), plan.ders[0].power_kw, strict=True):
        charge, discharge = max(0.0, power), max(0.0, -power)
        expected = before + one_way * charge * DT / 500.0 - discharge * DT / (one_way * 500.0)
        assert after == pytest.approx(expected, abs=1e-9)


def test_operational_limits(plan: Plan) -> None:
    assert all(0.10 - EXACT <= kwh / 500.0 <= 0.90 + EXACT for kwh in plan.ders[0].stored_kwh)
    assert all(-250.0 <= kw <= 250.0 for kw in plan.ders[0].power_kw)
    assert min(plan.grid_kw) >= -EXACT
    assert plan.peak_kw == max(plan.grid_kw)


def test_costs(case: Problem, plan: Plan) -> None:
    """Energy: the sum of price x P_grid x dt; demand: rate x peak, of each period."""
    energy = sum(price * kw * DT for price, kw in zip(case.import_price, plan.grid_kw, strict=True))
    assert plan.energy_cost == pytest.approx(energy, rel=1e-6)
    demand = sum(
        period.price_per_kw
        * max(kw for kw, of in zip(plan.grid_kw, case.demand_of_interval, strict=True) if of == index)
        for index, period in enumerate(case.demand)
    )
    assert plan.demand_cost == pytest.approx(demand, rel=1e-6)


def test_it_saves(case: Problem, plan: Plan) -> None:
    alone = SOLVER.plan(msgspec.structs.replace(case, batteries=[]))
    assert plan.energy_cost + plan.demand_cost < alone.energy_cost + alone.demand_cost


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bad_forecasts_command_nothing(case: Problem, value: float) -> None:
    """Forecast data quality: no NaN or infinite values."""
    broken = SOLVER.plan(msgspec.structs.replace(case, load_kw=[*case.load_kw[:-1], value]))
    assert broken.status == "error"
    assert broken.reason.startswith(f"load_kw[191] is {value}")
    assert broken.ders[0].power_kw == [0.0] * N


def test_if_the_solver_fails_the_command_is_zero(case: Problem) -> None:
    late = Solver(time_limit_s=0.0).plan(case)
    assert late.status == "fallback"
    assert late.ders[0].power_kw == [0.0] * N
    assert late.energy_cost > 0
