"""What a broken or hostile device may send: each case is bad by how it was made, whatever decodes it."""

from collections.abc import Iterator
from typing import Any, NamedTuple, get_type_hints

import msgspec

from contracts import topics
from contracts.codec import MAX_BYTES, encode
from contracts.instant import Instant
from contracts.messages import Alert, DerTelemetry, Message, MeterReading, PlantReading, PvReading
from contracts.topics import Address, DeliveryClass

NOW = Instant.parse("2024-07-01T12:00:00Z")
HOUSE = "house-a"
_WHO: dict[str, Any] = {"house": HOUSE, "boot": 9, "seq": 9, "timestamp": NOW}


class Case(NamedTuple):
    """One payload at one place."""

    what: str
    name: str
    payload: bytes
    delivery: DeliveryClass


SAMPLES: tuple[tuple[Address[Any], Message], ...] = (
    (
        topics.METER_READING.at(house=HOUSE, meter="main"),
        MeterReading(meter="main", power_w=500.5, phase_a=[2.5, -1.0, 0.5], run="run-1", **_WHO),
    ),
    (
        topics.PV_READING.at(house=HOUSE, meter="main"),
        PvReading(meter="main", meter_w=500.5, pv_w=1500.25, sum_w=2000.75, run="run-1", **_WHO),
    ),
    (
        topics.PLANT_READING.at(house="plant-1"),
        PlantReading(generation_w=5e6, consumption_w=1e6, **(_WHO | {"house": "plant-1"})),
    ),
    (
        topics.ALERT.at(house=HOUSE, source="meter"),
        Alert(source="meter", severity="warning", name="gap", text="seq 3 is missing", **_WHO),
    ),
    (
        topics.DER_TELEMETRY.at(house=HOUSE, der_id="battery"),
        DerTelemetry(
            der_id="battery", is_online=True, timestamp=NOW, current_output=1.5, power_meter_measurement=1.5,
            baseline=0.0, contract_threshold=5.0, project_id="project", is_standalone=False,
            connection_start_at=NOW, current_soc=50.0, type="battery_storage", nameplate_capacity=5.0, house=HOUSE,
        ),
    ),
)  # fmt: skip

# Tokens of JSON, or what would like to be, that are wrong for a field of that kind.
_NO_TYPE = (
    "[]",
    "{}",
    "[[]]",
    '{"a":1}',
    "undefined",
    "'x'",
    "0x10",
    "+1",
    "01",
    "-",
    ".5",
    "tru",
    "NaN",
    "Infinity",
    "-Infinity",
    "\x00",
    "",
)
_NO_NUMBER = (
    '"1"',
    '"NaN"',
    "true",
    "null",
    "[1]",
    "1e999",
    "-1e999",
    "1" + "0" * 400,
    "1e",
    "1.",
    "--1",
    "1_000",
    "1,5",
)
_NO_COUNTER = (
    *_NO_NUMBER,
    "-1",
    "-9223372036854775809",
    "1.5",
    "4611686018427387905",
    "18446744073709551616",
)
_NO_ID = ("1", "null", "true", *(
    msgspec.json.encode(text).decode()
    for text in (
        "", ".", "..", "../../etc/passwd", "..\\..\\x", "/", "/etc/passwd", "a/b", "a.b", "a b", "a+b", "+", "#", "-a", "_a",
        "main\n", "main\r\n", "main\x00", "main\x00.csv", " main", "main ", "\ufeffmain", "m\u0430in", "ｍain", "main\u200b",
        "main\u202e", "máin", "MA\u0130N", "%2e%2e", "~root", "$HOME", "`id`", "a;b", "a|b", "a*", "a?", "<a>", "🔋", "x" * 65,
        "x" * 5000, "main\u0301", "١٢٣", "C:", "con:", "a\\b", "file://x", "main\t", "\x7f", "\u2028",
    )
))  # fmt: skip
_NO_TIME = ("0", "1e18", "-1", "true", "null", *(
    f'"{text}"'
    for text in (
        "", "now", "yesterday", "2024-07-01", "12:00:00Z", "2024-13-01T00:00:00Z", "2024-00-01T00:00:00Z",
        "2024-02-30T00:00:00Z", "2023-02-29T00:00:00Z", "2024-07-01T25:00:00Z", "2024-07-01T12:60:00Z",
        "2024-07-01T12:00:00", "2024-07-01T12:00:00ZZ", "1969-12-31T23:59:59Z",
        "2200-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z",
        "-2024-07-01T12:00:00Z", "12024-07-01T12:00:00Z", "2024-07-01T12:00:00+25:00", "1719835200", "٢٠٢٤-07-01T12:00:00Z",
        "../../x", "NaN",
    )
))  # fmt: skip
_NO_FLAG = ("0", "1", '"true"', "null", "TRUE", "True")
_NO_LIST = (
    "null",
    "1",
    '"x"',
    "{}",
    "[]",
    "[1,2,3,4]",
    '["1"]',
    "[null]",
    "[1e999]",
    "[NaN]",
    "[[1]]",
    "[1e300]",
)
_NO_WORD = (
    "1",
    "null",
    '""',
    '"?"',
    '"LOAD"',
    '"load "',
    '"critical\\u0000"',
    '"batteries"',
    '"' + "x" * 10_000 + '"',
)
_NO_TEXT = (
    "1",
    "null",
    "true",
    '"' + "x" * 2001 + '"',
    '"' + "🔋" * 2001 + '"',
    '"\\ud800"',
    '"\\x"',
    '"open',
)
_TOO_LARGE = ("1e13", "-1e13", "1.7976931348623157e308", "-1.7976931348623157e308", "1e100")
_LOOK_ALIKES = ("House-a", "HOUSE-A", "house-b", "house_a", "house-a1", "site", "replay")


def cases() -> list[Case]:
    """All of them, always the same."""
    return list(dict.fromkeys((*_fields(), *_whole(), *_elsewhere(), *_broken())))


def _case(what: str, address: Address[Any], payload: bytes) -> Case:
    return Case(what, address.name, payload, address.topic.delivery)


def _fields() -> Iterator[Case]:
    """Each field of each message: missing, of another type, out of range."""
    for address, message in SAMPLES:
        members, needed, kind = _members(message), _needed(message), type(message).__name__
        for name in members:
            if name in needed:
                rest = {other: token for other, token in members.items() if other != name}
                yield _case(f"{kind} without {name}", address, _join(rest))
            for token in _wrong(message, name):
                yield _case(f"{kind}.{name} = {token[:40]}", address, _join(members | {name: token}))


def _members(message: Message) -> dict[str, str]:
    """The fields that say something, each in JSON."""
    found: dict[str, Any] = msgspec.json.decode(encode(message))
    return {name: msgspec.json.encode(value).decode() for name, value in found.items() if value is not None}


def _needed(message: Message) -> set[str]:
    return {field.name for field in msgspec.structs.fields(message) if field.required}


def _wrong(message: Message, name: str) -> tuple[str, ...]:
    text = str(get_type_hints(type(message), include_extras=True)[name])
    allowed = {"null"} if "None" in text or "Optional" in text else set()
    wrong = _wrong_for(getattr(message, name), text)
    return tuple(token for token in dict.fromkeys((*_NO_TYPE, *wrong)) if token not in allowed)


def _wrong_for(value: object, text: str) -> tuple[str, ...]:
    kinds = {
        bool: _NO_FLAG,
        int: _NO_COUNTER,
        float: (*_NO_NUMBER, *_TOO_LARGE),
        Instant: _NO_TIME,
        list: _NO_LIST,
    }
    if type(value) in kinds:
        return kinds[type(value)]
    if "Literal" in text:
        return _NO_WORD
    return _NO_ID if "pattern" in text else _NO_TEXT


def _join(members: dict[str, str]) -> bytes:
    return ("{" + ",".join(f'"{name}":{token}' for name, token in members.items()) + "}").encode(
        "utf-8", "surrogatepass"
    )


def _whole() -> Iterator[Case]:
    """The payload as a whole."""
    for address, message in SAMPLES:
        good = encode(message)
        kind = type(message).__name__
        other = next(sample for _, sample in SAMPLES if type(sample) is not type(message))
        made = {
            "empty": b"", "a space": b" ", "null": b"null", "a number": b"1", "a string": b'"x"', "a list": b"[]",
            "an object": b"{}", "in a list": b"[" + good + b"]", "twice": good + good, "with a tail": good + b"x",
            "with a NUL": good + b"\0", "after a NUL": b"\0" + good, "after a BOM": b"\xef\xbb\xbf" + good,
            "in UTF-16": good.decode().encode("utf-16"), "in UTF-32": good.decode().encode("utf-32"),
            "another message": encode(other), "deep lists": b"[" * 100_000, "deep objects": b'{"a":' * 100_000,
            "closed deep lists": b"[" * 50_000 + b"]" * 50_000, "deep in an unknown field": b'{"x":' + b"[" * 50_000,
            "a megabyte of spaces": b" " * (1 << 20), "a megabyte and more": good[:-1] + b" " * MAX_BYTES + b"}",
            "a megabyte of zeros": b"\0" * (1 << 20), "random bytes": bytes(range(256)) * 4, "gzip": b"\x1f\x8b\x08\0\0",
            "XML": b"<reading/>", "CSV": b"2024-07-01T12:00:00Z,1,2,3,1,1\n", "CBOR": b"\xa1aa\x01", "a comment": b"/**/" + good,
            "keys without quotes": good.replace(b'"', b""), "single quotes": good.replace(b'"', b"'"),
            "a comma too many": good[:-1] + b",}", "lone surrogates": b'{"house":"\xed\xa0\x80"}', "overlong UTF-8": b'{"house":"\xc0\xaf"}',
            "the house again, wrong": good[:-1] + b',"house":"house-b"}', "the house again, no id": good[:-1] + b',"house":"../x"}',
            "the time again, wrong": good[:-1] + b',"timestamp":"soon"}', "the time again, null": good[:-1] + b',"timestamp":null}',
        }  # fmt: skip
        for what, payload in made.items():
            yield _case(f"{kind}: {what}", address, payload)


def _elsewhere() -> Iterator[Case]:
    """Payloads that speak for another house or device than their topic does, and topics that are none."""
    for address, message in SAMPLES:
        for slot in address.ids:
            if not hasattr(message, slot):
                continue
            for look_alike in _LOOK_ALIKES:
                payload = encode(msgspec.structs.replace(message, **{slot: look_alike}))
                yield _case(f"{slot} {look_alike} at {address.name}", address, payload)
    good = encode(SAMPLES[0][1])
    for token in _NO_ID[3:]:
        text = msgspec.json.decode(token)
        for name in (f"wattbus/{text}/meter/main/reading", f"wattbus/{HOUSE}/meter/{text}/reading"):
            if name.count("/") == 4:  # else it is another topic, to which nobody listens
                yield Case(f"at {name[:60]!r}", name, good, DeliveryClass.READING)


def _broken() -> Iterator[Case]:
    """A link or a memory that spoils bytes; what is needed alone, so that each byte counts."""
    for address, message in SAMPLES:
        needed = _needed(message)
        good = _join({name: token for name, token in _members(message).items() if name in needed})
        for end in range(1, len(good)):
            yield _case(f"{type(message).__name__}: cut after {end}", address, good[:end])
        for place in range(len(good)):
            spoiled = good[:place] + b"\xff" + good[place + 1 :]
            yield _case(f"{type(message).__name__}: 0xFF at {place}", address, spoiled)
