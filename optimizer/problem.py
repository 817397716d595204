"""What is to be planned: a house's forecasts, prices, batteries, cars and limits; and whether that can be."""

from collections.abc import Iterable, Sequence
from math import isfinite, sqrt

import msgspec

from energy.battery import BatterySpec, BatteryState
from energy.checks import check_range
from energy.errors import SpecError

SHARES = 4
"""Of a demand price, each charged above a level of its own."""


class Der(msgspec.Struct, frozen=True, kw_only=True):
    """What is planned: something that is charged. Powers are at its terminals."""

    der_id: str
    capacity_kwh: float
    max_charge_kw: float
    soc_percent: float

    @property
    def stored_kwh(self) -> float:
        """Energy in it now [kWh]."""
        return self.kwh(self.soc_percent)

    def kwh(self, soc_percent: float) -> float:
        """The energy in it at a state of charge [kWh]."""
        return self.capacity_kwh * soc_percent / 100.0


class Battery(Der, frozen=True, kw_only=True):
    """A battery now, as its telemetry tells it."""

    der_id: str = "battery"
    max_discharge_kw: float
    efficiency_roundtrip: float
    min_soc_percent: float
    max_soc_percent: float
    end_value_per_kwh: float = 0.0
    """What a kWh still stored after the last step is worth."""
    wear_per_kwh: float = 1e-6
    """What a kWh through the terminals costs, each way; above 0, lest a tie does both at once."""

    @property
    def efficiency(self) -> float:
        """The share that survives charging, and again discharging."""
        return sqrt(self.efficiency_roundtrip)


class Car(Der, frozen=True, kw_only=True):
    """A car at its charge point, which gives it 0 or at least `min_charge_kw`."""

    der_id: str = "ev"
    target_soc_percent: float
    """Soft: what can't be reached by the departure is reported, not refused."""
    min_charge_kw: float
    """6 A at 230 V, a phase."""
    efficiency: float = 0.9
    """The share that arrives in its battery."""
    departure_step: int
    """It charges in the steps before this one: 0 to N."""

    @property
    def needed_kwh(self) -> float:
        """What it lacks to its target [kWh]."""
        return max(0.0, self.capacity_kwh * (self.target_soc_percent - self.soc_percent) / 100.0)


class DemandPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """A billing month's tariff period: what its highest mean import costs, and what it already is."""

    name: str
    price_per_kw: float
    floor_kw: float
    """The peak so far: a plan pays only for what it adds to it."""
    expected_kw: Sequence[float] = ()
    """What the month will likely come to anyway: `SHARES` levels, rising, or none.

    A plan reckons with an equal share of the price above each; without them, with all of it above the floor.
    """

    @property
    def levels_kw(self) -> list[float]:
        """The levels above which the shares of the price are charged."""
        return [max(self.floor_kw, level) for level in self.expected_kw or [self.floor_kw] * SHARES]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One house over N steps; every list has N numbers, means over the step.

    Holds whatever it is given: `fault_in` says what is wrong with it.
    """

    step_h: float
    first_step_h: float | None = None
    """What is still to come of the first step [h]; all of it if absent."""
    load_kw: Sequence[float]
    pv_kw: Sequence[float]
    """Available, before curtailment, which is always allowed."""
    import_price: Sequence[float]
    """Currency per kWh, as all prices here."""
    export_price: Sequence[float]
    batteries: Sequence[Battery] = ()
    cars: Sequence[Car] = ()
    demand: Sequence[DemandPeriod] = ()
    demand_of_interval: Sequence[int] = ()
    """The index in `demand` of each measurement interval's period; empty if there is no demand charge."""
    interval_steps: int = 1
    """How many steps a measurement interval has; the first one may have begun before the first step."""
    passed_steps: int = 0
    """How many of its steps were over before the first step."""
    passed_kwh: float = 0.0
    """What had been imported in it by now."""
    max_grid_import_kw: float
    """Soft: a house that needs more gets it, and the plan says so."""
    max_grid_export_kw: float = 0.0

    @property
    def ders(self) -> list[Der]:
        """The batteries, then the cars."""
        return [*self.batteries, *self.cars]

    @property
    def steps(self) -> int:
        """N."""
        return len(self.load_kw)

    @property
    def hours(self) -> list[float]:
        """What is still to come of each step [h], N numbers."""
        first = self.step_h if self.first_step_h is None else self.first_step_h
        return [first, *[self.step_h] * self.steps][: self.steps]

    @property
    def intervals(self) -> int:
        """How many measurement intervals the steps meet."""
        return -(-(self.steps + self.passed_steps) // self.interval_steps)

    def interval_of(self, step: int) -> int:
        """The measurement interval of a step."""
        return (step + self.passed_steps) // self.interval_steps


def fault_in(problem: Problem) -> str | None:
    """The first thing in a problem that no house can have, by name; None if it is sound."""
    faults = (_fault_in_lists, _fault_in_ders, _fault_in_terms, _fault_in_demand)
    return next((fault for find in faults if (fault := find(problem))), None)


def _fault_in_lists(problem: Problem) -> str | None:
    lists = {
        "load_kw": problem.load_kw,
        "pv_kw": problem.pv_kw,
        "import_price": problem.import_price,
        "export_price": problem.export_price,
    }
    if problem.steps == 0:
        return "load_kw is empty: there is nothing to plan"
    for name, values in lists.items():
        if len(values) != problem.steps:
            return f"{name} has {len(values)} numbers, load_kw {problem.steps}"
        for i, value in enumerate(values):
            if not isfinite(value):
                return f"{name}[{i}] is {value}: it must be finite"
            if value < 0 and name in ("load_kw", "pv_kw"):
                return f"{name}[{i}] is {value:g}: it must not be negative"
    return None


def _fault_in_ders(problem: Problem) -> str | None:
    try:
        for battery in problem.batteries:
            check_battery(battery)
        for car in problem.cars:
            _check_car(car, problem.steps)
    except SpecError as error:
        return str(error)
    ids = [der.der_id for der in problem.ders]
    twice = next((der_id for i, der_id in enumerate(ids) if der_id in ids[:i]), None)
    return None if twice is None else f"{twice} is there twice"


def check_battery(battery: Battery) -> None:
    """Refuse what no battery has.

    Raises:
        SpecError: naming the value and its range.
    """
    BatterySpec(**{name: getattr(battery, name) for name in BatterySpec.__struct_fields__})
    BatteryState(battery.soc_percent)
    check_range(f"{battery.der_id} end_value_per_kwh", battery.end_value_per_kwh, 0, 1e6)
    check_range(f"{battery.der_id} wear_per_kwh", battery.wear_per_kwh, 0, 1e6)


def _check_car(car: Car, steps: int) -> None:
    check_range(f"{car.der_id} capacity_kwh", car.capacity_kwh, 0, 1e6, above_low=True)
    check_range(f"{car.der_id} soc_percent", car.soc_percent, 0, 100)
    check_range(f"{car.der_id} target_soc_percent", car.target_soc_percent, 0, 100)
    check_range(f"{car.der_id} efficiency", car.efficiency, 0, 1, above_low=True)
    check_range(f"{car.der_id} max_charge_kw", car.max_charge_kw, 0, 1e5)
    check_range(f"{car.der_id} min_charge_kw", car.min_charge_kw, 0, car.max_charge_kw)
    check_range(f"{car.der_id} departure_step", car.departure_step, 0, steps)


def _fault_in_terms(problem: Problem) -> str | None:
    numbers = {
        "step_h": problem.step_h,
        "first_step_h": problem.hours[0],
        "max_grid_import_kw": problem.max_grid_import_kw,
        "max_grid_export_kw": problem.max_grid_export_kw,
        "passed_kwh": problem.passed_kwh,
        **{f"demand price of {period.name}": period.price_per_kw for period in problem.demand},
        **{f"demand floor of {period.name}": period.floor_kw for period in problem.demand},
        **{
            f"expected peak {k} of {period.name}": level
            for period in problem.demand
            for k, level in enumerate(period.expected_kw)
        },
    }
    for name, value in numbers.items():
        if not isfinite(value) or value < 0:
            return f"{name} is {value:g}: it must be finite and not negative"
    if problem.step_h == 0:
        return "step_h is 0: a step must last"
    if problem.hours[0] > problem.step_h:
        return f"first_step_h is {problem.hours[0]:g}: longer than a step of {problem.step_h:g} h"
    return None


def _fault_in_demand(problem: Problem) -> str | None:
    if problem.interval_steps < 1 or not 0 <= problem.passed_steps < problem.interval_steps:
        return f"passed_steps is {problem.passed_steps}: it must be in 0..{problem.interval_steps - 1}"
    if not problem.demand and not problem.demand_of_interval:
        return None
    for period in problem.demand:
        if len(period.expected_kw) not in (0, SHARES):
            return f"expected_kw of {period.name} has {len(period.expected_kw)} levels: it must be {SHARES}"
    if len(problem.demand_of_interval) != problem.intervals:
        return (
            f"demand_of_interval has {len(problem.demand_of_interval)} numbers, the steps "
            f"{problem.intervals} intervals"
        )
    if not all(0 <= index < len(problem.demand) for index in problem.demand_of_interval):
        return f"demand_of_interval names a period outside 0..{len(problem.demand) - 1}"
    return None


def finite(values: Iterable[float]) -> list[float]:
    """The numbers, 0 in place of what is none."""
    return [value if isfinite(value) else 0.0 for value in values]
