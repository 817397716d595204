"""Acknowledgements on one AMQP channel, many in one frame: one by one they cost more than all the rest."""

import asyncio
from collections.abc import Awaitable, Callable

from broker.errors import BusError
from runtime.logs import Log

Send = Callable[[int, bool], Awaitable[None]]
"""Acknowledges a delivery tag, and with True all before it."""


class Acks:
    """What is done is acknowledged soon: with all before it, or alone if one of those is not done.

    Args:
        send: to the broker; raises BusError when the channel is gone.
        log: told when they don't arrive.
    """

    def __init__(self, send: Send, log: Log) -> None:
        self._send = send
        self._log = log
        self._owed: dict[int, bool] = {}
        """Each tag that came, rising, and whether it is done."""
        self._some_done: list[int] = []
        self._flushing: asyncio.Task[None] | None = None

    def expect(self, tag: int) -> None:
        """A message has come."""
        self._owed[tag] = False

    def done(self, tag: int) -> None:
        """It has had its effect."""
        self._owed[tag] = True
        self._some_done.append(tag)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())

    async def finish(self) -> None:
        """Return once all that is done is acknowledged, or can't be."""
        while self._flushing is not None:
            await asyncio.wait([self._flushing])

    async def _flush(self) -> None:
        try:
            while self._some_done:
                for tag, with_all_before in self._due():
                    await self._send(tag, with_all_before)
        except BusError as error:
            self._log.debug("acknowledged after the channel was lost: it comes again", why=str(error))
        finally:
            self._flushing = None

    def _due(self) -> list[tuple[int, bool]]:
        done, self._some_done = self._some_done, []
        first: list[tuple[int, bool]] = []
        for tag, is_done in list(self._owed.items()):
            if not is_done:
                break
            del self._owed[tag]
            first = [(tag, True)]
        return first + [(tag, False) for tag in done if self._owed.pop(tag, False)]
