"""Bad input: nothing falls over, nothing escapes its folder, all of it is kept with a reason, and good traffic goes on."""

import asyncio
import base64
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from broker.errors import BusError
from broker.mqtt import open_mqtt
from broker.quarantine import Quarantine
from broker.transport import Outgoing, matches
from contracts import topics
from contracts.archive import parse_row
from contracts.codec import decode_at, encode
from contracts.errors import ContractError
from contracts.messages import Message, MeterReading
from contracts.topics import DeliveryClass
from pvsim.__main__ import build
from pvsim.service import PvsimService
from pvsim.settings import PvsimSettings
from recorder.service import RecorderService
from recorder.settings import RecorderSettings
from runtime.clock import SystemClock, VirtualClock
from runtime.lifecycle import Lifecycle
from runtime.settings import Layered
from tests.conftest import run_virtual
from tests.contract.bad_input import HOUSE, SAMPLES, Case, cases
from tests.contract.conftest import Client, Place
from tests.service.orchestrated_house import House

CASES = cases()
FLOOD = CASES[::2]
"""For services that run: each costs an fsync."""
BURST = 25
METER = topics.METER_READING.at(house=HOUSE, meter="main")
READ = (topics.METER_READING, topics.PV_READING, topics.PLANT_READING, topics.ALERT)
"""By the recorder."""


def test_there_are_enough_of_them() -> None:
    assert len(CASES) == len(set(CASES))
    assert len(FLOOD) >= 2_000
    for address, message in SAMPLES:
        assert decode_at(address, encode(message)) == message, "what they are made of is good"


def test_each_is_refused_with_a_reason() -> None:
    for case in CASES:
        with pytest.raises(ContractError) as refused:
            _decode(case.name, case.payload)
        assert str(refused.value), case.what


def _decode(name: str, payload: bytes) -> Message:
    address = topics.find(name)
    if address is None:
        raise ContractError(f"{name!r} is no topic")
    return decode_at(address, payload)


# --- what nobody thought of -----------------------------------------------------

tokens = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(SAMPLES), st.data())
def test_a_message_is_what_its_type_says_or_it_is_refused(sample: tuple[topics.Address[Message], Message], data: st.DataObject) -> None:  # fmt: skip
    """Any change of any field; what is taken must come back the same."""
    address, message = sample
    changed: dict[str, object] = msgspec.json.decode(encode(message))
    for name in data.draw(st.lists(st.sampled_from(sorted(changed)), min_size=1, max_size=3)):
        changed[name] = data.draw(tokens)
    try:
        payload = msgspec.json.encode(changed)
    except (OverflowError, UnicodeEncodeError):
        return  # no JSON can be made of it
    _taken_or_refused(address, payload)


@given(st.sampled_from(SAMPLES), st.binary(max_size=300), st.integers(0, 400), st.integers(0, 400))
@example(SAMPLES[0], b"\xed\xa0\x80", 11, 11)
def test_bytes_that_are_spoiled_are_refused_or_do_not_matter(
    sample: tuple[topics.Address[Message], Message], spoil: bytes, begin: int, end: int
) -> None:
    address, message = sample
    good = encode(message)
    _taken_or_refused(address, good[:begin] + spoil + good[max(begin, end) :])


def _taken_or_refused(address: topics.Address[Message], payload: bytes) -> None:
    try:
        message = decode_at(address, payload)
    except ContractError:
        return
    assert decode_at(address, encode(message)) == message


@given(st.text(max_size=120))
@example("wattbus/../meter/main/reading")
@example("wattbus/house-a/meter/main\n/reading")
def test_a_name_is_a_topic_of_ours_or_none(name: str) -> None:
    try:
        address = topics.find(name)
    except ContractError:
        return
    assert address is None or all(text.isascii() and text.replace("-", "").replace("_", "").isalnum() for text in address.ids.values())  # fmt: skip


# --- services that run ----------------------------------------------------------


def test_the_services_go_on_and_all_of_it_is_in_quarantine(tmp_path: Path) -> None:
    """Recorder, PV simulator and orchestrator on the bus in memory; good readings in between."""
    inside = tmp_path / "inside"
    beside = tmp_path / "beside"
    beside.mkdir()
    good, snapshots, failures = run_virtual(lambda clock: _flood(clock, inside))
    assert failures == []
    kept = _in_quarantine(inside / "quarantine")
    assert kept == _expected()
    assert _recorded(inside / "DATA") == good
    folders = {str(path.parent.relative_to(inside / "DATA")) for path in (inside / "DATA").rglob("*.csv")}
    assert folders == {f"{HOUSE}/main"}
    assert {path.name for path in inside.iterdir()} == {"DATA", "quarantine"}
    assert {path.name for path in tmp_path.iterdir()} == {"inside", "beside"}
    assert not list(beside.iterdir())
    assert snapshots > 0, "the orchestrator goes on"


async def _flood(clock: VirtualClock, folder: Path) -> tuple[list[int], int, list[str]]:
    house = House(clock)
    house.is_metered = False
    async with house:
        house.bus._quarantine = Quarantine(folder / "quarantine", clock)
        life, seqs = Lifecycle(), []
        recorder = RecorderService(RecorderSettings(data_dir=folder / "DATA"), house.bus, clock, life)
        pvsim = PvsimService(build(Layered(PvsimSettings(), {}), clock), house.bus, clock, life)
        running = [asyncio.create_task(service.run()) for service in (recorder, pvsim)]
        await clock.sleep(1)
        for first in range(0, len(FLOOD), BURST):
            for case in FLOOD[first : first + BURST]:
                await house.transport.publish(Outgoing(case.name, case.payload, case.delivery))
            seqs.append(first)
            reading = MeterReading(
                house=HOUSE, meter="main", boot=1, seq=first, timestamp=clock.now(), power_w=500, has_pv=True
            )
            await house.bus.publish(METER, reading)
            await clock.sleep(10)
        failures = [str(task.exception()) for task in running if task.done()]
        heard = await house.hear(60)
        life.stop()
        await asyncio.gather(*running)
        for durable in (topics.RECORDER, topics.PVSIM):
            assert house.transport.backlog(durable) == 0, "nothing comes again for ever"
    return seqs, len(heard.snapshots), failures


def _expected() -> Counter[tuple[str, bytes]]:
    """Once for the recorder, and what is a meter's once more for the PV simulator."""
    wanted: Counter[tuple[str, bytes]] = Counter()
    for case in FLOOD:
        readers = [*READ, topics.METER_READING]
        wanted[case.name, case.payload] += sum(matches(topic.filter, case.name) for topic in readers)
    return +wanted


def _in_quarantine(folder: Path) -> Counter[tuple[str, bytes]]:
    found: Counter[tuple[str, bytes]] = Counter()
    for path in folder.rglob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            entry = msgspec.json.decode(line)
            assert 0 < len(entry["reason"]) <= 500
            found[entry["topic"], base64.b64decode(entry["payload_base64"])] += 1
    return found


def _recorded(data: Path) -> list[int]:
    """The numbers of the rows, in their order."""
    rows = [line for path in sorted(data.rglob("*.csv")) for line in path.read_bytes().splitlines()[1:]]
    return [parse_row(row.decode()).seq for row in rows]


# --- a real broker --------------------------------------------------------------


def _slice() -> list[Case]:
    """Those that a client may publish at all: a topic of MQTT, and a routing key of five words."""
    can = [
        case
        for case in CASES
        if case.delivery is DeliveryClass.READING
        and matches(topics.METER_READING.filter, case.name)
        and case.name.isprintable()
        and not set(case.name) & set("+#.")
        and len(case.name) < 200
        and "//" not in case.name
    ]
    return random.Random("bad input").sample(can, 200)


@pytest.fixture
async def passing(place: Place, queue: str) -> AsyncIterator[str]:
    """A durable reader's name; it hears all houses of a shared broker, so no session of it may be left there."""
    yield queue
    if place.url.startswith("mqtt"):
        async with open_mqtt(place.url, client=f"wattbus-{queue}", wait_s=0, will=None):
            pass  # who begins anew under a session's name ends it


@pytest.mark.parametrize("place", ["amqp", "mqtt-mosquitto"], indirect=True)
async def test_over_a_real_broker_too(one: Client, other: Client, passing: str) -> None:
    chosen, good = _slice(), []
    async with other.bus.subscribe(topics.METER_READING, durable=passing) as deliveries, asyncio.timeout(60):
        for number, case in enumerate(chosen):
            await _publish(one, case)
            if number % 20 == 0:
                good.append(replace(SAMPLES[0][1], seq=number, timestamp=SystemClock().now()))
                await one.bus.publish(METER, good[-1])
        for message in good:
            delivery = await anext(deliveries)
            assert delivery.message == message
            await delivery.ack()
        await one.bus.publish(METER, good[-1])  # behind the last bad one
        await (await anext(deliveries)).ack()
    assert other.bus.refused == len(chosen)
    assert _in_quarantine(other.refused) == Counter((case.name, case.payload) for case in chosen)


async def _publish(client: Client, case: Case) -> None:
    try:
        await client.transport.publish(Outgoing(case.name, case.payload, case.delivery))
    except BusError as error:
        pytest.fail(f"{case.what}: {error}")
