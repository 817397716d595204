"""Which files are meant by paths, folders and globs, and whose readings they hold."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple

from contracts.archive import REPLAY
from contracts.errors import BadArchiveError, BadIdError
from contracts.ids import ID_PATTERN, check_id, refuse_reserved

MAIN = "main"
"""The meter of a file that names none."""
_day_name = re.compile(r"(.+)_(\d{4}-\d\d-\d\d)", re.ASCII).fullmatch
_is_id = re.compile(ID_PATTERN, re.ASCII).match


class Source(NamedTuple):
    """A file, and whose rows are in it where the rows themselves do not tell."""

    path: Path
    house: str
    meter: str
    day: date | None = None
    """Of a file that stands where the recorder puts it, which tells all three."""


def find_files(patterns: Iterable[str], faults: list[str]) -> list[Path]:
    """The CSV files that are meant, each once, in the order of their names.

    A folder is searched to its bottom, but for what was replayed into it and what is hidden.

    Args:
        patterns: files, folders or globs.
        faults: told of what leads to nothing.
    """
    found: dict[tuple[int, int], Path] = {}
    for pattern in patterns:
        path = Path(pattern)
        paths = [path] if os.path.lexists(path) else [Path(p) for p in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute patterns
        files = [file for each in sorted(paths) for file in (_in_folder(each) if each.is_dir() else [each])]
        if not files:
            faults.append(f"{pattern}: {'no .csv file in it' if paths else 'no such file'}")
        for file in files:
            try:
                status = file.stat()
            except OSError as error:
                faults.append(f"{file}: can't be read: {error.strerror}")
            else:
                found.setdefault((status.st_dev, status.st_ino), file)
    return sorted(found.values())


def _in_folder(folder: Path) -> Iterator[Path]:
    """Its CSV files; folders that links lead to are entered too, but none twice."""
    entered: set[tuple[int, int]] = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        status = Path(where).stat()
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if name != REPLAY and not name.startswith("."))
        for name in files:
            if name.lower().endswith(".csv") and not name.startswith("."):
                yield Path(where, name)


def full(path: Path) -> Path:
    """The absolute path without any `..`; links in it keep the names that they give."""
    return Path(os.path.normpath(path.absolute()))


def source_of(path: Path, house: str | None, meter: str | None) -> Source:
    """Whose rows a file holds.

    Args:
        path: the file; `.../HOUSE/METER/METER_YYYY-MM-DD.csv` tells both.
        house: of a file that tells none; None: its own name.
        meter: likewise; None: `main`.

    Raises:
        BadArchiveError: a file that tells none has no name to make a house of.
    """
    *_, grandparent, parent, _ = ("", "", *full(path).parts)
    named = _day_name(path.stem)
    if named and named[1] == parent and _is_id(grandparent) and _is_id(parent):
        with suppress(ValueError):
            return Source(path, grandparent, parent, date.fromisoformat(named[2]))
    name = house or re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-_")[:64]
    try:
        refuse_reserved(check_id(name, "house"))
    except BadIdError as error:
        raise BadArchiveError(f"{path}: {error}: name it with --house") from error
    return Source(path, name, meter or MAIN)
