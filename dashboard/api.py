"""The page over HTTP: its files, the stream of what happens, recorded days; actions with the site's token."""

import secrets
from collections.abc import AsyncIterator, Callable
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from litestar import Litestar, MediaType, Response, get, post
from litestar.exceptions import HTTPException, NotFoundException
from litestar.openapi import ResponseSpec
from litestar.params import Body, Parameter
from litestar.response import File, Stream
from litestar.static_files import create_static_files_router

from broker.errors import BusError, BusRefusedError
from broker.port import Bus
from contracts import topics
from contracts.requests import ID, BadRequestError
from dashboard.asked import RequestBody, request_of
from dashboard.hub import FullError, Hub
from dashboard.model import Fleet
from dashboard.recordings import MeterDays, NotRecordedError, RecordedDay, Recordings, not_recorded
from runtime.bearer import Guards, HttpRequest, signer
from runtime.clock import Clock
from runtime.door import Door, counted_as
from runtime.logs import get_log
from runtime.refusals import refusals
from runtime.token import Principal
from runtime.web import web_app

PAGE = Path(__file__).with_name("page")

House = Annotated[str, Parameter(pattern=ID, description="which house")]
Meter = Annotated[str, Parameter(pattern=ID, description="which meter")]
Shown = Annotated[str, Parameter(max_length=64, description="whose day is streamed too; empty: none's")]
Day = Annotated[date, Parameter(description="which day, as 2026-11-21")]
Wanted = Annotated[RequestBody, Body()]

ONE_DAY = refusals(http_400="no id or no date", http_404="not recorded")
ASKING = refusals(
    http_400="not as the schema has it",
    http_403="no token for it, or the broker lets the dashboard's account ask nothing in this name",
    http_404="no such house",
    http_409="a value that can't be, and why",
    http_503="a broker is away: nothing was asked",
)


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the service does its work."""

    status: Literal["healthy", "unhealthy"]
    timestamp: datetime
    reason: str = ""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request is on its way; what becomes of it is told as an order or an alert."""

    request_id: str


def dashboard_api(
    fleet: Fleet,
    hub: Hub,
    recordings: Recordings,
    bus: Bus,
    connected: Callable[[], bool],
    clock: Clock,
    door: Door,
) -> Litestar:
    """The application.

    Args:
        fleet: the houses.
        hub: streams them.
        recordings: the recorded days.
        bus: where requests go.
        connected: whether the brokers are there right now.
        clock: the service's.
        door: who may see what, and ask for something.
    """
    guards = Guards(door, "dashboard")
    handlers = [
        *_page_routes(hub, door, guards),
        _health(connected, clock),
        *_recording_routes(recordings, guards),
    ]
    app = web_app(
        [*handlers, _asking(fleet, bus, clock, guards)],
        title="wattbus dashboard",
        description="A live page of every house: what it does, why, and what was planned.",
        log=get_log("dashboard"),
        guards=guards,
    )
    schemas = app.openapi_schema.components.schemas or {}
    schemas[RequestBody.__name__].additional_properties = False  # which litestar does not tell
    return app


def _page_routes(hub: Hub, door: Door, guards: Guards) -> list[Any]:
    html = (PAGE / "index.html").read_bytes()

    @get("/", media_type=MediaType.HTML, include_in_schema=False, sync_to_thread=False)
    def page() -> bytes:
        return html

    @get("/api/stream", include_in_schema=False, **guards.reads())
    async def stream(request: HttpRequest, house: Shown = "") -> Stream:
        address = request.client.host if request.client else ""
        one = counted_as(door.tokens.who(request.scope["headers"]), address)
        events = hub.events(house, request.user, one)
        try:
            first = await anext(events)  # while it can still be refused
        except FullError as error:
            raise HTTPException(status_code=503, detail=str(error)) from error
        return Stream(_with(first, events), media_type="text/event-stream")

    files = create_static_files_router("/page", directories=[PAGE], include_in_schema=False)
    return [page, stream, files]


async def _with(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for event in others:
        yield event


def _health(connected: Callable[[], bool], clock: Clock) -> Any:  # noqa: ANN401 - a route handler
    unwell = {503: ResponseSpec(Health, description="it does not", generate_examples=False)}

    @get("/health", sync_to_thread=False, responses=unwell)
    def health() -> Response[Health]:
        """Whether the service hears the houses: 200 or 503."""
        reason = "" if connected() else "a broker is away"
        now = clock.now()
        body = Health(
            status="unhealthy" if reason else "healthy",
            timestamp=datetime.combine(now.date(), now.timetz()),
            reason=reason,
        )
        return Response(body, status_code=503 if reason else 200)

    return health


def _recording_routes(recordings: Recordings, guards: Guards) -> list[Any]:
    @get("/api/recordings", sync_to_thread=True, **guards.reads())
    def meters(request: HttpRequest) -> list[MeterDays]:
        """Every recorded meter, and its days."""
        return [one for one in recordings.meters() if request.user.sees(one.house)]

    @get("/api/recordings/{house:str}/{meter:str}/{day:date}", sync_to_thread=True, **guards.reads(ONE_DAY))
    def recorded(request: HttpRequest, house: House, meter: Meter, day: Day) -> RecordedDay:
        """One day of one meter, in five-minute means."""
        try:
            _refuse_unseen(request.user, house, meter, day)
            return recordings.day(house, meter, day)
        except NotRecordedError as error:
            raise NotFoundException(str(error)) from error

    @get(
        "/api/recordings/{house:str}/{meter:str}/{day:date}/csv",
        sync_to_thread=True,
        media_type="text/csv",
        **guards.reads(ONE_DAY),
    )
    def csv(request: HttpRequest, house: House, meter: Meter, day: Day) -> File:
        """One day of one meter, as the recorder wrote it."""
        try:
            _refuse_unseen(request.user, house, meter, day)
            path = recordings.file(house, meter, day)
        except NotRecordedError as error:
            raise NotFoundException(str(error)) from error
        return File(path, filename=f"{house}_{path.name}", media_type="text/csv")

    return [meters, recorded, csv]


def _refuse_unseen(who: Principal, house: str, meter: str, day: date) -> None:
    if not who.sees(house):
        raise not_recorded(house, meter, day)


def _asking(fleet: Fleet, bus: Bus, clock: Clock, guards: Guards) -> Any:  # noqa: ANN401 - a route handler
    @post("/api/houses/{house:str}/requests", status_code=202, **guards.acts(ASKING))
    async def ask(request: HttpRequest, house: House, data: Wanted) -> Asked:
        """Pause a house or a device, put it into its safe state, take that back, or say when a car leaves."""
        if house not in fleet.houses:
            raise NotFoundException(f"no house {house}")
        user = signer(request.user, data.user, "dashboard")
        try:
            wanted = request_of(data, house, user, f"dashboard-{secrets.token_hex(8)}", clock.now())
        except BadRequestError as error:
            raise HTTPException(status_code=409, detail=str(error)) from error
        try:
            await bus.publish(topics.OPERATOR_REQUEST.at(house=house, user=user), wanted)
        except BusError as error:
            status = 403 if isinstance(error, BusRefusedError) else 503
            raise HTTPException(status_code=status, detail=f"not asked: {error}") from error
        return Asked(request_id=wanted.request_id)

    return ask
