"""The HTTP API of the MPC service's specification, over the plans of an `OptimizerService`."""

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, Any, Literal

import msgspec
from litestar import Litestar, Response, get, post
from litestar.exceptions import ClientException, HTTPException, NotFoundException
from litestar.openapi import ResponseSpec
from litestar.params import Parameter
from msgspec import Meta
from msgspec.structs import replace
from prometheus_client.registry import Collector

from contracts.instant import Instant
from contracts.messages import Schedule
from contracts.requests import ID
from optimizer.board import Board
from optimizer.metrics import PlanCounts
from optimizer.plan import PlanStatus
from optimizer.service import OptimizerService, OverlapError
from optimizer.settings import OptimizerSettings
from optimizer.views import Dispatch, FullSchedule, Reasons, dispatch_of, full_schedule_of, plain, reasons_of
from runtime.bearer import Guards, HttpRequest
from runtime.clock import Clock
from runtime.door import Door
from runtime.logs import get_log
from runtime.refusals import refusals
from runtime.token import Principal
from runtime.web import web_app

NAMED_MAX = 20
"""So many houses are named to one who has not said which he means."""

House = Annotated[str | None, Parameter(pattern=ID, description="which house; default: the only one")]
BatteryId = Annotated[
    str | None, Parameter(pattern=ID, description="which of its batteries and cars, likewise")
]

CHOICE = refusals(http_400="no id, or several and none is named", http_404="not known")
NOT_YET = refusals(http_503="there is no plan, and why")
OVERLAP = refusals(http_409="another run is under way")


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


class BatteryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with one battery's plan."""

    house: str
    battery: str
    status: PlanStatus
    reason: str
    violations: list[str]
    battery_power_kw: float
    planned_at: datetime
    valid_until: datetime
    solver: str
    solver_time: float


class ForecastStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Which forecast a house's last plan was made with; one called -fallback stands in for another."""

    house: str
    kind: str
    name: str


class PeakStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The highest mean import of a billing month so far, in the tariff periods that share a demand charge."""

    house: str
    month: str
    period: str
    peak_kw: float


OF_ALL = "of all houses: null to a house"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The service's settings, counts, every battery and every peak."""

    status: Literal["healthy", "unhealthy"]
    timestamp: datetime
    uptime_seconds: float
    interval_minutes: int
    horizon_hours: float
    time_step_minutes: int
    houses: list[str]
    optimizations: Annotated[int | None, Meta(description=OF_ALL)] = None
    optimizations_by_status: Annotated[dict[str, int] | None, Meta(description=OF_ALL)] = None
    replans: Annotated[dict[str, int] | None, Meta(description=f"out of turn, by cause, {OF_ALL}")] = None
    skipped_runs: Annotated[int | None, Meta(description=OF_ALL)] = None
    next_run: Annotated[datetime, Meta(description="of all houses but those with an interval of their own")]
    mean_solver_time: Annotated[float | None, Meta(description=OF_ALL)] = None
    batteries: Annotated[list[BatteryStatus], Meta(description="and cars")]
    forecasts: list[ForecastStatus]
    peaks: list[PeakStatus]


ENDPOINTS = {
    "GET /": "this",
    "GET /health": "whether the service does its work",
    "GET /docs": "interactive documentation",
    "GET /metrics": "counters and times for Prometheus",
    "GET /api/mpc/current_dispatch": "the battery power command",
    "GET /api/mpc/full_schedule": "the whole plan",
    "GET /api/mpc/status": "settings, counts, every battery and every peak",
    "GET /api/mpc/reasons": "why the plan is as it is, step by step",
    "POST /api/mpc/trigger": "plan now",
}


class PlansView:
    """What the endpoints ask: which battery is meant, and what is known of it."""

    def __init__(self, optimizer: OptimizerService, clock: Clock) -> None:
        self._optimizer = optimizer
        self._clock = clock

    @property
    def board(self) -> Board:
        """The last plans."""
        return self._optimizer.board

    def houses(self, who: Principal) -> list[str]:
        """The houses that `who` sees."""
        return [house for house in self._optimizer.houses if who.sees(house)]

    def house(self, named: str | None, who: Principal) -> str:
        """The house that is meant, of those that `who` sees.

        Raises:
            ClientException: several, and none is named.
            NotFoundException: not a house of ours.
            HTTPException: 503, none has been heard of yet.
        """
        houses = self.houses(who)
        if named is None and not houses:
            raise HTTPException(status_code=503, detail="no house has been heard of yet")
        return _the_one(named, houses, "house")

    def schedule(self, named: str | None, battery: str | None, who: Principal) -> Schedule | None:
        """The last plan of the battery or car that is meant: a house's only battery, if none is named.

        None if there is none yet.

        Raises:
            ClientException: several, and none is named.
            NotFoundException: not a house, or not a battery of it.
        """
        if named is None and not self.houses(who):
            return None
        house = self.house(named, who)
        plans = self.board.schedules.get(house, {})
        if battery is None:
            # A car that is plugged in makes of a house's only battery no choice of two.
            cars = self._optimizer.cars(house)
            plans = {der_id: plan for der_id, plan in plans.items() if der_id not in cars} or plans
            if not plans:
                return None
        return plans[_the_one(battery, list(plans), "battery")]

    async def trigger(self, house: str) -> None:
        """Plan a house now.

        Raises:
            HTTPException: 409, another run is under way; 503, there was nothing to plan, or no broker.
        """
        try:
            planned = await self._optimizer.trigger(house)
        except OverlapError as error:
            raise HTTPException(status_code=409, detail=str(error)) from error
        if not planned:
            raise HTTPException(
                status_code=503,
                detail=f"{house}: no plan: no battery of it has been heard in the last 30 s, or no broker",
            )

    def batteries(self, who: Principal) -> list[BatteryStatus]:
        """Every battery and car that was ever planned, as the others are: of the houses that `who` sees."""
        now = self._clock.now()
        plans = [plan for house in self.board.schedules.values() for plan in house.values()]
        return [_battery_status(plan, dispatch_of(plan, now)) for plan in plans if who.sees(plan.house)]

    def forecasts(self, who: Principal) -> list[ForecastStatus]:
        """The forecasts of the houses."""
        return [
            ForecastStatus(house=house, kind=kind, name=name)
            for house, named in self.board.forecasts.items()
            for kind, name in named.items()
            if who.sees(house)
        ]

    def peaks(self, who: Principal) -> list[PeakStatus]:
        """The billing months' peaks of the houses."""
        return [
            PeakStatus(house=house, month=f"{peak.year}-{peak.month:02}", period=peak.group, peak_kw=peak.kw)
            for house, peak in self._optimizer.peaks()
            if who.sees(house)
        ]


def _the_one(named: str | None, known: list[str], what: str) -> str:
    if named is None:
        if len(known) == 1:
            return known[0]
        names = ", ".join(known[:NAMED_MAX]) + (", ..." if len(known) > NAMED_MAX else "")
        raise ClientException(f"there are {len(known)}: say which with ?{what}=: {names}")
    if named not in known:
        raise NotFoundException(f"no {what} {named}")
    return named


def _battery_status(plan: Schedule, dispatch: Dispatch) -> BatteryStatus:
    return BatteryStatus(
        house=plan.house,
        battery=plan.der_id,
        status=dispatch.status,
        reason=plan.reason,
        violations=plan.violations,
        battery_power_kw=dispatch.battery_power_kw,
        planned_at=plain(plan.issued_at),
        valid_until=plain(plan.valid_until),
        solver=plan.solver,
        solver_time=plan.solve_time_s or 0.0,
    )


def optimizer_api(
    optimizer: OptimizerService,
    settings: OptimizerSettings,
    clock: Clock,
    ailing: Callable[[], str],
    collectors: Sequence[Collector] = (),
    door: Door | None = None,
) -> Litestar:
    """The application.

    Args:
        optimizer: whose plans it shows, and whom it asks for one.
        settings: shown in the status.
        clock: the service's.
        ailing: what is wrong with what the service stands on; empty if nothing.
        collectors: what /metrics shows besides, such as the bus.
        door: who may read what, and have it planned; None: whoever is on this machine.
    """
    view, guards = PlansView(optimizer, clock), Guards(door or Door(), "optimizer")
    return web_app(
        [
            *_service_routes(view, guards, optimizer, settings, clock, ailing),
            *_plan_routes(view, guards, clock),
        ],
        title="MPC battery optimization",
        description="Plans batteries 48 h ahead, and again every quarter of an hour.",
        log=get_log("optimizer"),
        guards=guards,
        collectors=[PlanCounts(optimizer, clock), *collectors],
    )


def _service_routes(
    view: PlansView,
    guards: Guards,
    optimizer: OptimizerService,
    settings: OptimizerSettings,
    clock: Clock,
    ailing: Callable[[], str],
) -> list[Any]:
    began: Instant = clock.now()

    def health_now() -> Literal["healthy", "unhealthy"]:
        return "unhealthy" if ailing() else "healthy"

    @get("/", sync_to_thread=False)
    def info() -> Info:
        """What this service is, and its endpoints."""
        return Info(service="MPC battery optimization", version=version("wattbus"), endpoints=ENDPOINTS)

    unwell = {503: ResponseSpec(Health, description="it does not", generate_examples=False)}

    @get("/health", sync_to_thread=False, responses=unwell)
    def health() -> Response[Health]:
        """Whether the service does its work: 200 or 503."""
        reason = ailing()
        body = Health(status=health_now(), timestamp=plain(clock.now()), reason=reason)
        return Response(body, status_code=503 if reason else 200)

    @get("/api/mpc/status", sync_to_thread=False, **guards.reads())
    def status(request: HttpRequest) -> Status:
        """Health, settings, counts, and every battery."""
        now, interval_s = clock.now(), settings.interval_s
        told = Status(
            status=health_now(),
            timestamp=plain(now),
            uptime_seconds=now.seconds_since(began),
            interval_minutes=settings.interval_min,
            horizon_hours=settings.horizon_h,
            time_step_minutes=settings.step_min,
            houses=view.houses(request.user),
            next_run=plain(now.floor(interval_s).after(interval_s)),
            batteries=view.batteries(request.user),
            forecasts=view.forecasts(request.user),
            peaks=view.peaks(request.user),
        )
        return _counted(told, optimizer) if request.user.is_site else told

    return [info, health, status]


def _counted(status: Status, optimizer: OptimizerService) -> Status:
    """The same with what is counted of all houses."""
    board = optimizer.board
    solved = sum(board.by_status.values())
    return replace(
        status,
        optimizations=solved,
        optimizations_by_status=dict(board.by_status),
        replans=dict(optimizer.replans),
        skipped_runs=optimizer.skipped_runs,
        mean_solver_time=board.solve_s / solved if solved else 0.0,
    )


def _plan_routes(view: PlansView, guards: Guards, clock: Clock) -> list[Any]:
    def planned(house: str | None, battery: str | None, who: Principal) -> Schedule:
        schedule = view.schedule(house, battery, who)
        if schedule is None:
            raise HTTPException(status_code=503, detail="no plan yet: no battery has been heard")
        if clock.now() >= schedule.valid_until:
            detail = f"the last plan, of {schedule.issued_at}, ran out at {schedule.valid_until}"
            raise HTTPException(status_code=503, detail=detail)
        return schedule

    @get("/api/mpc/current_dispatch", sync_to_thread=False, **guards.reads(CHOICE))
    def current_dispatch(request: HttpRequest, house: House = None, battery: BatteryId = None) -> Dispatch:
        """The battery power command that holds now; without a valid plan, a fallback of 0 kW."""
        return dispatch_of(view.schedule(house, battery, request.user), clock.now())

    @get("/api/mpc/full_schedule", sync_to_thread=False, **guards.reads(CHOICE | NOT_YET))
    def full_schedule(request: HttpRequest, house: House = None, battery: BatteryId = None) -> FullSchedule:
        """The whole plan made last."""
        return full_schedule_of(planned(house, battery, request.user))

    @get("/api/mpc/reasons", sync_to_thread=False, **guards.reads(CHOICE | NOT_YET))
    def reasons(request: HttpRequest, house: House = None, battery: BatteryId = None) -> Reasons:
        """Why the plan made last is as it is: price, limit and value of stored energy, step by step."""
        return reasons_of(planned(house, battery, request.user))

    @post("/api/mpc/trigger", status_code=200, **guards.acts_if_guarded(CHOICE | NOT_YET | OVERLAP))
    async def trigger(request: HttpRequest, house: House = None, battery: BatteryId = None) -> Dispatch:
        """Plan now, and wait for the new command."""
        meant = view.house(house, request.user)
        await view.trigger(meant)
        return dispatch_of(view.schedule(meant, battery, request.user), clock.now())

    return [current_dispatch, full_schedule, reasons, trigger]
