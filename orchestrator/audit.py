"""Who has asked for what and what became of it: one JSON line each, appended and never changed."""

import os
from pathlib import Path
from typing import Literal

import msgspec

from contracts.codec import encode_hook
from contracts.instant import Instant
from contracts.orders import OperatorRequest
from runtime.errors import StoreError
from runtime.store import sync_folder

Outcome = Literal["done", "repeated", "refused"]


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """One request and its outcome."""

    at: Instant
    via: Literal["bus", "http"]
    outcome: Outcome
    text: str
    request: OperatorRequest


class Audit:
    """The audit file; with no path, nothing is kept (a run in memory)."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder(enc_hook=encode_hook)

    def append(self, line: AuditLine) -> None:
        """Write a line; it is on the disk when this returns.

        Raises:
            StoreError: the disk is full, or the file can't be written.
        """
        if self._path is None:
            return
        path = self._path
        try:
            is_new = not path.exists()
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(self._encoder.encode(line) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                sync_folder(path.parent)
        except OSError as error:
            raise StoreError(f"{path}: can't be written: {error.strerror}") from error
