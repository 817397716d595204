"""The policies that are held against one another, on the same days."""

from collections.abc import Callable

import numpy as np

from optimizer.history import FloatArray
from wattbus.backtest.cars import at_once
from wattbus.backtest.case import Case, Flows, Policy
from wattbus.backtest.devices import BATTERY, ders_of
from wattbus.backtest.loop import Loop, Run
from wattbus.backtest.perfect import perfect_flows
from wattbus.backtest.planner import Planner


def none(case: Case) -> Run:
    """No battery; cars charge as soon as they come; what may not be exported is curtailed."""
    cars_kw = _cars_at_once(case)
    net_kw = case.days.load_kw + cars_kw.sum(axis=0) - case.days.pv_kw
    curtailed_kw = np.maximum(0.0, -net_kw - case.limits.max_grid_export_kw)
    return Run(Flows(np.zeros(case.ticks), cars_kw, curtailed_kw, net_kw + curtailed_kw, np.empty(0)))


def rule(case: Case) -> Run:
    """Solar surplus is stored, and used as soon as the house needs more; cars charge as soon as they come."""
    battery = [der for der in ders_of(case) if der.der_id == BATTERY]
    return Loop(case, battery, None, _cars_at_once(case)).run()


def mpc(case: Case) -> Run:
    """The optimizer and the orchestrator, with forecasts from the past alone."""
    return Loop(case, ders_of(case), Planner(case), np.zeros((len(case.devices.cars), case.ticks))).run()


def perfect(case: Case) -> Run:
    """One linear program that knows all that will come: a bound."""
    return Run(perfect_flows(case))


POLICIES: dict[Policy, Callable[[Case], Run]] = {"none": none, "rule": rule, "mpc": mpc, "perfect": perfect}
"""In the order in which they are shown."""


def _cars_at_once(case: Case) -> FloatArray:
    drawn = np.zeros((len(case.devices.cars), case.ticks))
    for number in range(len(drawn)):
        drawn[number] = at_once(case, number).power_kw
    return drawn
