"""The validator's HTTP API: `/api/battery/soc`, `/api/battery/dispatch` and its account."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Litestar, get, post
from litestar.exceptions import HTTPException
from litestar.params import Body
from msgspec import Meta

from contracts.messages import PowerKw
from energy.bill import Costs
from optimizer.counterparts.simulator import Energy, Flows, Simulator
from optimizer.views import plain
from optimizer.wire import BatteryReading
from runtime.clock import Clock
from runtime.logs import get_log
from runtime.web import refusals, web_app

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


def validator_api(simulator: Simulator, tariff: str, clock: Clock) -> Litestar:
    """The application."""

    def reading() -> BatteryReading:
        now = clock.now()
        simulator.advance(now)
        return BatteryReading(
            timestamp=plain(now),
            soc=simulator.state.soc_percent / 100.0,
            battery_power_kw=simulator.flows.battery_power_kw,
        )

    @get("/api/battery/soc", sync_to_thread=False)
    def soc() -> BatteryReading:
        """The battery now."""
        return reading()

    @post("/api/battery/dispatch", status_code=200, sync_to_thread=False, responses=BAD)
    def dispatch(data: CommandBody) -> BatteryReading:
        """Obey a command, or refuse it; the answer is the battery as the command found it."""
        if fault := simulator.fault_in(data.battery_power_kw):
            raise HTTPException(status_code=409, detail=fault)
        simulator.command(data.battery_power_kw, clock.now())
        return reading()

    @get("/api/account", sync_to_thread=False)
    def account() -> Account:
        """Power-flow account and cost since the start."""
        now = clock.now()
        simulator.advance(now)
        return Account(
            timestamp=plain(now),
            soc=simulator.state.soc_percent / 100.0,
            commands=simulator.commands,
            now=simulator.flows,
            energy=simulator.energy,
            tariff=tariff,
            with_battery=_bill(simulator.costs),
            without_battery=_bill(simulator.costs_without_battery),
        )

    return web_app(
        [soc, dispatch, account],
        title="Validator",
        description="A battery simulator in place of a BMS, with power-flow account and cost.",
        log=get_log("validator"),
    )


def _bill(costs: Costs) -> Bill:
    return Bill(
        total_cost=costs.total,
        energy_cost=costs.energy,
        demand_cost=costs.demand,
        export_income=costs.export,
        peak_demand=costs.peak_kw,
    )
