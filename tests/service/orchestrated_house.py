"""A house with its meter, played by the test, its DER controller and its orchestrator on a bus in memory."""

import asyncio
from pathlib import Path
from typing import Any, Self

from broker.bus import PlanesBus
from broker.errors import BusError
from broker.memory import MemoryTransport
from broker.port import Bus
from contracts import topics
from contracts.instant import Instant
from contracts.messages import (
    Alert,
    CommandAck,
    Decision,
    DerTelemetry,
    DispatchCommand,
    MeterReading,
    PowerSnapshot,
    PriceForecast,
    PvReading,
)
from contracts.orders import OperatorRequest
from contracts.topics import Address
from der_controller.__main__ import build
from der_controller.service import DerControllerService
from der_controller.settings import BatteryTable, DerControllerSettings
from orchestrator.audit import Audit
from orchestrator.service import Mark, OrchestratorService
from orchestrator.settings import OrchestratorSettings
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from runtime.settings import Layered
from runtime.store import Store
from tests.conftest import memory_bus

HOUSE = "house-a"
SPOKEN = (
    topics.DER_COMMAND,
    topics.DER_ACK,
    topics.DER_TELEMETRY,
    topics.SNAPSHOT,
    topics.DECISION,
    topics.ALERT,
)


class Broken:
    """A bus that is slow, or refuses, where the test says so."""

    def __init__(self, bus: Bus, clock: VirtualClock) -> None:
        self._bus = bus
        self._clock = clock
        self.slow_s: dict[str, float] = {}
        """By the last level of the topic."""
        self.refuses: set[str] = set()
        self.hides: set[str] = set()
        """DERs whose messages do not get through."""

    async def publish(self, address: Address[Any], message: Any) -> None:
        kind = address.name.rsplit("/", 1)[1]
        if kind in self.refuses:
            raise BusError(f"{kind} is refused")
        if (slow_s := self.slow_s.get(kind, 0.0)) > 0:
            await self._clock.sleep(slow_s)
        if address.ids.get("der_id") in self.hides:
            return
        await self._bus.publish(address, message)

    def subscribe(self, *wanted: Any, durable: str | None = None) -> Any:
        return self._bus.subscribe(*wanted, durable=durable)

    async def declare(self, *wanted: Any, durable: str) -> None:
        await self._bus.declare(*wanted, durable=durable)


class House:
    """Everything that is said in it is kept, in order."""

    def __init__(
        self,
        clock: VirtualClock,
        devices: dict[str, Any] | None = None,
        state: Path | None = None,
        joins: "House | None" = None,
        mark: Mark | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock
        self.bus: PlanesBus
        self.transport: MemoryTransport
        self.bus, self.transport = memory_bus(clock) if joins is None else (joins.bus, joins.transport)
        self.life, self.control = Lifecycle(), Lifecycle()
        self.controllers: list[DerControllerService] = []
        self.der_bus = Broken(self.bus, clock)
        self.control_bus = Broken(self.bus, clock)
        if joins is None:
            own = DerControllerSettings(house=HOUSE, devices=devices or {"battery": BatteryTable()})
            ders = build(own, clock, None)
            self.controllers = [DerControllerService(HOUSE, ders, 1.0, self.der_bus, clock, self.life)]
        base = OrchestratorSettings(**({"state_dir": state} if state else {}), **settings)
        path = base.mark_path if state else None
        self.store = Store(path, Mark, mark or Mark(epoch=4))
        audit = Audit(base.audit_path if state else None)
        self.orchestrator = OrchestratorService(
            Layered(base, {}), self.control_bus, clock, self.control, self.store, audit
        )
        self.said: list[Any] = []
        self.seq = 0
        self.load_kw, self.pv_kw = 1.0, 0.0
        self.more: dict[str, Any] = {}
        """More of what the meter says."""
        self.is_metered = joins is None

    async def __aenter__(self) -> Self:
        await self.bus.declare(topics.METER_READING, topics.PV_READING, topics.ALERT, durable=topics.RECORDER)
        services = [self._listen(), self._measure(), *(one.run() for one in self.controllers)]
        self._tasks = [asyncio.create_task(service) for service in services]
        self._controlling = asyncio.create_task(self.orchestrator.run())
        await self.clock.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.control.stop()
        await self._controlling
        self.life.stop()
        await asyncio.gather(*self._tasks)

    async def _listen(self) -> None:
        async with self.bus.subscribe(*SPOKEN) as deliveries:
            async for delivery in self.life.each(deliveries):
                self.said.append(delivery.message)

    async def _measure(self) -> None:
        async for tick in self.life.each(self.clock.every(5.0)):
            if self.is_metered:
                await self.measure(tick.at)

    async def measure(self, at: Instant) -> None:
        self.seq += 1
        known: dict[str, Any] = {"house": HOUSE, "meter": "main", "boot": 1, "seq": self.seq, "timestamp": at}
        reading = MeterReading(**known, power_w=self.load_kw * 1000, **self.more)
        await self.bus.publish(topics.METER_READING.at(house=HOUSE, meter="main"), reading)
        pv = PvReading(**known, meter_w=self.load_kw * 1000, pv_w=self.pv_kw * 1000, sum_w=0.0)
        await self.bus.publish(topics.PV_READING.at(house=HOUSE, meter="main"), pv)

    async def price(self, price: float, hours: int = 24) -> None:
        n, now = hours * 4, self.clock.now().floor(900)
        forecast = PriceForecast(
            house=HOUSE, tariff="flat", issued_at=self.clock.now(), start=now, step_s=900, currency="EUR",
            import_price=[price] * n, export_price=[0.1] * n, demand_price=[0.0] * n,
        )  # fmt: skip
        await self.bus.publish(topics.PRICE.at(house=HOUSE, tariff="flat"), forecast)

    async def ask(
        self, action: str, user: str = "ana", request_id: str = "r1", **more: Any
    ) -> OperatorRequest:
        request = OperatorRequest(
            house=HOUSE, user=user, request_id=request_id, action=action,  # type: ignore[arg-type]
            **{"issued_at": self.clock.now(), **more},
        )  # fmt: skip
        await self.bus.publish(topics.OPERATOR_REQUEST.at(house=HOUSE, user=user), request)
        return request

    async def hear(self, seconds: float) -> "Heard":
        """What is said in the next seconds."""
        begun = len(self.said)
        await self.clock.sleep(seconds)
        return Heard(self.said[begun:])


class Heard:
    """What was said, by kind."""

    def __init__(self, said: list[Any]) -> None:
        self.said = said

    def _of(self, kind: type) -> list[Any]:
        return [message for message in self.said if isinstance(message, kind)]

    @property
    def commands(self) -> list[DispatchCommand]:
        return self._of(DispatchCommand)

    @property
    def acks(self) -> list[CommandAck]:
        return self._of(CommandAck)

    @property
    def telemetry(self) -> list[DerTelemetry]:
        return self._of(DerTelemetry)

    @property
    def snapshots(self) -> list[PowerSnapshot]:
        return self._of(PowerSnapshot)

    @property
    def decisions(self) -> list[Decision]:
        return self._of(Decision)

    @property
    def alerts(self) -> list[Alert]:
        return self._of(Alert)

    def told(self) -> list[tuple[str, str]]:
        """Names and severities of the alerts."""
        return [(alert.name, alert.severity) for alert in self.alerts]
