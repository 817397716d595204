"""Standard output whose reader has gone, or whose disk is full: the process ends without a traceback."""

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

READER_GONE = 128 + signal.SIGPIPE
"""The exit code that a shell gives a program which wrote to nobody."""


@contextmanager
def guarded_output() -> Iterator[None]:
    """Have what is printed meanwhile written in the end, if it is this process's own output."""
    own = sys.stdout
    if not isinstance(own, io.TextIOWrapper) or own is not sys.__stdout__:  # somebody here reads it
        yield
        return
    raw = _Stdout(own.fileno(), "wb", closefd=False)
    sys.stdout = io.TextIOWrapper(
        raw if own.write_through else io.BufferedWriter(raw),
        encoding=own.encoding,
        errors=own.errors,
        line_buffering=own.line_buffering,
        write_through=own.write_through,
    )
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = own


class _Stdout(io.FileIO):
    """Raises SystemExit, which no handler of errors takes for something else that can't be written."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())  # for what is still held
            if isinstance(error, BrokenPipeError):
                raise SystemExit(READER_GONE) from None
            raise SystemExit(f"wattbus: the output can't be written: {error.strerror}") from None
