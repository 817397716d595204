"""The controls: a meter, a recorder and a battery as one writes them at first. Under the same faults they fail."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import meter.__main__ as meter_main
from broker.bus import PlanesBus
from broker.errors import BusError
from contracts import archive, topics
from contracts.messages import DispatchCommand, MeterReading, PvReading
from der_controller.gate import Accept, Mark
from der_controller.model import DerModel
from energy.zones import zone_of
from meter.source import Source
from runtime.clock import Clock
from tests.fault.simulation.ledger import HOUSE, METER
from tests.fault.simulation.life import Life
from tests.fault.simulation.link import Link
from tests.fault.simulation.services import (
    READ_S,
    Builder,
    Running,
    Site,
    TellingModel,
    build_der,
    bus_of,
    meter_settings,
)


class NaiveMeter:
    """Sends a reading and forgets it; what it has sent it takes for safe."""

    def __init__(
        self, site: Site, model: TellingModel, source: Source, bus: PlanesBus, clock: Clock, life: Life
    ) -> None:
        self._site = site
        self._model = model
        self._source = source
        self._bus = bus
        self._clock = clock
        self._life = life

    async def run(self) -> None:
        address = topics.METER_READING.at(house=HOUSE, meter=METER)
        await self._bus.declare(topics.METER_READING, durable=topics.RECORDER)
        async for tick in self._life.lifecycle.each(self._clock.every(READ_S)):
            reading = self._model.reading(tick.at, await self._source.measure(tick.at))
            self._site.ledger.keep([reading])
            try:
                await self._bus.publish(address, reading)
            except BusError:
                continue  # the next one may go through


class NaiveRecorder:
    """Acknowledges what it hears, and writes it when there is time; what is in the file it does not ask."""

    def __init__(self, site: Site, bus: PlanesBus, data: Path, clock: Clock, life: Life) -> None:
        self._zone = zone_of(site.plan.place.day_timezone)
        self._has_pv = site.plan.has_pv
        self._bus = bus
        self._data = data
        self._clock = clock
        self._life = life
        self._waiting: list[tuple[Path, str]] = []

    async def run(self) -> None:
        both = (topics.METER_READING, topics.PV_READING, topics.ALERT)
        writing = asyncio.create_task(self._write())
        async with self._bus.subscribe(*both, durable=topics.RECORDER) as deliveries:
            async for delivery in self._life.lifecycle.each(deliveries):
                await delivery.ack()
                self._hear(delivery.message)
        writing.cancel()
        await asyncio.wait([writing])
        await self._flush()

    def _hear(self, message: Any) -> None:
        if isinstance(message, PvReading):
            row = archive.Row(
                message.timestamp, message.meter_w, message.pv_w, message.sum_w, message.boot, message.seq
            )
        elif isinstance(message, MeterReading) and not self._has_pv:
            row = archive.Row(message.timestamp, message.power_w, None, None, message.boot, message.seq)
        else:
            return
        day = archive.day_of(row.timestamp, self._zone)
        self._waiting.append((self._data / archive.day_file(HOUSE, METER, day), archive.format_row(row)))

    async def _write(self) -> None:
        while True:
            await self._clock.sleep(1.0)
            await self._flush()

    async def _flush(self) -> None:
        rows, self._waiting = self._waiting, []
        if rows:
            await asyncio.get_running_loop().run_in_executor(None, _append, rows)


def _append(rows: list[tuple[Path, str]]) -> None:
    for path, row in rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(row + "\n" if file.tell() else f"{archive.HEADER}\n{row}\n")


class NaiveDer(DerModel):
    """Obeys whoever spoke last, whatever he said and however long ago."""

    def judge(self, command: DispatchCommand, _now: object, _monotonic_s: float, /) -> Accept:
        return Accept(command, Mark.of(command), command.setpoint_kw or 0.0, 1e12)


def build_naive_meter(site: Site, life: Life, link: Link, clock: Clock) -> Running:
    own = meter_settings(site.plan)
    made = meter_main.build(own, clock, life.disk / "meter.json")
    model = TellingModel(made.model, site, life)
    return Running(NaiveMeter(site, model, made.source, bus_of(life, link, clock), clock, life))


def build_naive_recorder(site: Site, life: Life, link: Link, clock: Clock) -> Running:
    return Running(NaiveRecorder(site, bus_of(life, link, clock), life.disk / "DATA", clock, life))


def build_naive_der(site: Site, life: Life, link: Link, clock: Clock) -> Running:
    running = build_der(site, life, link, clock)
    service: Any = running.service
    for der in service._ders.values():
        der.model.__class__ = NaiveDer
    return running


NAIVE: Mapping[str, Mapping[str, Builder]] = {
    "meter": {"meter": build_naive_meter},
    "recorder": {"recorder": build_naive_recorder},
    "der": {"der": build_naive_der},
}
"""The names of the controls, and what each puts in a service's place."""
