"""What is sent over HTTP to change something, and the request it becomes."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from contracts.instant import Instant
from contracts.orders import OperatorRequest
from contracts.requests import ID, make_request

Name = Annotated[str, Meta(pattern=ID)]


class ObjectivesBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other objectives than the settings'; null: as in the settings."""

    prefer_self_consumption: bool | UnsetType | None = UNSET
    arbitrage_threshold: (
        Annotated[float, Meta(description="below this price electricity is cheap")] | UnsetType | None
    ) = UNSET
    reserve_soc_percent: Annotated[float, Meta(description="0 to 100")] | UnsetType | None = UNSET
    max_battery_cycles_per_day: Annotated[float, Meta(description="0 to 100")] | UnsetType | None = UNSET

    def whole(self) -> dict[str, Any]:
        """Every objective; what is absent goes back to the settings."""
        return {**dict.fromkeys(self.__struct_fields__), **self.partly()}

    def partly(self) -> dict[str, Any]:
        """Those that are there."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in found.items() if value is not UNSET}


class RequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person wants of a house; the same `request_id` again changes nothing."""

    action: Literal["pause", "resume", "safe", "release", "ev_plan", "objectives"]
    user: Annotated[str, Meta(pattern=ID, description="who asks; absent: whose token it is")] | None = None
    request_id: Annotated[str, Meta(pattern=ID, description="absent: a new one")] | None = None
    issued_at: Annotated[datetime, Meta(description="absent: now")] | None = None
    der_id: Annotated[str, Meta(pattern=ID, description="absent: all of the house")] | None = None
    until: Annotated[datetime, Meta(description="absent: until it is taken back")] | None = None
    departure_at: datetime | None = None
    target_soc_percent: Annotated[float, Meta(description="0 to 100")] | None = None
    objectives: ObjectivesBody | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""


def request_of(body: RequestBody, house: str, user: str, request_id: str, now: Instant) -> OperatorRequest:
    """The request that a body is.

    Args:
        body: it.
        house: whose.
        user: who asks, by his token or else by his word.
        request_id: if the body names none.
        now: if it has no time.

    Raises:
        BadRequestError: a value out of its range, or a time without a timezone.
    """
    fields = {name: getattr(body, name) for name in body.__struct_fields__}
    if body.objectives is not None:
        fields["objectives"] = body.objectives.partly()
    return make_request(
        {
            **fields,
            "house": house,
            "user": user,
            "request_id": body.request_id or request_id,
            "issued_at": body.issued_at or now,
        }
    )
