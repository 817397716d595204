"""What is sent over HTTP to change something, and the request on the bus it becomes."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from contracts.instant import Instant
from contracts.orders import OperatorRequest
from contracts.requests import ID, make_request


class RequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person wants of a house."""

    action: Literal["pause", "resume", "safe", "release", "ev_plan"]
    user: Annotated[str, Meta(pattern=ID, description="who asks; absent: whose token it is")] | None = None
    der_id: Annotated[str, Meta(pattern=ID, description="absent: all of the house")] | None = None
    until: Annotated[datetime, Meta(description="absent: until it is taken back")] | None = None
    departure_at: Annotated[datetime, Meta(description="when the car leaves")] | None = None
    target_soc_percent: Annotated[float, Meta(description="0 to 100")] | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""


def request_of(body: RequestBody, house: str, user: str, request_id: str, now: Instant) -> OperatorRequest:
    """The request that a body is, checked as if it had come over the bus.

    Args:
        body: it.
        house: whose.
        user: who asks, by his token or else by his word.
        request_id: a new one.
        now: when it is asked.

    Raises:
        BadRequestError: a value out of its range, or a time without a timezone.
    """
    given = {name: getattr(body, name) for name in body.__struct_fields__}
    return make_request({**given, "house": house, "user": user, "request_id": request_id, "issued_at": now})
