"""The outbox's file: full, damaged, or in use; what it costs is said, and no more than that."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from broker.outbox import UNKEPT_MAX
from broker.outbox_file import OutboxDamagedError, OutboxDiskError, OutboxFile, Row
from broker.outbox_keeper import IN_MEMORY_MAX
from runtime.clock import VirtualClock
from runtime.errors import StoreError
from tests.conftest import run_virtual
from tests.unit.outbox_rig import house, kept, row


class FullDisk(OutboxFile):
    full: bool = True

    def write(self, rows: Iterable[Row], gone_to: int) -> None:
        if self.full:
            raise OutboxDiskError("database or disk is full")
        super().write(rows, gone_to)


def test_a_full_disk_is_alarmed_and_memory_keeps_the_readings(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> list[int]:
        async with house(clock, tmp_path / "o.sqlite", file=FullDisk) as own:
            own.away()
            own.add(range(1, 5001))
            await clock.sleep(10)
            own.add(range(5001, UNKEPT_MAX + 101))
            await clock.sleep(10)
            (disk, full) = own.alarms
            assert disk[0] == "outbox-disk"
            assert "kept in memory alone" in disk[1]
            assert full[0] == "outbox-full"
            assert "disk is full" in full[1]
            assert own.outbox.refused == 100
            own.back()
            await own.drained()
            own.away()
            own.add([20_000])
            assert isinstance(own.outbox._file, FullDisk)
            own.outbox._file.full = False
            await clock.sleep(2)
            assert own.outbox._file.rows == 1
            own.back()
            await own.drained()
            return own.broker.got

    assert run_virtual(main) == [*range(1, UNKEPT_MAX + 1), 20_000]


def test_a_disk_that_fails_for_a_while_loses_no_order(tmp_path: Path) -> None:
    """Rows on the disk, rows in memory that it did not take: the former go first."""

    async def main(clock: VirtualClock) -> list[int]:
        async with house(clock, tmp_path / "o.sqlite", file=FullDisk) as own:
            assert isinstance(own.outbox._file, FullDisk)
            own.away()
            own.outbox._file.full = False
            own.add(range(1, 1001))
            await clock.sleep(2)
            own.outbox._file.full = True
            own.add(range(1001, 2001))
            await clock.sleep(2)
            own.back()
            await own.drained()
            own.outbox._file.full = False
            return own.broker.got

    assert run_virtual(main) == list(range(1, 2001))
    assert kept(tmp_path / "o.sqlite") == []


def test_a_really_full_disk_changes_nothing(tmp_path: Path) -> None:
    file = OutboxFile(tmp_path / "o.sqlite")
    file.write([row(1)], 0)
    file._database.execute("PRAGMA max_page_count=20")
    with pytest.raises(OutboxDiskError, match="full"):
        file.write([row(number) for number in range(2, 2000)], 0)
    assert [r.number for r in file.read(0, 10)] == [1]
    assert file.rows == 1
    file.close()


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    match how:
        case "header":
            content[:100] = b"no database at all".ljust(100)
        case "page":
            content[4096:] = b"\xff" * (len(content) - 4096)
        case "cut":
            content = content[: len(content) // 2 + 100]
        case "text":
            content = bytearray(b"hello")
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["header", "page", "cut", "text"])
def test_a_damaged_file_is_moved_aside_and_said(tmp_path: Path, how: str) -> None:
    path = tmp_path / "o.sqlite"
    file = OutboxFile(path)
    file.write([row(number) for number in range(1, 500)], 0)
    file.close()
    damage(path, how)
    damaged = path.read_bytes()

    async def main(clock: VirtualClock) -> None:
        async with house(clock, path) as own:
            own.add([1000])
            await own.drained()
            ((name, text),) = own.alarms
            assert name == "outbox-damaged"
            assert str(path) in text
            assert "o.damaged-1.sqlite" in text
            assert "\n" not in text
            assert own.broker.got == [1000]

    run_virtual(main)
    assert (tmp_path / "o.damaged-1.sqlite").read_bytes()[4096:] == damaged[4096:]
    damage(path, "header")
    again = OutboxFile(path)
    assert again.aside == tmp_path / "o.damaged-2.sqlite"
    again.close()


class Breaks(OutboxFile):
    broken: bool = False

    def read(self, after: int, limit: int) -> list[Row]:
        if self.broken:
            raise OutboxDamagedError(f"{self.path}: database disk image is malformed")
        return super().read(after, limit)

    def renew(self) -> None:
        super().renew()
        self.broken = False


def test_a_file_that_breaks_while_it_is_used_costs_no_more_than_its_rows(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> list[int]:
        async with house(clock, tmp_path / "o.sqlite", file=Breaks) as own:
            assert isinstance(own.outbox._file, Breaks)
            own.away()
            own.add(range(1, 401))
            await clock.sleep(1)
            own.outbox._file.broken = True
            own.back()
            await clock.sleep(2)
            own.add([500])
            await own.drained()
            ((name, text),) = own.alarms
            assert name == "outbox-damaged"
            assert "with 250 readings that are not published" in text
            return own.broker.got

    assert run_virtual(main) == [*range(1, IN_MEMORY_MAX + 1), 500]
    assert kept(tmp_path / "o.damaged-1.sqlite")[-1] == 400


def test_a_row_that_can_t_be_read_is_set_aside_and_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"
    file = OutboxFile(path)
    file.write([row(1), row(2, b"{broken"), Row(3, "no/topic/of/ours", b"{}"), row(4)], 0)
    file.close()

    async def main(clock: VirtualClock) -> None:
        async with house(clock, path) as own:
            await own.drained()
            assert own.broker.got == [1, 4]
            assert [name for name, _ in own.alarms] == ["outbox-unreadable", "outbox-unreadable"]

    run_virtual(main)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT payload FROM unreadable").fetchall() == [(b"{broken",), (b"{}",)]
    database.close()


def test_two_processes_can_t_share_a_file(tmp_path: Path) -> None:
    file = OutboxFile(tmp_path / "o.sqlite")
    with pytest.raises(StoreError, match="another process publishes for this source"):
        OutboxFile(tmp_path / "o.sqlite")
    file.close()


def test_a_folder_that_can_t_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be written") as caught:
        OutboxFile(tmp_path / "file" / "o.sqlite")
    assert "\n" not in str(caught.value)


def test_the_file_is_as_durable_as_it_gets(tmp_path: Path) -> None:
    file = OutboxFile(tmp_path / "o.sqlite")
    ask = file._database.execute
    assert ask("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ask("PRAGMA synchronous").fetchone() == (2,)
    file.close()
