"""`wattbus run` on brokers: what they do not take waits in the files that its sources have when they run alone."""

from pathlib import Path

from broker.bus import PlanesBus
from broker.errors import BusUnavailableError
from broker.memory import MemoryTransport
from broker.quarantine import Quarantine
from broker.transport import Outgoing
from runtime.clock import VirtualClock
from tests.conftest import START, run_virtual
from wattbus.neighbourhood import Neighbourhood, load_site

SITE = """
[house.house-a.meter]
pv = false
[house.house-b.meter]
pv = false
[plant]
gen_min = 0.05
gen_max = 0.15
cons_min = 0.03
cons_max = 0.1
port = 0
"""


class Readings(MemoryTransport):
    """A readings plane that is away until it is told otherwise."""

    away = True

    async def publish(self, out: Outgoing) -> None:
        if self.away:
            raise BusUnavailableError("away")
        await super().publish(out)


def test_an_outage_over_a_restart_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SITE)
    readings, state = Readings(), tmp_path / "out" / "state"

    async def life(clock: VirtualClock, seconds: float) -> None:
        site = load_site(tmp_path / "site.toml", [], tmp_path / "out", repeatable=False)
        bus = PlanesBus(readings, MemoryTransport(), clock, client="run", quarantine=Quarantine(None, clock))
        await Neighbourhood(site, bus, None, clock).run(lambda: clock.sleep(seconds))
        await bus.close()

    run_virtual(lambda clock: life(clock, 95))
    assert not list((tmp_path / "out" / "DATA").rglob("*.csv"))
    waiting = {path.name for path in state.glob("outbox-*.sqlite")}
    assert {"outbox-meter-house-a-main.sqlite", "outbox-meter-house-b-main.sqlite"} < waiting
    assert any(name.startswith("outbox-plant-poller-") for name in waiting)

    readings.away = False
    run_virtual(lambda clock: life(clock, 25), start=START.after(100))
    for house in ("house-a", "house-b"):
        [file] = (tmp_path / "out" / "DATA" / house / "main").glob("*.csv")
        identities = [tuple(row.rsplit(",", 2)[1:]) for row in file.read_text().splitlines()[1:]]
        assert identities == [("1", str(n)) for n in range(1, 11)] + [("2", str(n)) for n in range(1, 4)]
