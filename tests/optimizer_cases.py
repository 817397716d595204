"""Problems for the optimizer's tests: the smallest ones, random ones, and what a plan of one is worth."""

import random
from typing import Any

import msgspec

from optimizer.parameters import parameters_of
from optimizer.plan import Plan
from optimizer.problem import SHARES, Battery, Car, DemandPeriod, Problem

BATTERY = Battery(
    capacity_kwh=10.0,
    max_charge_kw=4.0,
    max_discharge_kw=4.0,
    efficiency_roundtrip=1.0,
    min_soc_percent=0.0,
    max_soc_percent=100.0,
    soc_percent=0.0,
)
CAR = Car(
    capacity_kwh=50.0,
    soc_percent=0.0,
    target_soc_percent=20.0,
    min_charge_kw=2.0,
    max_charge_kw=5.0,
    efficiency=1.0,
    departure_step=2,
)


def problem(load: list[float], price: list[float], *batteries: Battery, **more: Any) -> Problem:
    """Hourly steps, one battery, no PV, no export, nothing left is worth anything."""
    fields: dict[str, Any] = {
        "step_h": 1.0,
        "load_kw": load,
        "pv_kw": [0.0] * len(load),
        "import_price": price,
        "export_price": [0.0] * len(load),
        "batteries": batteries or [BATTERY],
        "max_grid_import_kw": 100.0,
        **more,
    }
    return Problem(**fields)


def battery(**fields: Any) -> Battery:
    return msgspec.structs.replace(BATTERY, **fields)


def car(**fields: Any) -> Car:
    return msgspec.structs.replace(CAR, **fields)


def charging(load: list[float], price: list[float], *cars: Car, **more: Any) -> Problem:
    """The same with a car, which is there throughout, in place of the battery."""
    at_home = cars or [car(departure_step=len(load))]
    return problem(load, price, **{"batteries": [], "cars": at_home, **more})


def worth(plan: Plan, case: Problem) -> float:
    """What a plan costs by the words of `Problem`; limits missed at the prices that the program has for that."""
    prices = parameters_of(case)
    cost = sum(
        max(0.0, kw) * h * buy - max(0.0, -kw) * h * sell
        for kw, h, buy, sell in zip(
            plan.grid_kw, case.hours, case.import_price, case.export_price, strict=True
        )
    )
    cost += float(prices["over_price"]) * sum(max(0.0, kw - case.max_grid_import_kw) for kw in plan.grid_kw)
    of_batteries, of_cars = plan.ders[: len(case.batteries)], plan.ders[len(case.batteries) :]
    for der, device in zip(of_batteries, case.batteries, strict=True):
        through_kwh = sum(abs(kw) * h for kw, h in zip(der.power_kw, case.hours, strict=True))
        cost += device.wear_per_kwh * through_kwh - device.end_value_per_kwh * der.stored_kwh[-1]
        kept = zip(device.reserve_value, der.stored_kwh[1:], strict=False)
        cost -= sum(value * (kwh - der.stored_kwh[0]) for value, kwh in kept)
    for der, vehicle in zip(of_cars, case.cars, strict=True):
        charged = sum(kw * h * vehicle.efficiency for kw, h in zip(der.power_kw, case.hours, strict=True))
        cost += float(prices["short_price"]) * max(0.0, vehicle.asked_kwh(case.step_h) - charged)
    return cost + _demand_worth(plan, case)


def _demand_worth(plan: Plan, case: Problem) -> float:
    """A share of the price above each level."""
    if not case.demand:
        return 0.0
    interval_h = case.step_h * case.interval_steps
    energies = [case.passed_kwh, *[0.0] * (case.intervals - 1)]
    for step, (kw, h) in enumerate(zip(plan.grid_kw, case.hours, strict=True)):
        energies[(step + case.passed_steps) // case.interval_steps] += max(0.0, kw) * h
    cost = 0.0
    for index, period in enumerate(case.demand):
        peak = max(
            [
                kwh / interval_h
                for kwh, of in zip(energies, case.demand_of_interval, strict=True)
                if of == index
            ],
            default=0.0,
        )
        levels = period.expected_kw or [period.floor_kw] * SHARES
        cost += sum(max(period.floor_kw, level, peak) * period.price_per_kw / SHARES for level in levels)
    return cost


# Random problems, edge cases among them


def random_case(rng: random.Random, n: int | None = None, *, modes: bool = False, cars: int = 0) -> Problem:
    """A house with everything that a problem can have, each now and then.

    Args:
        rng: decides.
        n: how many steps; None: few.
        modes: import at negative prices, and export dearer than import.
        cars: how many.
    """
    n = n or rng.choice([1, 2, 8, 12, 24])
    scale = rng.choice([0.1, 1.0, 1.0, 30.0])
    interval_steps = rng.choice([1, 1, 2])
    passed_steps = rng.randrange(interval_steps)
    demand = [_random_period(rng, index, scale) for index in range(rng.choice([0, 1, 2, 3]))]
    intervals = -(-(n + passed_steps) // interval_steps) if demand else 0
    import_price = [rng.uniform(-20 if modes and rng.random() < 0.3 else 5, 80) for _ in range(n)]
    dearest = 1.3 if modes else 1.0
    return Problem(
        step_h=0.25,
        first_step_h=rng.choice([None, None, 0.25, 0.1, 0.005]),
        load_kw=[scale * rng.choice([rng.uniform(0.0, 8), 0.0, rng.uniform(0.2, 3)]) for _ in range(n)],
        pv_kw=[scale * max(0.0, rng.uniform(-6, 8)) for _ in range(n)],
        import_price=import_price,
        export_price=[
            rng.uniform(-0.5, dearest) * abs(price) if modes else rng.uniform(-1, 1) * price
            for price in import_price
        ],
        batteries=[_random_battery(rng, index, n, scale) for index in range(rng.choice([0, 1, 1, 2, 3]))],
        cars=[_random_car(rng, index, n, scale) for index in range(cars)],
        demand=demand,
        demand_of_interval=[rng.randrange(len(demand)) for _ in range(intervals)],
        interval_steps=interval_steps,
        passed_steps=passed_steps,
        passed_kwh=scale * rng.uniform(0, 1) if passed_steps else 0.0,
        max_grid_import_kw=scale * rng.choice([100.0, 100.0, 6.0, 3.0]),
        max_grid_export_kw=scale * rng.choice([0.0, 0.0, 3.0, 100.0]),
    )


def _random_period(rng: random.Random, index: int, scale: float) -> DemandPeriod:
    floor = scale * rng.choice([0.0, 0.0, rng.uniform(0, 5)])
    expected = sorted(scale * rng.uniform(0, 8) for _ in range(SHARES)) if rng.random() < 0.4 else ()
    price = rng.choice([0.0, rng.uniform(5, 50), rng.uniform(500, 10_000)])
    return DemandPeriod(name=f"period {index}", price_per_kw=price, floor_kw=floor, expected_kw=expected)


def _random_battery(rng: random.Random, index: int, steps: int, scale: float) -> Battery:
    low, high = rng.choice([(10.0, 90.0), (0.0, 100.0), (rng.uniform(0, 45), rng.uniform(55, 100))])
    return Battery(
        der_id=f"battery-{index}",
        capacity_kwh=scale * rng.uniform(1, 20),
        max_charge_kw=scale
        * rng.choice([0.0, rng.uniform(0.5, 6), rng.uniform(0.5, 6), rng.uniform(0.5, 6)]),
        max_discharge_kw=scale * rng.choice([0.0, *(rng.uniform(0.5, 6) for _ in range(3))]),
        efficiency_roundtrip=rng.choice([1.0, 0.9, rng.uniform(0.6, 1.0)]),
        min_soc_percent=low,
        max_soc_percent=high,
        soc_percent=rng.choice([low, high, 0.0, 100.0, *(rng.uniform(0, 100) for _ in range(4))]),
        end_value_per_kwh=rng.choice([0.0, rng.uniform(5, 40)]),
        wear_per_kwh=rng.uniform(0.01, 1),
        reserve_value=rng.choice([[], [rng.uniform(0, 20) for _ in range(steps)]]),
    )


def _random_car(rng: random.Random, index: int, n: int, scale: float) -> Car:
    least, most = rng.choice([(1.38, 3.68), (1.38, 7.36), (4.14, 11.0), (4.14, 4.14)])
    return Car(
        der_id=f"car-{index}",
        capacity_kwh=scale * rng.uniform(5, 60),
        soc_percent=rng.uniform(0, 100),
        target_soc_percent=rng.choice([80.0, 100.0, rng.uniform(0, 100)]),
        min_charge_kw=scale * least,
        max_charge_kw=scale * most,
        efficiency=rng.choice([1.0, 0.9]),
        departure_step=rng.choice([0, n, n, rng.randint(0, n)]),
    )
