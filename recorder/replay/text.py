"""A CSV file as records of cells, whatever its encoding, separator and line ends; line by line."""

import csv
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

from contracts.errors import BadArchiveError

LINE_MAX = 65_536
"""A longer line is no row [characters]: it is refused before it takes memory."""
SEPARATORS = (",", ";", "\t")
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
UNREADABLE = "\ufffd"
"""What stands where bytes were no text."""


class Table:
    """The records of an open file: its header, then its rows, each with the number of its first line."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path = path
        self._file = file
        self.unended: int | None = None
        """The number of the last line, if the file stops in it."""
        self._lines = self._read_lines()
        first = next(self._lines, "")
        self.header, separator = _header(path, first)
        self._reader = csv.reader(self._lines, delimiter=separator, strict=True)

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and cells of each row; empty lines are passed over.

        Raises:
            BadArchiveError: no text, no CSV, or a line too long; file and line are named.
        """
        number = 2
        try:
            for cells in self._reader:
                if cells:
                    yield number, cells
                number = self._reader.line_num + 2
        except csv.Error as error:
            raise BadArchiveError(f"{self._path}:{number}: not a CSV line: {error}") from error

    def _read_lines(self) -> Iterator[str]:
        number = 0
        for number, line in enumerate(iter(partial(self._file.readline, LINE_MAX), ""), start=1):
            if line[-1] != "\n":
                if len(line) == LINE_MAX:
                    self._refuse(number, f"longer than {LINE_MAX} characters: no CSV")
                self.unended = number
            if "\0" in line:
                self._refuse(number, "a NUL: no text, or UTF-16 without its mark: save it as UTF-8")
            if UNREADABLE in line:
                self._refuse(number, "neither UTF-8 nor UTF-16 with its mark: save it as UTF-8")
            yield line
        if not number:
            self._refuse(1, "empty: the first line must name the columns")

    def _refuse(self, number: int, why: str) -> None:
        raise BadArchiveError(f"{self._path}:{number}: {why}")


@contextmanager
def open_table(path: Path) -> Iterator[Table]:
    """A CSV file, its header read.

    Raises:
        BadArchiveError: it can't be read, or its first line is no header.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadArchiveError(f"{path}: not a file: give a CSV file, or a folder of them")
        with path.open("rb") as raw:
            encoding = "utf-16" if raw.read(2) in UTF_16_MARKS else "utf-8-sig"
        with path.open(encoding=encoding, errors="replace") as file:
            yield Table(path, file)
    except OSError as error:
        raise BadArchiveError(f"{path}: can't be read: {error.strerror or error}") from error


def _header(path: Path, line: str) -> tuple[list[str], str]:
    """The names of the columns, and the separator: the one that makes most columns of the first line."""
    names, separator = max(
        ((_split(line, mark), mark) for mark in SEPARATORS), key=lambda found: len(found[0])
    )
    if not names:
        raise BadArchiveError(f"{path}:1: not a CSV line: the first line must name the columns")
    return [name.strip() for name in names], separator


def _split(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error:
        return []
