"""A flexible load behind its controller: it takes its presets alone, and says where it is on its way."""

import msgspec
import pytest

from contracts.codec import decode, encode
from contracts.messages import DerTelemetry
from der_controller.devices import ManagedLoad
from der_controller.settings import BatteryTable, DerControllerSettings, LoadTable
from energy.errors import SpecError
from energy.flexible import FlexibleLoadSpec
from tests.unit.der_rig import BATTERY, Rig

LOAD = ManagedLoad(
    load=FlexibleLoadSpec(presets_kw=(1.0, 2.0, 3.0), start_s=10.0, stop_s=4.0), priority=3, managed=False
)


def test_it_runs_at_the_preset_it_is_told_once_it_has_started() -> None:
    rig = Rig(LOAD)
    ack = rig.send(rig.order(1, kw=2.0))
    assert (ack.result, ack.applied_kw) == ("accepted", 0.0)
    told = rig.wait(1.0)
    assert (told.preset_kw, told.current_output) == (2.0, 0.0)
    assert told.changing_until == rig.now.after(9.0)
    told = rig.wait(10.0)
    assert (told.current_output, told.changing_until, told.following) == (0.2, None, "command")
    assert rig.wait(1.0).current_output == 2.0


def test_any_other_setpoint_is_refused_with_the_reason() -> None:
    rig = Rig(LOAD)
    ack = rig.send(rig.order(1, kw=1.5))
    assert (ack.result, ack.reason) == ("rejected", "1.5 kW is no preset: 0, or one of 3 from 1 to 3 kW")
    ack = rig.send(rig.order(2, kw=None, setpoint_a=6.0))
    assert (ack.result, ack.reason) == (
        "rejected",
        "wrong kind of setpoint: a flexible load takes setpoint_kw alone",
    )


def test_without_commands_it_goes_to_its_safe_preset_by_itself() -> None:
    spec = msgspec.structs.replace(LOAD, safe_kw=1.0)
    rig = Rig(spec, safe=1.0)
    assert rig.tick().preset_kw == 1.0
    rig.send(rig.order(1, kw=3.0))
    assert rig.wait(20.0).preset_kw == 3.0
    told = rig.wait(11.0)
    assert (told.preset_kw, told.following) == (1.0, "safe")
    assert rig.wait(1.0).current_output == 1.0


def test_its_telemetry_says_what_it_can_be_told() -> None:
    told = Rig(LOAD).tick()
    assert (told.type, told.nameplate_capacity, told.current_soc) == ("flexible_load", 3.0, None)
    assert (told.presets_kw, told.safe_kw, told.managed, told.priority) == ([1.0, 2.0, 3.0], 0.0, False, 3)
    assert msgspec.json.decode(encode(told))["changing_until"] is None


def test_others_say_nothing_of_presets() -> None:
    told = encode(Rig(BATTERY).tick())
    assert b"preset" not in told
    assert isinstance(msgspec.json.decode(told), dict)


def test_so_many_alike_have_one_table() -> None:
    settings = DerControllerSettings(
        house="plant", devices={"miner": LoadTable(count=20), "heat-pump": LoadTable(), "b": BatteryTable()}
    )
    names = list(settings.tables())
    assert names[:2] == ["miner-01", "miner-02"]
    assert names[19:] == ["miner-20", "heat-pump", "b"]
    assert len(DerControllerSettings(house="p", devices={"m": LoadTable(count=1000)}).tables()) == 1000


def test_two_of_one_name_are_refused() -> None:
    devices = {"miner": LoadTable(count=2), "miner-02": LoadTable()}
    with pytest.raises(SpecError, match="plant: two devices are named miner-02"):
        DerControllerSettings(house="plant", devices=devices).tables()


def test_a_safe_preset_that_is_none_is_refused() -> None:
    with pytest.raises(SpecError, match=r"its safe state: 1\.5 kW is no preset"):
        Rig(LOAD, safe=1.5)


def test_telemetry_is_read_as_it_was_written() -> None:
    told = Rig(LOAD).tick()
    assert decode(DerTelemetry, encode(told)) == told
