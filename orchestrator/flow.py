"""`compute_flows`: what a house's controllable power shall be, within the limits; pure.

Source: the power flow architecture document (three tiers; house first, then EV, then battery, then
export). Where its sample code leaves the balance or a limit, the balance and the limits win.
"""

from typing import NamedTuple

from contracts.messages import PowerSnapshot
from orchestrator import battery, ev
from orchestrator.connection import Connection
from orchestrator.economy import Scene, export_limit_kw
from orchestrator.errors import InputRangeError
from orchestrator.limits import (
    KW_PER_A,
    POWER_KW_MAX,
    Constraints,
    EconomicObjectives,
    PowerFlowInputs,
    Verdict,
)
from orchestrator.verify import verify

STALE = ("stale readings", "The house's meter has not been heard of lately: everything rests.")


class Flows(NamedTuple):
    """The snapshot, why each DER got what it got, and what the fuse carries too much of all the same."""

    snapshot: PowerSnapshot | None
    """None: what the house takes is not known, and nothing is claimed of it."""
    verdicts: list[Verdict]
    """The cars', then the batteries'."""
    overloads: list[str]
    """In sentences, to alert with: the house's own load, which nobody can switch off."""


def compute_flows(inputs: PowerFlowInputs, constraints: Constraints, objectives: EconomicObjectives) -> Flows:
    """Give the house its load, then the cars, then the batteries theirs, then export or curtail the rest.

    Raises:
        InputRangeError: a load or a production no house has.
        PowerBalanceError: sources and sinks differ; the snapshot is in it.
        LimitError: a limit would be broken; the snapshot is in it.
    """
    _check(inputs)
    load_kw = inputs.house_load_kw
    if load_kw is None or inputs.age_s > constraints.safety.stale_after_s:
        return Flows(None, safe_verdicts(inputs, *STALE), [])
    export_kw = export_limit_kw(constraints.physical.max_grid_export_kw, objectives)
    connection = Connection(inputs, load_kw, constraints.physical, export_kw)
    demands = [ev.demand_of(car, inputs.timestamp, constraints, objectives) for car in inputs.cars]
    stores = [battery.bounds_of(store, constraints, objectives) for store in inputs.batteries]
    urgent = any(demand.urgent for demand in demands)
    verdicts = _charge(demands, stores, connection, constraints, objectives, urgent=urgent)
    ev_kw = sum([verdict.given_kw for verdict in verdicts])
    battery_kw = 0.0
    if stores:
        # A car that hurries but can't charge is no reason to pause.
        urgent = any(
            demand.urgent and verdict.given_kw > 0 for demand, verdict in zip(demands, verdicts, strict=True)
        )
        scene = _scene(inputs, load_kw, ev_kw, stores, export_kw, constraints, objectives)
        commands = battery.command(stores, scene, connection, constraints, objectives, urgent=urgent)
        battery_kw = sum([verdict.given_kw for verdict in commands])
        verdicts += commands
    net_kw = load_kw + ev_kw + battery_kw - inputs.pv_kw
    curtailed_kw = _curtailed_kw(net_kw, export_kw, inputs, connection, objectives)
    grid_kw = net_kw + curtailed_kw
    snapshot = PowerSnapshot(
        house=inputs.house,
        timestamp=inputs.timestamp,
        pv_kw=inputs.pv_kw,
        house_load_kw=load_kw,
        battery_power_kw=battery_kw,
        ev_power_kw=ev_kw,
        grid_import_kw=max(grid_kw, 0.0),
        grid_export_kw=max(-grid_kw, 0.0),
        curtailed_kw=curtailed_kw,
    )
    verify(snapshot, verdicts, inputs, constraints)
    return Flows(snapshot, verdicts, connection.overloads(max(grid_kw, 0.0), curtailed_kw, inputs.pv_phase))


def _charge(
    demands: list[ev.Demand],
    stores: list[battery.Bounds],
    connection: Connection,
    constraints: Constraints,
    objectives: EconomicObjectives,
    *,
    urgent: bool,
) -> list[Verdict]:
    """Give the cars what is left beside the batteries' reserves, or with their help."""
    if not demands:
        return []
    ahead = (
        [] if urgent else [(store.reserve_kw, store.battery.phase) for store in stores if store.reserve_kw]
    )
    # Help is reckoned for the house as a whole: where phases are watched, it might be on another one.
    if not constraints.safety.house_priority and not connection.knows_phases:
        ahead.append((-battery.together_kw(stores, constraints), None))
    for kw, phase in ahead:
        connection.take(kw, phase)
    verdicts = ev.charge(demands, connection, objectives.import_price)
    for kw, phase in ahead:
        connection.take(-kw, phase)
    return verdicts


def safe_verdicts(inputs: PowerFlowInputs, limit: str, sentence: str) -> list[Verdict]:
    """Everything off, and why."""
    return [
        Verdict(
            der_id=der_id,
            asked_kw=0.0,
            given_kw=0.0,
            given_a=given_a,
            tier="safety",
            limit=limit,
            sentence=sentence,
            alternative="",
        )
        for der_id, given_a in [
            *((car.der_id, 0.0) for car in inputs.cars),
            *((store.der_id, None) for store in inputs.batteries),
        ]
    ]


def _check(inputs: PowerFlowInputs) -> None:
    for what, kw in (("load", inputs.house_load_kw or 0.0), ("PV", inputs.pv_kw)):
        if not 0 <= kw <= POWER_KW_MAX:
            raise InputRangeError(f"{inputs.house}: a {what} of {kw:g} kW can't be: 0 to {POWER_KW_MAX:g} kW")
    phases = inputs.phase_a
    if phases is None:
        return
    if len(phases) not in (1, 3):
        raise InputRangeError(f"{inputs.house}: {len(phases)} phases can't be: 1 or 3")
    for amps in phases:
        if not 0 <= amps <= POWER_KW_MAX / KW_PER_A:
            raise InputRangeError(f"{inputs.house}: a load of {amps:g} A on a phase can't be")


def _scene(
    inputs: PowerFlowInputs,
    load_kw: float,
    ev_kw: float,
    stores: list[battery.Bounds],
    export_kw: float,
    constraints: Constraints,
    objectives: EconomicObjectives,
) -> Scene:
    planned = [store.planned_kw for store in stores if store.planned_kw is not None]
    planned_kw = sum(planned)
    deficit_kw = load_kw + ev_kw - inputs.pv_kw
    own_kw, grid_kw = deficit_kw, objectives.scheduled_grid_kw
    if constraints.safety.house_priority:
        # No battery makes up for a car that takes more or less than planned: the grid does.
        own_kw = load_kw - inputs.pv_kw
        grid_kw -= sum(objectives.scheduled_kw.values()) - planned_kw
    return Scene(
        deficit_kw=deficit_kw,
        need_kw=max(min(deficit_kw, own_kw), 0.0),
        own_kw=own_kw,
        most_kw=sum([store.rated_kw for store in stores]),
        export_kw=export_kw,
        planned_kw=planned_kw if planned else None,
        planned_grid_kw=grid_kw,
    )


def _curtailed_kw(
    net_kw: float,
    export_kw: float,
    inputs: PowerFlowInputs,
    connection: Connection,
    objectives: EconomicObjectives,
) -> float:
    """What PV may not give: what can't be exported, what a phase can't carry, what is paid for not using."""
    curtailed_kw = max(-net_kw - export_kw, 0.0)
    wanted_kw = connection.overfed_kw(inputs.pv_phase)
    price = objectives.import_price
    if price is not None and price < 0:
        earned = max(-net_kw - curtailed_kw, 0.0) * (objectives.export_price or 0.0)
        if -price * (net_kw + inputs.pv_kw) > earned:
            wanted_kw = inputs.pv_kw
    if wanted_kw <= curtailed_kw:
        return curtailed_kw
    return max(curtailed_kw, connection.curtailed_kw(inputs.pv_kw, inputs.pv_phase, wanted_kw))
