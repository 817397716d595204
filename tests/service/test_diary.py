"""The diary on the bus in memory, and what `wattbus explain` says of it."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts import topics
from contracts.archive import alerts_file, day_file
from contracts.codec import encode
from contracts.instant import Instant
from contracts.messages import Alert, CommandAck, Decision, DispatchCommand, PowerSnapshot
from contracts.orders import HeldDer, StandingOrders
from recorder.diary import DiaryService
from recorder.settings import RecorderSettings
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from tests.conftest import START, memory_bus, run_virtual
from wattbus.explain import main as explain

HOUSE = {"house": "house-a"}
DER = {**HOUSE, "der_id": "battery"}


def decision(at: Instant, kw: float) -> Decision:
    return Decision(
        **DER, timestamp=at, tier="economic", limit="schedule", asked_kw=kw, given_kw=kw,
        import_price=0.25, currency="USD", sentence=f"The battery takes {kw} kW.", alternative="rest",
    )  # fmt: skip


def command(seq: int, at: Instant, kw: float) -> DispatchCommand:
    return DispatchCommand(
        **DER, command_id=f"c-{seq}", issuer="main", epoch=1, seq=seq,
        issued_at=at, valid_until=at.after(30), setpoint_kw=kw,
    )  # fmt: skip


def ack(seq: int, at: Instant, kw: float) -> CommandAck:
    return CommandAck(
        **DER, command_id=f"c-{seq}", epoch=1, seq=seq, timestamp=at, result="accepted", applied_kw=kw
    )


async def say(bus: Any, clock: VirtualClock, number: int) -> None:
    """One tick, in which everything says its number."""
    at, kw = clock.now(), float(number)
    flows = PowerSnapshot(
        **HOUSE, timestamp=at, pv_kw=0, house_load_kw=1, battery_power_kw=kw, ev_power_kw=0,
        grid_import_kw=1 + kw, grid_export_kw=0,
    )  # fmt: skip
    await bus.publish(topics.SNAPSHOT.at(**HOUSE), flows)
    await bus.publish(topics.DECISION.at(**DER), decision(at, kw))
    await bus.publish(topics.DER_COMMAND.at(**DER), command(number, at, kw))
    await clock.sleep(0.5)
    await bus.publish(topics.DER_ACK.at(**DER), ack(number, clock.now(), kw))


def record(root: Path, *, days: int = 1) -> None:
    """Three ticks on the first day, and three on each that follows."""

    async def main(clock: VirtualClock) -> None:
        bus, _ = memory_bus(clock)
        life = Lifecycle()
        diary = DiaryService(RecorderSettings(data_dir=root), bus, clock, life)
        running = asyncio.create_task(diary.run())
        await clock.sleep(0)
        held = [HeldDer(mode="pause", user="anna", until=None)]
        await bus.publish(topics.ORDERS.at(**HOUSE), StandingOrders(**HOUSE, issued_at=START, held=held))
        for day in range(days):
            await clock.sleep_until(START.after(day * 86400))
            for number in range(3):
                await say(bus, clock, 1 + number + 3 * day)
                await clock.sleep(9.5)
        life.stop()
        await running
        assert diary.lines_lost == 0

    run_virtual(main)


def test_an_instant_is_told_as_it_was_then(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path)
    row = tmp_path / day_file("house-a", "main", START.date())
    row.parent.mkdir(exist_ok=True)
    row.write_text(
        f"timestamp,meter_w,pv_w,sum_w,boot,seq\n{START},512.5,,,1,1\n{START.after(20)},9.0,,,1,2\n"
    )
    raised = Alert(**HOUSE, source="battery", boot=1, seq=1, timestamp=START, severity="warning",
                   name="hot", text="The battery is hot.")  # fmt: skip
    (tmp_path / alerts_file("house-a", START.date())).write_bytes(encode(raised) + b"\n")
    assert explain([str(tmp_path), "--at", str(START.after(12))]) == 0
    said = capsys.readouterr().out
    for part in (
        "meter main: 512 W",
        "battery +2.00 kW",
        "why: The battery takes 2.0 kW.",
        "a kWh cost 0.25 USD",
        "otherwise: rest",
        "command c-2 (epoch 1, seq 2)",
        "accepted at 2024-07-01T12:00:10.500Z, applied +2.00 kW",
        "the house: pause, ordered by anna, until taken back",
        "The battery is hot.",
    ):
        assert part in said, (part, said)
    assert explain([str(tmp_path), "--house", "house-a", "--at", str(START.after(10.2))]) == 0
    assert "not answered by then" in capsys.readouterr().out


def test_without_a_time_the_last_that_was_heard_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path, days=3)
    assert sorted(page.name for page in (tmp_path / "house-a").iterdir()) == [
        "diary_2024-07-01.jsonl.gz", "diary_2024-07-02.jsonl.gz", "diary_2024-07-03.jsonl",
    ]  # fmt: skip
    assert explain([str(tmp_path), "--json"]) == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told["ders"][0]["decision"]["asked_kw"] == 9.0
    assert told["ders"][0]["answered"]["ack"]["command_id"] == "c-9"
    assert told["orders"] is None  # it was said two days before
    assert explain([str(tmp_path), "--at", str(START.after(40))]) == 0
    assert "nothing was heard for" not in capsys.readouterr().out
    assert explain([str(tmp_path), "--at", str(START.after(4000))]) == 0
    said = capsys.readouterr().out
    assert "nothing was heard for 66 min before" in said
    assert "which was over: the device was in its safe state" in said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--at", "yesterday"], 2, "--at 'yesterday'"),
        (["--at", "2024-07-01T12:00"], 2, "no timezone"),
        (["--house", "house-b"], 2, "no decisions of house-b; there are house-a"),
        (["--house", "../x"], 2, "house"),
        (["--at", "2023-01-01T00:00Z"], 1, "the last days there are: 2024-07-01"),
    ],
)
def test_what_is_asked_wrongly_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    record(tmp_path)
    assert explain([str(tmp_path), *arguments]) == code
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_what_somebody_else_has_put_there_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path)
    (tmp_path / "house-a" / "my backup").mkdir()
    (tmp_path / "house-a" / "diary_of-mine.jsonl").touch()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "diary_x.jsonl").touch()
    assert explain([str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("house-a at ")


def test_a_page_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path)
    page = next((tmp_path / "house-a").glob("diary_*.jsonl"))
    page.with_name(f"{page.name}.gz").write_bytes(b"no gzip")
    assert explain([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"wattbus: {page}: can't be read: ")


def test_a_folder_without_a_diary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain([str(tmp_path / "nowhere")]) == 1
    assert "no decisions are recorded there" in capsys.readouterr().err
    record(tmp_path)
    assert explain([str(tmp_path / "house-a")]) == 1
    assert f"it is a house's own folder: {tmp_path} --house house-a" in capsys.readouterr().err
