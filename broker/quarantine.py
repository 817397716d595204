"""Quarantine: what can't be decoded or used is kept with its reason, then acknowledged."""

import asyncio
import base64
import os
from pathlib import Path

import msgspec

from broker.transport import Incoming
from runtime.clock import Clock
from runtime.logs import get_log
from runtime.store import sync_folder

DAY_BYTES_MAX = 100_000_000
"""A broken or hostile device must not fill the disk."""


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
        self.count += 1
        self._log.warning("message refused", topic=incoming.name, reason=reason)
        if self._folder is not None:
            now = self._clock.now()
            path = self._folder / f"{now:%Y-%m-%d}.jsonl"
            record = {
                "refused_at": str(now),
                "topic": incoming.name,
                "reason": reason,
                "payload_base64": base64.b64encode(incoming.payload).decode(),
            }
            await asyncio.get_running_loop().run_in_executor(
                None, _append, path, msgspec.json.encode(record) + b"\n"
            )
        await incoming.ack()


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    born = not path.exists()
    if not born and path.stat().st_size > DAY_BYTES_MAX:
        return  # a flood: from here on it is in the log and in the count alone
    with path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if born:
        sync_folder(path.parent)
