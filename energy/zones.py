"""Timezones by their IANA name."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from energy.errors import SpecError


def zone_of(name: str) -> ZoneInfo:
    """The timezone of that name.

    Raises:
        SpecError: no such timezone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SpecError(f"{name!r} is no timezone: use an IANA name such as America/Costa_Rica") from error
