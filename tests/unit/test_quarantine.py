import asyncio
import base64
import json
from pathlib import Path

import pytest

from broker.quarantine import DAY_BYTES_MAX, Quarantine, QuarantineFolder
from contracts import topics
from contracts.codec import encode
from contracts.instant import Instant
from contracts.messages import MeterReading
from contracts.topics import DeliveryClass
from runtime.clock import ManualClock, VirtualClock
from runtime.errors import StoreError
from tests.conftest import START, memory_bus, run_virtual
from wattbus import quarantine
from wattbus.quarantine import NoSuchEntryError, entries_of, escaped, retry

TOPIC = "wattbus/house-a/meter/main/reading"
READING = MeterReading(house="house-a", meter="main", boot=1, seq=7, timestamp=START, power_w=512.3)


class Came:
    """Something that arrived, and whether it was acknowledged."""

    retained = False

    def __init__(self, payload: bytes, name: str = TOPIC) -> None:
        self.name = name
        self.payload = payload
        self.acknowledged = False

    async def ack(self) -> None:
        self.acknowledged = True


def refuse(folder: Path, *payloads: bytes, name: str = TOPIC, reason: str = "bad") -> None:
    clock = ManualClock(START)
    keeper = Quarantine(folder, clock)

    async def main() -> None:
        for payload in payloads:
            came = Came(payload, name)
            await keeper.put(came, reason)
            assert came.acknowledged
            clock.advance(1.0)

    asyncio.run(main())
    assert keeper.count == len(payloads)


def run(folder: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()  # the logs of before
    code = quarantine.main([*arguments, "--state-dir", str(folder)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_same_payload_is_one_entry_with_a_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(tmp_path / "quarantine/recorder", b"{", b"[", b"{")
    refuse(tmp_path / "quarantine/pvsim", b"{", name="wattbus/house-b/meter/main/reading")
    folder = QuarantineFolder(tmp_path / "quarantine")
    names = list(entries_of(folder))
    assert len(names) == 3
    assert names == list(entries_of(folder))
    code, out, err = run(tmp_path, "ls", capsys=capsys)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 4
    (twice,) = [line for line in lines if "   2  house-a" in line]
    assert twice.endswith(f"{TOPIC}: bad")
    assert "2024-07-01T12:00:02.000Z" in twice


def test_nothing_is_in_quarantine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "ls", capsys=capsys) == (0, "nothing is in quarantine\n", "")


def test_an_entry_is_shown_so_that_it_steers_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = "größer \x1b[2J \u202e \x00".encode() + b"\xff"
    refuse(tmp_path / "quarantine", payload, reason="\x1b]0;title\x07 too long " + "x" * 300)
    (name,) = entries_of(QuarantineFolder(tmp_path / "quarantine"))
    code, out, err = run(tmp_path, "show", name, capsys=capsys)
    assert (code, err) == (0, "")
    assert all(c.isprintable() or c == "\n" for c in out)
    assert "größer \\x1b[2J \\u202e \\x00\\xff" in out
    assert f"payload       {len(payload)} bytes" in out
    _, listed, _ = run(tmp_path, "ls", capsys=capsys)
    assert all(c.isprintable() or c == "\n" for c in listed)
    assert max(map(len, listed.splitlines())) < 250


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["show", "000000000000"], 1, "no entry 000000000000"),
        (["show", "\x1b[2J"], 1, "no entry \\x1b[2J"),
        (["retry", "000000000000"], 1, "no entry"),
        (["ls", "x"], 2, "takes no ID"),
        (["show"], 2, "takes an ID"),
        (["show", "a", "b"], 2, "takes an ID"),
        (["retry"], 2, "takes an ID"),
    ],
)
def test_bad_usage_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    got, out, err = run(tmp_path, *arguments, capsys=capsys)
    assert (got, out, err.count("\n")) == (code, "", 1)
    assert says in err


def test_retry_without_a_broker_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("WATTBUS_READINGS_URL", "WATTBUS_LIVE_URL"):
        monkeypatch.setenv(variable, "")
    refuse(tmp_path / "quarantine", encode(READING))
    (name,) = entries_of(QuarantineFolder(tmp_path / "quarantine"))
    code, _, err = run(tmp_path, "retry", name, capsys=capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert "no broker" in err
    closed = ("--readings-url", "amqp://127.0.0.1:1", "--wait-s", "0")
    code, _, err = run(tmp_path, "retry", name, *closed, capsys=capsys)
    assert (code, err.count("\n")) == (1, 1)
    assert QuarantineFolder(tmp_path / "quarantine").retries() == {}


def test_lines_that_are_damaged_are_counted_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(tmp_path / "quarantine", b"{")
    whole = json.dumps({"refused_at": "", "topic": "t", "reason": "r", "payload_base64": "?"})
    with (tmp_path / "quarantine/2024-07-01.jsonl").open("ab") as file:
        file.write(b"\xff\n" + whole.encode() + b"\n" + b'{"refused_at":')
    code, out, err = run(tmp_path, "ls", capsys=capsys)
    assert (code, out.count("\n")) == (0, 2)
    assert "3 damaged lines" in err


def test_an_entry_is_published_again_once(tmp_path: Path) -> None:
    root = tmp_path / "quarantine"
    refuse(root / "recorder", encode(READING))
    refuse(root / "recorder", b"no json")
    refuse(root / "recorder", encode(READING), name="wattbus/house-b/meter/main/reading")
    refuse(root / "recorder", b"{}", name="wattbus/house-a/der/battery/command")
    refuse(root / "recorder", b"{}", name="elsewhere")
    refuse(root / "recorder", b"{}", name="wattbus/../meter/main/reading")
    folder = QuarantineFolder(root)
    entries = list(entries_of(folder, {r.entry for r in folder.refusals()}).values())

    async def main(clock: VirtualClock) -> None:
        bus, transport = memory_bus(clock)
        await bus.declare(topics.METER_READING, durable=topics.RECORDER)
        refused = await retry(bus, clock, folder, entries)
        assert transport.backlog(topics.RECORDER) == 1
        whys = [refused.get(entry.name) for entry in entries]
        assert whys[0] is None
        expected = ("not a MeterReading", "house is 'house-a'", "come late", "none of wattbus's", "not an id")
        for why, says in zip(whys[1:], expected, strict=True):
            assert why is not None
            assert says in why
        again = await retry(bus, clock, QuarantineFolder(root), entries[:1])
        assert again == {entries[0].name: "it was published again at 2024-07-01T12:00:00.000Z"}
        assert transport.backlog(topics.RECORDER) == 1
        async with bus.subscribe(topics.METER_READING, durable=topics.RECORDER) as deliveries:
            assert (await anext(deliveries)).message == READING

    run_virtual(main)


def test_a_list_says_what_was_published_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refuse(tmp_path / "quarantine", encode(READING))
    folder = QuarantineFolder(tmp_path / "quarantine")
    (entry,) = entries_of(folder, [r.entry for r in folder.refusals()]).values()

    async def main(clock: VirtualClock) -> None:
        bus, _ = memory_bus(clock)
        await bus.declare(topics.METER_READING, durable=topics.RECORDER)
        assert await retry(bus, clock, folder, [entry]) == {}

    run_virtual(main)
    _, out, _ = run(tmp_path, "ls", capsys=capsys)
    assert "[retried 2024-07-01T12:00:00.000Z]" in out


def test_marks_that_can_not_be_read_stop_a_retry(tmp_path: Path) -> None:
    (tmp_path / "retried.jsonl").write_text('{"entry"')
    with pytest.raises(StoreError, match="damaged"):
        QuarantineFolder(tmp_path).retries()


def test_a_flood_does_not_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "2024-07-01.jsonl"
    with path.open("wb") as file:
        file.truncate(DAY_BYTES_MAX + 1)
    refuse(tmp_path, b"{")
    assert path.stat().st_size == DAY_BYTES_MAX + 1


def test_files_of_before_are_read(tmp_path: Path) -> None:
    line = {
        "refused_at": str(Instant.parse("2024-01-01T00:00:00Z")),
        "topic": TOPIC,
        "reason": "bad",
        "payload_base64": base64.b64encode(b"x").decode(),
    }
    (tmp_path / "2024-01-01.jsonl").write_text(json.dumps(line) + "\n")
    (refusal,) = QuarantineFolder(tmp_path).refusals()
    assert refusal.payload == b"x"
    assert escaped(refusal.topic) == TOPIC
    assert NoSuchEntryError.exit_code == 1
    assert topics.METER_READING.delivery is DeliveryClass.READING
