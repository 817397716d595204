"""Faults to order: what each does to a DER, an optimizer and an orchestrator, and what is said of it."""

import asyncio

import pytest

from broker.errors import BusUnavailableError
from contracts import topics
from contracts.messages import Alert, DerTelemetry, DispatchCommand, PriceForecast, Status
from der_controller.settings import BatteryTable
from runtime.clock import VirtualClock
from runtime.errors import UsageError
from tests.conftest import START, memory_bus, run_virtual
from tests.service.der_house import House
from tests.system.test_run import wattbus
from wattbus.faults import Fault, Faults, parse_fault, resolve
from wattbus.news import News
from wattbus.run import main

HOUSES = {"house-a": ["battery"], "house-b": ["battery", "ev"], "house-c": []}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("der-silent:house-b@10m", Fault("der-silent", "house-b", None, 600, None)),
        ("der-lies:house-b/ev@90s+1h", Fault("der-lies", "house-b", "ev", 90, 3600)),
        ("der-reconnect:house-a@1.5h", Fault("der-reconnect", "house-a", None, 5400, 60)),
        ("der-reconnect:house-a@1h+5m", Fault("der-reconnect", "house-a", None, 3600, 300)),
        ("price-silent:house-c@1d", Fault("price-silent", "house-c", None, 86400, None)),
    ],
)
def test_a_fault_as_people_write_it(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write KIND:HOUSE"),
        ("der-silent", "write KIND:HOUSE"),
        ("der-silent:house-b", "write KIND:HOUSE"),
        ("der-silent:house-b@", "write KIND:HOUSE"),
        ("der-silent:house b@10m", "write KIND:HOUSE"),
        ("der-silent:house-b@10m\n", "is no duration"),
        ("der-silent:house-b@soon", "'soon' is no duration"),
        ("der-silent:house-b@10m+0s", "'0s' is no duration"),
        ("der-asleep:house-b@10m", "no fault is called der-asleep; there are der-silent"),
        ("price-silent:house-b/ev@10m", "leave /ev away"),
    ],
)
def test_what_is_no_fault_is_named(text: str, says: str) -> None:
    with pytest.raises(UsageError, match="--fault") as refused:
        parse_fault(text)
    assert says in str(refused.value)


def test_a_fault_of_a_house_is_one_of_each_of_its_ders() -> None:
    faults = [parse_fault("der-deaf:house-b@1m"), parse_fault("price-silent:house-c@1m")]
    names = [fault.name for fault in resolve(faults, HOUSES, 3600)]
    assert names == ["der-deaf:house-b/battery", "der-deaf:house-b/ev", "price-silent:house-c"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("der-deaf:house-x@1m", "no such house; there are house-a, house-b, house-c"),
        ("der-deaf:house-b/oven@1m", "no such DER; house-b has battery, ev"),
        ("der-deaf:house-c@1m", "no such DER; house-c has none"),
        ("der-deaf:house-a@1h", "after the run's end"),
    ],
)
def test_a_fault_of_what_is_not_there_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resolve([parse_fault(text)], HOUSES, 3600)


class Watched:
    """A house with a battery that is told +1 kW every 10 s, with one fault from 60 s to 180 s."""

    def __init__(self, clock: VirtualClock, kind: str) -> None:
        self.clock = clock
        fault = Fault(kind, "house-a", "battery", 60.0, 120.0)
        self.faults = Faults([fault], clock.now(), clock)
        self.house = House(clock, faults=self.faults, devices={"battery": BatteryTable(capacity_kwh=100.0)})
        self.told: list[str] = []

    async def run(self, seconds: float) -> None:
        async with self.house as house:
            playing = asyncio.create_task(self.faults.play(house.bus, self.told.append))
            for _ in range(round(seconds / 10)):
                command = house.order(setpoint_kw=1.0)
                await house.bus.publish(topics.DER_COMMAND.at(house="house-a", der_id="battery"), command)
                await self.clock.sleep(10)
            await playing

    def at(self, second: float) -> list[DerTelemetry]:
        return [t for t in self.house.telemetry if t.timestamp == START.after(second)]


def watched(kind: str, seconds: float = 240.0) -> Watched:
    async def scene(clock: VirtualClock) -> Watched:
        house = Watched(clock, kind)
        await house.run(seconds)
        return house

    return run_virtual(scene)


def test_a_silent_der_says_nothing_and_still_obeys() -> None:
    seen = watched("der-silent")
    assert [len(seen.at(s)) for s in (59, 60, 120, 179, 180)] == [1, 0, 0, 0, 1]
    assert not [ack for ack in seen.house.acks if 60 <= ack.timestamp.seconds_since(START) < 180]
    (back,) = seen.at(180)
    assert (back.following, back.current_output) == ("command", 1.0)
    assert seen.told == [
        "fault begins: der-silent:house-a/battery (no telemetry, no acks)",
        "fault ends: der-silent:house-a/battery (no telemetry, no acks)",
    ]


def test_a_deaf_der_falls_back_and_comes_back() -> None:
    seen = watched("der-deaf")
    news = News()
    lines = [line for t in seen.house.telemetry if (line := news.of(t))]
    assert lines == [
        "house-a/battery has no valid command any more: it is in its safe state",
        "house-a/battery follows commands again",
    ]
    assert [seen.at(s)[0].following for s in (79, 81, 179, 182)] == ["command", "safe", "safe", "command"]
    assert seen.at(100)[0].current_output == 0.0
    assert not [ack for ack in seen.house.acks if 60 <= ack.timestamp.seconds_since(START) < 180]


def test_a_der_that_reconnects_is_told_offline_and_online_again() -> None:
    seen = watched("der-reconnect")
    assert [(state.device, state.online) for state in seen.house.states] == [
        ("battery", False),
        ("battery", True),
    ]
    assert [len(seen.at(s)) for s in (59, 60, 179, 180)] == [1, 0, 0, 1]
    assert seen.at(180)[0].following == "safe"
    assert seen.at(182)[0].following == "command"
    assert seen.house.service.unsent == 120


def test_a_lying_der_tells_the_opposite() -> None:
    seen = watched("der-lies")
    (honest,), (lie,) = seen.at(59), seen.at(60)
    assert (honest.current_output, lie.current_output, lie.power_meter_measurement) == (1.0, -1.0, -1.0)
    assert honest.current_soc is not None
    assert lie.current_soc == pytest.approx(100 - honest.current_soc, abs=0.01)
    assert seen.at(180)[0].current_output == 1.0


def test_a_price_feed_and_an_optimizer_and_an_orchestrator_fall_silent_for_one_house_alone() -> None:
    def price(house: str, clock: VirtualClock) -> PriceForecast:
        return PriceForecast(
            house=house, tariff="t", issued_at=clock.now(), start=clock.now(), step_s=900, currency="EUR",
            import_price=[1.0], export_price=[0.0], demand_price=[0.0],
        )  # fmt: skip

    async def scene(clock: VirtualClock) -> None:
        bus, _ = memory_bus(clock)
        ordered = [parse_fault(f"{kind}:house-a@10s+10s") for kind in ("price-silent", "orchestrator-silent")]
        faults = Faults(ordered, clock.now(), clock)
        optimizer, orchestrator = faults.bus(bus, "optimizer"), faults.bus(bus, "orchestrator")
        assert faults.bus(bus, "der_controller", "house-a") is bus
        assert faults.bus(bus, "meter") is bus
        heard = []
        async with optimizer.subscribe(topics.PRICE, topics.DER_COMMAND) as deliveries:
            for _ in range(3):
                for house in ("house-a", "house-b"):
                    await optimizer.publish(topics.PRICE.at(house=house, tariff="t"), price(house, clock))
                    command = DispatchCommand(
                        command_id="x", house=house, der_id="battery", issuer="main", epoch=1, seq=1,
                        issued_at=clock.now(), valid_until=clock.now().after(30), setpoint_kw=1.0,
                    )  # fmt: skip
                    await orchestrator.publish(topics.DER_COMMAND.at(house=house, der_id="battery"), command)
                await clock.sleep(10)
            for _ in range(10):
                message = (await anext(deliveries)).message
                heard.append((type(message), message.house))
        for kind in (PriceForecast, DispatchCommand):
            assert heard.count((kind, "house-a")) == 2
            assert heard.count((kind, "house-b")) == 3

    run_virtual(scene)


def test_who_is_cut_off_knows_it() -> None:
    async def scene(clock: VirtualClock) -> None:
        bus, _ = memory_bus(clock)
        faults = Faults([Fault("der-reconnect", "house-a", "battery", 0.0, 60.0)], clock.now(), clock)
        own = faults.bus(bus, "der_controller", "house-a")
        status = Status(house="house-a", device="battery", online=True, timestamp=clock.now())
        address = topics.STATUS.at(house="house-a", device="battery", **{"class": "der"})
        with pytest.raises(BusUnavailableError, match="cut off"):
            await own.publish(address, status)
        await clock.sleep(60)
        await own.publish(address, status)

    run_virtual(scene)


def test_an_alert_is_told_once_until_it_changes_or_an_hour_has_passed() -> None:
    def alert(second: float, text: str) -> Alert:
        return Alert(
            house="house-a", source="orchestrator", boot=1, seq=1, timestamp=START.after(second),
            severity="critical", name="no-answer", text=text,
        )  # fmt: skip

    news = News()
    told = [news.of(alert(s, text)) for s, text in ((0, "x"), (10, "x"), (20, "y"), (30, "y"), (3700, "y"))]
    assert told == ["ALERT (critical) house-a: x", None, "ALERT (critical) house-a: y", None, "ALERT (critical) house-a: y"]  # fmt: skip


# As a user types it.


def test_a_run_says_when_a_fault_begins_and_ends_and_that_the_der_is_safe() -> None:
    done = wattbus(
        "run", "--for", "12m", "--speed", "max", "--fault", "der-deaf:house-b@3m+2m", "--fault",
        "der-silent:house-c/ev@10m",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split("  ", 1)[1] for line in done.stdout.splitlines() if line.startswith("2024-07-01 00:")]
    told = [line for line in lines if line.startswith(("fault", "house-b"))]
    assert told == [
        "fault begins: der-deaf:house-b/battery (ignores commands)",
        "house-b/battery has no valid command any more: it is in its safe state",
        "fault ends: der-deaf:house-b/battery (ignores commands)",
        "house-b/battery follows commands again",
        "fault begins: der-silent:house-c/ev (no telemetry, no acks)",
    ]


@pytest.mark.parametrize(
    "fault", ["der-silent", "der-asleep:house-b@10m", "der-silent:house-x@1m", "der-silent:house-b@1h"]
)
def test_a_bad_fault_is_one_clear_line(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--for", "12m", "--speed", "max", "--fault", fault]) == 2
    said = capsys.readouterr().err
    assert said.startswith("wattbus: --fault")
    assert len(said.strip().splitlines()) == 1
