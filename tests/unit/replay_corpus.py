"""CSV files that can't be read, made by code: what is in each, and the line at which it must be said."""

import gzip
import io
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROW_1 = "2024-07-01T00:00:00Z,500"
ROW_2 = "2024-07-01T00:00:10Z,510"
GOOD = f"timestamp,meter_w\n{ROW_1}\n{ROW_2}\n"
RECORDED = "timestamp,meter_w,pv_w,sum_w,boot,seq\n"


class Bad(NamedTuple):
    """A file that must be named in one line."""

    name: str
    content: bytes | Callable[[Path], None]
    """Or what makes the file at a path."""
    line: int | None
    """Where; None: somewhere in it, or in no line at all."""
    plays: bool = False
    """Its rows up to there are played: it was cut short."""

    def write(self, path: Path) -> None:
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        else:
            self.content(path)


def corpus() -> list[Bad]:
    return [
        *_numbers(),
        *_times(),
        *_headers(),
        *_shapes(),
        *_encodings(),
        *_binaries(),
        *_cut(),
        *_ids(),
        *_files(),
    ]


def _numbers() -> Iterator[Bad]:
    texts = (
        "abc", '"1,5"', "1.5.2", "0x10", "1e", "--5", "+", "1 000", "1_000", "nan", "NaN", "inf", "-inf",
        "Infinity", "1e9", "-2e8", "1e400", "$5", "5 W", "true", "None", "#REF!", "١٢", "12,5;", "1e5e5",
    )  # fmt: skip
    for i, text in enumerate(texts):
        yield Bad(
            f"number-{i}", f"timestamp,meter_w\n{ROW_1}\n2024-07-01T00:00:10Z,{text}\n{ROW_2}\n".encode(), 3
        )
    for separator, what in ((";", "semicolon"), ("\t", "tab")):
        rows = GOOD.replace(",", separator).replace("510", "51,5")
        yield Bad(f"decimal-comma-{what}", rows.encode(), 3)
    yield Bad("pv-too-much", b"timestamp,meter_w,pv_w\n2024-07-01T00:00:00Z,1,2e8\n", 2)
    yield Bad("sum-too-much", b"timestamp,meter_w,pv_w\n2024-07-01T00:00:00Z,9e7,9e7\n", 2)


def _times() -> Iterator[Bad]:
    texts = (
        "", "yesterday", "2024-13-01T00:00Z", "2024-02-30T00:00Z", "2024-07-01T25:00Z", "2024-07-01T00:61Z",
        "01.07.2024 00:00", "07/01/2024 00:00", "1719792000", "1719792000.5", "2024-07-01T00:00:00", "2024-07-01",
        "99999-01-01T00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z", "2200-01-01T00:00Z",
        "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "-2024-01-01T00:00Z", "2024-07-01T00:00:00+99:00",
        "2024-07-01T00:00:00 Europe/Paris", "12:00",
    )  # fmt: skip
    for i, text in enumerate(texts):
        yield Bad(f"time-{i}", f"timestamp,meter_w\n{ROW_1}\n{text},500\n{ROW_2}\n".encode(), 3)


def _headers() -> Iterator[Bad]:
    for name, content in {
        "empty": "",
        "newline-only": "\n",
        "newlines-only": "\n\n\n",
        "bom-only": "\ufeff",
        "spaces-only": "   \n",
        "other-names": f"time,power\n{ROW_1}\n",
        "no-power": "timestamp\n2024-07-01T00:00:00Z\n",
        "no-time": "meter_w\n500\n",
        "two-times": f"timestamp,timestamp,meter_w\n{ROW_1},1\n",
        "two-meters": f"timestamp,meter_w,meter_w\n{ROW_1},1\n",
        "two-pvs": f"timestamp,pv_w,pv_w\n{ROW_1},1\n",
        "no-header": f"{ROW_1}\n{ROW_2}\n",
        "other-case": f"Timestamp,Meter_W\n{ROW_1}\n",
        "pipes": GOOD.replace(",", "|"),
        "spaces": GOOD.replace(",", " "),
        "open-quote": f'"timestamp,meter_w\n{ROW_1}\n',
        "comment-first": f"# made by a logger\n{GOOD}",
        "units-first": f"UTC,W\n{GOOD}",
        "sum-alone": f"timestamp,sum_w\n{ROW_1}\n",
    }.items():
        yield Bad(f"header-{name}", content.encode(), 1)
    yield Bad("header-only", b"timestamp,meter_w\n", 2)
    yield Bad("header-only-unended", b"timestamp,meter_w", 2)
    yield Bad("header-and-blank-lines", b"timestamp,meter_w\n\n\n", 2)


def _shapes() -> Iterator[Bad]:
    for separator, what in ((",", "comma"), (";", "semicolon"), ("\t", "tab")):
        first, second = (row.replace(",", separator) for row in (ROW_1, ROW_2))
        head = f"timestamp{separator}meter_w\n{first}\n"
        for name, row in {
            "cell-missing": "2024-07-01T00:00:10Z",
            "cell-too-many": f"{second}{separator}1",
            "other-separator": second.replace(separator, "|"),
            "text-after-quote": f'"2024-07-01T00:00:10Z"x{separator}500',
            "quote-never-closed": f'"{second}',
            "newline-in-number": f'2024-07-01T00:00:10Z{separator}"5\n00"',
            "header-again": f"timestamp{separator}meter_w",
            "prose": "The meter was exchanged here.",
        }.items():
            yield Bad(f"{name}-{what}", f"{head}{row}\n{second}\n".encode(), 3)
    yield Bad("quote-swallows-all", ('timestamp,meter_w\n"' + f"{ROW_1}\n" * 20_000).encode(), 2)


def _encodings() -> Iterator[Bad]:
    noted = f"timestamp,meter_w,note\n{ROW_1},Küche\n"
    for name, codec in (("latin-1", "latin-1"), ("cp1252", "cp1252"), ("mac", "mac-roman")):
        yield Bad(f"encoding-{name}", noted.encode(codec), 2)
        yield Bad(f"encoding-{name}-header", noted.replace("note", "Zähler").encode(codec), 1)
    yield Bad("encoding-shift-jis", f"timestamp,meter_w,メモ\n{ROW_1},電気\n".encode("shift-jis"), 1)
    for codec in ("utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
        yield Bad(f"encoding-{codec}-unmarked", GOOD.encode(codec), 1)
    yield Bad("encoding-utf-16-cut", GOOD.encode("utf-16")[:-1], 3)
    yield Bad("encoding-half-a-letter", noted.encode().replace("ü".encode(), "ü".encode()[:1]), 2)


def _binaries() -> Iterator[Bad]:
    rng = random.Random("binaries")
    for i in range(8):
        yield Bad(f"random-bytes-{i}", rng.randbytes(3000), None)
    yield Bad("png", b"\x89PNG\r\n\x1a\n" + rng.randbytes(500), None)
    yield Bad("gzip", gzip.compress(GOOD.encode(), mtime=0), None)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("sheet1.xml", GOOD)
    yield Bad("xlsx", packed.getvalue(), None)
    yield Bad("pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", 1)
    yield Bad("sqlite", b"SQLite format 3\0" + bytes(100), 1)
    yield Bad("zeros", bytes(5000), 1)
    yield Bad("nul-in-row", GOOD.replace("510", "5\x0010").encode(), 3)
    yield Bad("nul-after-crash", GOOD.encode() + bytes(4096), 4)
    yield Bad("html", b"<!doctype html>\n<title>404</title>\n", 1)
    yield Bad("json", b'[{"timestamp": "2024-07-01T00:00:00Z", "meter_w": 500}]\n', 1)


def _cut() -> Iterator[Bad]:
    whole = f"{RECORDED}2024-07-01T00:00:00.000Z,500.0,10.0,510.0,1,1\n2024-07-01T00:00:10.000Z,501.0,11.0,512.0,1,2"
    last = len(whole.splitlines()[-1])
    for kept in range(1, last - 1, 4):
        yield Bad(f"cut-{kept}", whole[: len(whole) - last + kept].encode(), 3, plays=True)
    yield Bad("cut-in-first-row", f"{RECORDED}2024-07-01T00:0".encode(), 2)
    yield Bad("cut-in-header", RECORDED[:15].encode(), 1)


def _ids() -> Iterator[Bad]:
    for i, house in enumerate(("", "a/b", "..", "replay", "site", "a b", "x" * 65, "häuser", "-a")):
        yield Bad(f"house-{i}", f"house,{GOOD}".replace("\n20", f"\n{house},20").encode(), 2)
    for i, identity in enumerate(("x,1", "1,x", "-1,1", "1.5,1", "1,99999999999999999999", ",")):
        yield Bad(f"identity-{i}", f"{RECORDED}2024-07-01T00:00:00.000Z,1,,,{identity}\n".encode(), 2)


def _files() -> Iterator[Bad]:
    def sparse(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(1 << 30)

    def long_line(path: Path) -> None:
        with path.open("wb") as file:
            file.write(GOOD.encode())
            for _ in range(1 << 10):
                file.write(b"7" * (1 << 10))
            file.truncate(1 << 30)

    yield Bad("gigabyte-line", sparse, 1)
    yield Bad("gigabyte-line-after-rows", long_line, 4)
    yield Bad("link-loop", lambda path: path.symlink_to(path.name), None)
    yield Bad("link-to-nothing", lambda path: path.symlink_to("gone"), None)
    yield Bad("fifo", os.mkfifo, None)
    yield Bad("device", lambda path: path.symlink_to("/dev/null"), None)
    yield Bad("folder", lambda path: path.mkdir(), None)
    yield Bad("folder-of-folders", lambda path: (path / "deep" / "deeper").mkdir(parents=True), None)
    yield Bad("missing", lambda _: None, None)
