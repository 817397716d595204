"""What Shelly and Tasmota meters say over MQTT: their messages to powers, pure.

Their currents have no sign: each is given that of its phase's power.
"""

import json
from math import copysign, isfinite
from typing import Any, Protocol

from meter.source import Measured


class Dialect(Protocol):
    """How one make of meter speaks."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """The MQTT topics to hear."""

    def hear(self, topic: str, payload: bytes) -> Measured | None:
        """What is known once this message has been heard; None while the power is not.

        Raises:
            ValueError: it can't be read.
        """

    def forget(self) -> None:
        """Begin anew: what was heard was long ago."""


class Shelly:
    """A Shelly energy meter, of the first generation or a later one.

    Args:
        prefix: its MQTT prefix, such as `shellies/shellyem3-A4CF`, or `shellypro3em-0cb8` of a later one.

    Source: shelly-api-docs.shelly.cloud: gen1, Shelly 3EM, MQTT; gen2, Notifications and components EM, EM1,
    PM1, Switch.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.strip("/")
        self._power_w: dict[str, float] = {}
        self._current_a: dict[str, float] = {}
        self._heard: set[tuple[str, str]] = set()
        self._is_whole = False
        """Whether each of its channels has said its power: the sum of some is not the meter's."""

    @property
    def patterns(self) -> tuple[str, ...]:
        return tuple(f"{self._prefix}/{end}" for end in ("events/rpc", "status/+", "emeter/+/+"))

    def hear(self, topic: str, payload: bytes) -> Measured | None:
        match topic.removeprefix(f"{self._prefix}/").split("/"):
            case ["emeter", channel, ("power" | "current") as what]:
                self._note(topic, channel, {what: payload.decode("ascii")}, "power", "current")
            case ["status", component]:
                self._take(topic, {component: _object(payload)})
            case ["events", "rpc"]:
                self._take(topic, _object(_object(payload).get("params", {})))
            case _:
                pass
        if not self._is_whole:
            return None
        channels = sorted(self._power_w)
        phases: list[float] = []
        if self._current_a.keys() >= self._power_w.keys():
            phases = [copysign(self._current_a[one], self._power_w[one]) for one in channels]
        return Measured(round(sum(self._power_w.values()), 3), tuple(phases[:3]))

    def forget(self) -> None:
        for known in (self._power_w, self._current_a, self._heard):
            known.clear()
        self._is_whole = False

    def _take(self, topic: str, components: dict[str, Any]) -> None:
        """Note what components say of themselves; in a notification it is only what has changed."""
        for component, status in components.items():
            kind = component.partition(":")[0]
            if not isinstance(status, dict):
                continue
            if kind == "em":
                for phase in "abc":
                    self._note(
                        topic, f"{component}:{phase}", status, f"{phase}_act_power", f"{phase}_current"
                    )
                self._is_whole = all(f"{component}:{phase}" in self._power_w for phase in "abc")
            elif kind == "em1":
                self._note(topic, component, status, "act_power", "current")
            elif kind in ("pm1", "switch"):
                self._note(topic, component, status, "apower", "current")

    def _note(self, topic: str, channel: str, status: dict[str, Any], power: str, current: str) -> None:
        """Note what a channel says; how many there are shows when one says its power again, there.

        It shows no more than that: one whose power has not changed may have said nothing yet.
        """
        try:
            if power in status:
                self._is_whole |= (topic, channel) in self._heard
                self._heard.add((topic, channel))
                self._power_w[channel] = _number(status[power])
            if current in status:
                self._current_a[channel] = _number(status[current])
        except ValueError:  # it has lost a phase, say: what it said before is not so any more
            self.forget()
            raise


class Tasmota:
    """A Tasmota energy meter, which says what it measures every TelePeriod (10 s is its shortest).

    Args:
        device: its MQTT topic, such as `tasmota_house`.

    Source: tasmota.github.io, "Energy Monitoring" and "Smart Meter Interface".
    """

    def __init__(self, device: str) -> None:
        self._device = device.strip("/")

    @property
    def patterns(self) -> tuple[str, ...]:
        return (f"tele/{self._device}/SENSOR",)

    def hear(self, topic: str, payload: bytes) -> Measured | None:
        del topic
        energy = _object(payload).get("ENERGY")
        if not isinstance(energy, dict) or "Power" not in energy:
            return None
        powers = _numbers(energy["Power"])
        currents = _numbers(energy["Current"]) if "Current" in energy else []
        phases = [copysign(*pair) for pair in zip(currents, powers, strict=False)]
        return Measured(round(sum(powers), 3), tuple(phases[:3]) if len(currents) == len(powers) else ())

    def forget(self) -> None:
        """Each of its messages stands alone."""


def _object(value: Any) -> dict[str, Any]:  # noqa: ANN401 - what a device says
    try:
        found = json.loads(value) if isinstance(value, bytes) else value
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError(f"{str(found)[:80]!r} is no JSON object")  # noqa: TRY004 - a device's, not a caller's
    return found


def _numbers(value: Any) -> list[float]:  # noqa: ANN401 - what a device says
    """One number, or one for each phase."""
    if value == []:
        raise ValueError("an empty list, where one number for each phase should be")
    return [_number(item) for item in (value if isinstance(value, list) else [value])]


def _number(value: Any) -> float:  # noqa: ANN401 - what a device says
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{str(value)[:80]!r} is no number")  # noqa: TRY004 - a device's, not a caller's
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError("a number that is too large") from error
    if not isfinite(number):
        raise ValueError(f"{value} is not finite")
    return number
