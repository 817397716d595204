"""Messages to bytes and back: JSON, checked against type, range and address."""

from functools import cache
from typing import Any, TypeVar

import msgspec

from contracts.errors import BadMessageError
from contracts.instant import Instant
from contracts.messages import Message
from contracts.topics import Address

MAX_BYTES = 1 << 20
"""A payload larger than this is refused unread."""

FIRST_YEAR, LAST_YEAR = 1970, 2199
"""What calendars, sun tables and arithmetic on times can do."""

M = TypeVar("M", bound=Message)


def encode_hook(value: object) -> str:
    """The form on the wire of what msgspec does not know."""
    if isinstance(value, Instant):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} has no form on the wire")


def decode_hook(kind: type, value: Any) -> Any:  # noqa: ANN401 - msgspec's signature
    """What msgspec does not know, from its form on the wire."""
    if kind is Instant:
        moment = Instant.parse(value)
        if not FIRST_YEAR <= moment.year <= LAST_YEAR:
            raise ValueError(f"{moment} is no time of this system: {FIRST_YEAR} to {LAST_YEAR}")
        return moment
    raise NotImplementedError(f"{kind.__name__} has no form on the wire")


_encoder = msgspec.json.Encoder(enc_hook=encode_hook)


@cache
def _decoder(kind: type[M]) -> msgspec.json.Decoder[M]:
    return msgspec.json.Decoder(kind, dec_hook=decode_hook)


def encode(message: Message) -> bytes:
    """JSON, as it stands on the wire."""
    return _encoder.encode(message)


def decode(kind: type[M], payload: bytes) -> M:
    """The message in `payload`.

    Raises:
        BadMessageError: not JSON, a missing field, a wrong type, out of range, not finite.
    """
    if len(payload) > MAX_BYTES:
        raise BadMessageError(f"{len(payload)} bytes: more than the {MAX_BYTES} a message may have")
    try:
        message: M = _decoder(kind).decode(payload)
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise BadMessageError(f"not a {kind.__name__}: {error}") from error
    return message


def decode_at(address: Address[M], payload: bytes) -> M:
    """The message in `payload`, which must speak for the address it came to.

    Raises:
        BadMessageError: as `decode`, or the payload names another house or device than its topic.
    """
    message = decode(address.topic.message, payload)
    for slot, text in address.ids.items():
        stated = getattr(message, slot, text)
        if stated != text:
            raise BadMessageError(
                f"{slot} is {stated!r} in the payload but {text!r} in the topic {address.name}"
            )
    return message
