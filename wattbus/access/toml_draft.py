"""Changes to a TOML file that a person keeps: their comments, order and spelling stay."""

import copy
import json
import tomllib
from typing import Any

Name = tuple[str, ...]
"""Of a table, level by level; empty: the top of the file."""


class TomlDraftError(ValueError):
    """The file is written in a way in which it can't be changed line by line."""


class TomlDraft:
    """A TOML file being changed: each change is made in its lines, and in what they are to mean.

    Raises:
        TOMLDecodeError: it is no TOML.
    """

    def __init__(self, text: str) -> None:
        self._document = tomllib.loads(text)
        self._tables: list[tuple[Name, list[str]]] = [((), [])]
        for line in text.rstrip("\n").split("\n"):
            if (name := _table_of(line)) is not None:
                self._tables.append((name, [*_comments_above(self._tables[-1][1]), line]))
            else:
                self._tables[-1][1].append(line)

    def table(self, *name: str) -> dict[str, Any]:
        """What a table says; empty if there is none."""
        found: Any = self._document
        for part in name:
            found = found.get(part) if isinstance(found, dict) else None
        return copy.deepcopy(found) if isinstance(found, dict) else {}

    def put(self, name: Name, key: str, value: str | bool) -> None:  # noqa: FBT001 - what is written
        """Have a key say something; its table is made if it is missing."""
        target = self._document
        for part in name:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise TomlDraftError(f"[{'.'.join(name)}] is no table")
        is_new, target[key] = key not in target, value
        line = f"{key} = {json.dumps(value, ensure_ascii=False)}"
        lines = self._lines(name)
        if is_new:
            lines.insert(_end(lines), line)
        else:
            lines[:] = [line if _key_of(old) == key else old for old in lines]

    def take(self, key: str) -> None:
        """Have a key at the top say nothing any more."""
        self._document.pop(key, None)
        lines = self._lines(())
        lines[:] = [line for line in lines if _key_of(line) != key]

    def shelve(self, *name: str) -> None:
        """Turn a table, and those below it, into comments: nobody's work is lost."""
        above = self._document
        for part in name[:-1]:
            above = above[part]
        above.pop(name[-1], None)
        for index, (other, lines) in enumerate(self._tables):
            if other[: len(name)] == name:
                shelved = [f"# {line}" if line.strip(" #") else line for line in lines]
                self._tables[index] = ((), shelved)

    def text(self) -> str:
        """The file as it is to be.

        Raises:
            TomlDraftError: its lines do not say what they should.
        """
        text = "\n".join(line for _, lines in self._tables for line in lines).strip("\n") + "\n"
        try:
            is_right = _filled(tomllib.loads(text)) == _filled(self._document)
        except tomllib.TOMLDecodeError:
            is_right = False
        if not is_right:
            raise TomlDraftError("its keys and tables are not written one a line")
        return text

    def _lines(self, name: Name) -> list[str]:
        for other, lines in self._tables:
            if other == name:
                return lines
        lines = ["", f"[{'.'.join(name)}]"]
        self._tables.append((name, lines))
        return lines


def _filled(table: dict[str, Any]) -> dict[str, Any]:
    """Without the tables that say nothing: one that held another alone may have gone with it."""
    inner = {key: _filled(value) if isinstance(value, dict) else value for key, value in table.items()}
    return {key: value for key, value in inner.items() if value != {}}


def _table_of(line: str) -> Name | None:
    """The table that begins with this line; None: none does."""
    if not line.lstrip().startswith("["):
        return None
    try:
        found: Any = tomllib.loads(f"{line}\n")
    except tomllib.TOMLDecodeError:
        return None  # it goes on with a value
    name: list[str] = []
    while isinstance(found, dict) and found:
        ((part, found),) = found.items()
        name.append(part)
    return tuple(name)


def _key_of(line: str) -> str | None:
    """The key of a line that says one; None: it says none, or not all of it."""
    try:
        return next(iter(tomllib.loads(f"{line}\n")), None) if _table_of(line) is None else None
    except tomllib.TOMLDecodeError:
        return None


def _comments_above(lines: list[str]) -> list[str]:
    """Taken from the end of these lines: what is said right above a table is said of it."""
    comments: list[str] = []
    while lines and lines[-1].lstrip().startswith("#"):
        comments.insert(0, lines.pop())
    return comments


def _end(lines: list[str]) -> int:
    """Behind the last line that is not empty."""
    return max((index for index, line in enumerate(lines, 1) if line.strip()), default=0)
