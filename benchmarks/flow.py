"""One house's power flow: a battery that follows its plan, and a house with everything."""

import os

from benchmarks.measure import median_s, pin_to_one_core, report
from contracts.instant import Instant
from orchestrator.flow import compute_flows
from orchestrator.limits import (
    BatteryState,
    Constraints,
    EconomicObjectives,
    EvState,
    PhysicalConstraints,
    PowerFlowInputs,
    SafetyConstraints,
)

N = 5_000
LIMIT_US = 30.0
NOW = Instant.at_ms(1_700_000_000_000)
BATTERY = BatteryState(der_id="battery", soc_percent=55.0, max_charge_kw=5.0, max_discharge_kw=5.0)
CAR = EvState(
    der_id="car",
    connected=True,
    soc_percent=40.0,
    target_soc_percent=80.0,
    capacity_kwh=60.0,
    departure_at=NOW.after(8 * 3600),
    phases=3,
)
HOUSES = {
    "a battery": {"batteries": (BATTERY,)},
    "a battery and a car": {"batteries": (BATTERY,), "cars": (CAR,)},
    "the same, each phase measured": {
        "batteries": (BATTERY,),
        "cars": (CAR,),
        "phase_a": (8.0, 3.0, 2.0),
    },
}


def main() -> None:
    """Print microseconds a house."""
    allowed = os.sched_getaffinity(0)
    pin_to_one_core()
    constraints = Constraints(
        physical=PhysicalConstraints(max_grid_import_kw=16, max_grid_export_kw=10),
        safety=SafetyConstraints(),
    )
    objectives = EconomicObjectives(
        import_price=0.5, arbitrage_threshold=0.4, currency="USD", scheduled_kw={"battery": -2.0}
    )
    for name, has in HOUSES.items():
        inputs = PowerFlowInputs(house="house-a", timestamp=NOW, house_load_kw=3.0, pv_kw=1.0, **has)  # type: ignore[arg-type]

        def work(inputs: PowerFlowInputs = inputs) -> None:
            for _ in range(N):
                compute_flows(inputs, constraints, objectives)

        microseconds = median_s(work) / N * 1e6
        report(f"compute_flows, {name}", microseconds, "us", f"to reach: {LIMIT_US:.0f}")
    os.sched_setaffinity(0, allowed)
