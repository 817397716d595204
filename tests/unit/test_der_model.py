from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import decode, encode
from contracts.messages import DerTelemetry, DispatchCommand
from der_controller.gate import ACKS_KEPT, Accept, Answer, Mark
from tests.unit.der_rig import BATTERY, CAR, INVERTER, MIDNIGHT, TTL_S, Rig


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
        ({"valid_until": MIDNIGHT.after(60 + 3601)}, "rejected", "out of range: valid for 3601 s"),
        ({"epoch": 2**53}, "rejected", "out of range: epoch"),
        ({"issuer": "intruder"}, "rejected", "unknown issuer intruder: this DER obeys backup, orchestrator"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(
    change: dict[str, Any], result: str, reason: str
) -> None:
    rig = Rig(issuers=("orchestrator", "backup"))
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


def test_another_command_under_a_used_id_is_judged_for_itself() -> None:
    rig = Rig()
    rig.send(rig.order(1, 3.0))
    twin = rig.order(1, -2.0)
    assert (twin.command_id, rig.send(twin).result) == ("c-1", "rejected")
    assert rig.wait(1.0).current_output == 3.0
    assert rig.send(rig.order(2, -2.0, command_id="c-1")).result == "accepted"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_refused_even_if_it_got_past_the_codec(number: float) -> None:
    for device, field in ((BATTERY, "setpoint_kw"), (CAR, "setpoint_a"), (INVERTER, "setpoint_kw")):
        rig = Rig(device)
        command = rig.order(1, **{"kw": None, field: 0.0})
        msgspec.structs.force_setattr(command, field, number)
        ack = rig.send(command)
        assert ack.result == "rejected"
        assert "out of range" in ack.reason
        assert rig.wait(1.0).following == "safe"


def test_of_two_orchestrators_the_higher_epoch_wins_and_in_one_epoch_the_higher_name() -> None:
    rig = Rig()
    assert rig.send(rig.order(900, 1.0, issuer="alpha", epoch=5)).result == "accepted"
    assert rig.send(rig.order(1, 2.0, issuer="beta", epoch=6)).result == "accepted"
    late = rig.send(rig.order(901, 1.0, issuer="alpha", epoch=5))
    assert (late.result, late.mark_epoch, late.mark_seq) == ("rejected", 6, 1)
    assert "epoch 5 seq 901 of alpha is not above epoch 6 seq 1 of beta" in late.reason
    assert rig.wait(1.0).current_output == 2.0
    # Both restarted from the same copy of a disk: no going to and fro.
    assert rig.send(rig.order(500, 3.0, issuer="alpha", epoch=7)).result == "accepted"
    assert rig.send(rig.order(2, -1.0, issuer="beta", epoch=7)).result == "accepted"
    assert rig.send(rig.order(501, 3.0, issuer="alpha", epoch=7)).result == "rejected"
    assert rig.wait(1.0).current_output == -1.0
    after = rig.restarted(rig.der.memory(rig.now))
    assert after.send(after.order(502, 3.0, issuer="alpha", epoch=7)).result == "rejected"
    assert after.send(after.order(3, 3.0, issuer="beta", epoch=7)).result == "accepted"


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
            and Mark.of(command) > self.mark
            and command.issued_at.seconds_since(rig.now) <= 2
            and command.valid_until > rig.now
            and command.setpoint_kw is not None
            and -4 <= command.setpoint_kw <= 5
        )

    def accept(self, rig: Rig, command: DispatchCommand) -> None:
        assert command.setpoint_kw is not None
        self.mark = Mark.of(command)
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
            assert (reference.mark == Mark.of(sent[-1])) or not valid
        told_kw = reference.setpoint_kw if rig.passed_s < reference.ends_s - 1e-6 else 0.0
        telemetry = rig.tick()
        assert telemetry.current_soc is not None
        assert 10 <= telemetry.current_soc <= 90
        assert abs(telemetry.current_output) <= abs(told_kw) + 1e-4
        assert telemetry.current_output * told_kw >= 0
        assert (telemetry.following == "command") == (rig.passed_s < reference.ends_s - 1e-6)


def with_own_id(command: DispatchCommand, number: int) -> DispatchCommand:
    return decode(DispatchCommand, encode(command).replace(b'"c-', f'"n{number}-'.encode()))
