from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import decode, encode
from contracts.instant import Instant
from contracts.messages import CommandAck, DerTelemetry, DispatchCommand
from der_controller.devices import ChargingCar, DeviceSpec
from der_controller.gate import ACKS_KEPT, Accept, Answer, Mark
from der_controller.model import DerMemory, DerModel, DerSpec
from energy.battery import BatterySpec
from energy.ev import TripPattern

MIDNIGHT = Instant.parse("2024-06-03T07:00:00Z")  # a Monday in Los Angeles
BATTERY = BatterySpec(capacity_kwh=10.0, max_charge_kw=5.0, max_discharge_kw=4.0)
CAR = ChargingCar(trips=TripPattern(timezone="America/Los_Angeles"))
TTL_S = 30.0


class Rig:
    """A DER and the two clocks it is handed."""

    def __init__(
        self, device: DeviceSpec = BATTERY, soc: float = 50.0, memory: DerMemory | None = None
    ) -> None:
        self.passed_s = 0.0
        self.spec = DerSpec(house="house-a", der_id="der-1", device=device)
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
        after.passed_s = self.passed_s
        after.der = DerModel(self.spec, memory, self.now, self.monotonic_s)
        return after


def test_the_fourteen_fields_come_first_in_their_order() -> None:
    wire = decode_keys(encode(Rig().tick()))
    assert wire[:14] == [
        "der_id",
        "is_online",
        "timestamp",
        "current_output",
        "power_meter_measurement",
        "baseline",
        "contract_threshold",
        "units",
        "project_id",
        "is_standalone",
        "connection_start_at",
        "current_soc",
        "type",
        "nameplate_capacity",
    ]


def decode_keys(payload: bytes) -> list[str]:
    assert decode(DerTelemetry, payload).type == "battery_storage"
    return [part.split('":')[0].strip('"{') for part in payload.decode().split(',"')]


def test_a_battery_obeys_then_returns_to_safe_by_itself() -> None:
    rig = Rig()
    assert rig.wait(1.0).following == "safe"
    ack = rig.send(rig.order(1, 3.0))
    assert (ack.result, ack.applied_kw, ack.applied_a) == ("accepted", 3.0, None)
    charging = rig.wait(1.0)
    assert (charging.current_output, charging.following) == (3.0, "command")
    assert charging.current_soc == pytest.approx(50 + 3 * 0.9**0.5 / 3600 / 10 * 100, abs=1e-4)
    assert charging.power_meter_measurement == pytest.approx(3.0, rel=0.06)
    assert rig.wait(28.5).following == "command"
    after = rig.wait(1.0)
    assert (after.current_output, after.following) == (0.0, "safe")
    assert rig.send(rig.order(2, -4.0)).result == "accepted"
    assert rig.wait(1.0).current_output == -4.0


def test_a_late_tick_runs_the_setpoint_up_to_its_end_only() -> None:
    rig = Rig()
    rig.send(rig.order(1, 5.0))
    late = rig.wait(3600.0)
    assert late.current_output == 0.0
    assert late.current_soc == pytest.approx(50 + 5 * 0.9**0.5 * TTL_S / 3600 / 10 * 100, abs=1e-4)


def test_a_full_battery_accepts_and_says_what_it_can_apply() -> None:
    rig = Rig(soc=90.0)
    ack = rig.send(rig.order(1, 5.0))
    assert (ack.result, ack.applied_kw) == ("accepted", 0.0)
    assert rig.wait(1.0).current_output == 0.0


@pytest.mark.parametrize(
    ("change", "result", "reason"),
    [
        ({"setpoint_kw": 5.01}, "rejected", "out of range: -4 to 5 kW"),
        ({"setpoint_kw": -4.01}, "rejected", "out of range"),
        ({"setpoint_kw": None, "setpoint_a": 6.0}, "rejected", "wrong kind"),
        ({"setpoint_a": 6.0}, "rejected", "wrong kind"),
        ({"setpoint_kw": None}, "rejected", "wrong kind"),
        ({"house": "house-b"}, "rejected", "for house-b/der-1"),
        ({"der_id": "der-2"}, "rejected", "for house-a/der-2"),
        ({"epoch": 0}, "rejected", "out of order"),
        ({"seq": 5}, "rejected", "out of order: epoch 1 seq 5"),
        ({"issued_at": MIDNIGHT.after(62.001)}, "rejected", "clock can't be trusted"),
        ({"valid_until": MIDNIGHT.after(60.0)}, "expired", "valid until"),
        ({"issued_at": MIDNIGHT.after(61), "valid_until": MIDNIGHT.after(60.5)}, "expired", "valid until"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(
    change: dict[str, Any], result: str, reason: str
) -> None:
    rig = Rig()
    rig.passed_s = 60.0
    rig.send(rig.order(5, 2.0))
    before = rig.der.memory(rig.now)
    wrong: dict[str, Any] = {"seq": 6, "kw": 1.0, "command_id": "other"} | change
    ack = rig.send(rig.order(**wrong))
    assert ack.result == result
    assert reason in ack.reason
    assert (ack.house, ack.der_id) == ("house-a", "der-1")
    assert rig.der.memory(rig.now) == before
    assert rig.wait(1.0).current_output == 2.0


def test_a_retry_gets_the_stored_answer_again() -> None:
    rig = Rig()
    command = rig.order(1, 3.0)
    first = rig.send(command)
    rig.wait(5.0)
    assert rig.send(command) == first
    refused = rig.order(2, 50.0)
    answer = rig.send(refused)
    rig.wait(60.0)
    assert rig.send(refused) == answer
    assert rig.send(command) == first
    assert rig.tick().following == "safe"
    for seq in range(3, 3 + ACKS_KEPT):
        rig.send(rig.order(seq, 1.0))
    assert rig.send(command).result == "expired"


def test_a_strangers_command_does_not_spoil_an_id() -> None:
    rig = Rig()
    rig.send(rig.order(1, 3.0, house="house-b"))
    assert rig.send(rig.order(1, 3.0)).result == "accepted"


def test_life_is_what_both_clocks_allow_and_ignores_a_wall_clock_set_back() -> None:
    rig = Rig()
    # Issued 20 s ago by the clock in hand: 10 s are left.
    rig.passed_s = 20.0
    rig.send(rig.order(1, 3.0, issued_at=MIDNIGHT, valid_until=MIDNIGHT.after(30)))
    # Issued 1.5 s ahead of it: 30 s at most, not 31.5.
    other = Rig()
    other.send(other.order(1, 3.0, issued_at=MIDNIGHT.after(1.5), valid_until=MIDNIGHT.after(31.5)))
    assert rig.wait(9.9).following == "command"
    assert other.wait(29.9).following == "command"
    back = MIDNIGHT.after(-3600)
    assert rig.der.tick(back, rig.monotonic_s + 0.1).following == "safe"
    assert other.der.tick(back, other.monotonic_s + 0.1).following == "safe"


def test_the_mark_is_stored_before_the_command_is_applied() -> None:
    rig = Rig()
    command = rig.order(7, 3.0)
    verdict = rig.der.judge(command, rig.now, rig.monotonic_s)
    assert isinstance(verdict, Accept)
    stored = rig.der.memory(rig.now, verdict)
    assert (stored.epoch, stored.seq) == (1, 7)
    assert rig.wait(1.0).current_output == 0.0
    # The power fails between storing and applying: safe, and the same command is not obeyed later.
    after = rig.restarted(stored)
    assert after.tick().following == "safe"
    assert after.send(command).result == "rejected"
    assert after.send(after.order(8, 3.0)).result == "accepted"


def test_what_expires_or_is_overtaken_while_it_is_stored_is_answered_so() -> None:
    rig = Rig()
    slow = rig.der.judge(rig.order(1, 3.0), rig.now, rig.monotonic_s)
    rig.passed_s += TTL_S
    assert rig.der.apply(slow, rig.now, rig.monotonic_s).result == "expired"
    assert rig.tick().following == "safe"
    overtaken = rig.der.judge(rig.order(2, 3.0), rig.now, rig.monotonic_s)
    rig.send(rig.order(3, 1.0))
    assert rig.der.apply(overtaken, rig.now, rig.monotonic_s).result == "rejected"
    twice = rig.order(4, 2.0)
    verdicts = [rig.der.judge(twice, rig.now, rig.monotonic_s) for _ in range(2)]
    acks = [rig.der.apply(verdict, rig.now, rig.monotonic_s) for verdict in verdicts]
    assert acks[0] == acks[1]
    assert acks[0].result == "accepted"
    assert rig.wait(1.0).current_output == 2.0


def test_a_restart_keeps_charge_and_mark_and_starts_safe() -> None:
    rig = Rig()
    rig.send(rig.order(1, 5.0))
    rig.wait(20.0)
    after = rig.restarted(rig.der.memory(rig.now))
    telemetry = after.tick()
    assert (telemetry.following, telemetry.current_output) == ("safe", 0.0)
    assert telemetry.current_soc == rig.tick().current_soc
    assert after.send(after.order(1, 5.0)).result == "rejected"


@pytest.mark.parametrize(
    ("limit_a", "result"),
    [
        (0.0, "accepted"),
        (6.0, "accepted"),
        (16.0, "accepted"),
        (5.9, "rejected"),
        (6.5, "rejected"),
        (17.0, "rejected"),
    ],
)
def test_a_charge_point_takes_zero_or_six_whole_amperes_and_up(limit_a: float, result: str) -> None:
    rig = Rig(CAR)
    ack = rig.send(rig.order(1, setpoint_a=limit_a))
    assert ack.result == result
    if result == "accepted":
        assert ack.applied_kw == pytest.approx(0.69 * limit_a)
        assert ack.applied_a == limit_a
        telemetry = rig.wait(1.0)
        assert telemetry.current_output == pytest.approx(0.69 * limit_a)
        assert telemetry.current_a == limit_a


def test_a_charge_point_takes_no_kilowatts() -> None:
    rig = Rig(CAR)
    assert "wrong kind" in rig.send(rig.order(1, 4.14)).reason


def test_a_car_charges_leaves_comes_back_emptier_also_over_a_restart() -> None:
    rig = Rig(CAR, soc=60.0)
    home = rig.tick()
    assert home.connected
    assert home.departure_at is not None
    rig.send(rig.order(1, setpoint_a=16.0, valid_until=MIDNIGHT.after(86400)))
    leaves_s = home.departure_at.seconds_since(MIDNIGHT)
    before = rig.wait(leaves_s - 60)
    assert before.current_soc is not None
    assert before.current_soc > 60
    away = rig.wait(61.0)
    assert (away.connected, away.current_output, away.current_soc) == (False, 0.0, None)
    stored = rig.der.memory(rig.now)
    rig.passed_s = 23 * 3600.0
    back = rig.restarted(stored).tick()
    assert back.connected
    assert back.current_soc is not None
    assert 15 <= stored.soc_percent - back.current_soc <= 40
    # Without the restart the standing command charges it again.
    assert rig.tick().connected


def test_the_same_seed_gives_the_same_telemetry() -> None:
    def course(rig: Rig) -> list[DerTelemetry]:
        rig.send(rig.order(1, 3.0))
        return [rig.wait(1.0) for _ in range(50)]

    assert course(Rig()) == course(Rig())


# Whatever arrives, in whatever order: the DER does only what it was validly told, and stops in time.

KINDS: dict[str, Callable[[Rig, int, float], DispatchCommand]] = {
    "good": lambda rig, seq, kw: rig.order(seq, kw),
    "expired": lambda rig, seq, kw: rig.order(seq, kw, valid_until=rig.now),
    "future": lambda rig, seq, kw: rig.order(
        seq, kw, issued_at=rig.now.after(10), valid_until=rig.now.after(40)
    ),
    "too much": lambda rig, seq, kw: rig.order(seq, 5.5 + abs(kw)),
    "foreign": lambda rig, seq, kw: rig.order(seq, kw, house="house-b"),
    "amperes": lambda rig, seq, _kw: rig.order(seq, setpoint_a=6.0),
}
actions = st.one_of(
    st.tuples(st.just("wait"), st.floats(0.01, 40.0), st.just(0.0)),
    st.tuples(st.sampled_from(sorted(KINDS)), st.integers(1, 12).map(float), st.floats(-4, 5)),
    st.tuples(st.just("again"), st.integers(0, 40).map(float), st.just(0.0)),
    st.tuples(st.just("restart"), st.just(0.0), st.just(0.0)),
)


class Reference:
    """What a DER may do at most, written down from the rules alone."""

    def __init__(self) -> None:
        self.mark = Mark()
        self.setpoint_kw = 0.0
        self.ends_s = 0.0

    def may_accept(self, rig: Rig, command: DispatchCommand) -> bool:
        return (
            command.house == "house-a"
            and Mark(command.epoch, command.seq) > self.mark
            and command.issued_at.seconds_since(rig.now) <= 2
            and command.valid_until > rig.now
            and command.setpoint_kw is not None
            and -4 <= command.setpoint_kw <= 5
        )

    def accept(self, rig: Rig, command: DispatchCommand) -> None:
        assert command.setpoint_kw is not None
        self.mark = Mark(command.epoch, command.seq)
        self.setpoint_kw = command.setpoint_kw
        self.ends_s = rig.passed_s + command.valid_until.seconds_since(rig.now)


def deliver(rig: Rig, reference: Reference, command: DispatchCommand) -> None:
    verdict = rig.der.judge(command, rig.now, rig.monotonic_s)
    ack = rig.der.apply(verdict, rig.now, rig.monotonic_s)
    if isinstance(verdict, Answer):
        assert ack == verdict.ack
        return
    assert reference.may_accept(rig, command)
    assert ack.result == "accepted"
    reference.accept(rig, command)


@settings(max_examples=200, deadline=None)
@given(st.lists(actions, max_size=40))
def test_nothing_expired_out_of_order_or_out_of_range_is_ever_applied(
    course: list[tuple[str, float, float]],
) -> None:
    rig, reference = Rig(), Reference()
    sent: list[DispatchCommand] = []
    for action, number, kw in course:
        if action == "wait":
            rig.passed_s += number
        elif action == "again" and sent:
            deliver(rig, reference, sent[int(number) % len(sent)])
        elif action == "restart":
            rig = rig.restarted(rig.der.memory(rig.now))
            reference.ends_s = 0.0
        elif action in KINDS:
            sent.append(KINDS[action](rig, int(number), kw))
            sent[-1] = with_own_id(sent[-1], len(sent))
            valid = reference.may_accept(rig, sent[-1])
            deliver(rig, reference, sent[-1])
            assert (reference.mark == Mark(sent[-1].epoch, sent[-1].seq)) or not valid
        told_kw = reference.setpoint_kw if rig.passed_s < reference.ends_s - 1e-6 else 0.0
        telemetry = rig.tick()
        assert telemetry.current_soc is not None
        assert 10 <= telemetry.current_soc <= 90
        assert abs(telemetry.current_output) <= abs(told_kw) + 1e-4
        assert telemetry.current_output * told_kw >= 0
        assert (telemetry.following == "command") == (rig.passed_s < reference.ends_s - 1e-6)


def with_own_id(command: DispatchCommand, number: int) -> DispatchCommand:
    return decode(DispatchCommand, encode(command).replace(b'"c-', f'"n{number}-'.encode()))
