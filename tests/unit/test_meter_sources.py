"""What real meters say, read without one: registers, telegrams, messages."""

import asyncio
import json
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.instant import Instant
from meter.errors import MeterSilentError
from meter.source import Measured
from meter.sources.dsmr import Telegrams
from meter.sources.mqtt import MqttSource
from meter.sources.mqtt_says import Shelly, Tasmota
from meter.sources.sunspec_map import Model, measured
from runtime.clock import ManualClock
from tests.p1 import telegram


def signed(value: int) -> int:
    return value & 0xFFFF


def test_a_sunspec_meter_of_integers_is_scaled() -> None:
    registers = [203, 105, *[0] * 21]
    registers[3:7] = [123, 45, 6, signed(-1)]
    registers[18:23] = [signed(-2304), 10, signed(-2000), signed(-314), signed(-1)]
    assert measured(Model(203, 40069, 105), registers) == Measured(-230.4, (12.3, -4.5, -0.6))
    registers[18:23] = [23, 23, 0, 0, 2]
    assert measured(Model(201, 40069, 105), registers) == Measured(2300.0, (12.3,))
    registers[18] = 0x8000  # its mark for "not known"
    assert measured(Model(203, 40069, 105), registers) is None


def test_a_sunspec_meter_of_floats_is_read_as_it_stands() -> None:
    registers = [212, 124, *[0] * 34]
    registers[28:30] = struct.unpack(">HH", struct.pack(">f", -1234.5))
    assert measured(Model(212, 40069, 124), registers) == Measured(-1234.5, (0.0, 0.0))
    registers[4:6] = struct.unpack(">HH", struct.pack(">f", float("nan")))
    assert measured(Model(212, 40069, 124), registers) == Measured(-1234.5)


@pytest.mark.parametrize("scale", [0x8000, 11, signed(-11)])
def test_a_scale_that_a_sunspec_meter_does_not_have_or_can_not_have_is_no_power(scale: int) -> None:
    registers = [203, 105, *[0] * 21]
    registers[18:23] = [100, 50, 50, 0, scale]
    assert measured(Model(203, 40069, 105), registers) is None


def test_a_current_that_a_sunspec_meter_does_not_have_takes_no_power_with_it() -> None:
    registers = [203, 105, *[0] * 21]
    registers[3:7] = [10, 0x8000, 10, 0]
    registers[18:23] = [0xFFFF, 0x8000, 0x8000, 0x8000, 0]
    assert measured(Model(203, 40069, 105), registers) == Measured(-1.0)


@given(
    st.sampled_from([*range(201, 205), *range(211, 215)]),
    st.lists(st.integers(0, 0xFFFF), min_size=36, max_size=36),
)
def test_whatever_stands_in_the_registers_is_a_finite_power_or_none(
    number: int, registers: list[int]
) -> None:
    found = measured(Model(number, 0, 105), registers)
    assert found is None or all(abs(x) < float("inf") for x in (found.power_w, *found.phase_a))


def test_a_telegram_comes_in_pieces() -> None:
    text = telegram(used_kw=1.193, returned_kw=0.0, currents_a=(1, 0, 4))
    telegrams = Telegrams("5")
    pieces = [text[i : i + 7] for i in range(0, len(text), 7)]
    found = [one for piece in pieces for one in telegrams.feed(piece)]
    assert found == [Measured(1193.0, (1.0, 0.0, 4.0))]
    exporting = telegram(used_kw=0.0, returned_kw=2.5, currents_a=(3, 3, 3))
    # The currents carry no sign: what they are worth while the house exports is not known.
    assert telegrams.feed(b"half a line\r\n" + exporting) == [Measured(-2500.0)]


def test_a_damaged_telegram_is_refused() -> None:
    text = telegram(used_kw=1.193, returned_kw=0.0)
    with pytest.raises(MeterSilentError, match="a damaged telegram"):
        Telegrams("5").feed(text.replace(b"01.193", b"91.193"))
    with pytest.raises(MeterSilentError, match="holds no telegram"):
        Telegrams("5").feed(b"\xff" * 70_000)


@pytest.mark.parametrize("version", ["4", "5", "5B"])
def test_a_telegram_whose_checksum_is_another_is_refused(version: str) -> None:
    text = telegram(used_kw=1.193, returned_kw=0.0)
    assert Telegrams("5").feed(text) == [Measured(1193.0, (0.0, 0.0, 0.0))]
    checksum = text.rpartition(b"!")[2].strip()
    other = b"%04X" % (int(checksum, 16) ^ 1)
    with pytest.raises(MeterSilentError, match="a damaged telegram"):
        Telegrams(version).feed(text.replace(b"!" + checksum, b"!" + other))


def test_a_damaged_telegram_takes_no_other_with_it() -> None:
    text = telegram(used_kw=1.193, returned_kw=0.0)
    assert Telegrams("5").feed(text.replace(b"01.193", b"91.193") + text) == [
        Measured(1193.0, (0.0, 0.0, 0.0))
    ]


@given(
    st.sampled_from(["2", "4", "5", "5B", "5S"]),
    st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255))),
)
def test_whatever_a_line_makes_of_a_telegram_it_is_read_or_refused(
    version: str, damage: list[tuple[int, int]]
) -> None:
    text = bytearray(telegram(used_kw=1.193, returned_kw=0.0, currents_a=(1, 0, 4)))
    for at, byte in damage:
        text[at % len(text)] = byte
    with suppress(MeterSilentError):
        Telegrams(version).feed(bytes(text))


@pytest.mark.parametrize("payload", [b"[" * 100_000, b'{"ENERGY":{"Power":' + b"9" * 400 + b"}}"])
def test_what_no_meter_says_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"too deep|too large"):
        Tasmota("plug").hear("tele/plug/SENSOR", payload)


def heard(dialect: Any, *said: tuple[str, Any]) -> list[Measured | None]:
    return [
        dialect.hear(topic, payload if isinstance(payload, bytes) else json.dumps(payload).encode())
        for topic, payload in said
    ]


def test_a_shelly_of_the_first_generation_says_each_phase_alone() -> None:
    said = heard(
        Shelly("shellies/em3"),
        ("shellies/em3/emeter/0/power", b"100.5"),
        ("shellies/em3/emeter/1/power", b"-300.25"),
        ("shellies/em3/emeter/0/current", b"1.5"),
        ("shellies/em3/emeter/1/current", b"1.25"),
        ("shellies/em3/emeter/0/power", b"0"),
    )
    # How many phases there are shows when the first one speaks again.
    assert said == [None, None, None, None, Measured(-300.25, (1.5, -1.25))]


def test_a_later_shelly_says_what_has_changed() -> None:
    whole = {"id": 0, "a_act_power": 10.0, "b_act_power": 20.0, "c_act_power": -5.0, "total_act_power": 25.0}
    said = heard(
        Shelly("shellypro3em-0cb8"),
        (
            "shellypro3em-0cb8/events/rpc",
            {"method": "NotifyStatus", "params": {"ts": 1.0, "sys": {"uptime": 3}}},
        ),
        ("shellypro3em-0cb8/status/em:0", whole),
        (
            "shellypro3em-0cb8/events/rpc",
            {"method": "NotifyStatus", "params": {"ts": 1.0, "em:0": {"b_act_power": 30}}},
        ),
        ("shellypro3em-0cb8/status/wifi", {"rssi": -60}),
    )
    assert said == [None, Measured(25.0), Measured(35.0), Measured(35.0)]


def test_a_shelly_of_several_switches_is_whole_once_each_has_spoken() -> None:
    said = heard(
        Shelly("2pm"),
        ("2pm/status/switch:0", {"apower": 100, "current": 0.5}),
        ("2pm/status/switch:1", {"apower": 7.5, "current": 0.25}),
        ("2pm/status/switch:0", {"apower": 101, "current": 0.5}),
    )
    assert said == [None, None, Measured(108.5, (0.5, 0.25))]


def test_a_shelly_of_single_channels_is_whole_once_each_has_spoken() -> None:
    one, other = {"em1:0": {"act_power": 7.5}}, {"em1:1": {"act_power": 1}}
    said = heard(
        Shelly("em"),
        ("em/events/rpc", {"params": one}),
        ("em/status/em1:0", one["em1:0"]),  # the same, said elsewhere too
        ("em/events/rpc", {"params": other}),
        ("em/events/rpc", {"params": one}),
    )
    assert said == [None, None, None, Measured(8.5)]


def test_a_shelly_that_was_away_for_long_tells_nothing_from_before() -> None:
    clock = ManualClock(Instant.parse("2024-07-01T12:00:00Z"))
    source = MqttSource("mqtt://127.0.0.1", "client", Shelly("em3"), 30.0, clock)

    def say(channel: int, power: bytes) -> None:
        source._take(f"em3/emeter/{channel}/power", power)

    async def now_w() -> float:
        return (await source._newest.get()).power_w

    for channel in (0, 1, 2, 0):
        say(channel, b"100")
    assert asyncio.run(now_w()) == 300.0
    clock.advance(3600)
    say(0, b"5")
    with pytest.raises(MeterSilentError, match="for 3600 s"):
        asyncio.run(now_w())
    for channel in (1, 2, 0):
        say(channel, b"5")
    assert asyncio.run(now_w()) == 15.0


def test_a_shelly_of_three_phases_is_whole_once_it_has_said_all() -> None:
    said = heard(
        Shelly("em"),
        ("em/events/rpc", {"params": {"em:0": {"b_act_power": 30}}}),
        ("em/events/rpc", {"params": {"em:0": {"b_act_power": 31}}}),
        ("em/events/rpc", {"params": {"em:0": {"a_act_power": 1, "c_act_power": 2}}}),
        ("em/events/rpc", {"params": {"switch:100": {"output": True}}}),
    )
    assert said == [None, None, Measured(34.0), Measured(34.0)]


def test_a_shelly_that_no_longer_knows_a_phase_is_silent_until_it_does() -> None:
    whole = {"a_act_power": 1, "b_act_power": 2, "c_act_power": 3}
    em = Shelly("em")
    assert heard(em, ("em/status/em:0", whole)) == [Measured(6.0)]
    with pytest.raises(ValueError, match="is no number"):
        heard(em, ("em/status/em:0", {**whole, "b_act_power": None, "errors": ["power_meter_failure"]}))
    assert heard(em, ("em/status/wifi", {"rssi": -60}), ("em/status/em:0", whole)) == [None, Measured(6.0)]


def test_a_tasmota_says_one_power_or_one_for_each_phase() -> None:
    topic = "tele/house/SENSOR"
    assert heard(
        Tasmota("house"),
        (topic, {"Time": "2026-01-01T00:00:00", "ENERGY": {"Power": 230, "Current": 1.0}}),
        (topic, {"ENERGY": {"Power": [100, -50], "Current": [0.5, 0.2]}}),
        (topic, {"Time": "2026-01-01T00:00:00"}),
    ) == [Measured(230.0, (1.0,)), Measured(50.0, (0.5, -0.2)), None]


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"[]",
        b'{"ENERGY": {"Power": "x"}}',
        b'{"ENERGY": {"Power": NaN}}',
        b'{"ENERGY": {"Power": true}}',
        b'{"ENERGY": {"Power": []}}',
        b"\xff",
    ],
)
def test_what_can_t_be_read_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Tasmota("house").hear("tele/house/SENSOR", payload)
