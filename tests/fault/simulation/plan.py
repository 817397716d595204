"""What goes wrong in one seed, and when: drawn from the seed alone, and printed as it is."""

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from contracts.instant import Instant

LASTS_S = 7200.0
FAULTS_MIN = 10
HOUR_S = 3600.0
SEEDS_WITH_PLANS = 20
"""One seed in so many runs the optimizer too, which costs as much as all others together."""

READERS = ("pvsim", "recorder")
SPEAKERS = ("meter", "pvsim", "der", "orchestrator")
PARTS = ("recorder", "pvsim", "der", "orchestrator", "meter")
"""In the order in which they start."""
HOSTILE = ("out of range", "expired", "stranger", "other house", "replay", "from the future")
_ON_THE_WAY = ("before publish", "after publish")
_ON_THE_DISK = ("disk nothing", "disk torn", "disk whole")
_ON_ACK = ("before ack", "after ack")
CRASHES: Mapping[str, tuple[str, ...]] = {
    "meter": ("now", *_ON_THE_WAY, *_ON_THE_DISK),
    "pvsim": ("now", *_ON_THE_WAY, *_ON_ACK),
    "recorder": ("now", *_ON_ACK, *_ON_THE_DISK, *_ON_THE_DISK),
    "der": ("now", *_ON_THE_WAY),
    "orchestrator": ("now", *_ON_THE_WAY),
    "optimizer": ("now", *_ON_THE_WAY),
}
"""Where a service can be when its power fails; of a disk job that much is on the disk."""


class Place(NamedTuple):
    """A night somewhere; an hour before its midnight the seed begins."""

    start: Instant
    day_timezone: str
    """Whose days the files are."""
    longitude: float


PLACES = (
    Place(Instant.parse("2024-07-01T23:00:00Z"), "UTC", -117.4),
    Place(Instant.parse("2024-07-01T23:00:00Z"), "UTC", -117.4),
    Place(Instant.parse("2024-11-03T06:00:00Z"), "America/Los_Angeles", -117.4),
    Place(Instant.parse("2024-03-30T22:00:00Z"), "Europe/Berlin", 13.4),
)
"""UTC's midnight in the sun of California, and both nights on which clocks are changed."""


class Fault(NamedTuple):
    """One thing that goes wrong with one service."""

    at_s: float
    kind: str
    part: str
    times: int = 1
    """So many messages in a row have it."""
    lasts_s: float = 0.0
    how: str = ""
    off_s: float = 0.0

    def __str__(self) -> str:
        more = [
            f"{self.times} times" if self.times > 1 else "",
            f"{self.lasts_s:.1f} s" if self.lasts_s else "",
        ]
        more += [f"by {self.off_s:+.0f} s" if self.off_s else "", self.how]
        return f"{self.at_s:8.1f}  {self.kind:<11} {self.part:<12} {', '.join(filter(None, more))}"


class Plan(NamedTuple):
    """A seed's course."""

    seed: int
    place: Place
    has_pv: bool
    plans: bool
    """Whether the optimizer runs."""
    faults: tuple[Fault, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """The services that run, in the order in which they start."""
        return (*PARTS, "optimizer") if self.plans else PARTS

    def __str__(self) -> str:
        head = (
            f"seed {self.seed}: {self.place.start}, days of {self.place.day_timezone}, "
            f"{'PV' if self.has_pv else 'no PV'}{', optimizer' if self.plans else ''}, {len(self.faults)} faults"
        )
        return "\n".join([head, *map(str, self.faults)])


def plan_of(seed: int) -> Plan:
    """The plan of a seed."""
    rng = random.Random(f"simulation/{seed}")
    place = PLACES[seed % len(PLACES)]
    faults: list[Fault] = []
    wanted = rng.randint(2 * FAULTS_MIN - 2, 3 * FAULTS_MIN)
    while len(faults) < wanted:
        kind = rng.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()])[0]
        faults += _KINDS[kind][1](rng, _moment(rng, faults))
    has_pv = rng.random() < 0.8
    plans = seed % SEEDS_WITH_PLANS == 0
    return Plan(seed, place, has_pv, plans, tuple(sorted(faults)))


def _moment(rng: random.Random, faults: list[Fault]) -> float:
    """Anywhere, around midnight, or soon after another fault: it is two at once that find something."""
    where = rng.random()
    if where < 0.15:
        return round(rng.uniform(HOUR_S - 30, HOUR_S + 30), 1)
    if where < 0.5 and faults:
        return round(min(rng.choice(faults).at_s + rng.expovariate(1 / 20), LASTS_S - 60), 1)
    return round(rng.uniform(30, LASTS_S - 60), 1)


def _seconds(rng: random.Random, low: float, high: float) -> float:
    """Short ones as often as long ones."""
    share: float = rng.random()
    return round(float(low * (high / low) ** share), 1)


def _drop(rng: random.Random, at_s: float) -> list[Fault]:
    return [Fault(at_s, "drop", rng.choice(SPEAKERS), rng.randint(1, 8), _seconds(rng, 0.1, 10))]


def _unconfirmed(rng: random.Random, at_s: float) -> list[Fault]:
    return [Fault(at_s, "unconfirmed", rng.choice(SPEAKERS[:2]), rng.randint(1, 8), _seconds(rng, 0.1, 10))]


def _duplicate(rng: random.Random, at_s: float) -> list[Fault]:
    return [Fault(at_s, "duplicate", rng.choice(SPEAKERS), rng.randint(1, 8), _seconds(rng, 0.1, 600))]


def _delay(rng: random.Random, at_s: float) -> list[Fault]:
    return [Fault(at_s, "delay", rng.choice(SPEAKERS), rng.randint(1, 10), _seconds(rng, 0.5, 300))]


def _reorder(rng: random.Random, at_s: float) -> list[Fault]:
    part = rng.choice((*READERS, *READERS, "der", "orchestrator"))
    return [Fault(at_s, "reorder", part, rng.randint(2, 8), _seconds(rng, 5, 120))]


def _redeliver(rng: random.Random, at_s: float) -> list[Fault]:
    return [Fault(at_s, "redeliver", rng.choice(READERS), rng.randint(1, 8), _seconds(rng, 0.1, 300))]


def _cut(rng: random.Random, at_s: float) -> list[Fault]:
    longest = 2400 if rng.random() < 0.2 else 60
    return [Fault(at_s, "cut", rng.choice(PARTS), lasts_s=_seconds(rng, 1, longest))]


def _crash(rng: random.Random, at_s: float) -> list[Fault]:
    part = rng.choice((*PARTS, "meter", "recorder"))
    fault = Fault(at_s, "crash", part, lasts_s=_seconds(rng, 0.1, 300), how=rng.choice(CRASHES[part]))
    if part == "meter" and fault.how in _ON_THE_DISK:
        # What is confirmed at once never touches its disk.
        return [Fault(round(at_s - 5, 1), "cut", "meter", lasts_s=_seconds(rng, 30, 120)), fault]
    return [fault]


def _clock(rng: random.Random, at_s: float) -> list[Fault]:
    off_s = rng.choice([-2, -1, 1, 2]) * HOUR_S
    return [Fault(at_s, "clock", rng.choice(PARTS), lasts_s=_seconds(rng, 5, 1200), off_s=off_s)]


def _hostile(rng: random.Random, at_s: float) -> list[Fault]:
    return [Fault(at_s, "hostile", "der", how=rng.choice(HOSTILE))]


_KINDS: Mapping[str, tuple[int, Callable[[random.Random, float], list[Fault]]]] = {
    "crash": (30, _crash),
    "cut": (12, _cut),
    "drop": (10, _drop),
    "unconfirmed": (8, _unconfirmed),
    "duplicate": (8, _duplicate),
    "delay": (10, _delay),
    "reorder": (8, _reorder),
    "redeliver": (8, _redeliver),
    "clock": (8, _clock),
    "hostile": (8, _hostile),
}
"""How often each, and what it is."""
