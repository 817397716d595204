"""What systemd is told: that we are at work, and again and again that the event loop still turns."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

BEATS = 3
"""So many beats in the time after which the watchdog bites: one may be late."""


SETTLED_S = 3.0
"""Who has not ended by then is at work: a wrong setting, a wrong URL or a full disk ends a service sooner."""


@asynccontextmanager
async def watched(settled_s: float = SETTLED_S) -> AsyncIterator[None]:
    """Tell systemd that we are at work, beat its watchdog as long as the context lasts, and take leave.

    At work is who still runs after `settled_s`, with or without a broker: a house may wait for its network,
    and the machine's start must not wait with it.

    The beat is the event loop's own: who does not turn any more is not heard any more. Without systemd
    (no NOTIFY_SOCKET) nothing is told. Source: sd_notify(3), sd_watchdog_enabled(3).
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        yield
        return
    loop = asyncio.get_running_loop()
    pause_s = _watchdog_s() / BEATS
    with socket.socket(
        socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    ) as line:
        beating: asyncio.TimerHandle | None = None

        def beat() -> None:
            nonlocal beating
            _tell(line, address, b"WATCHDOG=1")
            beating = loop.call_later(pause_s, beat)

        settling = loop.call_later(settled_s, _tell, line, address, b"READY=1")
        if pause_s:
            beat()
        try:
            yield
        finally:
            settling.cancel()
            if beating is not None:
                beating.cancel()
            _tell(line, address, b"STOPPING=1")


def _watchdog_s() -> float:
    """After how long without a beat we are killed [s]; 0: never."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6


def _tell(line: socket.socket, address: str, state: bytes) -> None:
    try:
        line.sendto(state, "\0" + address[1:] if address.startswith("@") else address)
    except OSError:
        # systemd is being replaced, or its queue is full: the next beat tells it.
        return
