"""Ids: they become topic levels, routing keys, queue names and file names, so they are narrow."""

import re
from typing import Annotated

import msgspec

from contracts.errors import BadIdError

# \A...\Z and not ^...$: a `$` lets a final newline through.
ID_PATTERN = r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z"

ID_WORDS = "1 to 64 of A-Z a-z 0-9 - _, starting with a letter or digit"

Id = Annotated[str, msgspec.Meta(pattern=ID_PATTERN, description="letters, digits, - and _, at most 64")]

_matches = re.compile(ID_PATTERN, re.ASCII).match


def check_id(text: str, what: str = "id") -> str:
    """Return `text` if it is an id.

    Raises:
        BadIdError: anything else; the message quotes at most the first 40 characters.
    """
    if not _matches(text):
        raise BadIdError(f"{what} {text[:40]!r} is not an id: {ID_WORDS}")
    return text


RESERVED_HOUSES = ("site", "replay")
"""`site` is the house of what belongs to none; `replay` the folder of what was played again."""


def refuse_reserved(house: str) -> None:
    """Refuse a house's name that means something else.

    Raises:
        BadIdError: it does.
    """
    if house.lower() in RESERVED_HOUSES:
        raise BadIdError(f"house {house!r}: this name is taken by wattbus itself: choose another")


def refuse_case_twins(ids: list[str], what: str = "id") -> None:
    """Two ids that differ only in case are one file on some disks: refuse them.

    Raises:
        BadIdError: naming both.
    """
    seen: dict[str, str] = {}
    for text in ids:
        twin = seen.setdefault(text.lower(), text)
        if twin != text:
            raise BadIdError(f"{what}s {twin!r} and {text!r} differ only in case: rename one")
