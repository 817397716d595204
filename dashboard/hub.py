"""Gives every watcher the newest state: encoded once for all, and who is slow misses what is old."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from contracts.instant import Instant
from dashboard.model import Fleet
from dashboard.views import alerts_of, commands_of, day_of, row_of, services_of
from runtime.token import SITE, Principal

WATCHERS_MAX = 200
WATCHERS_OF_ONE_MAX = 20
"""So many of them may be one's: nobody keeps all others out."""

_encoder = msgspec.json.Encoder()


class FullError(Exception):
    """There are as many watchers as there may be, of all or of one."""


def event(name: str, body: bytes) -> bytes:
    """One server-sent event; JSON has no line ends of its own."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), body)


class _Cached:
    """Events of a house or of all, encoded again only when their version has changed."""

    def __init__(self) -> None:
        self._events: dict[str, tuple[object, bytes]] = {}

    def of(self, key: str, version: object, name: str, make: Callable[[], Any]) -> bytes:
        known = self._events.get(key)
        if known is not None and known[0] == version:
            return known[1]
        made = event(name, _encoder.encode(make()))
        self._events[key] = version, made
        return made


class Hub:
    """The fleet as a stream of events for each watcher.

    A watcher has no queue: when it is ready for more it gets what has changed since the last beat, or
    everything if it missed one. So the slowest costs no memory, and what it sees is never old.

    Args:
        fleet: what is shown.
        hello: what a watcher is told first.
    """

    def __init__(self, fleet: Fleet, hello: dict[str, Any]) -> None:
        self._fleet = fleet
        self._hello = event("hello", _encoder.encode(hello))
        # A house's token changes nothing.
        self._hello_house = event("hello", _encoder.encode({**hello, "may_act": False}))
        self._rows: dict[str, bytes] = {}
        self._cached = _Cached()
        self._beat = 0
        self._changed: set[str] = set()
        self._changes = b""
        self._all = b""
        self._head = b""
        self._now: Instant | None = None
        self._beaten = asyncio.Event()
        self._closed = False
        self._watchers = Counter[str]()
        self.missed = 0
        """Beats that slow watchers did not see."""

    @property
    def watchers(self) -> int:
        """How many there are."""
        return self._watchers.total()

    def beat(self, now: Instant, *, connected: bool) -> None:
        """Show what is new to everybody."""
        fleet = self._fleet
        changed = self._changed = fleet.take_changed()
        for name in changed:
            self._rows[name] = _encoder.encode(row_of(fleet.houses[name], now))
        services = services_of(fleet, now)
        head = {"now": now.unix_ms, "connected": connected, "services": services, "refused": fleet.refused}
        self._head = _encoder.encode(head)[:-1]
        self._changes = self._fleet_event(sorted(changed), full=False)
        self._all = b""
        self._now = now
        self._beat += 1
        self._wake()

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        self._wake()

    async def events(self, house: str, who: Principal = SITE, one: str = "") -> AsyncIterator[bytes]:
        """What a watcher is sent until it leaves, or the service stops.

        Args:
            house: whose day and commands it wants to see too; may be one that is not there yet, or none.
            who: which houses it sees.
            one: as whom it is counted.

        Raises:
            FullError: before the first event: there are too many watchers, or too many are this one's.
        """
        if self.watchers >= WATCHERS_MAX:
            raise FullError(f"{WATCHERS_MAX} pages are open already: close one")
        if self._watchers[one] >= WATCHERS_OF_ONE_MAX:
            raise FullError(f"{WATCHERS_OF_ONE_MAX} of your pages are open already: close one")
        self._watchers[one] += 1
        try:
            yield self._hello if who.is_site else self._hello_house
            seen, sent = 0, dict[str, bytes]()
            while not self._closed:
                if seen == self._beat:
                    await self._beaten.wait()
                    continue
                is_next = 0 < seen == self._beat - 1
                self.missed += self._beat - seen - 1 if seen else 0
                seen = self._beat
                yield self._fleet_for(who, is_next=is_next)
                for name, encoded in self._details(house, who):
                    if sent.get(name) is not encoded:
                        sent[name] = encoded
                        yield encoded
        finally:
            self._watchers[one] -= 1
            self._watchers += Counter()  # without those who have none left

    def _fleet_for(self, who: Principal, *, is_next: bool) -> bytes:
        if who.is_site:
            return self._changes if is_next else self._everything()
        names = self._changed if is_next else self._rows
        return self._fleet_event([who.house] if who.house in names else [], full=not is_next)

    def _details(self, house: str, who: Principal) -> list[tuple[str, bytes]]:
        """The events that are sent only when they have changed."""
        fleet, cached, now = self._fleet, self._cached, self._now
        alerts = cached.of(
            f"alerts {who.house}", fleet.alerts_version, "alerts", lambda: alerts_of(fleet, who)
        )
        made = [("alerts", alerts)]
        known = fleet.houses.get(house) if who.sees(house) else None
        if known is None or now is None:
            return made
        version = known.day.version, known.outlook_version
        day = cached.of(f"day {house}", version, "day", lambda: day_of(known, fleet, now))
        commands = cached.of(f"commands {house}", known.sent_version, "commands", lambda: commands_of(known))
        return [*made, ("day", day), ("commands", commands)]

    def _everything(self) -> bytes:
        if not self._all:
            self._all = self._fleet_event(sorted(self._rows), full=True)
        return self._all

    def _fleet_event(self, names: list[str], *, full: bool) -> bytes:
        rows = b",".join([self._rows[name] for name in names])
        told = b"true" if full else b"false"
        return event("fleet", b'%b,"full":%b,"houses":[%b]}' % (self._head, told, rows))

    def _wake(self) -> None:
        self._beaten.set()
        self._beaten = asyncio.Event()
