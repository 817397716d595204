"""What is to be planned: a house's forecasts, prices, batteries, cars and limits; and whether that can be."""

from collections.abc import Iterable, Sequence
from math import ceil, floor, sqrt

import msgspec

from energy.battery import BatterySpec, BatteryState
from energy.checks import check_range
from energy.errors import SpecError

SHARES = 4
"""Of a demand price, each charged above a level of its own."""
STEPS_MAX = 5000
"""A fortnight of 5 min has 4,032."""
STEP_MAX_H = 24.0
POWER_MAX_KW = 1e5
LIMIT_MAX_KW = 1e9
"""Of a connection that has no limit."""
PRICE_MAX = 1e6
DEMAND_PRICE_MAX = 1e9
EXACT = 1e-9
LEAST_SHARE = 0.3
"""Of what a step at the least power gives a car: worth that step, where a lack costs 4 times as much."""


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
    reserve_value: Sequence[float] = ()
    """What a kWh more than now is worth for being there after each step, come what may; N numbers or none."""
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

    def asked_kwh(self, step_h: float) -> float:
        """What it lacks and a little more, where the last of it would be too little to charge for [kWh].

        A step more is at least one at `min_charge_kw`. What that gives goes from a cheaper step, or over the
        target; either costs more than a small lack does, however dear it is.
        """
        most_kwh, least_kwh = self._steps_kwh(step_h)
        if not 0 < self.needed_kwh < STEPS_MAX * most_kwh:
            return self.needed_kwh
        rest_kwh = max(0.0, self.needed_kwh - floor(self.needed_kwh / most_kwh + EXACT) * most_kwh)
        if rest_kwh <= EXACT:
            return self.needed_kwh
        return self.needed_kwh - rest_kwh + max(rest_kwh, LEAST_SHARE * least_kwh)

    def room_kwh(self, step_h: float) -> float:
        """What it can be given [kWh]: in a step at `min_charge_kw` it may be full, and stop by itself."""
        most_kwh, least_kwh = self._steps_kwh(step_h)
        room_kwh = max(0.0, self.capacity_kwh - self.stored_kwh)
        if not 0 < self.needed_kwh < STEPS_MAX * most_kwh:
            return room_kwh
        return max(room_kwh, ceil(self.needed_kwh / most_kwh - EXACT) * least_kwh)

    def _steps_kwh(self, step_h: float) -> tuple[float, float]:
        """What a step gives it at most, and at least if it gives anything [kWh]."""
        return self.max_charge_kw * step_h * self.efficiency, self.min_charge_kw * step_h * self.efficiency


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
    faults = (_fault_in_lists, _fault_in_terms, _fault_in_ders, _fault_in_demand)
    return next((fault for find in faults if (fault := find(problem))), None)


def _fault_in_lists(problem: Problem) -> str | None:
    lists = {
        "load_kw": (problem.load_kw, 0.0, POWER_MAX_KW),
        "pv_kw": (problem.pv_kw, 0.0, POWER_MAX_KW),
        "import_price": (problem.import_price, -PRICE_MAX, PRICE_MAX),
        "export_price": (problem.export_price, -PRICE_MAX, PRICE_MAX),
    }
    if not 0 < problem.steps <= STEPS_MAX:
        return f"load_kw has {problem.steps} numbers: it must have 1 to {STEPS_MAX}, one for each step"
    for name, (values, low, high) in lists.items():
        if len(values) != problem.steps:
            return f"{name} has {len(values)} numbers, load_kw {problem.steps}"
        for i, value in enumerate(values):
            if not low <= value <= high:
                return f"{name}[{i}] is {value:g}: it must be {low:g} to {high:g}"
    return None


def _fault_in_ders(problem: Problem) -> str | None:
    try:
        for battery in problem.batteries:
            check_battery(battery)
            _check_reserve(battery, problem.steps)
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
    check_range(f"{battery.der_id} end_value_per_kwh", battery.end_value_per_kwh, 0, PRICE_MAX)
    check_range(f"{battery.der_id} wear_per_kwh", battery.wear_per_kwh, 0, PRICE_MAX, above_low=True)


def _check_reserve(battery: Battery, steps: int) -> None:
    if len(battery.reserve_value) not in (0, steps):
        raise SpecError(
            f"{battery.der_id} reserve_value has {len(battery.reserve_value)} numbers: it must have {steps}"
        )
    for i, value in enumerate(battery.reserve_value):
        check_range(f"{battery.der_id} reserve_value[{i}]", value, 0, PRICE_MAX)


def _check_car(car: Car, steps: int) -> None:
    check_range(f"{car.der_id} capacity_kwh", car.capacity_kwh, 0, 1e6, above_low=True)
    check_range(f"{car.der_id} soc_percent", car.soc_percent, 0, 100)
    check_range(f"{car.der_id} target_soc_percent", car.target_soc_percent, 0, 100)
    check_range(f"{car.der_id} efficiency", car.efficiency, 0, 1, above_low=True)
    check_range(f"{car.der_id} max_charge_kw", car.max_charge_kw, 0, POWER_MAX_KW)
    check_range(f"{car.der_id} min_charge_kw", car.min_charge_kw, 0, car.max_charge_kw)
    check_range(f"{car.der_id} departure_step", car.departure_step, 0, steps)


def _fault_in_terms(problem: Problem) -> str | None:
    try:
        check_range("step_h", problem.step_h, 0, STEP_MAX_H, above_low=True)
        check_range("first_step_h", problem.hours[0], 0, problem.step_h, above_low=True)
        check_range("max_grid_import_kw", problem.max_grid_import_kw, 0, LIMIT_MAX_KW)
        check_range("max_grid_export_kw", problem.max_grid_export_kw, 0, LIMIT_MAX_KW)
        check_range("passed_kwh", problem.passed_kwh, 0, POWER_MAX_KW * STEP_MAX_H)
        for period in problem.demand:
            check_range(f"demand price of {period.name}", period.price_per_kw, 0, DEMAND_PRICE_MAX)
            check_range(f"demand floor of {period.name}", period.floor_kw, 0, POWER_MAX_KW)
            for k, level in enumerate(period.expected_kw):
                check_range(f"expected peak {k} of {period.name}", level, 0, POWER_MAX_KW)
    except SpecError as error:
        return str(error)
    return None


def _fault_in_demand(problem: Problem) -> str | None:
    if problem.interval_steps < 1:
        return f"interval_steps is {problem.interval_steps}: it must be 1 or more"
    if not 0 <= problem.passed_steps < problem.interval_steps:
        return f"passed_steps is {problem.passed_steps}: it must be in 0..{problem.interval_steps - 1}"
    if not problem.demand:
        return "demand_of_interval names a period, demand has none" if problem.demand_of_interval else None
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


def sound(values: Iterable[float], low: float, high: float) -> list[float]:
    """The numbers, 0 in place of what none can be."""
    return [value if low <= value <= high else 0.0 for value in values]
