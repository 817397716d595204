"""The error tree of the orchestrator."""

from contracts.messages import PowerSnapshot


class OrchestratorError(Exception):
    """The control loop could not decide."""


class InputRangeError(OrchestratorError):
    """A measured power that no house has; nothing is decided from it."""


class PowerBalanceError(OrchestratorError):
    """Sources and sinks differ: never a wrong snapshot, so no snapshot."""

    def __init__(self, snapshot: PowerSnapshot) -> None:
        super().__init__(
            f"{snapshot.house}: sources and sinks differ by {snapshot.imbalance_kw():.3g} kW: {snapshot}"
        )
        self.snapshot = snapshot


class LimitError(OrchestratorError):
    """What was decided would break a limit: it is not carried out."""

    def __init__(self, snapshot: PowerSnapshot, what: str) -> None:
        super().__init__(f"{snapshot.house}: {what}: {snapshot}")
        self.snapshot = snapshot
