"""DERs that are not dispatched: they rest, and PV inverters give what is wanted of the sun. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from contracts.messages import DerTelemetry, PowerSnapshot
from orchestrator.devices import Link
from orchestrator.flow import Flows, safe_verdicts
from orchestrator.known import EV
from orchestrator.limits import POWER_KW_MAX, Constraints, PowerFlowInputs, Verdict
from orchestrator.requests import Hold

TRIFLE_KW = 0.005


class Stopped(NamedTuple):
    """Why nothing counts on a DER."""

    limit: str
    sentence: str


def stopped_by(der: DerTelemetry, hold: Hold | None, link: Link | None) -> Stopped | None:
    """Why nothing counts on a DER: a person, its own word, or that it does not obey; None: all is well."""
    if hold is not None and hold.mode == "safe":
        return Stopped("safe state", f"{hold.user} has put {der.der_id} into its safe state: it rests.")
    if not der.is_online:
        return Stopped("offline", f"{der.der_id} says that it is offline: nothing counts on it.")
    if link is not None and link.is_failing:
        what = "refuses its commands" if link.result in ("rejected", "expired") else "does not answer"
        return Stopped("no answer", f"{der.der_id} {what}: nothing counts on it until it obeys again.")
    return None


def rest(der: DerTelemetry, why: Stopped) -> Verdict:
    """What a DER is told that nothing counts on."""
    return Verdict(
        der_id=der.der_id,
        asked_kw=0.0,
        given_kw=0.0,
        given_a=0.0 if der.type == EV else None,
        tier="safety",
        limit=why.limit,
        sentence=why.sentence,
        alternative="",
    )


def house_alone(inputs: PowerFlowInputs, constraints: Constraints, limit: str, sentence: str) -> Flows:
    """The safe default: the house on PV and grid, no car, no battery; no snapshot of what can't be."""
    verdicts = safe_verdicts(inputs, limit, sentence)
    load_kw, pv_kw = inputs.house_load_kw, inputs.pv_kw
    if load_kw is None or not (0 <= load_kw <= POWER_KW_MAX and 0 <= pv_kw <= POWER_KW_MAX):
        return Flows(None, verdicts, [])
    surplus_kw = max(pv_kw - load_kw, 0.0)
    export_kw = min(surplus_kw, constraints.physical.max_grid_export_kw)
    snapshot = PowerSnapshot(
        house=inputs.house,
        timestamp=inputs.timestamp,
        pv_kw=pv_kw,
        house_load_kw=load_kw,
        battery_power_kw=0.0,
        ev_power_kw=0.0,
        grid_import_kw=max(load_kw - pv_kw, 0.0),
        grid_export_kw=export_kw,
        curtailed_kw=surplus_kw - export_kw,
    )
    return Flows(snapshot, verdicts, [])


def inverter_verdicts(inverters: Sequence[DerTelemetry], snapshot: PowerSnapshot) -> list[Verdict]:
    """Each inverter's part of the production that is wanted, by rated power; all if nothing is curtailed."""
    rated_kw = sum(inverter.nameplate_capacity for inverter in inverters)
    if rated_kw <= 0:
        return []
    wanted_kw = snapshot.pv_kw - snapshot.curtailed_kw
    is_held = snapshot.curtailed_kw > TRIFLE_KW
    verdicts = []
    for inverter in inverters:
        share = inverter.nameplate_capacity / rated_kw
        given_kw = inverter.nameplate_capacity
        if is_held:
            given_kw = min(given_kw, wanted_kw * share)
        verdicts.append(
            Verdict(
                der_id=inverter.der_id,
                asked_kw=snapshot.pv_kw * share,
                given_kw=given_kw,
                given_a=None,
                tier="physical",
                limit="export limit" if is_held else "none",
                sentence=(
                    f"{snapshot.curtailed_kw:.2f} kW of solar power is neither used, stored nor sold: "
                    "the inverter is held back."
                    if is_held
                    else "The inverter gives all that the sun does."
                ),
                alternative="",
            )
        )
    return verdicts
