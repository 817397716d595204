import errno
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from math import inf
from pathlib import Path, PurePath
from zoneinfo import ZoneInfo

import pytest

from contracts.instant import Instant
from contracts.messages import Alert, MeterReading
from recorder.disk import AppendFile
from recorder.folder import DataFolder, open_data_folder
from recorder.follow import ROUND_S, SYNCS_PER_S
from recorder.journal import FORMAT, Journal, Line
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

    def __init__(self, root: Path) -> None:
        self.root = root
        self.space: int | None = None
        self.sync_fails = False
        self.cut_fails = False
        self.once = False
        self.syncs = 0
        self.only = ""
        self.open_now: set[int] = set()
        self.most_open = 0

    def open(self, path: Path) -> AppendFile:
        return TroubledFile(path, self)


class TroubledFile(AppendFile):
    def __init__(self, path: Path, trouble: Trouble) -> None:
        super().__init__(path)
        self._trouble = trouble
        self._path = path
        self._is_day_file = path.suffix == ".csv"
        trouble.open_now.add(id(self))
        trouble.most_open = max(trouble.most_open, len(trouble.open_now))

    @property
    def _affected(self) -> bool:
        return self._trouble.only in str(self._path.relative_to(self._trouble.root))

    def write(self, content: bytes) -> None:
        space = self._trouble.space
        if space is not None and self._affected and len(content) > space:
            super().write(content[:space])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(content)

    def sync(self) -> None:
        self._trouble.syncs += self._is_day_file
        if self._trouble.sync_fails and self._affected:
            self._trouble.sync_fails = not self._trouble.once
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
    folder = DataFolder(tmp_path)
    assert verdicts(folder.write(entries[:2])) == ["WRITTEN", "WRITTEN"]
    assert verdicts(folder.write(entries[2:])) == ["WRITTEN"]
    folder.close()
    assert (tmp_path / DAY_FILE).read_bytes() == content_of(entries)


def test_a_late_reading_goes_to_its_own_day(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    late = entry(1, at=Instant.parse("2024-06-30T23:59:59.999Z"))
    folder.write([entry(2), late, entry(3)])
    folder.close()
    assert (tmp_path / DAY_FILE).read_bytes() == content_of([entry(2), entry(3)])
    assert (tmp_path / "house-a/main/main_2024-06-30.csv").read_bytes() == content_of([late])


def test_after_a_restart_nothing_is_written_twice(tmp_path: Path) -> None:
    first = DataFolder(tmp_path)
    first.write([entry(i) for i in range(5)])
    first.close()
    second = DataFolder(tmp_path)
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
    folder = DataFolder(tmp_path)
    outcomes = folder.write([entry(0), entry(1)])
    folder.close()
    assert path.read_bytes() == WHOLE
    rows_before = max(WHOLE[:cut].count(b"\n") - 1, 0)
    assert verdicts(outcomes).count("DUPLICATE") == rows_before


def rows(tmp_path: Path) -> bytes:
    path = tmp_path / DAY_FILE
    return path.read_bytes() if path.exists() else b""


@pytest.mark.parametrize("space", [0, 1, len(ROWS.header), len(ROWS.header) + 10, 80])
@pytest.mark.parametrize(("only", "where"), [("", "journal"), ("journal", "journal"), (".csv", DAY_FILE)])
def test_a_full_disk_leaves_no_torn_row_and_nothing_is_taken(
    tmp_path: Path, space: int, only: str, where: str
) -> None:
    trouble = Trouble(tmp_path)
    folder = DataFolder(tmp_path, trouble.open)
    trouble.only, trouble.space = only, space
    outcomes = folder.write([entry(0), entry(1), entry(0)])
    assert verdicts(outcomes) == ["FAILED"] * 3
    assert outcomes[0].why == f"{where}: No space left on device"
    assert rows(tmp_path) == b""
    trouble.space = None
    assert verdicts(folder.write([entry(0), entry(1)])) == ["WRITTEN", "WRITTEN"]
    trouble.space = min(space, 20)
    assert verdicts(folder.write([entry(2)])) == ["FAILED"]
    assert rows(tmp_path) == WHOLE
    trouble.space = None
    folder.close()
    assert rows(tmp_path) == WHOLE
    assert not list(tmp_path.glob(".journal*"))


def test_what_stands_in_a_journal_that_is_not_synchronised_is_taken_back(tmp_path: Path) -> None:
    trouble = Trouble(tmp_path)
    folder = DataFolder(tmp_path, trouble.open)
    folder.write([entry(0)])
    trouble.only, trouble.sync_fails = "journal", True
    for _ in range(2):
        assert verdicts(folder.write([entry(1)])) == ["FAILED"]
    trouble.sync_fails = False
    folder.write([entry(2)])
    crash(folder)
    again = DataFolder(tmp_path)
    again.close()
    assert rows(tmp_path) == content_of([entry(0), entry(2)])


def test_a_row_that_its_file_did_not_take_is_taken_back_later_if_not_at_once(tmp_path: Path) -> None:
    trouble = Trouble(tmp_path)
    folder = DataFolder(tmp_path, trouble.open)
    folder.write([entry(0)])
    trouble.only, trouble.space, trouble.cut_fails = ".csv", 20, True
    assert verdicts(folder.write([entry(1)])) == ["FAILED"]
    assert rows(tmp_path) == content_of([entry(0)]) + entry(1).line[:20]
    assert verdicts(folder.write([entry(1)])) == ["FAILED"]
    trouble.space, trouble.cut_fails = None, False
    assert verdicts(folder.write([entry(1)])) == ["WRITTEN"]
    assert rows(tmp_path) == WHOLE
    folder.close()


def crash(folder: DataFolder) -> None:
    """As SIGKILL does: what the system has is kept, nothing is tidied up."""
    folder._journal.close()


def lose_power(tmp_path: Path, kept: int) -> None:
    """What was not synchronised is gone: of the day's file, all behind its first bytes."""
    with (tmp_path / DAY_FILE).open("r+b") as file:
        file.truncate(kept)


@pytest.mark.parametrize("kept", [*range(0, len(WHOLE), 7), len(WHOLE)])
def test_after_a_power_cut_the_journal_has_what_the_files_lost(tmp_path: Path, kept: int) -> None:
    folder = DataFolder(tmp_path)
    folder.write([entry(0)])
    folder.write([entry(1)])
    crash(folder)
    lose_power(tmp_path, kept)
    again = DataFolder(tmp_path)
    assert rows(tmp_path) == WHOLE
    assert verdicts(again.write([entry(0), entry(1), entry(2)])) == ["DUPLICATE", "DUPLICATE", "WRITTEN"]
    again.close()
    assert not list(tmp_path.glob(".journal*"))


def test_a_file_and_its_folders_that_are_lost_are_made_again(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.write([entry(0), entry(1)])
    crash(folder)
    shutil.rmtree(tmp_path / "house-a")
    DataFolder(tmp_path).close()
    assert rows(tmp_path) == WHOLE


def test_a_journal_that_is_cut_anywhere_is_read_up_to_its_last_whole_batch(tmp_path: Path) -> None:
    written = tmp_path / "written"
    written.mkdir()
    folder = DataFolder(written)
    for seq in range(3):
        folder.write([entry(seq)])
    crash(folder)
    journal = next(written.glob(".journal*")).read_bytes()
    begin = len(FORMAT)
    size = (len(journal) - begin) // 3
    whole = [begin + batches * size for batches in range(4)]
    for at in range(len(journal) + 1):
        root = tmp_path / str(at)
        root.mkdir()
        (root / ".journal-000001").write_bytes(journal[:at] + b"\0" * 30)
        DataFolder(root).close()
        batches = sum(at >= end for end in whole[1:])
        assert rows(root) == (content_of([entry(seq) for seq in range(batches)]) if batches else b"")


@pytest.mark.parametrize(
    "content",
    [b"wattbus journal 2\n" + b"rows of a newer one", b"\x30\0\0\0\x01\x02\x03\x04older", b"rubbish"],
)
def test_a_journal_of_another_format_is_one_line_and_nothing_of_it_is_touched(
    tmp_path: Path, content: bytes
) -> None:
    journal = tmp_path / ".journal-000007"
    journal.write_bytes(content)
    for _ in range(2):
        with (
            pytest.raises(
                StoreError, match=r"\.journal-000007: no journal of this version.*move it"
            ) as raised,
            open_data_folder(tmp_path, "UTC"),
        ):
            pass
        assert "\n" not in str(raised.value)
    assert journal.read_bytes() == content
    journal.unlink()
    with open_data_folder(tmp_path, "UTC") as folder:
        assert verdicts(folder.write([entry(0)])) == ["WRITTEN"]


def test_the_files_follow_a_few_a_second_and_the_journal_is_cut_behind_them(tmp_path: Path) -> None:
    trouble = Trouble(tmp_path)
    folder = DataFolder(tmp_path, trouble.open)
    houses = [f"house-{i}" for i in range(2 * SYNCS_PER_S + 10)]
    at_s = 0.0
    for seq in range(160):
        folder.write([entry(seq, house=house) for house in houses])
        trouble.syncs = 0
        folder.follow(at_s)
        assert trouble.syncs <= SYNCS_PER_S
        at_s += 0.5
        segments = list(tmp_path.glob(".journal*"))
        assert len(segments) <= 3
        assert sum(path.stat().st_size for path in segments) < 200 * len(houses) * (ROUND_S + 10) * 2
    folder.close()
    assert folder.behind == 0
    assert not list(tmp_path.glob(".journal*"))


def test_the_folders_of_new_files_count_among_a_seconds_syncs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble = Trouble(tmp_path)
    folders: list[Path] = []
    monkeypatch.setattr("recorder.files.sync_folder", folders.append)
    folder = DataFolder(tmp_path, trouble.open)
    houses = [f"house-{i}" for i in range(SYNCS_PER_S)]
    for seq, seconds in ((0, 3), (1, 1)):  # the second time their folders are known
        folder.write([entry(seq, house=house) for house in houses])
        for second in range(seconds):
            assert folder.behind
            trouble.syncs = 0
            folders.clear()
            folder.follow(100.0 * seq + second)
            assert trouble.syncs + len(folders) <= SYNCS_PER_S + 2
        assert not folder.behind
    folder.close()


def test_a_file_whose_sync_fails_is_written_anew_before_the_journal_lets_go(tmp_path: Path) -> None:
    trouble = Trouble(tmp_path)
    folder = DataFolder(tmp_path, trouble.open)
    folder.write([entry(0), entry(1), entry(0, house="house-b")])
    trouble.only, trouble.sync_fails = "house-a", True
    folder.follow(0.0)
    folder.follow(10.0)
    assert folder.behind == 1
    assert list(tmp_path.glob(".journal*"))
    lose_power(tmp_path, 50)  # the pages that the system gave up
    trouble.once = True
    folder.follow(20.0)
    assert rows(tmp_path) == WHOLE
    folder.close()
    assert not list(tmp_path.glob(".journal*"))


def test_a_recorder_that_stops_leaves_no_journal_however_many_files_have_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.follow.CLOSING_S", inf)  # however slow this disk is
    folder = DataFolder(tmp_path)
    for seq in range(2):  # a round has been begun, and does not have the second rows
        folder.write([entry(seq, house=f"house-{i}") for i in range(600)])
        folder.follow(0.0)
    folder.close()
    assert folder.behind == 0
    assert not list(tmp_path.glob(".journal*"))


def test_a_recorder_that_stops_leaves_what_takes_too_long_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("recorder.follow.CLOSING_S", 0.0)
    folder = DataFolder(tmp_path)
    houses = [f"house-{i}" for i in range(2 * SYNCS_PER_S)]
    folder.write([entry(0, house=house) for house in houses])
    folder.close()
    assert list(tmp_path.glob(".journal*"))
    said = capsys.readouterr()
    assert "the journal keeps the rows of some files" in said.out + said.err
    again = DataFolder(tmp_path)
    assert again.behind == len(houses)
    for second in range(3 * len(houses) // SYNCS_PER_S + 2):
        again.follow(float(second))
    assert again.behind == 0
    assert not list(tmp_path.glob(".journal*"))
    again.close()


def test_one_file_that_fails_does_not_hold_up_the_others(tmp_path: Path) -> None:
    trouble = Trouble(tmp_path)
    trouble.only, trouble.space = "house-b", 0
    folder = DataFolder(tmp_path, trouble.open)
    outcomes = folder.write([entry(0), entry(0, house="house-b"), entry(1), entry(0, house="house-c")])
    assert verdicts(outcomes) == ["WRITTEN", "FAILED", "WRITTEN", "WRITTEN"]
    folder.close()


def test_a_folder_in_the_way_fails_and_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "house-a").write_text("no folder")
    folder = DataFolder(tmp_path)
    assert verdicts(folder.write([entry(0)])) == ["FAILED"]
    (tmp_path / "house-a").unlink()
    assert verdicts(folder.write([entry(0)])) == ["WRITTEN"]
    folder.close()


def test_few_files_are_open_however_many_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.follow.CLOSING_S", 0.1)
    trouble = Trouble(tmp_path)
    folder = DataFolder(tmp_path, trouble.open)
    meters = [f"house-{i}" for i in range(10_000)]
    for seq in range(2):
        written = folder.write([entry(seq, house=house) for house in meters])
        assert set(verdicts(written)) == {"WRITTEN"}
        folder.follow(seq)
    assert trouble.most_open == 2  # the journal, and one
    folder.close()
    assert not trouble.open_now
    for house in meters[::1000]:
        path = tmp_path / house / "main/main_2024-07-01.csv"
        assert path.read_bytes() == content_of([entry(seq) for seq in range(2)])


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
    folder = DataFolder(tmp_path)
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
    folder = DataFolder(tmp_path)
    outcomes = folder.write([entry(1), entry(2)])
    folder.close()
    assert verdicts(outcomes) == ["DUPLICATE", "WRITTEN"]
    assert path.read_bytes() == content_of([entry(0), entry(1), entry(2)])
    assert path.with_name(path.name + ".damaged-1").read_bytes() == damaged
    assert not path.with_name(path.name + ".new").exists()


def test_ids_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert verdicts(folder.write([entry(0, house="house-a"), entry(0, house="House-A")])) == [
        "WRITTEN",
        "REFUSED",
    ]
    folder.close()
    again = DataFolder(tmp_path)
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
    folder = DataFolder(tmp_path)
    assert verdicts(folder.write(entries)) == ["WRITTEN"] * 4
    folder.close()
    again = DataFolder(tmp_path)
    assert verdicts(again.write(entries)) == ["DUPLICATE"] * 4
    again.close()
    path = tmp_path / "site/alerts_2024-07-01.jsonl"
    assert path.read_bytes() == b"".join(e.line for e in entries)


def test_a_data_folder_keeps_its_timezone(tmp_path: Path) -> None:
    root = tmp_path / "new" / "DATA"
    with open_data_folder(root, "Europe/Berlin"):
        pass
    with open_data_folder(root, "Europe/Berlin"):
        pass
    with (
        pytest.raises(UsageError, match="days of Europe/Berlin, not of UTC") as raised,
        open_data_folder(root, "UTC"),
    ):
        pass
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


def test_a_data_folder_has_one_recorder(tmp_path: Path) -> None:
    with (
        open_data_folder(tmp_path, "UTC"),
        pytest.raises(UsageError, match="another recorder"),
        open_data_folder(tmp_path, "UTC"),
    ):
        pass


def test_a_data_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "DATA"
    with pytest.raises(StoreError, match="can't be written"), open_data_folder(root, "UTC"):
        pass


def test_settings() -> None:
    settings = load("recorder", RecorderSettings, ["--day-timezone", "Europe/Berlin"], environ={}).base
    assert settings.day_timezone == "Europe/Berlin"
    assert settings.data_dir == Path("DATA")
    with pytest.raises(UsageError, match="Mars/Olympus"):
        load("recorder", RecorderSettings, ["--day-timezone", "Mars/Olympus"], environ={})
    with pytest.raises(UsageError, match="batch-max"):
        load("recorder", RecorderSettings, ["--batch-max", "0"], environ={})


def test_segments_follow_one_another_by_their_numbers(tmp_path: Path) -> None:
    """After a year of half minutes a name has a digit more, and stands before the others."""
    for number in range(3):
        journal = Journal(tmp_path, AppendFile)
        journal.append([Line(PurePath("file"), b"%d\n" % number)])
        journal.close()
        if number == 0:
            (tmp_path / ".journal-000001").rename(tmp_path / ".journal-999999")
    assert [line for lines in Journal(tmp_path, AppendFile).read() for _, line in lines] == [
        b"0\n",
        b"1\n",
        b"2\n",
    ]


class Stuck(AppendFile):
    """A file that its disk no longer takes, and reads no more."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._is_bad = "house-bad" in path.parts

    def sync(self) -> None:
        """Fail, if it is that one."""
        if self._is_bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync()


def test_a_file_that_never_gets_to_the_disk_does_not_make_the_journal_grow(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path, Stuck)
    folder.write([entry(0, house="house-bad")])
    for seq in range(10 * round(ROUND_S)):
        folder.write([entry(seq, house="house-ok")])
        folder.follow(float(seq))
    segments = list(tmp_path.glob(".journal*"))
    assert len(segments) <= 3
    assert sum(path.stat().st_size for path in segments) < 200 * (2 * ROUND_S + 10)
    assert folder.behind
    folder.close()
    (lost,) = tmp_path.rglob("house-bad/*/*.csv")
    lost.unlink()
    DataFolder(tmp_path).close()
    assert lost.read_text().count("\n") == 2  # the header, and what the journal has kept for it
