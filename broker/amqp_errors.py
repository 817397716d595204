"""aio-pika's errors, turned into ours."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    AMQPConnectionError,
    AuthenticationError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    IncompatibleProtocolError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)
from aiormq.exceptions import ChannelAccessRefused, ConnectionClosed, ConnectionNotAllowed

from broker.errors import BusError, BusRefusedError, BusUnavailableError, NotRoutedError, TopologyError
from broker.tls import what_failed
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
        raise _refusal(error, where, user) or _trouble(error, where) from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        # So aiormq rejects what waits when a connection is closed without a reason, as we close a lost one.
        raise BusUnavailableError(f"{where}: the connection to the broker was lost") from error


def _refusal(error: Exception, where: str, user: str | None) -> BusError | None:
    """What waiting does not change."""
    if (failed := what_failed(error)) is not None:
        return BusRefusedError(f"{where}: {failed}")
    match error:
        case ProbableAuthenticationError() | AuthenticationError():
            who = f"user {user}: check user and password" if user else "our certificate: is it revoked?"
            return BusRefusedError(f"{where}: the broker refused {who}")
        case ChannelAccessRefused():
            return BusRefusedError(
                f"{where}: the broker refused: {error}: see docs/access.md, and ?account= there"
            )
        case ConnectionNotAllowed():
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
        case _:
            return None


def _trouble(error: Exception, where: str) -> BusError:
    match error:
        case ChannelNotFoundEntity():
            return BusUnavailableError(f"{where}: {error}: import the definitions of docs/access.md")
        case IncompatibleProtocolError():
            return BusUnavailableError(f"{where}: no AMQP there: does it want TLS (amqps)?")
        case AMQPConnectionError() if isinstance(error.__cause__, ConnectionResetError | EOFError):
            # TLS 1.3 tells why in words that a reset may overtake.
            return BusUnavailableError(
                f"{where}: the broker hung up; if it always does: is that port for TLS (amqps), and our "
                "certificate (?cert=) of its site and in its time?"
            )
        case PublishError():
            return NotRoutedError(
                f"{where}: no durable queue takes it; start the recorder, or declare its queue"
            )
        case DeliveryError():
            return BusUnavailableError(f"{where}: the broker did not take it: a durable queue is full")
        case _:
            return BusUnavailableError(f"{where}: no broker there: {str(error) or type(error).__name__}")
