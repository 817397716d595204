"""A house's DERs: the controller's own devices behind its own gate, at the loop's beat. Pure."""

from msgspec import structs

from contracts.instant import Instant
from contracts.messages import CommandAck, DerTelemetry, DispatchCommand
from der_controller.devices import Charge, Device, DeviceSpec, StorageUnit, make_device
from der_controller.gate import Accept, Gate, Mark
from energy.thermal import home_battery
from wattbus.backtest.case import START_SOC_PERCENT, Case

BATTERY = "battery"


class Der:
    """One DER: it judges commands, carries the newest one out, and tells how it stands."""

    def __init__(self, house: str, der_id: str, device: Device, start: Instant, end: Instant) -> None:
        self.der_id = der_id
        self.setpoint = 0.0
        """In the device's own unit."""
        self.power_kw = 0.0
        """The mean over the last tick; not rounded, as telemetry is."""
        self._device = device
        self._gate = Gate(house, der_id, Mark())
        self._end = end
        self._template = DerTelemetry(
            der_id=der_id,
            house=house,
            is_online=True,
            timestamp=start,
            current_output=0.0,
            power_meter_measurement=0.0,
            baseline=0.0,
            contract_threshold=0.0,
            project_id="backtest",
            is_standalone=False,
            connection_start_at=start,
            **device.nameplate(),
            **device.telemetry(0.0),
        )

    @property
    def soc_percent(self) -> float:
        """Its charge, not rounded."""
        return self._device.charge(self._template.timestamp).soc_percent

    def telemetry(self, at: Instant) -> DerTelemetry:
        """How it stands; the last departure is the run's end."""
        told = self._device.telemetry(self.power_kw)
        if told.get("departure_at") is not None:
            told["departure_at"] = min(told["departure_at"], self._end)
        return structs.replace(
            self._template,
            timestamp=at,
            current_output=self.power_kw,
            power_meter_measurement=self.power_kw,
            **told,
        )

    def command(self, command: DispatchCommand, now: Instant, monotonic_s: float) -> CommandAck:
        """Obey a command, or say why not."""
        gate, verdict = self._gate, self._gate.judge(command, now, monotonic_s, self._device.setpoint)
        if not isinstance(verdict, Accept):
            return verdict.ack
        gate.mark, self.setpoint = verdict.mark, verdict.setpoint
        return gate.keep(command, gate.ack(command, now, "accepted"))

    def settle(self, now: Instant) -> None:
        """Take in what happens by the clock, such as a car leaving."""
        self._device.settle(now)

    def run(self, duration_s: float) -> None:
        """Carry the setpoint out for a tick."""
        self.power_kw = self._device.advance(self.setpoint, duration_s)


def ders_of(case: Case) -> list[Der]:
    """A house's battery, if it has one, and its cars."""
    start, specs = case.days.start, list[tuple[str, DeviceSpec, str]]()
    if (battery := case.devices.battery) is not None:
        unit = StorageUnit(battery=battery, thermal=home_battery(battery.capacity_kwh))
        specs.append((BATTERY, unit, ""))
    for number, car in enumerate(case.devices.cars):
        specs.append((f"ev-{number + 1}", car, case.car_seed(number)))
    return [
        Der(
            case.house,
            der_id,
            make_device(spec, seed, Charge(START_SOC_PERCENT, start), start),
            start,
            case.end,
        )
        for der_id, spec, seed in specs
    ]
