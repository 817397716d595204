"""One house's power flow, and one control tick of ten thousand houses on the bus in memory."""

import os

from benchmarks.measure import median_s, pin_to_one_core, report
from contracts.instant import Instant
from orchestrator.flow import compute_flows
from orchestrator.limits import (
    BatteryState,
    Constraints,
    EconomicObjectives,
    PhysicalConstraints,
    PowerFlowInputs,
    SafetyConstraints,
)

N = 10_000


def main() -> None:
    """Print microseconds a house."""
    allowed = os.sched_getaffinity(0)
    pin_to_one_core()
    physical = PhysicalConstraints(
        max_grid_import_kw=16, max_grid_export_kw=10, max_battery_charge_kw=5, max_battery_discharge_kw=5
    )
    constraints = Constraints(physical=physical, safety=SafetyConstraints())
    objectives = EconomicObjectives(import_price=0.5, currency="USD", scheduled_battery_kw=-2.0)
    inputs = PowerFlowInputs(
        house="house-a",
        timestamp=Instant.at_ms(1_700_000_000_000),
        house_load_kw=3.0,
        pv_kw=1.0,
        battery=BatteryState(der_id="battery", soc_percent=55.0),
    )

    def work() -> None:
        for _ in range(N):
            compute_flows(inputs, constraints, objectives)

    report("compute_flows, one house", median_s(work) / N * 1e6, "us")
    os.sched_setaffinity(0, allowed)
