"""A DER without a bus, and the two clocks it is handed."""

from typing import Any

from contracts.instant import Instant
from contracts.messages import CommandAck, DerTelemetry, DispatchCommand
from der_controller.devices import ChargingCar, DeviceSpec, InverterSpec, StorageUnit
from der_controller.model import DerMemory, DerModel, DerSpec
from energy.battery import BatterySpec
from energy.ev import TripPattern
from energy.thermal import home_battery

MIDNIGHT = Instant.parse("2024-06-03T07:00:00Z")  # a Monday in Los Angeles
BATTERY = StorageUnit(
    battery=BatterySpec(capacity_kwh=10.0, max_charge_kw=5.0, max_discharge_kw=4.0),
    thermal=home_battery(10.0),
)
CAR = ChargingCar(trips=TripPattern(timezone="America/Los_Angeles"))
INVERTER = InverterSpec(peak_kw=4.0)
TTL_S = 30.0


class Rig:
    """A DER and the two clocks it is handed."""

    def __init__(
        self,
        device: DeviceSpec = BATTERY,
        soc: float = 50.0,
        memory: DerMemory | None = None,
        safe: float = 0.0,
        issuers: tuple[str, ...] = (),
    ) -> None:
        self.passed_s = 0.0
        self.spec = DerSpec(
            house="house-a", der_id="der-1", device=device, safe_setpoint=safe, issuers=issuers
        )
        self.der = DerModel(self.spec, memory or DerMemory(soc_percent=soc, at=MIDNIGHT), MIDNIGHT, 100.0)

    @property
    def now(self) -> Instant:
        return MIDNIGHT.after(self.passed_s)

    @property
    def monotonic_s(self) -> float:
        return 100.0 + self.passed_s

    def wait(self, seconds: float) -> DerTelemetry:
        self.passed_s += seconds
        return self.tick()

    def tick(self) -> DerTelemetry:
        return self.der.tick(self.now, self.monotonic_s)

    def send(self, command: DispatchCommand) -> CommandAck:
        return self.der.command(command, self.now, self.monotonic_s)

    def order(self, seq: int, kw: float | None = None, **changes: Any) -> DispatchCommand:
        fields: dict[str, Any] = {
            "command_id": f"c-{seq}",
            "house": "house-a",
            "der_id": "der-1",
            "issuer": "orchestrator",
            "epoch": 1,
            "seq": seq,
            "issued_at": self.now,
            "valid_until": self.now.after(TTL_S),
            "setpoint_kw": kw,
        }
        return DispatchCommand(**(fields | changes))

    def restarted(self, memory: DerMemory) -> "Rig":
        after = Rig(self.spec.device, memory=memory)
        after.spec = self.spec
        after.passed_s = self.passed_s
        after.der = DerModel(self.spec, memory, self.now, self.monotonic_s)
        return after
