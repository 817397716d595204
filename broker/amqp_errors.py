"""aio-pika's errors, turned into ours."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    AuthenticationError,
    ChannelPreconditionFailed,
    DeliveryError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)
from aiormq.exceptions import ChannelAccessRefused, ConnectionClosed, ConnectionNotAllowed

from broker.errors import BusError, BusRefusedError, BusUnavailableError, NotRoutedError, TopologyError
from broker.topology import what_differs

_NOT_ALLOWED = 530


@contextmanager
def translated(where: str, user: str | None = None) -> Iterator[None]:
    """Turn aio-pika's errors into ours."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # aiormq cancels what waits on a connection that is lost; nobody cancelled us.
        raise BusUnavailableError(f"{where}: the connection to the broker was lost") from error
    except TimeoutError as error:
        raise BusUnavailableError(f"{where}: the broker did not answer in time") from error
    except CONNECTION_EXCEPTIONS as error:
        raise _ours(error, where, user) from error


def _ours(error: Exception, where: str, user: str | None) -> BusError:
    match error:
        case ProbableAuthenticationError() | AuthenticationError():
            return BusRefusedError(f"{where}: the broker refused user {user}: check user and password")
        case ConnectionNotAllowed() | ChannelAccessRefused():
            return BusRefusedError(f"{where}: the broker refused: {error}")
        case ConnectionClosed(args=(int(code), *said)) if code == _NOT_ALLOWED:
            return BusRefusedError(f"{where}: the broker refused: {' '.join(map(str, said))}")
        case InvalidFrameError() if "Connection.OpenOk" in str(error):  # all that is left of its reason
            return BusRefusedError(
                f"{where}: the broker refused the vhost: check the end of its URL, and rights"
            )
        case ChannelPreconditionFailed():
            differs = what_differs(str(error))
            return TopologyError(f"{where}: {differs}") if differs else BusRefusedError(f"{where}: {error}")
        case PublishError():
            return NotRoutedError(
                f"{where}: no durable queue takes it; start the recorder, or declare its queue"
            )
        case DeliveryError():
            return BusUnavailableError(f"{where}: the broker did not take it: a durable queue is full")
        case _:
            return BusUnavailableError(f"{where}: no broker there: {str(error) or type(error).__name__}")
