"""Rows of one file in order of time, however long it is: they wait on the disk, sorted piece by piece."""

import os
import struct
import tempfile
from collections.abc import Iterator
from heapq import merge
from itertools import islice
from math import isnan, nan
from typing import BinaryIO

from recorder.replay.model import Row

SORTED_AT_ONCE = 50_000
"""Rows that are sorted in memory."""
_packed = struct.Struct("<qiqdddqq")
_READ_ROWS = 500


def in_order(rows: Iterator[Row]) -> Iterator[Row]:
    """The rows of one file in order of time.

    Raises:
        OSError: the disk does not take them.
    """
    with tempfile.TemporaryFile() as file:
        pieces: list[tuple[int, int]] = []
        number = 0
        while piece := sorted(islice(rows, SORTED_AT_ONCE)):
            number = piece[0].file
            begin = file.tell()
            file.write(b"".join(map(_pack, piece)))
            pieces.append((begin, file.tell()))
        file.flush()
        yield from merge(*(_unpacked(file, number, *piece) for piece in pieces))


def _pack(row: Row) -> bytes:
    boot, seq = row.identity or (-1, -1)
    pv_w = nan if row.pv_w is None else row.pv_w
    sum_w = nan if row.sum_w is None else row.sum_w
    return _packed.pack(row.at_ms, row.series, row.number, row.meter_w, pv_w, sum_w, boot, seq)


def _unpacked(file: BinaryIO, number: int, begin: int, end: int) -> Iterator[Row]:
    while begin < end:
        piece = os.pread(file.fileno(), min(_READ_ROWS * _packed.size, end - begin), begin)
        begin += len(piece)
        for at_ms, series, line, meter_w, pv_w, sum_w, boot, seq in _packed.iter_unpack(piece):
            yield Row(
                at_ms,
                series,
                number,
                line,
                meter_w,
                None if isnan(pv_w) else pv_w,
                None if isnan(sum_w) else sum_w,
                None if boot < 0 else (boot, seq),
            )
