"""Clocks jump two hours both ways; days of 23 and of 25 hours; late readings around midnight."""

import asyncio
import signal
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from contracts.instant import Instant
from runtime.clock import SystemClock
from tests.brokers import Broker, vhost
from tests.fault.account import files_of
from tests.fault.chain import PARTS, Setup, Source, chain, judge
from tests.fault.naive import HOUSE as NAIVE_HOUSE

pytestmark = [pytest.mark.fault, pytest.mark.timeout(400)]
JUMPING = {part: ["tests.fault.jumping", part] for part in ("pvsim", "recorder")}
BERLIN = "Europe/Berlin"
STEP_S = 120


@pytest.fixture
def broker(rabbitmq: Broker) -> Iterator[Broker]:
    with vhost(rabbitmq) as own:
        yield own


def zone_before_midnight() -> str:
    """Where it is past 23 h right now, so that two hours later is another day."""
    offset = 23 - Instant.of(SystemClock().now()).hour
    offset -= 24 if offset > 14 else 0
    return f"Etc/GMT{-offset:+d}" if offset else "UTC"


@pytest.mark.parametrize("part", PARTS)
async def test_a_clock_that_jumps(broker: Broker, tmp_path: Path, part: str) -> None:
    """The control's relay asks no clock, so it can't fail by one."""
    setup = Setup(timezone=zone_before_midnight(), modules=JUMPING)
    if part == "pvsim":
        setup.control = None
    async with chain(broker, tmp_path, setup) as one:
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR2, signal.SIGUSR1):
            one.signal(part, number)
            await asyncio.sleep(1)
            await one.flows()
        judge(await one.finish(f"clock of the {part} set 2 h forward and back"), delays=False)


@pytest.mark.parametrize(("night", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
async def test_a_night_in_which_clocks_change(broker: Broker, tmp_path: Path, night: str, hours: int) -> None:
    """Readings of three days around it, the recorder killed and the meter late in between."""
    day = date.fromisoformat(night)
    start = str(Instant.parse(f"{night}T00:00:00Z").after(-86_400))
    await _days(broker, tmp_path, f"daylight saving, a day of {hours} h", start, BERLIN, (day, hours))


async def test_midnight_with_late_readings(broker: Broker, tmp_path: Path) -> None:
    day = date(2026, 6, 2)
    await _days(broker, tmp_path, "midnight with late readings", "2026-06-01T00:00:00Z", "UTC", (day, 24))


async def _days(
    broker: Broker, folder: Path, fault: str, start: str, timezone: str, whole: tuple[date, int]
) -> None:
    readings = 3 * 86_400 // STEP_S
    times = {"start": start, "step_s": STEP_S, "rate": 200}
    setup = Setup(
        sources=[Source("house-a", **times), Source("house-b", client="shuffled", **times)],  # type: ignore[arg-type]
        control=Source(NAIVE_HOUSE, client="naive", pv=False, **times),  # type: ignore[arg-type]
        timezone=timezone,
        naive_by_24h=timezone != "UTC",
    )
    async with chain(broker, folder, setup) as one:
        one.proxies["meter"].cut(reopen=False)
        await asyncio.sleep(2)
        one.proxies["meter"].reopen()
        await one.kill("recorder")
        one.start("recorder")
        one.fault_ends()
        await one.recovers()

        def made() -> bool:
            one.update()
            return min(len(account.attempted) for account in one.accounts.values()) >= readings

        await one.until(made, 200, "not enough readings")
        verdicts = await one.finish(fault)
        day, hours = whole
        for house in one.houses:
            assert files_of(one.data, house, one.zone).days[day] == hours * 3600 // STEP_S
    judge(verdicts)
