"""The poller's own HTTP: how it stands with the plant, and the last reading that could be believed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from litestar import Litestar, Response, get
from litestar.openapi import ResponseSpec
from msgspec import Meta
from prometheus_client.registry import Collector

from contracts.instant import Instant
from plant.polling import Condition
from runtime.bearer import Guards
from runtime.clock import Clock
from runtime.door import Door
from runtime.logs import get_log
from runtime.web import web_app


class LastReading(msgspec.Struct, frozen=True, kw_only=True):
    """The last that could be believed."""

    timestamp: datetime
    age_s: float
    generation_kw: float
    consumption_kw: float
    available_kw: Annotated[float, Meta(description="negative if more is consumed")]


class PollerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with the plant."""

    status: Literal["ok", "ailing"]
    plant_id: str
    failures: Annotated[int, Meta(description="in a row")]
    why: Annotated[str, Meta(description="the last failure; empty: none")]
    since: datetime | None
    last: Annotated[LastReading | None, Meta(description="kept, however old; null: none yet")]


def poller_api(
    plant_id: str,
    condition: Condition,
    clock: Clock,
    collectors: Sequence[Collector] = (),
    door: Door | None = None,
) -> Litestar:
    """The application; /metrics shows what the collectors give.

    Args:
        plant_id: which plant it asks.
        condition: how that stands.
        clock: the service's.
        collectors: what it counts.
        door: who may read, as there is a reading in it; None: whoever is on this machine.
    """
    guards = Guards(door or Door(), "plant_poller")
    ailing = {503: ResponseSpec(PollerHealth, description="ailing", generate_examples=False)}

    @get("/health", sync_to_thread=False, **guards.reads_all(ailing))
    def health() -> Response[PollerHealth]:
        """Whether the plant answers and can be believed, and if not, why."""
        told = health_of(plant_id, condition, clock)
        return Response(told, status_code=200 if told.status == "ok" else 503)

    return web_app(
        [health],
        title="Plant poller",
        description="Puts what a plant API says on the bus.",
        log=get_log("plant_poller"),
        guards=guards,
        collectors=collectors,
    )


def health_of(plant_id: str, condition: Condition, clock: Clock) -> PollerHealth:
    """What there is to say."""
    last, since = condition.last, condition.since
    reading = None
    if last is not None:
        reading = LastReading(
            timestamp=_plain(last.timestamp),
            age_s=round(clock.now().seconds_since(last.timestamp), 3),
            generation_kw=round(last.generation_w / 1000, 6),
            consumption_kw=round(last.consumption_w / 1000, 6),
            available_kw=round((last.generation_w - last.consumption_w) / 1000, 6),
        )
    return PollerHealth(
        status="ailing" if condition.is_ailing else "ok",
        plant_id=plant_id,
        failures=condition.failures,
        why=condition.why,
        since=None if since is None else _plain(since),
        last=reading,
    )


def _plain(moment: Instant) -> datetime:
    """The same moment as a plain datetime, which msgspec writes without a hook."""
    return datetime.combine(moment.date(), moment.timetz())
