"""What a run tells in a line of its own: DERs that fall back and come back, and alerts. Pure."""

from typing import Any

from contracts.instant import Instant
from contracts.messages import Alert, DerTelemetry

AGAIN_S = 3600.0
"""An alert that only repeats itself is told again after so long."""


class News:
    """Turns what is heard on the bus into news for a person."""

    def __init__(self) -> None:
        self._following: dict[tuple[str, str], str] = {}
        self._alerts: dict[tuple[str, str, str], tuple[str, Instant]] = {}

    def of(self, message: Any) -> str | None:  # noqa: ANN401 - any message
        """A line to tell, or None: nothing new."""
        match message:
            case DerTelemetry():
                return self._of_der(message)
            case Alert():
                return self._of_alert(message)
            case _:
                return None

    def _of_der(self, telemetry: DerTelemetry) -> str | None:
        der = (telemetry.house, telemetry.der_id)
        if telemetry.connected is False:
            # Nobody commands a car that is away: no news, nor that it is obedient when it is back.
            self._following.pop(der, None)
            return None
        before = self._following.get(der)
        if telemetry.following == "safe" and before is None:
            return None  # so it starts
        self._following[der] = telemetry.following
        if before in (None, telemetry.following):
            return None
        name = "/".join(der)
        if telemetry.following == "safe":
            return f"{name} has no valid command any more: it is in its safe state"
        return f"{name} follows commands again"

    def _of_alert(self, alert: Alert) -> str | None:
        key = (alert.house, alert.source, alert.name)
        text, told_at = self._alerts.get(key, ("", alert.timestamp))
        if text == alert.text and alert.timestamp.seconds_since(told_at) < AGAIN_S:
            return None
        self._alerts[key] = (alert.text, alert.timestamp)
        return f"ALERT ({alert.severity}) {alert.house}: {alert.text}"
