"""The journal: what is acknowledged stands here first, synchronised once a batch; the day files follow."""

import struct
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePath
from typing import BinaryIO, NamedTuple

from contracts.errors import BadArchiveError
from recorder.disk import AppendFile, Opener
from runtime.store import sync_folder

_PREFIX = ".journal-"
FORMAT = b"wattbus journal 1\n"
"""What each segment begins with."""
_head = struct.Struct("<II")
"""Before each batch: its length [bytes] and its checksum; what a power cut left half is known by it."""


class Line(NamedTuple):
    """A line and the file in which it stands."""

    path: PurePath
    """Below the data folder."""
    line: bytes
    """With its end."""


class Journal:
    """Batches of lines in numbered segments: the newest grows, an old one goes when it is not needed.

    Args:
        root: the data folder, which exists.
        opener: how a file is opened.
    """

    def __init__(self, root: Path, opener: Opener) -> None:
        self._root = root
        self._opener = opener
        self._old = _segments(root)
        self._number = _number_of(self._old[-1]) if self._old else 0
        self._file: AppendFile | None = None
        self._size = 0
        self._to_cut = False

    def read(self) -> Iterator[list[Line]]:
        """The batches that it holds, in their order.

        Raises:
            OSError: they can't be read.
            BadArchiveError: a segment is of another format.
        """
        for path in self._old if self._file is None else [*self._old, self._path]:
            with path.open("rb") as file:
                yield from _batches(file)

    def append(self, lines: Sequence[Line]) -> None:
        """Return once the lines are on the disk.

        Raises:
            OSError: none of them counts.
        """
        content = b"".join([b"%s %s" % (str(path).encode(), line) for path, line in lines])
        record = _head.pack(len(content), zlib.crc32(content)) + content
        file = self._segment()
        if not self._size:
            record = FORMAT + record
        self._to_cut = True
        file.write(record)
        file.sync()
        self._to_cut = False
        self._size += len(record)

    def begin_segment(self) -> None:
        """What comes from now on stands in another segment than what came before."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._old.append(self._path)

    def carry(self, paths: Collection[PurePath]) -> None:
        """Write what the old segments hold of some files into the newest, so that they need not stay for it.

        Raises:
            OSError: it does not all stand there: the old ones must stay.
        """
        for segment in self._old:
            with segment.open("rb") as file:
                for lines in _batches(file):
                    if kept := [line for line in lines if line.path in paths]:
                        self.append(kept)

    def drop_old(self) -> None:
        """Let go of all segments but the newest: what they hold is on the disk in its own files."""
        while self._old:
            self._old[0].unlink(missing_ok=True)
            del self._old[0]

    def close(self) -> None:
        """Give the handle back; the segments stay."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def _path(self) -> Path:
        return self._root / f"{_PREFIX}{self._number:06}"

    def _segment(self) -> AppendFile:
        if self._file is None:
            self._number += 1
            self._size = 0
            self._file = self._opener(self._path)
            self._to_cut = True
        if self._to_cut:
            self._file.cut(self._size)
            if not self._size:
                sync_folder(self._root)  # its name may be new
            self._to_cut = False
        return self._file


def _segments(root: Path) -> list[Path]:
    """By their numbers: after a year the names have a digit more."""
    found = (path for path in root.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdecimal())
    return sorted(found, key=_number_of)


def _number_of(path: Path) -> int:
    return int(path.name.removeprefix(_PREFIX))


def _batches(file: BinaryIO) -> Iterator[list[Line]]:
    """The whole batches; one that was cut was never acknowledged, nor is there any behind it.

    Raises:
        BadArchiveError: of another format.
    """
    begin = file.read(len(FORMAT))
    if begin != FORMAT:
        # A power cut leaves a file short, or with zeros in it: then nothing in it was ever acknowledged.
        if FORMAT.startswith(begin.rstrip(b"\0")):
            return
        raise BadArchiveError(f"{file.name}: no journal of this version")
    while len(head := file.read(_head.size)) == _head.size:
        length, checksum = _head.unpack(head)
        batch = file.read(length)
        if zlib.crc32(batch) != checksum or not batch:
            return
        pairs = [line.split(b" ", 1) for line in batch.splitlines(keepends=True)]
        yield [Line(PurePath(path.decode()), line) for path, line in pairs]
