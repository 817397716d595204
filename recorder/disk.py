"""Files of the recorder on the disk: handles that only append, and by what a file is known again."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self


class Stamp(NamedTuple):
    """By which a file is known again: another one, or another's writing, differs in it."""

    device: int
    inode: int
    size: int


ABSENT = Stamp(0, 0, 0)
"""Of a file that is not there."""


def stamp_at(path: Path) -> Stamp:
    """The stamp of the file to which a path leads now."""
    try:
        return stamp_of(os.stat(path))  # noqa: PTH116 - once a file and batch: pathlib's is slower
    except FileNotFoundError:
        return ABSENT


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp in what the system says of a file."""
    return Stamp(status.st_dev, status.st_ino, status.st_size)


class AppendFile:
    """A file that only grows at its end; the system's, with nothing held back in this process.

    Args:
        path: made, with its folders, if it is not there.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._handle = os.open(path, flags, 0o644)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, flags, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self) -> bytes:
        """All of it."""
        pieces: list[bytes] = []
        at = 0
        while piece := os.pread(self._handle, 1 << 20, at):
            pieces.append(piece)
            at += len(piece)
        return b"".join(pieces)

    def write(self, content: bytes) -> None:
        """Put `content` at the end; after an error some of it may be there."""
        left = memoryview(content)
        while left:
            left = left[os.write(self._handle, left) :]

    def cut(self, size: int) -> None:
        """Drop what is past the first `size` bytes."""
        os.ftruncate(self._handle, size)

    def sync(self) -> None:
        """Return once the content is on the disk."""
        os.fsync(self._handle)

    def stamp(self) -> Stamp:
        """By which it is known again."""
        return stamp_of(os.fstat(self._handle))

    def close(self) -> None:
        """Give the handle back."""
        os.close(self._handle)


Opener = Callable[[Path], AppendFile]
