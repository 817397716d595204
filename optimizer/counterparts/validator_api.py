"""The validator's HTTP API: `/api/battery/soc`, `/api/battery/dispatch` and its account."""

from datetime import datetime
from typing import Annotated, TypeVar

import msgspec
from litestar import Litestar, get, post
from litestar.exceptions import HTTPException
from litestar.params import Body
from msgspec import Meta

from contracts.messages import PowerKw
from energy.bill import Costs
from optimizer.counterparts.simulator import Energy, Flows, Simulator
from optimizer.views import plain, rounded
from optimizer.wire import BatteryReading
from runtime.bearer import Guards
from runtime.clock import Clock
from runtime.door import Door
from runtime.logs import get_log
from runtime.refusals import refusals
from runtime.web import web_app

S = TypeVar("S", Flows, Energy)

BAD = refusals(http_400="no command", http_409="one that this battery can't obey")


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What the battery shall do until the next command, for half an hour at most."""

    battery_power_kw: Annotated[PowerKw, Meta(description="+ charge / - discharge")]


CommandBody = Annotated[Command, Body(description="the command, such as `current_dispatch` answers")]


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """A bill so far, in the tariff's currency."""

    total_cost: float
    energy_cost: float
    demand_cost: float
    export_income: float
    peak_demand: float


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What has flowed since the start, and what it costs with and without the battery."""

    timestamp: datetime
    soc: float
    commands: int
    now: Flows
    energy: Energy
    tariff: str
    with_battery: Bill
    without_battery: Bill


def validator_api(simulator: Simulator, tariff: str, clock: Clock, door: Door | None = None) -> Litestar:
    """The application.

    Args:
        simulator: the battery and its house.
        tariff: its name.
        clock: the service's.
        door: who may read, and command; None: whoever is on this machine.
    """
    guards = Guards(door or Door(), "validator")

    def reading() -> BatteryReading:
        now = clock.now()
        simulator.advance(now)
        return BatteryReading(
            timestamp=plain(now),
            soc=rounded(simulator.state.soc_percent / 100.0),
            battery_power_kw=rounded(simulator.flows.battery_power_kw),
        )

    @get("/api/battery/soc", sync_to_thread=False, **guards.reads_all())
    def soc() -> BatteryReading:
        """The battery now."""
        return reading()

    @post("/api/battery/dispatch", status_code=200, sync_to_thread=False, **guards.acts_if_guarded(BAD))
    def dispatch(data: CommandBody) -> BatteryReading:
        """Obey a command, or refuse it; the answer is the battery as the command found it."""
        if fault := simulator.fault_in(data.battery_power_kw):
            raise HTTPException(status_code=409, detail=fault)
        simulator.command(data.battery_power_kw, clock.now())
        return reading()

    @get("/api/account", sync_to_thread=False, **guards.reads_all())
    def account() -> Account:
        """Power-flow account and cost since the start."""
        now = clock.now()
        simulator.advance(now)
        return Account(
            timestamp=plain(now),
            soc=rounded(simulator.state.soc_percent / 100.0),
            commands=simulator.commands,
            now=_all_rounded(simulator.flows),
            energy=_all_rounded(simulator.energy),
            tariff=tariff,
            with_battery=_bill(simulator.costs),
            without_battery=_bill(simulator.costs_without_battery),
        )

    return web_app(
        [soc, dispatch, account],
        title="Validator",
        description="A battery simulator in place of a BMS, with power-flow account and cost.",
        log=get_log("validator"),
        guards=guards,
    )


def _bill(costs: Costs) -> Bill:
    return Bill(
        total_cost=rounded(costs.total),
        energy_cost=rounded(costs.energy),
        demand_cost=rounded(costs.demand),
        export_income=rounded(costs.export),
        peak_demand=rounded(costs.peak_kw),
    )


def _all_rounded(told: S) -> S:
    return type(told)(**{name: rounded(value) for name, value in msgspec.structs.asdict(told).items()})
