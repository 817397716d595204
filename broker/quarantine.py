"""Quarantine: what can't be decoded or used is kept with its reason, then acknowledged."""

import asyncio
import base64
import binascii
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from broker.transport import Incoming
from runtime.clock import Clock
from runtime.errors import StoreError
from runtime.logs import get_log
from runtime.store import sync_folder

DAY_BYTES_MAX = 100_000_000
"""A broken or hostile device must not fill the disk."""
RETRIED = "retried.jsonl"
"""What was published again, beside the folders of what was refused."""
ID_DIGITS = 12


class Refusal(msgspec.Struct, frozen=True):
    """One refused message: a line of a file a day."""

    refused_at: str
    topic: str
    reason: str
    payload_base64: str

    @property
    def payload(self) -> bytes:
        """What came."""
        return base64.b64decode(self.payload_base64)

    @property
    def entry(self) -> str:
        """The same for each time that this payload was refused on this topic, and for no other."""
        digest = hashlib.sha256(self.topic.encode(errors="surrogatepass") + b"\n" + self.payload)
        return digest.hexdigest()[:ID_DIGITS]


class Retry(msgspec.Struct, frozen=True):
    """That an entry was published again."""

    entry: str
    retried_at: str


class Quarantine:
    """One JSON line for each refused message, in a file a day; durable before it is acknowledged.

    Args:
        folder: where; None keeps none and only logs and counts (the live plane, where the next
            message replaces a bad one).
        clock: for the day and the time of refusal.
    """

    def __init__(self, folder: Path | None, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._log = get_log("broker")
        self.count = 0

    async def put(self, incoming: Incoming, reason: str) -> None:
        """Keep the message with its reason, then acknowledge it.

        Raises:
            OSError: it can't be kept; then it is not acknowledged either.
        """
        if self._folder is not None:
            now = self._clock.now()
            path = self._folder / f"{now:%Y-%m-%d}.jsonl"
            payload = base64.b64encode(incoming.payload).decode()
            line = msgspec.json.encode(Refusal(str(now), incoming.name, reason, payload)) + b"\n"
            await asyncio.get_running_loop().run_in_executor(None, _append, path, line, DAY_BYTES_MAX)
        self.count += 1
        self._log.warning("message refused", topic=incoming.name, reason=reason)
        await incoming.ack()


class QuarantineFolder:
    """What all services of one state folder have refused, and what of it was published again.

    Args:
        folder: `quarantine` in the state folder; it may not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.damaged = 0
        """Lines that were cut or changed, among those that were read last."""

    def refusals(self) -> Iterator[Refusal]:
        """Each, in the order in which they came.

        Raises:
            StoreError: a file can't be read.
        """
        self.damaged = 0
        paths = [path for path in self._folder.rglob("*.jsonl") if path.name != RETRIED]
        for path in sorted(paths, key=lambda path: (path.name, path)):
            for line in _lines(path):
                try:
                    refusal = msgspec.json.decode(line, type=Refusal)
                    base64.b64decode(refusal.payload_base64, validate=True)
                except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error):
                    self.damaged += 1
                else:
                    yield refusal

    def retries(self) -> dict[str, str]:
        """When each entry was published again for the last time.

        Raises:
            StoreError: the file can't be read; without it an entry might be published twice.
        """
        path = self._folder / RETRIED
        try:
            retries = [msgspec.json.decode(line, type=Retry) for line in _lines(path)]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{path}: damaged ({error}): mend its last line, or remove it") from error
        return {retry.entry: retry.retried_at for retry in retries}

    def mark(self, retry: Retry) -> None:
        """Remember durably that an entry was published again.

        Raises:
            StoreError: the disk does not take it.
        """
        path = self._folder / RETRIED
        try:
            _append(path, msgspec.json.encode(retry) + b"\n", None)
        except OSError as error:
            raise StoreError(f"{path}: can't be written: {error.strerror}") from error


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path}: can't be read: {error.strerror}") from error


def _append(path: Path, line: bytes, bytes_max: int | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    born = not path.exists()
    if not born and bytes_max is not None and path.stat().st_size > bytes_max:
        return  # a flood: from here on it is in the log and in the count alone
    with path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if born:
        sync_folder(path.parent)
