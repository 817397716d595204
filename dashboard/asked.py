"""What is sent over HTTP to change something, and the request on the bus it becomes."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from contracts.codec import decode_hook
from contracts.instant import Instant
from contracts.messages import OperatorRequest

ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""An id, as OpenAPI writes patterns."""


class BadRequestError(ValueError):
    """What was sent is no request; the message says what of it."""


class RequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person wants of a house."""

    action: Literal["pause", "resume", "safe", "release", "ev_plan"]
    user: Annotated[str, Meta(pattern=ID, description="who asks; it is written down")] = "dashboard"
    der_id: Annotated[str, Meta(pattern=ID, description="absent: all of the house")] | None = None
    until: Annotated[datetime, Meta(description="absent: until it is taken back")] | None = None
    departure_at: Annotated[datetime, Meta(description="when the car leaves")] | None = None
    target_soc_percent: Annotated[float, Meta(description="0 to 100")] | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""


def request_of(body: RequestBody, house: str, request_id: str, now: Instant) -> OperatorRequest:
    """The request that a body is, checked as if it had come over the bus.

    Raises:
        BadRequestError: a value out of its range, or a time without a timezone.
    """
    given = {name: getattr(body, name) for name in body.__struct_fields__}
    fields = {**given, "house": house, "request_id": request_id, "issued_at": now}
    try:
        told = {
            name: str(Instant.of(value)) if isinstance(value, datetime) else value
            for name, value in fields.items()
        }
        return msgspec.convert(told, OperatorRequest, dec_hook=decode_hook)
    except (ValueError, OverflowError) as error:
        raise BadRequestError(str(error)) from error
