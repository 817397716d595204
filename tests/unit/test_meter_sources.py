"""What real meters say, read without one: registers, telegrams, messages."""

import json
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.errors import MeterSilentError
from meter.source import Measured
from meter.sources.dsmr import Telegrams
from meter.sources.mqtt_says import Shelly, Tasmota
from meter.sources.sunspec_map import Model, measured
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
    assert said[0] == Measured(100.5)
    assert said[3] == Measured(-199.75, (1.5, -1.25))
    assert said[4] == Measured(-300.25, (1.5, -1.25))


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
    assert heard(Shelly("plug"), ("plug/status/switch:0", {"apower": 7.5, "current": 0.1})) == [
        Measured(7.5, (0.1,))
    ]
    assert heard(
        Shelly("em"), ("em/status/em1:0", {"act_power": 7.5}), ("em/status/em1:1", {"act_power": 1})
    ) == [
        Measured(7.5),
        Measured(8.5),
    ]


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
        b"\xff",
    ],
)
def test_what_can_t_be_read_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Tasmota("house").hear("tele/house/SENSOR", payload)
