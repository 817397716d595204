"""Forecasts from a Reporter and a battery behind a BMS, put where those of the bus would stand."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from math import ceil
from typing import Literal, NamedTuple

from msgspec.structs import replace

from broker.errors import BusError
from broker.port import Bus
from contracts import topics
from contracts.instant import Instant
from contracts.messages import DerTelemetry, Forecast, Schedule
from energy.battery import BatterySpec
from energy.series import Series
from optimizer.model import PlanInputs
from optimizer.remote import Bms, Reporter
from optimizer.views import dispatch_of
from optimizer.wire import BatteryReading, PowerForecast
from runtime.asking import RemoteError
from runtime.clock import Clock
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log

BATTERY = "battery"
"""The id, on our bus, of the battery behind a BMS."""
READ_EVERY_S = 10.0
DAY_S = 86400.0
KEEP_DAYS = 8
"""What a Reporter said stays in use this long: a week, and the day in hand."""
HORIZON_DAYS_MAX = 7
STEPS_MAX = 5_000
"""Of one forecast; a week of 5 min has 2,016."""

Kind = Literal["load", "pv"]


class Heard:
    """What a Reporter said of one quantity, by step: what stands in for it while it is away."""

    def __init__(self, step_s: float) -> None:
        self._step_ms = round(step_s * 1000)
        self._kw: dict[int, float] = {}

    def keep(self, start: Instant, power_kw: list[float]) -> None:
        """Take in the means of the steps from `start` on."""
        first = start.unix_ms // self._step_ms
        self._kw.update(enumerate(power_kw, start=first))
        oldest = first - round(KEEP_DAYS * DAY_S * 1000) // self._step_ms
        for slot in [slot for slot in self._kw if slot < oldest]:
            del self._kw[slot]

    def at(self, instant: Instant) -> float | None:
        """What was said of that step; else of the same time on the latest day before."""
        slot, day = instant.unix_ms // self._step_ms, round(DAY_S * 1000) // self._step_ms
        held = (self._kw.get(slot - days * day) for days in range(KEEP_DAYS + HORIZON_DAYS_MAX + 1))
        return next((kw for kw in held if kw is not None), None)


class ReporterForecasts:
    """The forecasts of the houses that have a Reporter.

    Of a step the Reporter does not tell, and of all while it is away, holds what it last said of it, then
    the same time a day before, then our own forecast.
    """

    def __init__(self, reporters: Mapping[str, Reporter]) -> None:
        self._reporters = reporters
        self._heard: dict[tuple[str, Kind], Heard] = {}
        self._log = get_log("optimizer")
        self.fallbacks = 0
        """Forecasts that had to be made without the Reporter."""

    def serves(self, house: str) -> bool:
        """Whether this house has a Reporter."""
        return house in self._reporters

    async def refine(self, inputs: PlanInputs) -> PlanInputs:
        """The inputs with the Reporter's forecasts in place of our own."""
        reporter = self._reporters[inputs.load.house]
        load, pv = await asyncio.gather(
            self._forecast(inputs.load, reporter.load), self._forecast(inputs.pv, reporter.solar)
        )
        problem = inputs.problem
        if problem is not None:
            problem = replace(problem, load_kw=load.power_kw, pv_kw=pv.power_kw)
        return replace(inputs, load=load, pv=pv, problem=problem)

    async def _forecast(self, own: Forecast, ask: Callable[[int], Awaitable[PowerForecast]]) -> Forecast:
        heard = self._heard.setdefault((own.house, own.kind), Heard(own.step_s))
        hours = ceil(len(own.power_kw) * own.step_s / 3600.0) + 1  # the hour in hand has begun already
        name = "reporter"
        try:
            said = await ask(hours)
            start, power_kw = resampled(said, own.step_s)
            heard.keep(start, power_kw)
        except (RemoteError, OverflowError) as error:  # the second from a time near the year 1 or 9999
            self.fallbacks += 1
            name = "reporter-fallback"
            self._log.warning("forecast falls back", house=own.house, kind=own.kind, why=str(error))
        means = [
            own_kw if (kw := heard.at(own.start.after(i * own.step_s))) is None else kw
            for i, own_kw in enumerate(own.power_kw)
        ]
        return replace(own, name=name, power_kw=means, error_kw=None)


def resampled(said: PowerForecast, step_s: float) -> tuple[Instant, list[float]]:
    """A forecast's means over whole steps of `step_s`: each value held if those are finer, else averaged."""
    said_step_s = said.time_step_minutes * 60.0
    begin = Instant.of(said.start)
    count = len(said.power_kw)
    times = tuple(begin.after(i * said_step_s).unix_ms for i in range(count))
    series = Series(times, tuple(said.power_kw), begin.after(count * said_step_s).unix_ms)
    start = begin.floor(step_s)
    if start < begin:
        start = start.after(step_s)
    return start, series.resample(
        start, step_s, min(STEPS_MAX, int(series.end.seconds_since(start) // step_s))
    )


class RemoteBattery(NamedTuple):
    """A battery behind a BMS, and whose it is."""

    house: str
    spec: BatterySpec
    bms: Bms


class BmsBridge:
    """Tells the bus of a battery behind a BMS as its telemetry, and the BMS of each plan's first command."""

    def __init__(self, battery: RemoteBattery, bus: Bus, clock: Clock, life: Lifecycle) -> None:
        self._battery = battery
        self._bus = bus
        self._clock = clock
        self._life = life
        self._log = get_log("optimizer")
        self.ailing = ""
        """Why the battery can't be read; empty while it can."""
        self._began = clock.now()

    async def run(self) -> None:
        """Serve until stopped."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._command())

    async def _read(self) -> None:
        await self._read_once()
        async for _ in self._life.each(self._clock.every(READ_EVERY_S)):
            await self._read_once()

    async def _read_once(self) -> None:
        """Nothing is published while the BMS is away: old telemetry goes stale by itself."""
        try:
            reading = await self._battery.bms.read()
            address = topics.DER_TELEMETRY.at(house=self._battery.house, der_id=BATTERY)
            await self._bus.publish(address, self._telemetry(reading))
        except (RemoteError, BusError) as error:
            if not self.ailing:
                self._log.warning("battery not read", house=self._battery.house, why=str(error))
            self.ailing = str(error)
        else:
            if self.ailing:
                self._log.info("battery is back", house=self._battery.house)
            self.ailing = ""

    async def _command(self) -> None:
        topic = topics.SCHEDULE.of(house=self._battery.house, der_id=BATTERY)
        async with self._bus.subscribe(topic) as deliveries:
            async for delivery in self._life.each(deliveries):
                if not delivery.retained:
                    await self._send(delivery.message)
                await delivery.ack()

    async def _send(self, schedule: Schedule) -> None:
        command = dispatch_of(schedule, self._clock.now())
        try:
            await self._battery.bms.dispatch(command)
        except RemoteError as error:
            # The BMS's own safety must hold without us; the next plan tries again.
            self._log.warning("command not sent", house=self._battery.house, why=str(error))
        else:
            self._log.info("command sent", house=self._battery.house, kw=command.battery_power_kw)

    def _telemetry(self, reading: BatteryReading) -> DerTelemetry:
        spec = self._battery.spec
        return DerTelemetry(
            der_id=BATTERY,
            is_online=True,
            timestamp=self._clock.now(),
            current_output=reading.battery_power_kw,
            power_meter_measurement=reading.battery_power_kw,
            baseline=0.0,
            contract_threshold=0.0,
            project_id=self._battery.house,
            is_standalone=False,
            connection_start_at=self._began,
            current_soc=100.0 * reading.soc,
            type="battery_storage",
            nameplate_capacity=spec.max_charge_kw,
            house=self._battery.house,
            capacity_kwh=spec.capacity_kwh,
            max_charge_kw=spec.max_charge_kw,
            max_discharge_kw=spec.max_discharge_kw,
            efficiency_roundtrip=spec.efficiency_roundtrip,
            min_soc_percent=spec.min_soc_percent,
            max_soc_percent=spec.max_soc_percent,
        )
