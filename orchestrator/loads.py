"""A managed load as its telemetry shows it, and what it can be told. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import UNSET

from contracts.instant import Instant
from contracts.messages import DerTelemetry
from orchestrator.devices import Link
from orchestrator.known import LOAD, Known
from orchestrator.limits import Tier, Verdict
from orchestrator.requests import Orders
from orchestrator.resting import Stopped, stopped_by


class ManagedLoad(NamedTuple):
    """One that an orchestrator may set."""

    der: DerTelemetry
    presets_kw: tuple[float, ...]
    """Rising, without 0."""
    safe_kw: float
    set_kw: float
    """What it says that it is set to."""
    priority: int
    changing_until: Instant | None

    @property
    def der_id(self) -> str:
        """Its name."""
        return self.der.der_id

    def number(self, kw: float) -> int:
        """The preset nearest to that power, as people count them: 0 is standing still."""
        options = (0.0, *self.presets_kw)
        return min(range(len(options)), key=lambda i: abs(options[i] - kw))

    def exact(self, kw: float) -> float:
        """The preset nearest to that power, to its last digit [kW]."""
        return (0.0, *self.presets_kw)[self.number(kw)]

    def verdict(self, kw: float, tier: Tier, limit: str, sentence: str, alternative: str = "") -> Verdict:
        """What it is told."""
        return Verdict(
            der_id=self.der_id,
            asked_kw=self.presets_kw[-1],
            given_kw=kw,
            given_a=None,
            tier=tier,
            limit=limit,
            sentence=sentence,
            alternative=alternative,
        )

    def keep(self, kw: float) -> Verdict:
        """The same as before."""
        sentence = f"{self.der_id} stays at preset {self.number(kw)} ({kw:.2f} kW)."
        return self.verdict(kw, "economic", "available power", sentence)

    def rest(self, why: Stopped) -> Verdict:
        """What it would do by itself."""
        sentence = f"{why.sentence}: {self.der_id} goes to its safe preset ({self.safe_kw:.2f} kW)."
        return self.verdict(self.safe_kw, "safety", why.limit, sentence)


def managed_loads(known: Known, now: Instant) -> dict[str, ManagedLoad]:
    """All of a house, by id."""
    found = {}
    for der in known.ders_of(LOAD, now):
        presets = () if der.presets_kw is UNSET else tuple(sorted({kw for kw in der.presets_kw if kw > 0}))
        if der.managed is True and presets:
            safe_kw = 0.0 if der.safe_kw is UNSET else der.safe_kw
            found[der.der_id] = ManagedLoad(
                der=der,
                presets_kw=presets,
                safe_kw=safe_kw,
                set_kw=safe_kw if der.preset_kw is UNSET else der.preset_kw,
                priority=0 if der.priority is UNSET else der.priority,
                changing_until=None if der.changing_until is UNSET else der.changing_until,
            )
    return found


def left_out(
    loads: Mapping[str, ManagedLoad], known: Known, links: Mapping[str, Link], orders: Orders, now: Instant
) -> dict[str, Stopped]:
    """The loads that do not take part, and why, as the beginning of a sentence."""
    found = {}
    for der_id, load in loads.items():
        hold = orders.hold_on(der_id, now) if orders.holds else None
        if hold is not None:
            does = "paused" if hold.mode == "pause" else "stopped"
            found[der_id] = Stopped(f"{hold.mode} by {hold.user}", f"{hold.user} has {does} it")
        elif (why := stopped_by(load.der, None, links.get(der_id))) is not None:
            found[der_id] = Stopped(why.limit, why.sentence.rstrip("."))
        elif not known.is_fresh(load.der.timestamp, now):
            text = f"{der_id} has not been heard of since {load.der.timestamp}"
            found[der_id] = Stopped("stale telemetry", text)
    return found


def drawn_kw(load: ManagedLoad, known: Known, now: Instant) -> float:
    """What a load draws that is left out; of a silent one, what it draws by itself [kW]."""
    if known.is_fresh(load.der.timestamp, now):
        return max(load.der.current_output, 0.0)
    return load.safe_kw
