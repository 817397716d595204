"""The orchestrator's pure parts: links, alarms, requests, wear, load behind a meter, inverters."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from contracts.messages import (
    CommandAck,
    DerTelemetry,
    DispatchCommand,
    MeterReading,
    PowerSnapshot,
    PvReading,
)
from contracts.orders import ObjectivesChange, OperatorRequest
from orchestrator.alarms import QUIET_S, Alarms, Trouble
from orchestrator.devices import Due, Link
from orchestrator.inputs import Controlled, inputs_of
from orchestrator.issuer import Issuer, Standing
from orchestrator.known import Known
from orchestrator.requests import Done, Orders, Refused, Repeated, judge, lapse
from orchestrator.resting import inverter_verdicts
from orchestrator.switching import Switching
from orchestrator.wear import DayWear, Wear

AT = Instant.parse("2024-07-01T12:00:00Z")
UTC = ZoneInfo("UTC")
DERS = {"battery": "battery_storage", "ev": "electric_vehicle"}


def command(seq: int = 1) -> DispatchCommand:
    return DispatchCommand(
        command_id=f"main-1-{seq}", house="h", der_id="battery", issuer="main", epoch=1, seq=seq, issued_at=AT,
        valid_until=AT.after(30), setpoint_kw=1.0,
    )  # fmt: skip


def ack(
    seq: int = 1, result: Any = "accepted", issuer: str = "main", epoch: int = 1, **more: Any
) -> CommandAck:
    return CommandAck(
        command_id=f"{issuer}-{epoch}-{seq}", house="h", der_id="battery", epoch=epoch, seq=seq, timestamp=AT,
        result=result, **more,
    )  # fmt: skip


def telemetry(kind: Any = "battery_storage", at: Instant = AT, kw: float = 0.0, **more: Any) -> DerTelemetry:
    known: dict[str, Any] = {
        "der_id": "battery", "house": "h", "is_online": True, "timestamp": at, "current_output": kw,
        "power_meter_measurement": kw, "baseline": 0.0, "contract_threshold": 5.0, "project_id": "P",
        "is_standalone": False, "connection_start_at": AT, "current_soc": 50.0, "type": kind,
        "nameplate_capacity": 5.0, "capacity_kwh": 10.0,
    }  # fmt: skip
    return DerTelemetry(**{**known, **more})


def request(action: Any, request_id: str = "r1", **more: Any) -> OperatorRequest:
    known: dict[str, Any] = {"house": "h", "user": "ana", "request_id": request_id, "issued_at": AT}
    return OperatorRequest(**{**known, "action": action, **more})


# -- links ---------------------------------------------------------------------------------------------------


def test_three_attempts_ever_further_apart_then_a_miss() -> None:
    link = Link()
    link.send(command(), 0.0)
    told = {tenth / 10: link.due(tenth / 10) for tenth in range(70)}
    assert {at: due for at, due in told.items() if due is not Due.NOTHING} == {
        1.0: Due.RESEND,
        3.0: Due.RESEND,
        5.0: Due.MISSED,
    }
    assert (link.misses, link.result, link.pending) == (1, "unanswered", None)


def test_a_new_command_each_second_does_not_hide_the_silence() -> None:
    link = Link()
    missed = 0
    for second in range(30):
        link.send(command(second), float(second))
        missed += link.due(second + 0.5) is Due.MISSED
    assert missed == link.misses == 5


@given(st.lists(st.sampled_from(["accepted", "rejected", "silence"]), max_size=12))
def test_misses_count_what_is_wrong_in_a_row(story: list[str]) -> None:
    link = Link()
    for i, happens in enumerate(story):
        link.send(command(i), i * 10.0)
        if happens == "silence":
            assert link.due(i * 10.0 + 6) is Due.MISSED
        else:
            assert link.hear(ack(i, happens))
            assert not (happens == "rejected" and link.hear(ack(i, happens)))  # the answer to a retry
    wrong = 0
    for happens in story:
        wrong = 0 if happens == "accepted" else wrong + 1
    assert link.misses == wrong
    assert link.is_failing is (wrong >= 2)


# -- alarms --------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([None, "warning", "critical"]), max_size=60))
def test_a_trouble_is_told_when_it_begins_gets_worse_and_is_over(story: list[Any]) -> None:
    alarms, told = Alarms(), []
    for i, severity in enumerate([*story, *[None] * 5]):
        now = AT.after(i * 10.0)
        if severity is not None and (n := alarms.report(Trouble("h", "fuse", severity, "x"), now)):
            told.append(n.severity)
        told += [notice.severity for notice in alarms.settle(now)]
    assert len(alarms) == 0
    standing: str | None = None
    for severity in told:  # begins, perhaps gets worse, is over; never the same twice
        assert severity != standing
        assert not (standing == "critical" and severity == "warning")
        assert not (standing is None and severity == "info")
        standing = None if severity == "info" else severity
    assert standing is None


def test_a_short_pause_is_not_the_end() -> None:
    alarms = Alarms()
    trouble = Trouble("h", "fuse", "critical", "too much")
    assert alarms.report(trouble, AT) is not None
    assert alarms.settle(AT.after(QUIET_S - 1)) == []
    assert alarms.report(trouble, AT.after(QUIET_S - 1)) is None
    assert alarms.settle(AT.after(QUIET_S + 1)) == []
    [over] = alarms.settle(AT.after(2 * QUIET_S))
    assert (over.severity, over.text) == ("info", f"over, since {AT.after(QUIET_S - 1)}: too much")


# -- requests ------------------------------------------------------------------------------------------------


def test_requests_are_bounded_in_memory_and_known_again() -> None:
    orders = Orders()
    for i in range(1500):
        answer = judge(orders, request("pause", f"r{i}"), AT, DERS, UTC)
        assert isinstance(answer, Done)
        orders = answer.orders
    assert len(orders.seen) == 1000
    assert isinstance(judge(orders, request("pause", "r1499"), AT, DERS, UTC), Repeated)
    # The same id of another user is another request.
    assert isinstance(judge(orders, request("pause", "r1499", user="bob"), AT, DERS, UTC), Done)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pause", "resume", "safe", "release"]), st.sampled_from([None, "battery", "ev"])
        ),
        max_size=12,
    )
)
def test_what_is_in_force_is_what_was_not_taken_back(story: list[tuple[str, str | None]]) -> None:
    orders = Orders()
    for i, (action, der_id) in enumerate(story):
        answer = judge(orders, request(action, f"r{i}", der_id=der_id), AT, DERS, UTC)
        assert isinstance(answer, Done)
        orders = answer.orders
    expected: dict[str, str] = {}
    for action, der_id in story:
        key = der_id or ""
        if action in ("pause", "safe"):
            expected[key] = action
        else:
            mode = "pause" if action == "resume" else "safe"
            expected = {k: v for k, v in expected.items() if v != mode or (key and k != key)}
    assert {key: hold.mode for key, hold in orders.holds.items()} == expected
    for der_id in DERS:
        modes = {expected.get(""), expected.get(der_id)} - {None}
        hold = orders.hold_on(der_id, AT)
        assert (hold.mode if hold else None) == ("safe" if "safe" in modes else next(iter(modes), None))


def test_everything_lapses_when_it_was_said_to() -> None:
    orders = Orders()
    until = AT.after(60)
    for i, one in enumerate(
        (
            request("pause", "a", until=until),
            request("ev_plan", "b", target_soc_percent=90.0, until=until),
            request("objectives", "c", objectives=ObjectivesChange(reserve_soc_percent=20.0), until=until),
        )
    ):
        answer = judge(orders, one, AT.after(i), DERS, UTC)
        assert isinstance(answer, Done)
        orders = answer.orders
    assert lapse(orders, AT.after(59)) == (orders, [])
    assert orders.ev_plan_of("ev", AT.after(59)) is not None
    left, told = lapse(orders, until)
    assert len(told) == 3
    assert (left.holds, left.ev_plans, left.wishes.reserve_soc_percent) == ({}, {}, None)
    assert isinstance(judge(left, request("pause", "a"), until, DERS, UTC), Repeated)


@pytest.mark.parametrize("seconds", [-301, 31])
def test_a_request_has_its_time(seconds: float) -> None:
    assert isinstance(judge(Orders(), request("pause"), AT.after(-seconds), DERS, UTC), Refused)
    assert isinstance(judge(Orders(), request("pause"), AT.after(-seconds * 0.9), DERS, UTC), Done)


# -- who commands --------------------------------------------------------------------------------------------


def test_an_honest_answer_to_another_s_command_makes_the_lower_of_two_stand_down() -> None:
    alpha, beta = Issuer("alpha", 3), Issuer("beta", 3)
    assert alpha.hear(ack(issuer="beta", epoch=3), AT) is Standing.STOOD_DOWN
    assert beta.hear(ack(issuer="alpha", epoch=3), AT) is Standing.UNCHANGED
    # Its own command comes too late, but that is no reason to rise.
    late = ack(issuer="alpha", epoch=3, result="rejected", mark_epoch=3, mark_seq=1)
    assert alpha.hear(late, AT) is Standing.UNCHANGED
    assert not alpha.commands(AT.after(90))
    assert alpha.commands(AT.after(91))
    assert alpha.epoch == 4


@given(st.lists(st.tuples(st.sampled_from(["alpha", "beta"]), st.integers(0, 9), st.booleans()), max_size=40))
def test_an_epoch_never_falls(story: list[tuple[str, int, bool]]) -> None:
    issuer, highest = Issuer("alpha", 3), 3
    for i, (name, epoch, accepted) in enumerate(story):
        result = "accepted" if accepted else "rejected"
        issuer.hear(ack(i, result, name, epoch, mark_epoch=epoch, mark_seq=i), AT.after(i))
        assert issuer.epoch >= highest
        highest = issuer.epoch


# -- what is known -------------------------------------------------------------------------------------------


def known_of(*messages: Any, at: Instant = AT) -> Known:
    known = Known(30.0, Wear(UTC))
    for message in messages:
        known.hear(message, at)
    return known


def inputs(known: Known, controlled: list[DerTelemetry], *, curtails: bool = False) -> Any:
    batteries = [der for der in controlled if der.type == "battery_storage"]
    cars = [der for der in controlled if der.type == "electric_vehicle"]
    return inputs_of(
        "h", known, Orders(), Controlled(batteries, cars, {}), Switching(), AT, curtails=curtails
    )


def meter(kw: float, **more: Any) -> MeterReading:
    return MeterReading(house="h", meter="main", boot=1, seq=1, timestamp=AT, power_w=kw * 1000, **more)


def test_cycles_are_counted_from_midnight_to_midnight() -> None:
    wear = Wear(ZoneInfo("America/Costa_Rica"))
    begin = Instant.parse("2024-07-01T06:00:00Z")  # midnight there
    for second in range(0, 7200, 10):
        wear.add(telemetry(at=begin.after(second), kw=5.0 if second < 3600 else -5.0))
    assert wear.cycles(telemetry()) == pytest.approx(0.5, abs=0.01)  # 10 kWh through 10 kWh twice
    wear.add(telemetry(at=begin.after(86_399), kw=5.0))  # a gap is not made up
    assert wear.cycles(telemetry()) == pytest.approx(0.5, abs=0.01)
    wear.add(telemetry(at=begin.after(86_400), kw=5.0))
    assert wear.cycles(telemetry()) == pytest.approx(0.0, abs=0.01)


def test_cycles_go_on_over_a_restart_and_end_with_their_day() -> None:
    zone = ZoneInfo("America/Costa_Rica")
    begin = Instant.parse("2024-07-01T06:00:00Z")  # midnight there
    wear = Wear(zone)
    assert wear.today is None
    for second in range(0, 7200, 10):
        wear.add(telemetry(at=begin.after(second), kw=5.0))
    again = Wear(zone, wear.today)
    again.add(telemetry(at=begin.after(8000), kw=5.0))
    assert again.cycles(telemetry()) == wear.cycles(telemetry()) == pytest.approx(0.5, abs=0.01)
    tomorrow = Wear(zone, wear.today)
    tomorrow.add(telemetry(at=begin.after(86_400), kw=5.0))
    assert tomorrow.cycles(telemetry()) == 0.0


def test_cycles_kept_under_a_clock_that_was_ahead_bind_no_day_before() -> None:
    kept = DayWear(Instant.parse("2031-07-02T00:00:00Z"), {"battery": 40.0})
    wear = Wear(UTC, kept)
    wear.add(telemetry(kw=5.0))
    assert wear.cycles(telemetry()) == 0.0
    assert wear.today == DayWear(Instant.parse("2024-07-02T00:00:00Z"), {})


def test_a_day_of_25_hours_is_one_day() -> None:
    wear = Wear(ZoneInfo("Europe/Paris"))
    begin = Instant.parse("2024-10-26T22:00:00Z")  # midnight there; the clocks are set back
    for second in range(0, 25 * 3600, 10):
        wear.add(telemetry(at=begin.after(second), kw=1.0))
    assert wear.cycles(telemetry()) == pytest.approx(25 / 20, abs=0.01)


def test_behind_a_grid_meter_the_load_is_what_is_left() -> None:
    battery, car = telemetry(kw=-2.0), telemetry("electric_vehicle", kw=3.0, der_id="ev", phases=1)
    pv = PvReading(house="h", meter="main", boot=1, seq=1, timestamp=AT, meter_w=0.0, pv_w=4000.0, sum_w=0.0)
    known = known_of(meter(-1.0, measures="grid", phase_a=[10.0, -10.0, -4.35]), pv, battery, car)
    found = inputs(known, [battery, car])
    assert found.house_load_kw == pytest.approx(-1 + 4 + 2 - 3)
    # PV and battery stand on all three phases alike, the car on the first.
    third = (4 + 2) / 3 / 0.23
    assert found.phase_a == pytest.approx((max(10 + third - 3 / 0.23, 0), max(third - 10, 0), third - 4.35))


def test_a_gross_meter_s_load_stands_as_it_is_but_for_what_strays() -> None:
    battery = telemetry(kw=2.0)
    known = known_of(meter(1.0, phase_a=[4.0]), battery)
    assert inputs(known, [battery]).house_load_kw == 1.0
    assert inputs(known, []).house_load_kw == 3.0
    assert inputs(known, []).phase_a == pytest.approx((4 + 2 / 0.23,))
    known.hear(telemetry(kw=-2.0), AT)  # its discharge can't be counted on
    assert inputs(known, []).house_load_kw == 1.0


@pytest.mark.parametrize("phases", [[1.0, 2.0], [1.0]])
def test_phases_of_two_meters_must_agree(phases: list[float]) -> None:
    second = MeterReading(
        house="h", meter="heating", boot=1, seq=1, timestamp=AT, power_w=1.0, phase_a=[1.0] * 3
    )
    assert inputs(known_of(meter(1.0, phase_a=phases), second), []).phase_a is None


def test_inverters_share_what_is_wanted_by_their_rated_power() -> None:
    inverters = [
        telemetry("solar_pv", der_id=name, nameplate_capacity=kw) for name, kw in (("a", 4.0), ("b", 2.0))
    ]
    snapshot = PowerSnapshot(
        house="h", timestamp=AT, pv_kw=6, house_load_kw=2, battery_power_kw=0, ev_power_kw=0, grid_import_kw=0,
        grid_export_kw=1, curtailed_kw=3,
    )  # fmt: skip
    assert [verdict.given_kw for verdict in inverter_verdicts(inverters, snapshot)] == [2, 1]
    free = PowerSnapshot(
        house="h", timestamp=AT, pv_kw=6, house_load_kw=6, battery_power_kw=0, ev_power_kw=0, grid_import_kw=0,
        grid_export_kw=0,
    )  # fmt: skip
    assert [verdict.given_kw for verdict in inverter_verdicts(inverters, free)] == [4, 2]
