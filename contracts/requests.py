"""A person's request from what was sent over HTTP, checked as if it had come over the bus."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from contracts.codec import decode_hook
from contracts.instant import Instant
from contracts.orders import OperatorRequest

ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""An id, as OpenAPI writes patterns."""


class BadRequestError(ValueError):
    """What was sent is no request; the message says what of it."""


def make_request(fields: Mapping[str, Any]) -> OperatorRequest:
    """The request of these fields.

    Raises:
        BadRequestError: a value out of its range, or a time without a timezone.
    """
    try:
        told = {
            name: str(Instant.of(value)) if isinstance(value, datetime) else value
            for name, value in fields.items()
        }
        return msgspec.convert(told, OperatorRequest, dec_hook=decode_hook)
    except (ValueError, OverflowError) as error:
        raise BadRequestError(str(error)) from error
