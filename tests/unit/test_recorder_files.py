import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from contracts.instant import Instant
from contracts.messages import Alert, MeterReading
from recorder.files import AppendFile
from recorder.folder import DataFolder, open_data_folder
from recorder.model import ROWS, Entry, Outcome, entry_of
from recorder.settings import RecorderSettings
from runtime.errors import StoreError, UsageError
from runtime.settings import load

NOON = Instant.parse("2024-07-01T12:00:00Z")
DAY_FILE = "house-a/main/main_2024-07-01.csv"


def entry(seq: int, power_w: float = 500.5, house: str = "house-a", at: Instant | None = None) -> Entry:
    moment = at or NOON.after(10 * seq)
    message = MeterReading(house=house, meter="main", boot=1, seq=seq, timestamp=moment, power_w=power_w)
    return entry_of(message, ZoneInfo("UTC"))


def verdicts(outcomes: Iterable[Outcome]) -> list[str]:
    return [outcome.verdict.name for outcome in outcomes]


def content_of(entries: Sequence[Entry]) -> bytes:
    return ROWS.header + b"".join(e.line for e in entries)


class Trouble:
    """A disk that fails when told to; opens files that fail with it."""

    def __init__(self) -> None:
        self.space: int | None = None
        self.sync_fails = False
        self.cut_fails = False
        self.only = ""
        self.open_now: set[int] = set()
        self.most_open = 0

    def open(self, path: Path) -> AppendFile:
        return TroubledFile(path, self)


class TroubledFile(AppendFile):
    def __init__(self, path: Path, trouble: Trouble) -> None:
        super().__init__(path)
        self._trouble = trouble
        self._affected = trouble.only in str(path)
        trouble.open_now.add(id(self))
        trouble.most_open = max(trouble.most_open, len(trouble.open_now))

    def write(self, content: bytes) -> None:
        space = self._trouble.space
        if space is not None and self._affected and len(content) > space:
            super().write(content[:space])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(content)

    def sync(self) -> None:
        if self._trouble.sync_fails and self._affected:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync()

    def cut(self, size: int) -> None:
        if self._trouble.cut_fails and self._affected:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().cut(size)

    def close(self) -> None:
        self._trouble.open_now.discard(id(self))
        super().close()


def test_rows_stand_in_the_order_they_came_below_one_header(tmp_path: Path) -> None:
    entries = [entry(2), entry(1), entry(3)]
    folder = DataFolder(tmp_path, 10)
    assert verdicts(folder.write(entries[:2])) == ["WRITTEN", "WRITTEN"]
    assert verdicts(folder.write(entries[2:])) == ["WRITTEN"]
    folder.close()
    assert (tmp_path / DAY_FILE).read_bytes() == content_of(entries)


def test_a_late_reading_goes_to_its_own_day(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path, 10)
    late = entry(1, at=Instant.parse("2024-06-30T23:59:59.999Z"))
    folder.write([entry(2), late, entry(3)])
    folder.close()
    assert (tmp_path / DAY_FILE).read_bytes() == content_of([entry(2), entry(3)])
    assert (tmp_path / "house-a/main/main_2024-06-30.csv").read_bytes() == content_of([late])


def test_after_a_restart_nothing_is_written_twice(tmp_path: Path) -> None:
    first = DataFolder(tmp_path, 10)
    first.write([entry(i) for i in range(5)])
    first.close()
    second = DataFolder(tmp_path, 10)
    outcomes = second.write([entry(i) for i in range(3, 7)] + [entry(4, 1.0)])
    second.close()
    assert verdicts(outcomes) == ["DUPLICATE", "DUPLICATE", "WRITTEN", "WRITTEN", "REFUSED"]
    assert (tmp_path / DAY_FILE).read_bytes() == content_of([entry(i) for i in range(7)])


WHOLE = content_of([entry(0), entry(1)])


@pytest.mark.parametrize("cut", range(len(WHOLE)))
def test_a_torn_end_is_cut_and_the_row_comes_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / DAY_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(WHOLE[:cut])
    folder = DataFolder(tmp_path, 10)
    outcomes = folder.write([entry(0), entry(1)])
    folder.close()
    assert path.read_bytes() == WHOLE
    rows_before = max(WHOLE[:cut].count(b"\n") - 1, 0)
    assert verdicts(outcomes).count("DUPLICATE") == rows_before


@pytest.mark.parametrize("space", [0, 1, len(ROWS.header), len(ROWS.header) + 10, 80])
def test_a_full_disk_leaves_no_torn_row_and_nothing_is_taken(tmp_path: Path, space: int) -> None:
    trouble = Trouble()
    folder = DataFolder(tmp_path, 10, trouble.open)
    trouble.space = space
    outcomes = folder.write([entry(0), entry(1), entry(0)])
    assert verdicts(outcomes) == ["FAILED"] * 3
    assert outcomes[0].why == f"{DAY_FILE}: No space left on device"
    assert (tmp_path / DAY_FILE).read_bytes() == b""
    trouble.space = None
    assert verdicts(folder.write([entry(0), entry(1)])) == ["WRITTEN", "WRITTEN"]
    trouble.space = min(space, 20)
    assert verdicts(folder.write([entry(2)])) == ["FAILED"]
    assert (tmp_path / DAY_FILE).read_bytes() == WHOLE
    folder.close()


def test_what_is_written_but_not_synchronised_is_taken_back(tmp_path: Path) -> None:
    trouble = Trouble()
    folder = DataFolder(tmp_path, 10, trouble.open)
    folder.write([entry(0)])
    trouble.sync_fails = trouble.cut_fails = True
    assert verdicts(folder.write([entry(1)])) == ["FAILED"]
    assert (tmp_path / DAY_FILE).read_bytes() == WHOLE  # it could not even be taken back
    trouble.cut_fails = False
    assert verdicts(folder.write([entry(1)])) == ["FAILED"]
    assert (tmp_path / DAY_FILE).read_bytes() == content_of([entry(0)])
    trouble.sync_fails = False
    # Not a duplicate: that it could be read did not mean that it was on the disk.
    assert verdicts(folder.write([entry(1)])) == ["WRITTEN"]
    assert (tmp_path / DAY_FILE).read_bytes() == WHOLE
    folder.close()


def test_one_file_that_fails_does_not_hold_up_the_others(tmp_path: Path) -> None:
    trouble = Trouble()
    trouble.only, trouble.space = "house-b", 0
    folder = DataFolder(tmp_path, 10, trouble.open)
    outcomes = folder.write([entry(0), entry(0, house="house-b"), entry(1), entry(0, house="house-c")])
    assert verdicts(outcomes) == ["WRITTEN", "FAILED", "WRITTEN", "WRITTEN"]
    folder.close()


def test_a_folder_in_the_way_fails_and_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "house-a").write_text("no folder")
    folder = DataFolder(tmp_path, 10)
    assert verdicts(folder.write([entry(0)])) == ["FAILED"]
    (tmp_path / "house-a").unlink()
    assert verdicts(folder.write([entry(0)])) == ["WRITTEN"]
    folder.close()


def test_few_files_are_open_however_many_are_written(tmp_path: Path) -> None:
    trouble = Trouble()
    folder = DataFolder(tmp_path, 4, trouble.open)
    houses = [f"house-{i}" for i in range(23)]
    for seq in range(3):
        assert set(verdicts(folder.write([entry(seq, house=house) for house in houses]))) == {"WRITTEN"}
        again = folder.write([entry(seq, house=house) for house in houses])
        assert set(verdicts(again)) == {"DUPLICATE"}
    assert trouble.most_open == 4
    folder.close()
    assert not trouble.open_now
    for house in houses:
        path = tmp_path / house / "main/main_2024-07-01.csv"
        assert path.read_bytes() == content_of([entry(seq) for seq in range(3)])


def remove(path: Path) -> None:
    path.unlink()


def move_folder(path: Path) -> None:
    path.parent.parent.rename(path.parents[2] / "elsewhere")


def rewrite(path: Path) -> None:
    path.write_bytes(ROWS.header)


def replace(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(ROWS.header)
    copy.replace(path)


@pytest.mark.parametrize("meddle", [remove, move_folder, rewrite, replace])
def test_a_file_that_others_changed_under_us_is_read_again(
    tmp_path: Path, meddle: Callable[[Path], None]
) -> None:
    folder = DataFolder(tmp_path, 10)
    folder.write([entry(0)])
    meddle(tmp_path / DAY_FILE)
    assert verdicts(folder.write([entry(1)])) == ["WRITTEN"]
    folder.close()
    assert (tmp_path / DAY_FILE).read_bytes() == content_of([entry(1)])


def test_a_damaged_file_is_kept_and_its_rows_go_on(tmp_path: Path) -> None:
    path = tmp_path / DAY_FILE
    path.parent.mkdir(parents=True)
    damaged = ROWS.header + entry(0).line + b"\x00" * 40 + b"\nnote: holidays\n" + entry(1).line + b"2024-"
    path.write_bytes(damaged)
    folder = DataFolder(tmp_path, 10)
    outcomes = folder.write([entry(1), entry(2)])
    folder.close()
    assert verdicts(outcomes) == ["DUPLICATE", "WRITTEN"]
    assert path.read_bytes() == content_of([entry(0), entry(1), entry(2)])
    assert path.with_name(path.name + ".damaged-1").read_bytes() == damaged
    assert not path.with_name(path.name + ".new").exists()


def test_ids_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path, 10)
    assert verdicts(folder.write([entry(0, house="house-a"), entry(0, house="House-A")])) == [
        "WRITTEN",
        "REFUSED",
    ]
    folder.close()
    again = DataFolder(tmp_path, 10)
    outcomes = again.write([entry(1, house="HOUSE-A"), entry(1, house="house-a")])
    assert verdicts(outcomes) == ["REFUSED", "WRITTEN"]
    assert "'HOUSE-A' differs only in case from 'house-a'" in outcomes[0].why
    again.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["house-a"]


def test_alerts_are_kept_as_they_came(tmp_path: Path) -> None:
    alerts = [
        Alert(
            house="site",
            source=source,
            boot=1,
            seq=seq,
            timestamp=NOON,
            severity="info",
            name="note",
            text="größer, \n zwei Zeilen",
        )
        for source in ("a", "b")
        for seq in (1, 2)
    ]
    entries = [entry_of(alert, ZoneInfo("UTC")) for alert in alerts]
    folder = DataFolder(tmp_path, 10)
    assert verdicts(folder.write(entries)) == ["WRITTEN"] * 4
    folder.close()
    again = DataFolder(tmp_path, 10)
    assert verdicts(again.write(entries)) == ["DUPLICATE"] * 4
    again.close()
    path = tmp_path / "site/alerts_2024-07-01.jsonl"
    assert path.read_bytes() == b"".join(e.line for e in entries)


def test_a_data_folder_keeps_its_timezone(tmp_path: Path) -> None:
    root = tmp_path / "new" / "DATA"
    with open_data_folder(root, "Europe/Berlin", 10):
        pass
    with open_data_folder(root, "Europe/Berlin", 10):
        pass
    with (
        pytest.raises(UsageError, match="days of Europe/Berlin, not of UTC") as raised,
        open_data_folder(root, "UTC", 10),
    ):
        pass
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


def test_a_data_folder_has_one_recorder(tmp_path: Path) -> None:
    with (
        open_data_folder(tmp_path, "UTC", 10),
        pytest.raises(UsageError, match="another recorder"),
        open_data_folder(tmp_path, "UTC", 10),
    ):
        pass


def test_a_data_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "DATA"
    with pytest.raises(StoreError, match="can't be written"), open_data_folder(root, "UTC", 10):
        pass


def test_settings() -> None:
    settings = load("recorder", RecorderSettings, ["--day-timezone", "Europe/Berlin"], environ={}).base
    assert settings.day_timezone == "Europe/Berlin"
    assert settings.data_dir == Path("DATA")
    with pytest.raises(UsageError, match="Mars/Olympus"):
        load("recorder", RecorderSettings, ["--day-timezone", "Mars/Olympus"], environ={})
    with pytest.raises(UsageError, match="batch-max"):
        load("recorder", RecorderSettings, ["--batch-max", "0"], environ={})
