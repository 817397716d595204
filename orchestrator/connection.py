"""What a house's grid connection still carries, in all and on each phase; pure."""

from math import inf

from orchestrator.limits import KW_PER_A, PhysicalConstraints, PowerFlowInputs

_TRIFLE_A = 1e-6
_TRIFLE_KW = 1e-6


_SHARES: dict[tuple[int, int | None], tuple[float, ...]] = {
    (3, None): (1 / 3, 1 / 3, 1 / 3),
    (3, 1): (1.0, 0.0, 0.0),
    (3, 2): (0.0, 1.0, 0.0),
    (3, 3): (0.0, 0.0, 1.0),
    **{(1, phase): (1.0,) for phase in (None, 1, 2, 3)},
}
"""By the house's phases and the one a DER is on, None: all; the share of its power that each carries."""


class Connection:
    """Kept up to date while power is given out; without phases measured, in all only.

    Drawing and feeding are reckoned apart: PV that may yet be curtailed relieves no phase that draws, but
    loads one that feeds.
    """

    __slots__ = ("_feeds_a", "_fuse_a", "_fuse_kw", "_rooms_a", "room_kw")

    def __init__(
        self, inputs: PowerFlowInputs, load_kw: float, physical: PhysicalConstraints, export_kw: float
    ) -> None:
        self._fuse_kw = fuse_kw = physical.max_grid_import_kw
        self.room_kw = fuse_kw + inputs.pv_kw - load_kw
        """What may still be drawn; below zero the fuse carries too much [kW]."""
        self._rooms_a: list[float] = []
        self._feeds_a: list[float] = []
        if inputs.phase_a is None:
            return
        n = len(inputs.phase_a)
        fuse_a = fuse_kw / (KW_PER_A * n) if physical.fuse_a is None else physical.fuse_a
        self._fuse_a = fuse_a
        certain_a = min(inputs.pv_kw, load_kw + export_kw) / KW_PER_A
        pv_a = inputs.pv_kw / KW_PER_A
        for load_a, share in zip(inputs.phase_a, _SHARES[n, inputs.pv_phase], strict=True):
            self._rooms_a.append(fuse_a - load_a + certain_a * share)
            self._feeds_a.append(fuse_a + load_a - pv_a * share)

    @property
    def knows_phases(self) -> bool:
        """Whether each phase is watched."""
        return bool(self._rooms_a)

    @property
    def overdrawn(self) -> bool:
        """Whether a fuse carries too much."""
        return self.room_kw < 0 or (bool(self._rooms_a) and min(self._rooms_a) < 0)

    def take(self, power_kw: float, phase: int | None) -> None:
        """Give out that power, + drawn / - fed, to a DER on one phase, or on all alike."""
        self.room_kw -= power_kw
        if not self._rooms_a or power_kw == 0:
            return
        power_a = power_kw / KW_PER_A
        for i, share in enumerate(_SHARES[len(self._rooms_a), phase]):
            self._rooms_a[i] -= power_a * share
            self._feeds_a[i] += power_a * share

    def room_for_kw(self, phase: int | None) -> float:
        """What a DER there may still draw; below zero it must feed so much to keep the fuse [kW]."""
        return min(self.room_kw, _least_kw(self._rooms_a, phase)) if self._rooms_a else self.room_kw

    def feed_for_kw(self, phase: int | None) -> float:
        """What a battery there may still feed before a phase's fuse carries too much the other way [kW]."""
        return max(_least_kw(self._feeds_a, phase), 0.0) if self._feeds_a else inf

    def tightest(self, phase: int | None) -> str:
        """The name of the fuse that leaves a DER there the least."""
        if not self._rooms_a or self.room_kw <= _least_kw(self._rooms_a, phase):
            return "main fuse"
        shares = _SHARES[len(self._rooms_a), phase]
        _, worst = min((room_a, i) for i, room_a in enumerate(self._rooms_a) if shares[i])
        return f"fuse of phase {worst + 1}"

    def curtailed_kw(self, pv_kw: float, phase: int | None, wanted_kw: float) -> float:
        """The part of a curtailment that makes no fuse carry too much, all DERs having theirs [kW]."""
        most_kw = min(pv_kw, self.room_kw, wanted_kw)
        if self._feeds_a:
            draws_a = [2 * self._fuse_a - feed_a for feed_a in self._feeds_a]
            most_kw = min(most_kw, _least_kw(draws_a, phase))
        return max(most_kw, 0.0)

    def overfed_kw(self, phase: int | None) -> float:
        """The curtailment after which PV makes no phase's fuse carry too much [kW]."""
        return max(-_least_kw(self._feeds_a, phase), 0.0) if self._feeds_a else 0.0

    def overloads(self, import_kw: float, curtailed_kw: float, pv_phase: int | None) -> list[str]:
        """What the fuse carries too much of although nothing is left to switch off, in sentences."""
        found = []
        if (over_kw := import_kw - self._fuse_kw) > _TRIFLE_KW:
            found.append(
                f"The house takes {import_kw:.2f} kW, {over_kw:.2f} kW more than its main fuse carries, "
                "and nothing is left to switch off."
            )
        if not self._feeds_a:
            return found
        curtailed_a = curtailed_kw / KW_PER_A
        for i, share in enumerate(_SHARES[len(self._feeds_a), pv_phase]):
            amps = self._feeds_a[i] - self._fuse_a + curtailed_a * share
            if abs(amps) - self._fuse_a > _TRIFLE_A:
                does = "draws" if amps > 0 else "feeds in"
                found.append(
                    f"Phase {i + 1} {does} {abs(amps):.1f} A, its fuse carries {self._fuse_a:.1f} A, "
                    "and nothing is left to switch off."
                )
        return found


def _least_kw(amps: list[float], phase: int | None) -> float:
    """What so many amperes a phase let a DER there draw or feed [kW]."""
    if len(amps) == 1 or phase is not None:
        return amps[0 if len(amps) == 1 or phase is None else phase - 1] * KW_PER_A
    return min(amps) * len(amps) * KW_PER_A
