"""The optimization problem in CVXPY: named terms and constraints, compiled once per structure.

The only module that imports cvxpy. kW and kWh throughout. DPP: a Parameter meets a Variable once in
a product, and a Variable that does has no Parameter among its `bounds=` (its sign would depend on
data); hence the limits of charge and discharge are constraints, while PV and SoC limits are bounds.
"""

from typing import Any, NamedTuple

import cvxpy as cp
import numpy as np

from optimizer.parameters import parameters_of
from optimizer.problem import SHARES, Problem

Expression = Any
"""A CVXPY expression; its classes are not typed."""


class Structure(NamedTuple):
    """What a compiled program is made for; everything else is data."""

    steps: int
    batteries: int
    cars: int
    peaks: int
    interval_steps: int
    passed_steps: int
    export: bool
    modes: bool
    """Whether charging or discharging, and import or export, are chosen by binaries."""

    @property
    def intervals(self) -> int:
        """How many measurement intervals the steps meet."""
        return -(-(self.steps + self.passed_steps) // self.interval_steps)


def structure_of(problem: Problem, *, modes: bool) -> Structure:
    """The structure that a problem has."""
    return Structure(
        steps=problem.steps,
        batteries=len(problem.batteries),
        cars=len(problem.cars),
        peaks=len(problem.demand),
        interval_steps=problem.interval_steps if problem.demand else 1,
        passed_steps=problem.passed_steps if problem.demand else 0,
        export=problem.max_grid_export_kw > 0,
        modes=modes,
    )


class Data:
    """The parameters: what changes between two solves of one structure."""

    def __init__(self, structure: Structure) -> None:
        n = structure.steps
        self.net_load = cp.Parameter(n, name="net_load")
        """Load less available PV [kW]."""
        self.pv = cp.Parameter(n, name="pv", nonneg=True)
        self.import_price = cp.Parameter(n, name="import_price")
        """Currency per kW for one step, as all prices here."""
        self.export_price = cp.Parameter(n, name="export_price")
        self.max_import = cp.Parameter(name="max_import", nonneg=True)
        self.over_price = cp.Parameter(name="over_price", nonneg=True)
        self.over_most = cp.Parameter(n, name="over_most", nonneg=True)
        """What the house alone takes above the limit; batteries and cars add nothing to it."""
        self.max_export = cp.Parameter(name="max_export", nonneg=True)
        if structure.batteries:
            self._battery_parameters(structure.batteries, n)
        if structure.cars:
            self._car_parameters(structure.cars, n)
        if structure.peaks:
            self.demand_price = cp.Parameter(structure.peaks, name="demand_price", nonneg=True)
            self.peak_level = cp.Parameter((structure.peaks, SHARES), name="peak_level", nonneg=True)
            self.peak_of_interval = cp.Parameter(
                (structure.intervals, structure.peaks), name="peak_of_interval", nonneg=True
            )
            self.interval_share = cp.Parameter(n, name="interval_share", nonneg=True)
            """How much a kW in a step adds to the mean of its measurement interval."""
            self.passed = cp.Parameter(structure.intervals, name="passed", nonneg=True)
            """What each interval's mean already has [kW]."""
        if structure.modes:
            self.most_import = cp.Parameter(n, name="most_import", nonneg=True)
            """What the house could import at all."""

    def _battery_parameters(self, batteries: int, n: int) -> None:
        shape = (batteries, n)
        self.max_charge = cp.Parameter(shape, name="max_charge", nonneg=True)
        self.max_discharge = cp.Parameter(shape, name="max_discharge", nonneg=True)
        self.stored_per_charge = cp.Parameter(shape, name="stored_per_charge", nonneg=True)
        """kWh into the cells for a kW at the terminals during a step."""
        self.stored_per_discharge = cp.Parameter(shape, name="stored_per_discharge", nonneg=True)
        self.stored_low = cp.Parameter((batteries, n + 1), name="stored_low")
        self.stored_high = cp.Parameter((batteries, n + 1), name="stored_high")
        self.end_value = cp.Parameter(batteries, name="end_value", nonneg=True)
        self.charge_cost = cp.Parameter(shape, name="charge_cost")
        """Wear, less what being in store is worth."""
        self.discharge_cost = cp.Parameter(shape, name="discharge_cost", nonneg=True)

    def _car_parameters(self, cars: int, n: int) -> None:
        shape = (cars, n)
        self.car_min = cp.Parameter(shape, name="car_min", nonneg=True)
        self.car_max = cp.Parameter(shape, name="car_max", nonneg=True)
        self.car_gain = cp.Parameter(shape, name="car_gain", nonneg=True)
        """kWh into the car for a kW at the plug during a step; 0 once it has left."""
        self.car_need = cp.Parameter(cars, name="car_need", nonneg=True)
        self.car_room = cp.Parameter(cars, name="car_room", nonneg=True)
        self.short_price = cp.Parameter(name="short_price", nonneg=True)
        """Per kWh missing at a departure."""

    def load(self, problem: Problem) -> None:
        """Take the numbers of a problem."""
        for name, numbers in parameters_of(problem).items():
            if hasattr(self, name):
                getattr(self, name).value = numbers


class Flows:
    """The variables: powers of each step [kW], energy stored between them [kWh], peaks [kW]."""

    def __init__(self, structure: Structure, data: Data) -> None:
        n, batteries, cars, peaks = structure[:4]
        self.within_import = cp.Variable(n, name="P_within_import", bounds=[0, None])
        """Imported within the limit; what more is needed is over it."""
        self.over_import = cp.Variable(n, name="P_over_import", bounds=[0, None])
        self.grid_export = cp.Variable(n, name="P_export", bounds=[0, None]) if structure.export else None
        self.curtailed = cp.Variable(n, name="P_curtailed", bounds=[0, data.pv])
        self.charge = self.discharge = self.stored = self.end = None
        if batteries:
            self.charge = cp.Variable((batteries, n), name="P_charge", bounds=[0, None])
            self.discharge = cp.Variable((batteries, n), name="P_discharge", bounds=[0, None])
            self.stored = cp.Variable(
                (batteries, n + 1), name="E_stored", bounds=[data.stored_low, data.stored_high]
            )
            self.end = cp.Variable(batteries, name="E_end")
        self.car = cp.Variable((cars, n), name="P_car", bounds=[0, None]) if cars else None
        self.short = cp.Variable(cars, name="E_short", bounds=[0, None]) if cars else None
        self.car_on = cp.Variable((cars, n), name="car_on", boolean=True) if cars else None
        self.peak = cp.Variable(peaks, name="P_peak") if peaks else None
        self.paid = cp.Variable((peaks, SHARES), name="P_paid") if peaks else None
        modes = structure.modes
        self.charging = (
            cp.Variable((batteries, n), name="charging", boolean=True) if modes and batteries else None
        )
        self.buying = cp.Variable(n, name="buying", boolean=True) if modes and structure.export else None

    @property
    def grid_import(self) -> Expression:
        """What is imported."""
        return self.within_import + self.over_import

    @property
    def grid(self) -> Expression:
        """P_grid: + import / - export."""
        return self.grid_import if self.grid_export is None else self.grid_import - self.grid_export

    @property
    def ders(self) -> Expression:
        """What batteries and cars take, + charging."""
        taken = 0.0 if self.charge is None else cp.sum(self.charge - self.discharge, axis=0)
        return taken if self.car is None else taken + cp.sum(self.car, axis=0)


def balance(x: Flows, data: Data) -> list[Expression]:
    """What comes in goes out: grid + pv - curtailed = load + batteries + cars."""
    return [x.grid == data.net_load + x.ders + x.curtailed]


def storage(x: Flows, data: Data) -> list[Expression]:
    """What is stored grows by charging and shrinks by discharging, each with its loss."""
    if x.charge is None or x.stored is None:
        return []
    into = cp.multiply(data.stored_per_charge, x.charge)
    out = cp.multiply(data.stored_per_discharge, x.discharge)
    return [x.stored[:, 1:] == x.stored[:, :-1] + into - out, x.end == x.stored[:, -1]]


def battery_limits(x: Flows, data: Data) -> list[Expression]:
    """The inverters' powers; with modes, one direction at a time."""
    if x.charge is None:
        return []
    if x.charging is None:
        return [x.charge <= data.max_charge, x.discharge <= data.max_discharge]
    return [
        x.charge <= cp.multiply(data.max_charge, x.charging),
        x.discharge <= cp.multiply(data.max_discharge, 1 - x.charging),
    ]


def grid_limits(x: Flows, data: Data) -> list[Expression]:
    """The connection's powers: import is soft for what the house alone takes; export is hard."""
    limits = [x.within_import <= data.max_import, x.over_import <= data.over_most]
    if x.grid_export is None:
        return limits
    if x.buying is None:
        return [*limits, x.grid_export <= data.max_export]
    return [
        *limits,
        x.grid_import <= cp.multiply(data.most_import, x.buying),
        x.grid_export <= data.max_export * (1 - x.buying),
    ]


def cars(x: Flows, data: Data) -> list[Expression]:
    """Nothing or at least 6 A a phase while it is there; its target by then, or the lack is paid for."""
    if x.car is None:
        return []
    charged = cp.sum(cp.multiply(data.car_gain, x.car), axis=1)
    return [
        x.car <= cp.multiply(data.car_max, x.car_on),
        x.car >= cp.multiply(data.car_min, x.car_on),
        charged + x.short >= data.car_need,
        charged <= data.car_room,
    ]


def peaks(x: Flows, data: Data, structure: Structure) -> list[Expression]:
    """A period's peak is at least the mean import of every interval in it; each share starts at its level."""
    if x.peak is None or x.paid is None:
        return []
    step, k = np.arange(structure.steps), structure.interval_steps
    adds_up = np.zeros((structure.intervals, structure.steps))
    adds_up[(step + structure.passed_steps) // k, step] = 1.0
    means = adds_up @ cp.multiply(data.interval_share, x.grid_import) + data.passed
    peak = cp.reshape(x.peak, (x.peak.size, 1), order="C")
    return [means <= data.peak_of_interval @ x.peak, x.paid >= data.peak_level, x.paid >= peak]


def energy_cost(x: Flows, data: Data) -> Expression:
    """Imported energy, less what exported energy earns."""
    cost = data.import_price @ x.grid_import
    return cost if x.grid_export is None else cost - data.export_price @ x.grid_export


def demand_cost(x: Flows, data: Data) -> Expression:
    """What a plan adds to the month's peaks, in so far as the rest of the month would not add it anyway."""
    return 0.0 if x.paid is None else data.demand_price @ cp.sum(x.paid, axis=1) / SHARES


def battery_cost(x: Flows, data: Data) -> Expression:
    """Energy through the batteries wears them, and what is in them is worth something for being there.

    Wear also breaks the tie of charging and discharging at once.
    """
    if x.charge is None:
        return 0.0
    charged = cp.sum(cp.multiply(data.charge_cost, x.charge))
    return charged + cp.sum(cp.multiply(data.discharge_cost, x.discharge))


def missed_cost(x: Flows, data: Data) -> Expression:
    """Missing a soft limit, dearer than anything that could be saved by it."""
    over = data.over_price * cp.sum(x.over_import)
    return over if x.short is None else over + data.short_price * cp.sum(x.short)


def end_value(x: Flows, data: Data) -> Expression:
    """What is left is worth something after the horizon, else every plan would empty the battery."""
    return 0.0 if x.end is None else data.end_value @ x.end


class Program:
    """One structure's CVXPY problem, which a backend compiles at its first solve."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.data = data = Data(structure)
        self.x = x = Flows(structure, data)
        cost = energy_cost(x, data) + demand_cost(x, data) + battery_cost(x, data) + missed_cost(x, data)
        self.rules = {
            "balance": balance(x, data),
            "storage": storage(x, data),
            "battery limits": battery_limits(x, data),
            "grid limits": grid_limits(x, data),
            "cars": cars(x, data),
            "peaks": peaks(x, data, structure),
        }
        rows = [row for rule in self.rules.values() for row in rule]
        self.problem = cp.Problem(cp.Minimize(cost - end_value(x, data)), rows)

    def canonical(self, problem: Problem) -> Expression:
        """The matrices that CVXPY makes of it: linear in the parameters, whatever these are in `problem`."""
        self.data.load(problem)
        return self.problem.get_problem_data(cp.HIGHS, enforce_dpp=True)[0]["param_prob"]
