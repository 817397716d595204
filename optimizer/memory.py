"""What the optimizer remembers across a restart: every house's peaks, in one small file."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from contracts.instant import Instant
from optimizer.model import Remembered
from runtime.errors import StoreError
from runtime.logs import get_log
from runtime.store import Store

FILE = "optimizer.json"
"""Below the state folder. One for all houses: a file each would cost two waits for the disk each."""
KEEP_S = 40 * 86400.0
"""A house that was last heard so long ago is in another billing month."""


class Memory(msgspec.Struct, frozen=True):
    """By house."""

    houses: Mapping[str, Remembered] = {}


def open_memory(path: Path | None) -> Store[Memory]:
    """The memory in a file; what can't be read is put aside, with a line in the log, and forgotten.

    Args:
        path: the file; None keeps it in memory.

    Raises:
        StoreError: it can neither be read nor put aside.
    """
    try:
        return Store(path, Memory, Memory())
    except StoreError as error:
        if path is None:
            raise
        aside = path.with_suffix(".unreadable")
        get_log("optimizer").warning("the month's peaks are not known", why=str(error), moved_to=str(aside))
        try:
            path.replace(aside)
        except OSError as fault:
            raise StoreError(f"{path}: can't be read, nor put aside: {fault.strerror}") from error
        return Store(path, Memory, Memory())


def merged(kept: Memory, heard: Mapping[str, Remembered], now: Instant) -> Memory:
    """What is known of the houses heard, beside what is remembered of others that may come back."""
    others = {house: known for house, known in kept.houses.items() if now.seconds_since(known.at) < KEEP_S}
    return Memory({**others, **heard})
