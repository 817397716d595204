"""What a spectator of the bus makes of it."""

from typing import Any

import pytest

from contracts.messages import DerTelemetry, MeterReading, PvReading
from energy.tariff import load_tariff
from tests.conftest import START
from wattbus.scoreboard import HouseBoard


def telemetry(seconds: float, kw: float, soc: float = 50.0) -> DerTelemetry:
    at = START.after(seconds)
    return DerTelemetry(
        der_id="battery", is_online=True, timestamp=at, current_output=kw, power_meter_measurement=kw, baseline=0,
        contract_threshold=5, project_id="P", is_standalone=False, connection_start_at=START, current_soc=soc,
        type="battery_storage", nameplate_capacity=5, house="h", capacity_kwh=10,
    )  # fmt: skip


def test_energy_and_cost_with_and_without_the_battery() -> None:
    board = HouseBoard("h", load_tariff("costa_rica"), max_export_kw=0.0)
    for i in range(361):  # an hour of 10 s, at noon's end: 06:00 in Costa Rica, 26 CRC/kWh
        known: dict[str, Any] = {"house": "h", "meter": "main", "boot": 1, "seq": i + 1}
        at = START.after(10 * i)
        board.hear(MeterReading(timestamp=at, power_w=3000, **known))
        board.hear(PvReading(timestamp=at, meter_w=3000, pv_w=1000, sum_w=4000, **known))
        board.hear(telemetry(10 * i + 5, -1.0, 50 - i / 360 * 10))
    energy = board.energy
    assert (energy.load_kwh, energy.pv_kwh, energy.discharged_kwh) == pytest.approx((3, 1, 1), abs=0.02)
    assert board.stored_kwh() == pytest.approx(-1)
    assert board.bill_without.costs().energy == pytest.approx(2 * 26)
    assert board.bill.costs().energy == pytest.approx(1 * 26, rel=0.01)


def test_a_gap_is_not_made_up_and_a_replay_does_not_count() -> None:
    board = HouseBoard("h", load_tariff("costa_rica"), max_export_kw=0.0)
    known: dict[str, Any] = {"house": "h", "meter": "main", "boot": 1, "power_w": 1000.0}
    board.hear(MeterReading(timestamp=START, seq=1, **known))
    board.hear(MeterReading(timestamp=START.after(86400), seq=2, **known))
    board.hear(MeterReading(timestamp=START.after(86410), seq=3, historical=True, **known))
    assert board.energy.load_kwh == 0
