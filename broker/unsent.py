"""LIVE messages that a stalled broker does not take yet: bounded, and of more the oldest is dropped."""

from collections import deque

UNSENT_MAX = 1_000
UNSENT_BYTES_MAX = 8 << 20
"""So many messages wait, and so many bytes of them."""


class Unsent:
    """Names and payloads, the oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, name: str, payload: bytes) -> int:
        """Have one more wait; returns how many had to be dropped for it."""
        self._waiting.append((name, payload))
        self._bytes += len(payload)
        dropped = 0
        while len(self._waiting) > UNSENT_MAX or self._bytes > UNSENT_BYTES_MAX:
            self.take()
            dropped += 1
        return dropped

    def take(self) -> tuple[str, bytes]:
        """The oldest, which waits no more."""
        name, payload = self._waiting.popleft()
        self._bytes -= len(payload)
        return name, payload

    def clear(self) -> int:
        """Drop all; returns how many they were."""
        dropped = len(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        return dropped
