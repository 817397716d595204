"""Range checks for nameplates, which are built in code as well as read from settings."""

from math import isfinite

from energy.errors import SpecError


def check_range(what: str, value: float, low: float, high: float, *, above_low: bool = False) -> None:
    """Refuse a value outside low..high, or not finite.

    Args:
        what: the name to quote, such as `battery capacity_kwh`.
        value: the number in hand.
        low: smallest value allowed.
        high: largest value allowed.
        above_low: `low` itself is refused too.

    Raises:
        SpecError: naming the value and its range.
    """
    if not isfinite(value) or value < low or value > high or (above_low and value == low):
        start = "above " if above_low else ""
        raise SpecError(f"{what} is {value:g}: it must be {start}{low:g} to {high:g}")
