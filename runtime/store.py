"""A small durable memory for a service: one Struct in one file, replaced whole or not at all."""

import errno
import os
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from contracts.codec import decode_hook, encode_hook
from runtime.errors import DiskFullError, StoreError

S = TypeVar("S", bound=msgspec.Struct)


class Store(Generic[S]):
    """Keeps a Struct across restarts; with no path, across nothing (a run in memory).

    Args:
        path: the file, made with its folder on the first save; None keeps it in memory.
        kind: the Struct.
        initial: what `load` gives before the first save.
    """

    def __init__(self, path: Path | None, kind: type[S], initial: S) -> None:
        self._path = path
        self._value = initial
        if path is not None and path.exists():
            try:
                self._value = msgspec.json.decode(path.read_bytes(), type=kind, dec_hook=decode_hook)
            except (OSError, msgspec.DecodeError, ValueError) as error:
                raise StoreError(
                    f"{path}: can't be read ({error}); restore it, or remove it to start afresh"
                ) from error

    def load(self) -> S:
        """What was saved last."""
        return self._value

    def save(self, value: S) -> None:
        """Keep `value`; it is on the disk when this returns.

        Raises:
            StoreError: the disk is full or the folder can't be written; the former value stays.
        """
        if self._path is not None:
            replace_file(self._path, msgspec.json.encode(value, enc_hook=encode_hook))
        self._value = value


def replace_file(path: Path, content: bytes, mode: int = 0o666, owner: tuple[int, int] | None = None) -> None:
    """Replace a file whole or not at all; it is on the disk when this returns.

    Args:
        mode: of the file from its first byte on, less the process's umask.
        owner: its user and group by number; None: who runs this.

    Raises:
        StoreError: the disk is full, or the folder can't be written; the former content stays.
    """
    scratch = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.unlink(missing_ok=True)
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(handle, "wb") as file:
            if owner is not None:
                os.fchown(handle, *owner)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        kind = DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
        raise kind(f"{path}: can't be written: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: a new file is lost with its name otherwise."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
