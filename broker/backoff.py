"""Waiting for a broker, and how a broker is named to people: never with its credentials."""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_before_delay,
    wait_random_exponential,
)

from broker.errors import BusRefusedError, BusUnavailableError, BusUrlError, TopologyError
from runtime.logs import Log

PORTS = {"amqp": 5672, "amqps": 5671, "mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
"""Where a broker listens when its URL does not say."""

PAUSE_FIRST_S, PAUSE_MAX_S = 0.25, 1.0
"""Bounds of the random pause between two tries: a broker that is back is found within a second."""
SAY_EVERY = 60
"""Of so many tries one is told: about one in half a minute."""

T = TypeVar("T")


def may_pass(error: BaseException) -> bool:
    """Whether one who was let in before tries again: passwords and rights may be put right at the broker."""
    return isinstance(error, BusUnavailableError | BusRefusedError) and not isinstance(error, TopologyError)


def redact(url: str) -> str:
    """The broker a URL names, as host:port; what is in it of a user or a password is gone.

    Raises:
        BusUrlError: it names no host, or a port that is no number.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        host = port = None
    if not host or port is None:
        # The URL is not quoted, nor the library's words: a password may stand where a port should.
        raise BusUrlError(
            "a broker's URL can't be read: write it as scheme://user:password@host:port, "
            "with any / : @ # ? of the password percent-encoded"
        ) from None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def wait_for_broker(
    connect: Callable[[], Awaitable[T]],
    where: str,
    wait_s: float,
    log: Log,
    *,
    tries_again: Callable[[BaseException], bool] = lambda error: isinstance(error, BusUnavailableError),
) -> T:
    """What `connect` returns, tried again while the broker is not there.

    Args:
        where: the broker's host:port.
        wait_s: how long [real s]; 0 tries once, infinity for ever.
        tries_again: whether an error may pass.

    Raises:
        BusUnavailableError: it was not there in that time.
        BusRefusedError: it said no, which waiting does not change.
    """

    def say(state: RetryCallState) -> None:
        if state.attempt_number % SAY_EVERY == 1:
            error = state.outcome.exception() if state.outcome is not None else None
            log.warning("waiting for broker", at=where, tries=state.attempt_number, why=str(error))

    retrying = AsyncRetrying(
        retry=retry_if_exception(tries_again),
        wait=wait_random_exponential(multiplier=PAUSE_FIRST_S, max=PAUSE_MAX_S),
        stop=stop_before_delay(wait_s),
        before_sleep=say,
        reraise=True,
    )
    return await retrying(connect)
