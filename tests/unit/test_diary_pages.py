"""The diary's pages on a real disk: torn, turned, begun again."""

import gzip
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.archive import diary_file
from contracts.errors import BadArchiveError
from recorder import pages
from recorder.pages import Line, compress_page, read_page, write_lines
from tests.conftest import START

DAY = date(2024, 7, 1)


def line(number: int) -> Line:
    return Line(heard_at=START.after(number), topic="wattbus/house-a/x", message=msgspec.Raw(b"%d" % number))


def numbers(root: Path) -> list[int]:
    return [int(bytes(found.message)) for found in read_page(root, "house-a", DAY)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert numbers(tmp_path) == []
    assert write_lines(tmp_path, "house-a", DAY, [line(1), line(2)])
    assert write_lines(tmp_path, "house-a", DAY, [line(3)])
    assert numbers(tmp_path) == [1, 2, 3]


def test_a_torn_line_takes_none_of_its_neighbours_along(tmp_path: Path) -> None:
    write_lines(tmp_path, "house-a", DAY, [line(1), line(2)])
    page = tmp_path / diary_file("house-a", DAY)
    page.write_bytes(page.read_bytes()[:-5])
    write_lines(tmp_path, "house-a", DAY, [line(3)])
    assert numbers(tmp_path) == [1, 3]


def test_a_day_that_is_over_is_compressed_to_the_same_bytes_and_may_begin_again(tmp_path: Path) -> None:
    packed = []
    for root in (tmp_path / "one", tmp_path / "two"):
        write_lines(root, "house-a", DAY, [line(1)])
        packed.append(compress_page(root / diary_file("house-a", DAY)))
    assert packed[0].read_bytes() == packed[1].read_bytes()
    root = tmp_path / "one"
    assert not (root / diary_file("house-a", DAY)).exists()
    write_lines(root, "house-a", DAY, [line(2)])  # a clock was set back
    assert numbers(root) == [1, 2]
    compress_page(root / diary_file("house-a", DAY))
    assert numbers(root) == [1, 2]
    assert len(gzip.decompress(packed[0].read_bytes()).splitlines()) == 2


def rename_until(steps: int) -> Callable[[Path, Path], Path]:
    """A `Path.replace` that is interrupted after so many."""
    done = 0

    def rename(path: Path, target: Path) -> Path:
        nonlocal done
        if done == steps:
            raise InterruptedError
        done += 1
        path.rename(target)
        return target

    return rename


@pytest.mark.parametrize("steps", range(3))
def test_a_crash_inside_a_compression_doubles_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    page = tmp_path / diary_file("house-a", DAY)
    write_lines(tmp_path, "house-a", DAY, [line(1)])
    compress_page(page)
    write_lines(tmp_path, "house-a", DAY, [line(2)])  # a clock was set back
    with monkeypatch.context() as crash, suppress(InterruptedError):
        crash.setattr(Path, "replace", rename_until(steps))
        compress_page(page)
    assert numbers(tmp_path) == [1, 2]
    if page.exists():
        write_lines(tmp_path, "house-a", DAY, [line(3)])
        assert numbers(tmp_path) == [1, 2, 3]
        compress_page(page)
        assert numbers(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("moment", [1, 2])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_page_that_is_compressed_while_it_is_read_is_read_once_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int, steps: int
) -> None:
    page = tmp_path / diary_file("house-a", DAY)
    write_lines(tmp_path, "house-a", DAY, [line(1)])
    compress_page(page)
    write_lines(tmp_path, "house-a", DAY, [line(2)])  # a clock was set back
    opened, real_open = 0, Path.open

    def open_it(path: Path, *how: Any, **more: Any) -> Any:
        nonlocal opened
        opened += 1
        if opened == moment:
            with suppress(InterruptedError):
                compress_page(page)
        return real_open(path, *how, **more)

    monkeypatch.setattr(Path, "replace", rename_until(steps))
    monkeypatch.setattr(Path, "open", open_it)
    assert numbers(tmp_path) == [1, 2]


def test_a_full_page_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE_BYTES_MAX", 10)
    assert write_lines(tmp_path, "house-a", DAY, [line(1)])
    assert not write_lines(tmp_path, "house-a", DAY, [line(2)])
    assert numbers(tmp_path) == [1]


def test_a_page_that_is_no_page_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / diary_file("house-a", DAY)
    path.parent.mkdir()
    path.with_name(path.name + ".gz").write_bytes(b"not packed at all")
    with pytest.raises(BadArchiveError, match=r"diary_2024-07-01\.jsonl: can't be read"):
        numbers(tmp_path)
