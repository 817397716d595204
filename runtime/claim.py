"""One process at a time for what must not run twice on one machine."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import UsageError


@contextmanager
def claim(path: Path, what: str) -> Iterator[None]:
    """Hold a file as long as the context lasts; it is free again however the process ends.

    Args:
        path: the file, made with its folder.
        what: that must run once alone, for the error's text.

    Raises:
        UsageError: another process holds it, or the file can't be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("wb")
    except OSError as error:
        raise UsageError(f"{path}: can't be written: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{what} runs already: another process holds {path}") from error
        yield
