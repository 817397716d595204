"""The plant API's JSON, field for field; the poller reads what the server writes."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Mw = Annotated[float, Meta(ge=0, le=1e6, description="MW")]
Range = Annotated[list[Mw], Meta(min_length=2, max_length=2, description="lowest and highest, MW")]
Stamp = Annotated[str, Meta(max_length=40, description="RFC 3339 in UTC, with microseconds and Z")]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One source of generation, or one container that consumes."""

    source_timestamp: Stamp
    status: Annotated[str, Meta(max_length=40, description="success, or why there is no value")]
    value_mw: Mw


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The parts' sums, and what is left to export; negative if more is consumed than generated."""

    consumption_mw: Mw
    exported_mw: Annotated[float, Meta(ge=-1e6, le=1e6, description="MW")]
    generation_mw: Mw


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What the plant thinks of its own reading."""

    confidence_score: Annotated[float, Meta(ge=0, le=1)]
    status: Annotated[str, Meta(max_length=40)]
    summary: Annotated[str, Meta(max_length=1000)]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """The plant at one instant."""

    collection_timestamp: Stamp
    consumption: Annotated[dict[str, Part], Meta(max_length=100)]
    generation: Annotated[dict[str, Part], Meta(max_length=100)]
    totals: Totals
    trust: Trust


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/data/latest`."""

    reading: Reading


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/health`, in MW."""

    status: Literal["ok"]
    generation_range: Range
    consumption_range: Range
    current_generation: float
    current_consumption: float
