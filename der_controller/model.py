"""A DER and its controller: commands and time in, acks and telemetry out."""

import random

import msgspec
from msgspec import structs

from contracts.ids import Id
from contracts.instant import Instant
from contracts.messages import CommandAck, DerTelemetry, DispatchCommand, PvReading
from der_controller.devices import Charge, DeviceSpec, Inverter, make_device
from der_controller.gate import Accept, Answer, Gate, Mark, Verdict
from energy.errors import SpecError


class DerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One DER: who it is, what it is, and what its telemetry states."""

    house: Id
    der_id: Id
    device: DeviceSpec
    safe_setpoint: float = 0.0
    """What it does when nobody commands it, in the device's own unit."""
    issuers: tuple[Id, ...] = ()
    """Whom it obeys; empty: anybody."""
    project_id: Id = "PRJ_000001"
    is_standalone: bool = False
    baseline_kw: float = 0.0
    contract_threshold_kw: float | None = None
    """The nameplate's power if absent."""
    meter_noise: float = 0.01
    """Standard deviation of the DER's own meter, as a share of its power."""
    seed: str = "0"


class DerMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What a DER must still know after a restart. The setpoint is not in it: a DER starts safe."""

    soc_percent: float
    at: Instant
    epoch: int = -1
    seq: int = -1
    issuer: str = ""
    temperature_c: float | None = None


class DerModel:
    """A simulated DER. It obeys the newest valid command until that expires, then it is safe by itself.

    The caller stores `memory(...)` with an accepted command's mark before it applies the command.
    Physics and expiry run on the monotonic time handed in; a setpoint ends at its deadline
    even if the tick comes later.

    Raises:
        SpecError: a safe state that the device can't take.
    """

    def __init__(self, spec: DerSpec, memory: DerMemory, now: Instant, monotonic_s: float) -> None:
        key = f"{spec.seed}/{spec.house}/{spec.der_id}"
        charge = Charge(memory.soc_percent, memory.at, memory.temperature_c)
        self._device = make_device(spec.device, key, charge, now)
        try:
            self._safe = self._device.check(spec.safe_setpoint)
        except SpecError as error:
            raise SpecError(f"{spec.house}/{spec.der_id}: its safe state: {error}") from error
        mark = Mark(memory.epoch, memory.issuer, memory.seq)
        self._gate = Gate(spec.house, spec.der_id, mark, spec.issuers)
        self._rng = random.Random(f"{key}/meter")
        self._meter_noise = spec.meter_noise
        self._reached_s = monotonic_s
        self._in_force: Accept | None = None
        self._power_kw = self._device.possible_kw(self._safe)
        self._template = self._first_telemetry(spec, now)

    def _first_telemetry(self, spec: DerSpec, now: Instant) -> DerTelemetry:
        nameplate = self._device.nameplate()
        threshold = nameplate["nameplate_capacity"]
        if spec.contract_threshold_kw is not None:
            threshold = spec.contract_threshold_kw
        return DerTelemetry(
            der_id=spec.der_id,
            house=spec.house,
            is_online=True,
            timestamp=now,
            current_output=0.0,
            power_meter_measurement=0.0,
            baseline=spec.baseline_kw,
            contract_threshold=threshold,
            project_id=spec.project_id,
            is_standalone=spec.is_standalone,
            connection_start_at=now,
            **nameplate,
            **self._device.telemetry(0.0),
        )

    @property
    def deadline_s(self) -> float | None:
        """The monotonic time at which the command in force ends [s]; None: none is in force."""
        return None if self._in_force is None else self._in_force.deadline_s

    def memory(self, now: Instant, verdict: Accept | None = None) -> DerMemory:
        """What to store now; with an accepted command, before it is applied."""
        mark = self._gate.mark if verdict is None else verdict.mark
        charge = self._device.charge(now)
        return DerMemory(
            soc_percent=charge.soc_percent,
            at=now,
            epoch=mark.epoch,
            seq=mark.seq,
            issuer=mark.issuer,
            temperature_c=charge.temperature_c,
        )

    def hear(self, reading: PvReading, now: Instant, monotonic_s: float) -> None:
        """Take in what the sun gives; of no concern to a device that is no inverter."""
        if isinstance(self._device, Inverter) and not reading.historical:
            self._advance(now, monotonic_s)
            self._device.produce((reading.pv_w or 0.0) / 1000.0, now)

    def judge(self, command: DispatchCommand, now: Instant, monotonic_s: float) -> Verdict:
        """Whether to obey a command; nothing is applied yet."""
        return self._gate.judge(command, now, monotonic_s, self._device.setpoint)

    def apply(self, verdict: Verdict, now: Instant, monotonic_s: float) -> CommandAck:
        """Obey an accepted command, whose mark is stored by now; returns the answer to send.

        Storing takes time: what has expired or been overtaken meanwhile is answered so.
        """
        if isinstance(verdict, Answer):
            return verdict.ack
        self._advance(now, monotonic_s)
        gate, command = self._gate, verdict.command
        if (stored := gate.answered(command)) is not None:
            return stored
        if (refusal := gate.out_of_order(verdict.mark)) is not None:
            return gate.keep(command, gate.ack(command, now, "rejected", refusal))
        gate.mark = verdict.mark
        if monotonic_s >= verdict.deadline_s:
            expired = gate.ack(command, now, "expired", f"expired at {command.valid_until}")
            return gate.keep(command, expired)
        self._in_force = verdict
        self._power_kw = self._device.possible_kw(verdict.setpoint)
        applied_a = self._device.telemetry(self._power_kw).get("current_a")
        accepted = gate.ack(command, now, "accepted")
        return gate.keep(command, structs.replace(accepted, applied_kw=self._power_kw, applied_a=applied_a))

    def command(self, command: DispatchCommand, now: Instant, monotonic_s: float) -> CommandAck:
        """Judge and apply at once, where nothing is kept across restarts."""
        return self.apply(self.judge(command, now, monotonic_s), now, monotonic_s)

    def tick(self, now: Instant, monotonic_s: float) -> DerTelemetry:
        """Move on to this moment, and say how things stand."""
        self._advance(now, monotonic_s)
        output_kw = round(self._power_kw, 4)
        measured_kw = round(self._power_kw * (1.0 + self._rng.gauss(0.0, self._meter_noise)), 4)
        return structs.replace(
            self._template,
            timestamp=now,
            current_output=output_kw,
            power_meter_measurement=measured_kw,
            following="safe" if self._in_force is None else "command",
            **self._device.telemetry(output_kw),
        )

    def _advance(self, now: Instant, monotonic_s: float) -> None:
        """Run the device up to a moment; a command that ends on the way is obeyed up to its end only."""
        self._device.settle(now)
        command = self._in_force
        if command is not None and monotonic_s >= command.deadline_s:
            self._run(command.setpoint, command.deadline_s)
            self._in_force = None
            self._power_kw = self._device.possible_kw(self._safe)
        self._run(self._safe if self._in_force is None else self._in_force.setpoint, monotonic_s)

    def _run(self, setpoint: float, until_s: float) -> None:
        if (dt_s := until_s - self._reached_s) > 0:
            self._power_kw = self._device.advance(setpoint, dt_s)
            self._reached_s = until_s
