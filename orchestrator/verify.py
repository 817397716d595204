"""A check of what was decided that knows nothing of how it was found; pure."""

from contracts.messages import PowerSnapshot
from energy.ev import MIN_CURRENT_A
from orchestrator.errors import LimitError, PowerBalanceError
from orchestrator.limits import (
    BatteryState,
    Constraints,
    EvState,
    PhysicalConstraints,
    PowerFlowInputs,
    Verdict,
)

TOLERANCE_KW = 1e-6


def verify(
    snapshot: PowerSnapshot, verdicts: list[Verdict], inputs: PowerFlowInputs, constraints: Constraints
) -> None:
    """Look at balance, fuse, export and every DER once more.

    Raises:
        PowerBalanceError: sources and sinks differ.
        LimitError: a limit is broken.
    """
    if not snapshot.verify_power_balance():
        raise PowerBalanceError(snapshot)
    if wrong := _wrong_flow(snapshot, constraints.physical):
        raise LimitError(snapshot, wrong)
    given = iter(verdicts)
    for car in inputs.cars:
        if wrong := _wrong_car(car, next(given)):
            raise LimitError(snapshot, f"{car.der_id} {wrong}")
    for battery in inputs.batteries:
        if wrong := _wrong_battery(battery, next(given), constraints):
            raise LimitError(snapshot, f"{battery.der_id} {wrong}")


def _wrong_flow(snapshot: PowerSnapshot, physical: PhysicalConstraints) -> str:
    alone_kw = snapshot.house_load_kw - snapshot.pv_kw
    if snapshot.grid_import_kw > max(physical.max_grid_import_kw, alone_kw) + TOLERANCE_KW:
        return "what can be controlled takes more than the main fuse carries"
    if snapshot.grid_export_kw > physical.max_grid_export_kw + TOLERANCE_KW:
        return "more flows into the grid than may"
    if snapshot.curtailed_kw > snapshot.pv_kw + TOLERANCE_KW:
        return "more is curtailed than the sun gives"
    return ""


def _wrong_car(car: EvState, verdict: Verdict) -> str:
    amps = verdict.given_a
    if amps and not (car.connected and amps >= MIN_CURRENT_A and amps == int(amps)):
        return f"can't charge with {amps} A"
    return ""


def _wrong_battery(battery: BatteryState, verdict: Verdict, constraints: Constraints) -> str:
    power_kw = verdict.given_kw
    if power_kw == 0:
        return ""
    physical, safety, soc_percent = constraints.physical, constraints.safety, battery.soc_percent
    if power_kw > 0:
        most_kw, house_kw = battery.max_charge_kw, physical.max_battery_charge_kw
        percent, house_percent = battery.max_soc_percent, safety.battery_max_soc_percent
    else:
        most_kw, house_kw = battery.max_discharge_kw, physical.max_battery_discharge_kw
        percent, house_percent = battery.min_soc_percent, safety.battery_min_soc_percent
    most_kw = house_kw if most_kw is None else most_kw
    if most_kw is None or abs(power_kw) > most_kw + TOLERANCE_KW:
        return f"can't do {power_kw:.3f} kW"
    percent = house_percent if percent is None else percent
    if soc_percent is None or (soc_percent >= percent if power_kw > 0 else soc_percent <= percent):
        return "is past its limit of charge"
    if battery.temperature_c is not None and battery.temperature_c > safety.max_battery_temp_c:
        return "is too warm"
    return ""
