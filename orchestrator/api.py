"""The orchestrator over HTTP: what it knows and decided; changing something, with the site's token."""

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, Any, Literal

import msgspec
from litestar import Litestar, Response, get, patch, post, put
from litestar.exceptions import HTTPException, NotFoundException
from litestar.openapi import ResponseSpec
from litestar.params import Body, Parameter
from prometheus_client.registry import Collector

from contracts.orders import OperatorRequest
from contracts.requests import ID, BadRequestError, make_request
from orchestrator.bodies import ObjectivesBody, RequestBody, request_of
from orchestrator.metrics import LoopCounts
from orchestrator.model import HouseModel
from orchestrator.requests import Done, Refused, Repeated
from orchestrator.service import OrchestratorService
from orchestrator.views import (
    ConstraintsView,
    DecisionView,
    HouseStatus,
    ObjectivesView,
    SnapshotView,
    constraints_view,
    decision_view,
    house_status,
    objectives_view,
    plain,
    snapshot_view,
)
from runtime.bearer import Guards, HttpRequest, signer
from runtime.clock import Clock
from runtime.door import Door
from runtime.logs import get_log
from runtime.refusals import refusals
from runtime.token import SITE, Principal
from runtime.web import web_app

House = Annotated[str, Parameter(pattern=ID, description="which house")]
User = Annotated[
    str | None, Parameter(pattern=ID, description="who asks; absent: whose token it is, or http")
]
Objectives = Annotated[ObjectivesBody, Body()]
Wanted = Annotated[RequestBody, Body()]
Reason = Annotated[str, Parameter(max_length=500, description="why; it is written down")]

NOBODY = "http"
"""Who asks, if neither he nor his token says so."""

ONE = refusals(http_400="no id", http_404="no such house")
NOT_YET = refusals(http_503="nothing is decided yet, or its meter has not been heard of lately")
WRITING = refusals(
    http_400="not as the schema has it",
    http_404="no such house",
    http_409="refused, and why",
)

ENDPOINTS = {
    "GET /": "this",
    "GET /health": "whether the service does its work",
    "GET /docs": "interactive documentation",
    "GET /metrics": "counters and times for Prometheus",
    "GET /api/status": "counters of the control loop",
    "GET /api/houses": "the houses heard of",
    "GET /api/houses/{house}/status": "its DERs, orders, troubles and counters",
    "GET /api/houses/{house}/snapshot": "its power flow",
    "GET /api/houses/{house}/decisions": "what each DER was told, and why",
    "GET /api/houses/{house}/constraints": "its limits",
    "GET /api/houses/{house}/objectives": "prices, plans and preferences",
    "PUT|PATCH /api/houses/{house}/objectives": "set preferences, all or some (token)",
    "POST /api/houses/{house}/requests": "pause, resume, safe, release, ev_plan, objectives (token)",
}


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What this service is."""

    service: str
    version: str
    endpoints: dict[str, str]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the service does its work."""

    status: Literal["healthy", "unhealthy"]
    timestamp: datetime
    reason: str = ""


class LoopStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The control loop and its counters."""

    issuer: str
    epoch: int
    role: Literal["commands", "stands down"]
    timestamp: datetime
    uptime_seconds: float
    interval_seconds: float
    houses: int
    ticks: int
    late_ticks: int
    last_tick_seconds: float
    longest_tick_seconds: float
    violations: int
    balance_errors: int
    commands: dict[str, int]
    unsent: int
    superseded: int
    alerts: dict[str, int]
    alerts_lost: int
    requests: dict[str, int]
    not_audited: int


class HouseLine(msgspec.Struct, frozen=True, kw_only=True):
    """One house in the list."""

    house: str
    decided_at: datetime | None
    ders: dict[str, str]
    """Their states."""
    troubles: int
    held: bool
    """Whether persons have stopped anything."""


class RequestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request."""

    request_id: str
    outcome: Literal["done", "repeated"]
    text: str


class Front:
    """What the endpoints ask of the service.

    Args:
        service: whose houses they are.
        clock: the service's.
    """

    def __init__(self, service: OrchestratorService, clock: Clock) -> None:
        self.service = service
        self.clock = clock
        self._numbered = 0

    def house(self, name: str, who: Principal) -> HouseModel:
        """A house that has been heard of.

        Raises:
            NotFoundException: no such house, or none that `who` sees.
        """
        house = self.service.houses.get(name)
        if house is None or not who.sees(name):
            raise NotFoundException(f"no house {name}")
        return house

    def request_id(self) -> str:
        """A new one; no life of the service gives one twice."""
        self._numbered += 1
        return f"http-{self.service.issuer.epoch}-{self.clock.now().unix_ms}-{self._numbered}"

    def order(self, request: Callable[[], OperatorRequest]) -> RequestAnswer:
        """Have a request carried out.

        Raises:
            HTTPException: 409, it is refused, and why.
        """
        try:
            asked = request()
        except BadRequestError as error:
            raise HTTPException(status_code=409, detail=str(error)) from error
        self.house(asked.house, SITE)
        match self.service.desk.order(asked, "http"):
            case Done(sentence=text):
                return RequestAnswer(request_id=asked.request_id, outcome="done", text=text)
            case Repeated(sentence=text):
                return RequestAnswer(request_id=asked.request_id, outcome="repeated", text=text)
            case Refused(reason=text):
                raise HTTPException(status_code=409, detail=text)

    def set_objectives(
        self, house: str, objectives: dict[str, Any], user: str, reason: str
    ) -> ObjectivesView:
        """Set a house's objectives.

        Raises:
            HTTPException: 409, they are refused, and why.
        """
        fields = {
            "house": house,
            "user": user,
            "request_id": self.request_id(),
            "issued_at": self.clock.now(),
            "action": "objectives",
            "objectives": objectives,
            "reason": reason,
        }
        self.order(lambda: make_request(fields))
        return objectives_view(self.house(house, SITE), self.clock.now())


def orchestrator_api(
    service: OrchestratorService,
    clock: Clock,
    door: Door,
    ailing: Callable[[], str],
    collectors: Sequence[Collector] = (),
) -> Litestar:
    """The application.

    Args:
        service: what it shows and changes.
        clock: the service's.
        door: who may read what, and change it.
        ailing: what is wrong with what the service stands on; empty if nothing.
        collectors: what /metrics shows besides, such as the bus.
    """
    front, guards = Front(service, clock), Guards(door, "orchestrator")
    app = web_app(
        [
            *_service_routes(front, guards, ailing),
            *_house_routes(front, guards),
            *_writing_routes(front, guards),
        ],
        title="wattbus orchestrator",
        description="Dispatches every house's batteries and cars, every 10 s, within all limits.",
        log=get_log("orchestrator"),
        guards=guards,
        collectors=[LoopCounts(service, clock), *collectors],
    )
    schemas = app.openapi_schema.components.schemas or {}
    for body in (ObjectivesBody, RequestBody):
        # They forbid unknown fields, which litestar does not tell.
        schemas[body.__name__].additional_properties = False
    return app


def _service_routes(front: Front, guards: Guards, ailing: Callable[[], str]) -> list[Any]:
    service, clock = front.service, front.clock
    began = clock.now()
    unwell = {503: ResponseSpec(Health, description="it does not", generate_examples=False)}

    @get("/", sync_to_thread=False)
    def info() -> Info:
        """What this service is, and its endpoints."""
        return Info(service="wattbus orchestrator", version=version("wattbus"), endpoints=ENDPOINTS)

    @get("/health", sync_to_thread=False, responses=unwell)
    def health() -> Response[Health]:
        """Whether the service does its work: 200 or 503."""
        now = clock.now()
        reason = ailing() or service.ailing(now, began)
        status: Literal["healthy", "unhealthy"] = "unhealthy" if reason else "healthy"
        body = Health(status=status, timestamp=plain(now), reason=reason)
        return Response(body, status_code=503 if reason else 200)

    @get("/api/status", sync_to_thread=False, **guards.reads_all())
    def status() -> LoopStatus:
        """The control loop's counters."""
        counts, now = service.counts, clock.now()
        return LoopStatus(
            issuer=service.issuer.name,
            epoch=service.issuer.epoch,
            role="stands down" if service.issuer.stands_down else "commands",
            timestamp=plain(now),
            uptime_seconds=now.seconds_since(began),
            interval_seconds=service.interval_s,
            houses=len(service.houses),
            ticks=counts.ticks,
            late_ticks=counts.late_ticks,
            last_tick_seconds=counts.last_tick_s,
            longest_tick_seconds=counts.longest_tick_s,
            violations=counts.violations,
            balance_errors=counts.balance_errors,
            commands=dict(counts.commands),
            unsent=service.sender.unsent,
            superseded=service.sender.superseded,
            alerts={f"{name} ({severity})": n for (name, severity), n in counts.alerts.items()},
            alerts_lost=service.alerting.lost,
            requests=dict(counts.requests),
            not_audited=counts.not_audited,
        )

    return [info, health, status]


def _house_routes(front: Front, guards: Guards) -> list[Any]:
    alarms, clock = front.service.alerting.alarms, front.clock

    @get("/api/houses", sync_to_thread=False, **guards.reads())
    def houses(request: HttpRequest) -> list[HouseLine]:
        """The houses heard of."""
        now = clock.now()
        return [
            HouseLine(
                house=house.house,
                decided_at=None if house.decided_at is None else plain(house.decided_at),
                ders={der_id: house.state_of(der, now) for der_id, der in house.known.ders.items()},
                troubles=len(alarms.of(house.house)),
                held=bool(house.orders.holds),
            )
            for house in front.service.houses.values()
            if request.user.sees(house.house)
        ]

    @get("/api/houses/{house:str}/status", sync_to_thread=False, **guards.reads(ONE))
    def status(house: House, request: HttpRequest) -> HouseStatus:
        """DERs, orders, troubles and counters of a house."""
        return house_status(front.house(house, request.user), alarms.of(house), clock.now())

    @get("/api/houses/{house:str}/snapshot", sync_to_thread=False, **guards.reads(ONE | NOT_YET))
    def snapshot(house: House, request: HttpRequest) -> SnapshotView:
        """The power flow of its last tick, as it was commanded."""
        last = front.house(house, request.user).last
        if last is None or last.snapshot is None:
            raise HTTPException(status_code=503, detail=f"{house}: its meter has not been heard of lately")
        return snapshot_view(last.snapshot)

    @get("/api/houses/{house:str}/decisions", sync_to_thread=False, **guards.reads(ONE))
    def decisions(house: House, request: HttpRequest) -> list[DecisionView]:
        """What each DER was told at the last tick, and why."""
        last = front.house(house, request.user).last
        return [] if last is None else [decision_view(decision) for decision in last.decisions]

    @get("/api/houses/{house:str}/constraints", sync_to_thread=False, **guards.reads(ONE))
    def constraints(house: House, request: HttpRequest) -> ConstraintsView:
        """Its limits: physical, then safety."""
        return constraints_view(front.house(house, request.user))

    @get("/api/houses/{house:str}/objectives", sync_to_thread=False, **guards.reads(ONE))
    def objectives(house: House, request: HttpRequest) -> ObjectivesView:
        """Prices, plans and preferences that hold now."""
        return objectives_view(front.house(house, request.user), clock.now())

    return [houses, status, snapshot, decisions, constraints, objectives]


def _writing_routes(front: Front, guards: Guards) -> list[Any]:
    @put("/api/houses/{house:str}/objectives", sync_to_thread=False, **guards.acts(WRITING))
    def set_objectives(
        request: HttpRequest, house: House, data: Objectives, user: User = None, reason: Reason = ""
    ) -> ObjectivesView:
        """Set all preferences of a house; what is absent is as in the settings."""
        return front.set_objectives(house, data.whole(), signer(request.user, user, NOBODY), reason)

    @patch("/api/houses/{house:str}/objectives", sync_to_thread=False, **guards.acts(WRITING))
    def change_objectives(
        request: HttpRequest, house: House, data: Objectives, user: User = None, reason: Reason = ""
    ) -> ObjectivesView:
        """Set some preferences of a house; null is as in the settings, what is absent stays."""
        return front.set_objectives(house, data.partly(), signer(request.user, user, NOBODY), reason)

    @post(
        "/api/houses/{house:str}/requests",
        status_code=200,
        sync_to_thread=False,
        **guards.acts(WRITING),
    )
    def ask(request: HttpRequest, house: House, data: Wanted) -> RequestAnswer:
        """Pause a house or a device, put it into its safe state, take that back, or say when a car leaves."""
        user, now = signer(request.user, data.user, NOBODY), front.clock.now()
        return front.order(lambda: request_of(data, house, user, front.request_id(), now))

    return [set_objectives, change_objectives, ask]
