"""Faults to order: `--fault der-silent:house-b@10m+5m` makes a simulated part misbehave for a while.

The part's own code runs unchanged: what it says and hears is altered on its way to and from the bus.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple, TypeVar

from msgspec import structs

from broker.connect import presence_of
from broker.errors import BusError, BusUnavailableError
from broker.port import Bus, Delivery
from contracts.instant import Instant
from contracts.messages import (
    CommandAck,
    DerTelemetry,
    DispatchCommand,
    Forecast,
    Message,
    PriceForecast,
    Schedule,
    Status,
)
from contracts.topics import Address, Topic
from runtime.clock import Clock
from runtime.errors import UsageError
from runtime.logs import get_log
from wattbus.options import duration_s

M = TypeVar("M", bound=Message)

RECONNECT_S = 60.0
"""How long a DER that reconnects is away, unless told otherwise."""


class Kind(NamedTuple):
    """What a fault does to one service."""

    service: str
    effect: str
    """In words."""
    mutes: tuple[type[Message], ...] = ()
    """It no longer says these."""
    deafens: tuple[type[Message], ...] = ()
    """It no longer hears these."""
    lies: bool = False
    unplugs: bool = False
    """It can't publish at all, and knows it."""


DER, OPTIMIZER = "der_controller", "optimizer"
KINDS: Mapping[str, Kind] = {
    "der-silent": Kind(DER, "no telemetry, no acks", mutes=(DerTelemetry, CommandAck, Status)),
    "der-deaf": Kind(DER, "ignores commands", deafens=(DispatchCommand,)),
    "der-lies": Kind(DER, "tells the opposite of its power and charge", lies=True),
    "der-reconnect": Kind(DER, "offline", deafens=(DispatchCommand,), unplugs=True),
    "price-silent": Kind(OPTIMIZER, "no prices", mutes=(PriceForecast,)),
    "optimizer-silent": Kind(OPTIMIZER, "no plans, no prices", mutes=(PriceForecast, Schedule, Forecast)),
    "orchestrator-silent": Kind("orchestrator", "no commands", mutes=(DispatchCommand,)),
}
FORM = "write KIND:HOUSE[/DER]@AFTER[+DURATION], such as der-silent:house-b@10m+5m"


class Fault(NamedTuple):
    """One fault, as it was ordered; times count from the beginning of the run."""

    kind: str
    house: str
    der_id: str | None
    after_s: float
    duration_s: float | None
    """None: to the end of the run."""

    @property
    def does(self) -> Kind:
        """What it does."""
        return KINDS[self.kind]

    @property
    def name(self) -> str:
        """As on the command line, without the times."""
        return f"{self.kind}:{self.house}" + (f"/{self.der_id}" if self.der_id else "")

    def concerns(self, message: Message) -> bool:
        """Whether a message is this fault's house's, and its DER's."""
        theirs = getattr(message, "der_id", getattr(message, "device", None))
        return getattr(message, "house", None) == self.house and self.der_id in (None, theirs)


def parse_fault(text: str) -> Fault:
    """The fault of `der-silent:house-b/battery@10m+5m`.

    Raises:
        UsageError: another form, an unknown kind, or a time that is none.
    """
    found = re.fullmatch(r"([a-z-]+):([\w-]+)(?:/([\w-]+))?@([^+]+)(?:\+(.+))?", text, re.ASCII)
    if found is None:
        raise UsageError(f"--fault {text!r}: {FORM}")
    kind, house, der_id, after, lasts = found.groups()
    if kind not in KINDS:
        raise UsageError(f"--fault {text!r}: no fault is called {kind}; there are {', '.join(KINDS)}")
    if der_id is not None and KINDS[kind].service != DER:
        raise UsageError(f"--fault {text!r}: {kind} is a whole house's: leave /{der_id} away")
    default_s = RECONNECT_S if KINDS[kind].unplugs else None
    flag = f"--fault {text!r}:"
    return Fault(
        kind, house, der_id, duration_s(after, flag), default_s if lasts is None else duration_s(lasts, flag)
    )


def resolve(faults: Sequence[Fault], houses: Mapping[str, Sequence[str]], run_s: float | None) -> list[Fault]:
    """The faults one by one: of a house without a DER named, one for each of its DERs.

    Args:
        faults: as ordered.
        houses: each house's DERs.
        run_s: how long the run takes; None: until stopped.

    Raises:
        UsageError: a house or a DER that is not there, or a fault after the run's end.
    """
    resolved: list[Fault] = []
    for fault in faults:
        if fault.house not in houses:
            raise UsageError(f"--fault {fault.name}: no such house; there are {', '.join(houses)}")
        if run_s is not None and fault.after_s >= run_s:
            raise UsageError(
                f"--fault {fault.name}: it would begin after the run's end: run longer with --for"
            )
        ders = houses[fault.house]
        if fault.does.service != DER:
            resolved.append(fault)
            continue
        wanted = list(ders) if fault.der_id is None else [fault.der_id]
        if not wanted or not set(wanted) <= set(ders):
            raise UsageError(
                f"--fault {fault.name}: no such DER; {fault.house} has {', '.join(ders) or 'none'}"
            )
        resolved += [fault._replace(der_id=der_id) for der_id in wanted]
    return resolved


class Faults:
    """The faults of one run, on its clock."""

    def __init__(self, faults: Sequence[Fault], begin: Instant, clock: Clock) -> None:
        self._faults = tuple(faults)
        self._begin = begin
        self._clock = clock

    def bus(self, bus: Bus, service: str, house: str | None = None) -> Bus:
        """The bus as a service shall have it: the very same, if no fault concerns it.

        Args:
            bus: the real one.
            service: whose it is to be.
            house: of a service that belongs to one house.
        """
        mine = [f for f in self._faults if f.does.service == service and house in (None, f.house)]
        return FaultyBus(bus, self._active, mine) if mine else bus

    def _active(self, fault: Fault) -> bool:
        passed_s = self._clock.now().seconds_since(self._begin)
        return passed_s >= fault.after_s and (
            fault.duration_s is None or passed_s < fault.after_s + fault.duration_s
        )

    async def play(self, bus: Bus, say: Callable[[str], None]) -> None:
        """Say when each fault begins and ends; the last will of a DER that is cut off is ours to send."""
        events = [(fault.after_s, True, fault) for fault in self._faults]
        events += [(f.after_s + f.duration_s, False, f) for f in self._faults if f.duration_s is not None]
        for after_s, begins, fault in sorted(events, key=lambda event: event[:2]):
            await self._clock.sleep_until(self._begin.after(after_s))
            what = f"fault {'begins' if begins else 'ends'}: {fault.name} ({fault.does.effect})"
            say(what)
            get_log(fault.does.service).warning(what)
            if fault.does.unplugs and fault.der_id is not None:
                await self._tell_presence(bus, fault.house, fault.der_id, online=not begins)

    async def _tell_presence(self, bus: Bus, house: str, der_id: str, *, online: bool) -> None:
        status = Status(house=house, device=der_id, online=online, timestamp=self._clock.now())
        try:
            await bus.publish(presence_of(house, "der", der_id), status)
        except BusError as error:
            get_log(DER).warning("status not published", der=der_id, why=str(error))


class FaultyBus:
    """A `Bus` that drops, alters or refuses what passes, while a fault is on."""

    def __init__(self, bus: Bus, active: Callable[[Fault], bool], faults: Sequence[Fault]) -> None:
        self._bus = bus
        self._active = active
        self._faults = faults

    async def publish(self, address: Address[M], message: M) -> None:
        said: Any = message
        for fault in self._on(message):
            if fault.does.unplugs:
                raise BusUnavailableError(f"{fault.name}: cut off from the broker")
            if isinstance(message, fault.does.mutes):
                return
            if fault.does.lies and isinstance(said, DerTelemetry):
                said = _lie(said)
        await self._bus.publish(address, said)

    async def show(self, address: Address[M], message: M) -> None:
        await self._bus.show(address, message)

    async def declare(self, *wanted: Topic[Any], durable: str) -> None:
        await self._bus.declare(*wanted, durable=durable)

    def subscribe(
        self, *wanted: Topic[Any], durable: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery[Any]]]:
        return self._subscribed(wanted, durable)

    @asynccontextmanager
    async def _subscribed(
        self, wanted: Sequence[Topic[Any]], durable: str | None
    ) -> AsyncIterator[AsyncIterator[Delivery[Any]]]:
        async with self._bus.subscribe(*wanted, durable=durable) as deliveries:
            yield _Heard(deliveries, self._is_deaf_to)

    def _on(self, message: Message) -> list[Fault]:
        return [fault for fault in self._faults if fault.concerns(message) and self._active(fault)]

    def _is_deaf_to(self, message: Message) -> bool:
        return any(isinstance(message, fault.does.deafens) for fault in self._on(message))


class _Heard:
    """The deliveries that get through."""

    def __init__(
        self, deliveries: AsyncIterator[Delivery[Any]], is_deaf_to: Callable[[Message], bool]
    ) -> None:
        self._deliveries = deliveries
        self._is_deaf_to = is_deaf_to

    def __aiter__(self) -> AsyncIterator[Delivery[Any]]:
        return self

    async def __anext__(self) -> Delivery[Any]:
        while self._is_deaf_to((delivery := await anext(self._deliveries)).message):
            await delivery.ack()
        return delivery


def _lie(telemetry: DerTelemetry) -> DerTelemetry:
    """A battery that charges says it discharges, a car that charges says it does not; empty is full."""
    soc = telemetry.current_soc
    told_kw = -telemetry.current_output
    if telemetry.type != "battery_storage":
        told_kw = max(telemetry.nameplate_capacity - telemetry.current_output, 0.0)
    return structs.replace(
        telemetry,
        current_output=told_kw,
        power_meter_measurement=told_kw,
        current_soc=None if soc is None else 100.0 - soc,
    )
