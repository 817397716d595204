"""Troubles: each is told once when it begins, once if it gets worse, once when it is over. Pure."""

from typing import Literal, NamedTuple

from contracts.instant import Instant

QUIET_S = 30.0
"""A trouble that was not there for so long is over."""

Severity = Literal["info", "warning", "critical"]
_RANK: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}


class Trouble(NamedTuple):
    """Something that is wrong as long as it is reported."""

    house: str
    name: str
    severity: Severity
    text: str
    der_id: str = ""
    """Of which device, where it is one's."""


class Notice(NamedTuple):
    """What becomes an Alert."""

    house: str
    name: str
    severity: Severity
    text: str


class _Standing(NamedTuple):
    trouble: Trouble
    since: Instant
    seen_at: Instant


class Alarms:
    """The troubles of all houses."""

    def __init__(self) -> None:
        self._standing: dict[tuple[str, str, str], _Standing] = {}

    def report(self, trouble: Trouble, now: Instant) -> Notice | None:
        """Take note of a trouble; gives what is to be told if it is news."""
        key = (trouble.house, trouble.name, trouble.der_id)
        known = self._standing.get(key)
        if known is not None and _RANK[trouble.severity] <= _RANK[known.trouble.severity]:
            self._standing[key] = known._replace(seen_at=now)
            return None
        since = now if known is None else known.since
        self._standing[key] = _Standing(trouble, since, now)
        return Notice(trouble.house, trouble.name, trouble.severity, trouble.text)

    def settle(self, now: Instant) -> list[Notice]:
        """What is over by now."""
        over = [key for key, known in self._standing.items() if now.seconds_since(known.seen_at) >= QUIET_S]
        notices = []
        for key in over:
            known = self._standing.pop(key)
            trouble = known.trouble
            text = f"over, since {known.seen_at}: {trouble.text}"
            notices.append(Notice(trouble.house, trouble.name, "info", text))
        return notices

    def of(self, house: str) -> list[tuple[Trouble, Instant]]:
        """A house's troubles, and since when."""
        return [(known.trouble, known.since) for key, known in self._standing.items() if key[0] == house]

    def __len__(self) -> int:
        return len(self._standing)
