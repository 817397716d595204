"""A house's DER controller alone on a bus in memory: the test plays the orchestrator."""

import asyncio
from pathlib import Path
from typing import Any, Self

from contracts import topics
from contracts.messages import CommandAck, DerTelemetry, DispatchCommand, Status
from der_controller.__main__ import build
from der_controller.service import DerControllerService
from der_controller.settings import DerControllerSettings
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from tests.conftest import memory_bus
from wattbus.faults import Faults


class House:
    """A house's DER controller on a bus in memory, and all it says."""

    def __init__(
        self, clock: VirtualClock, state: Path | None = None, faults: Faults | None = None, **settings: Any
    ) -> None:
        self.clock = clock
        self.bus, _ = memory_bus(clock)
        bus = self.bus if faults is None else faults.bus(self.bus, "der_controller", "house-a")
        self.life = Lifecycle()
        own = DerControllerSettings(house="house-a", **settings)
        ders = build(own, clock, state)
        self.service = DerControllerService("house-a", ders, own.interval_s, bus, clock, self.life)
        self.acks: list[CommandAck] = []
        self.telemetry: list[DerTelemetry] = []
        self.states: list[Status] = []
        self.seq = 0

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self.service.run())]
        await self.clock.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.life.stop()
        await asyncio.gather(*self._tasks)

    async def _listen(self) -> None:
        async with self.bus.subscribe(topics.DER_ACK, topics.DER_TELEMETRY, topics.STATUS) as deliveries:
            async for delivery in self.life.each(deliveries):
                match delivery.message:
                    case CommandAck() as ack:
                        self.acks.append(ack)
                    case DerTelemetry() as telemetry:
                        self.telemetry.append(telemetry)
                    case state:
                        self.states.append(state)

    def order(self, **changes: Any) -> DispatchCommand:
        self.seq += 1
        now = VirtualClock.now(self.clock)
        fields: dict[str, Any] = {
            "command_id": f"main-1-{self.seq}", "house": "house-a", "der_id": "battery", "issuer": "main", "epoch": 1,
            "seq": self.seq, "issued_at": now, "valid_until": now.after(30),
        }  # fmt: skip
        return DispatchCommand(**(fields | changes))

    async def send(self, **changes: Any) -> CommandAck:
        """Send one command and wait for its answer."""
        command = self.order(**changes)
        await self.bus.publish(topics.DER_COMMAND.at(house="house-a", der_id=command.der_id), command)
        await self.clock.sleep(0.001)
        return self.acks[-1]
