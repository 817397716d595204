"""A replay beside a neighbourhood that runs: who lives now does as if it were not there."""

import asyncio
from pathlib import Path

from contracts import topics
from contracts.archive import Row
from contracts.codec import encode
from contracts.instant import Instant
from energy.tariff import load_tariff
from runtime.clock import VirtualClock
from runtime.lifecycle import Lifecycle
from tests.conftest import START, memory_bus, run_virtual
from tests.service.test_replay import replay, write
from wattbus.neighbourhood import Neighbourhood, load_site
from wattbus.run import HEARD, watch
from wattbus.scoreboard import HouseBoard

SITE = """
seed = 3
[house.house-a.meter]
[house.house-a.der_controller.devices.battery]
type = "battery_storage"
capacity_kwh = 10.0
"""
RUN_S = 330
TOPICS = (*HEARD, topics.SCHEDULE, topics.FORECAST, topics.ORDERS)


def lived(folder: Path, *, beside: Path | None) -> tuple[list[tuple[str, bytes]], str, int]:
    """What was said of the present in a run, how its board ended, and how many replayed readings were heard."""
    (folder / "site.toml").write_text(SITE)

    async def main(clock: VirtualClock) -> tuple[list[tuple[str, bytes]], str, int]:
        bus, transport = memory_bus(clock)
        site = load_site(folder / "site.toml", [], folder / "out", repeatable=True)
        neighbourhood = Neighbourhood(site, bus, transport, clock)
        board = HouseBoard("house-a", load_tariff(site.optimizer.of("house-a").tariff), 0.0)
        said: list[tuple[str, bytes]] = []
        replayed = 0
        watching, replaying = Lifecycle(), Lifecycle()

        async def listen() -> None:
            nonlocal replayed
            async with bus.subscribe(*TOPICS) as deliveries:
                async for delivery in watching.each(deliveries):
                    if getattr(delivery.message, "historical", False):
                        replayed += 1
                    else:
                        said.append((delivery.address.name, encode(delivery.message)))

        listening = asyncio.create_task(listen())
        looking = asyncio.create_task(watch(bus, {"house-a": board}, watching, lambda _: None))
        arguments = [] if beside is None else [beside, "--rebase", "now", "--speed", "60", "--loop"]
        playing = asyncio.create_task(replay(bus, clock, *arguments, life=replaying)) if arguments else None

        async def until() -> None:
            await clock.sleep(RUN_S)
            replaying.stop()
            if playing is not None:
                await playing

        await neighbourhood.run(until)
        await clock.sleep(0.1)
        watching.stop()
        await asyncio.gather(listening, looking)
        return (
            said,
            repr(
                [
                    board.reading,
                    board.pv,
                    board.stored_kwh(),
                    board.saved(),
                    board.sent,
                    board.answers,
                    board.snapshots,
                ]
            ),
            replayed,
        )

    return run_virtual(main, START)


def test_the_present_is_as_it_would_be_without_a_replay(tmp_path: Path) -> None:
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    alone.mkdir()
    beside.mkdir()
    day = Instant.parse("2024-06-24T00:00:00Z")
    rows = [Row(day.after(60 * i), 9000.0 - i, 4000.0, 13000.0 - i, 7, i) for i in range(1440)]
    write(tmp_path / "past", {("house-a", "main", day.date()): rows})

    said_alone, board_alone, none = lived(alone, beside=None)
    said_beside, board_beside, replayed = lived(beside, beside=tmp_path / "past")

    assert none == 0
    assert replayed > 500
    assert len(said_alone) > 150
    assert any("/command" in name for name, _ in said_alone)
    assert sorted(said_beside) == sorted(said_alone)
    assert board_beside == board_alone
    for path in (alone / "out" / "DATA").rglob("*.csv"):
        same = beside / path.relative_to(alone)
        assert same.read_bytes() == path.read_bytes()
    assert list((beside / "out" / "DATA" / "replay").rglob("*.csv"))
