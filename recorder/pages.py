"""The diary's pages: what was heard of a house on one day, a JSON line each; compressed once it is over."""

import gzip
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import date
from io import BufferedReader
from pathlib import Path

import msgspec

from contracts.archive import diary_file
from contracts.codec import decode_hook, encode_hook
from contracts.errors import BadArchiveError
from contracts.instant import Instant
from runtime.store import sync_folder

COMPRESSED = ".gz"
_MAGIC = b"\x1f\x8b"
"""What a compressed file begins with, and no line."""
PAGE_BYTES_MAX = 1 << 28
"""A device that floods its house's topics must not fill the disk."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One message as it was heard."""

    heard_at: Instant
    topic: str
    message: msgspec.Raw
    """As it stood on the wire."""


_encoder = msgspec.json.Encoder(enc_hook=encode_hook)
_decoder = msgspec.json.Decoder(Line, dec_hook=decode_hook)


def write_lines(root: Path, house: str, day: date, lines: Iterable[Line]) -> bool:
    """Append to a house's page; False, and nothing is written, once the page is full.

    Raises:
        OSError: the disk does not take it; what it took of the last line is told from a line when read.
    """
    path = root / diary_file(house, day)
    path.parent.mkdir(parents=True, exist_ok=True)
    if _is_compressed(path):
        compress_page(path)  # a crash came between its two steps
    with path.open("ab") as page:
        if page.tell() > PAGE_BYTES_MAX:
            return False
        # What a power cut tore stays a line of its own.
        start = b"\n" if _is_torn(path) else b""
        page.write(start + b"".join(_encoder.encode(line) + b"\n" for line in lines))
    return True


def compress_page(path: Path) -> Path:
    """The page of a day that is over, in a tenth of the space; the page itself is gone then.

    All of the day takes the page's place, and then the compressed one's, which it has in it: wherever a crash
    comes between, no line is there twice, and the next call goes on.

    Raises:
        OSError: the disk does not take it; the page stays.
    """
    packed = path.with_name(path.name + COMPRESSED)
    if not _is_compressed(path):
        scratch = path.with_name(path.name + ".new")
        with path.open("rb") as page, scratch.open("wb") as file:
            if packed.exists():  # a clock that was set back has begun the day again
                file.write(packed.read_bytes())
            # No name and no time in it: the same page, the same bytes.
            with gzip.GzipFile("", "wb", mtime=0, fileobj=file) as packing:
                shutil.copyfileobj(page, packing)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
        sync_folder(path.parent)
    path.replace(packed)
    sync_folder(path.parent)
    return packed


def read_page(root: Path, house: str, day: date) -> Iterator[Line]:
    """The lines of a house's page in the order in which they were heard; torn ones are passed over.

    Raises:
        BadArchiveError: the page can't be read.
    """
    path = root / diary_file(house, day)
    packed = path.with_name(path.name + COMPRESSED)
    try:
        with ExitStack() as stack:
            # Both before any is read: what they had then is all of it, whatever compresses them meanwhile.
            over, page = _opened(packed, stack), _opened(path, stack)
            if page is None:
                over = _opened(packed, stack)  # the page may have gone into it between the two
            elif page.peek(len(_MAGIC)).startswith(_MAGIC):
                over, page = page, None  # it has both in it
            if over is not None:
                yield from _lines_in(stack.enter_context(gzip.open(over)))
            if page is not None:
                yield from _lines_in(page)
    except (OSError, EOFError) as error:
        raise BadArchiveError(f"{path}: can't be read: {error}") from error


def _lines_in(page: Iterable[bytes]) -> Iterator[Line]:
    for text in page:
        try:
            yield _decoder.decode(text)
        except (msgspec.DecodeError, ValueError):
            continue


def _opened(path: Path, stack: ExitStack) -> BufferedReader | None:
    try:
        return stack.enter_context(path.open("rb"))
    except FileNotFoundError:
        return None


def _is_compressed(path: Path) -> bool:
    try:
        with path.open("rb") as page:
            return page.read(len(_MAGIC)) == _MAGIC
    except FileNotFoundError:
        return False


def _is_torn(path: Path) -> bool:
    with path.open("rb") as page:
        if page.seek(0, os.SEEK_END) == 0:
            return False
        page.seek(-1, os.SEEK_END)
        return page.read(1) != b"\n"
