"""A plant's managed loads: balanced every minute, told every tick, safe when in doubt. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from contracts.instant import Instant
from orchestrator.alarms import Trouble
from orchestrator.balance import Balance, BalanceSettings, Change, FlexibleLoad, balance
from orchestrator.devices import Link
from orchestrator.inputs import HouseLimits
from orchestrator.known import CLOCK_SKEW_S, Known
from orchestrator.limits import Verdict
from orchestrator.loads import ManagedLoad, drawn_kw, left_out, managed_loads
from orchestrator.requests import Orders
from orchestrator.resting import Stopped

TRIFLE_KW = 0.05


class Shared(NamedTuple):
    """What one tick makes of a plant's loads."""

    verdicts: list[Verdict]
    """For every managed load."""
    changed: list[Verdict]
    """Those that are told something else than before."""
    lines: list[str]
    """For the log."""
    troubles: list[Trouble]


NOTHING = Shared([], [], [], [])


class _Told(NamedTuple):
    """What a load was told last."""

    kw: float
    since: Instant | None = None
    """When that was changed; None: it was found like that."""


class Balancer:
    """The loads of one plant; in a house without any it does nothing.

    Args:
        house: the plant's id.
        limits: the settings.
    """

    def __init__(self, house: str, limits: HouseLimits) -> None:
        self._house = house
        self._limits = limits
        self._sharing = BalanceSettings(
            reserve_kw=limits.balancer_reserve_kw,
            tolerance_kw=limits.balancer_tolerance_kw,
            order=limits.balancer_order,
        )
        self._told: dict[str, _Told] = {}
        self._began: Instant | None = None
        self._beat: Instant | None = None

    def tick(self, known: Known, links: Mapping[str, Link], orders: Orders, now: Instant) -> Shared:
        """What every managed load is told now; where a balance is due, after it."""
        loads = managed_loads(known, now)
        if not loads:
            return NOTHING
        is_due = self._is_due(now)
        self._began = self._began or now
        self._told = {der_id: self._told.get(der_id) or _Told(load.set_kw) for der_id, load in loads.items()}
        if self._is_unknown(known, now):
            return self._all_safe(loads, now)
        out = left_out(loads, known, links, orders, now)
        able = {der_id: load for der_id, load in loads.items() if der_id not in out}
        verdicts = {der_id: loads[der_id].rest(why) for der_id, why in out.items()}
        lines: list[str] = []
        if is_due and known.plant is not None:
            taken_kw = sum(drawn_kw(loads[der_id], known, now) for der_id in out)
            flexible = [self._flexible(load) for load in able.values()]
            done = balance(flexible, self._available_kw(known) - taken_kw, self._sharing, now)
            verdicts |= {change.der_id: _adjust(change, done, able[change.der_id]) for change in done.changes}
            lines = _lines(done, able)
        for der_id, load in able.items():
            if der_id not in verdicts:
                verdicts[der_id] = load.keep(self._told[der_id].kw)
        return Shared(list(verdicts.values()), self._note(verdicts.values(), now), lines, [])

    def _is_due(self, now: Instant) -> bool:
        """Whether a beat has passed since the last look; the first is waited for, so that all are heard."""
        beat = now.floor(self._limits.balancer_interval_s)
        is_due = self._beat is not None and beat != self._beat
        self._beat = beat
        return is_due

    def _is_unknown(self, known: Known, now: Instant) -> bool:
        """Whether the plant has not been heard of for too long; one that has just begun waits a little."""
        if known.plant is not None:
            age_s = now.seconds_since(known.plant.timestamp)
            return not -CLOCK_SKEW_S <= age_s <= self._limits.plant_fresh_s
        return self._began is not None and now.seconds_since(self._began) > self._limits.plant_fresh_s

    def _available_kw(self, known: Known) -> float:
        """What the plant generates and does not consume itself [kW]."""
        if known.plant is None:
            return 0.0
        available_kw = (known.plant.generation_w - known.plant.consumption_w) / 1000
        return available_kw + (known.plant_loads_kw if self._limits.consumption_includes_loads else 0.0)

    def _flexible(self, load: ManagedLoad) -> FlexibleLoad:
        told = self._told[load.der_id]
        cool_at = None if told.since is None else told.since.after(self._limits.balancer_cooldown_s)
        waits = [moment for moment in (cool_at, load.changing_until) if moment is not None]
        return FlexibleLoad(
            der_id=load.der_id,
            presets_kw=load.presets_kw,
            power_kw=told.kw,
            priority=load.priority,
            ready_at=max(waits, default=None),
        )

    def _all_safe(self, loads: Mapping[str, ManagedLoad], now: Instant) -> Shared:
        fresh_s = self._limits.plant_fresh_s
        why = Stopped("plant unknown", f"nothing was heard of the plant for {fresh_s:.0f} s")
        verdicts = [load.rest(why) for load in loads.values()]
        text = f"{self._house}: {why.sentence}: its {len(loads)} managed loads go to their safe presets"
        changed = self._note(verdicts, now)
        lines = [f"Power balancer: {text}"] if changed else []
        return Shared(verdicts, changed, lines, [Trouble(self._house, "plant-unknown", "critical", text)])

    def _note(self, verdicts: Iterable[Verdict], now: Instant) -> list[Verdict]:
        """Those that are told something new; from now on that is what they were told."""
        changed = [verdict for verdict in verdicts if verdict.given_kw != self._told[verdict.der_id].kw]
        for verdict in changed:
            self._told[verdict.der_id] = _Told(verdict.given_kw, now)
        return changed


def _adjust(change: Change, done: Balance, load: ManagedLoad) -> Verdict:
    kw = load.exact(change.after_kw)
    before, after = load.number(change.before_kw), load.number(kw)
    left_kw = done.target_kw - done.after_kw + change.after_kw - change.before_kw
    verb, otherwise = "rises", f"{left_kw:.1f} kW of it would go unused"
    if change.after_kw < change.before_kw:
        verb, otherwise = "falls", f"the loads would take {-left_kw:.1f} kW more than that"
    sentence = (
        f"{done.target_kw:.1f} kW are there for the loads, which take {done.current_kw:.1f} kW: "
        f"{load.der_id} {verb} from preset {before} to {after} ({change.before_kw:.2f} to {kw:.2f} kW)."
    )
    alternative = f"Left at preset {before}, {otherwise}." if abs(left_kw) > TRIFLE_KW else ""
    return load.verdict(kw, "economic", "available power", sentence, alternative)


def _lines(done: Balance, loads: Mapping[str, ManagedLoad]) -> list[str]:
    """As the plant API document shows them."""
    found = f"target={done.target_kw:.1f}kW, current={done.current_kw:.1f}kW, delta={done.delta_kw:+.1f}kW"
    lines = [f"Power balancer: {found}"]
    for change in done.changes:
        load = loads[change.der_id]
        before, after = load.number(change.before_kw), load.number(change.after_kw)
        watts = (change.after_kw - change.before_kw) * 1000
        lines.append(f"Adjusting {change.der_id} from preset {before} to {after} ({watts:+.0f}W)")
    return lines
