"""The table of `wattbus top`."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console

from contracts.instant import Instant
from contracts.messages import Alert, Decision, MeterReading, Status
from contracts.orders import HeldDer, StandingOrders
from dashboard.model import Fleet
from dashboard.views import Row, row_of
from tests.conftest import START
from tests.unit.test_optimizer_model import der
from wattbus.fleet import fleet_table, state_of

READING = MeterReading(house="house-a", meter="main", boot=1, seq=1, timestamp=START, power_w=1500.0)
BATTERY: dict[str, Any] = {
    "house": "house-a", "der_id": "battery", "current_output": 1.25, "current_soc": 51.0, "following": "command",
}  # fmt: skip


def row(*messages: Any, after_s: float = 0.0) -> tuple[Row, Instant]:
    fleet = Fleet(ZoneInfo("UTC"), lambda _: 0.0)
    for message in (READING, *messages):
        device = getattr(message, "device", "main")
        fleet.hear({"house": "house-a", "class": "meter", "device": device}, message, START)
    now = START.after(after_s)
    return row_of(fleet.houses["house-a"], now), now


def shown(width: int, *messages: Any, after_s: float = 0.0) -> str:
    found, now = row(*messages, after_s=after_s)
    console = Console(width=width)
    with console.capture() as captured:
        console.print(fleet_table([found], now, width))
    return captured.get()


def test_a_house_with_its_powers_age_reason_and_alerts() -> None:
    why = Decision(
        house="house-a", der_id="battery", timestamp=START, tier="economic", limit="price", asked_kw=1.0,
        given_kw=1.0, sentence="It charges, because power is cheap.",
    )  # fmt: skip
    alert = Alert(
        house="house-a", source="orchestrator", boot=1, seq=1, timestamp=START, severity="warning", name="hot",
        text="battery is hot",
    )  # fmt: skip
    for width in (200, 90):
        text = shown(width, der(START, **BATTERY), why, alert, after_s=7)
        for part in (
            "1 house ",
            "house-a",
            "1.50",
            "+2.75",
            "+1.25",
            "51",
            "ok",
            "7 s",
            "It charges",
            "battery is hot",
        ):
            assert part in text


def test_what_the_loads_share_is_told_once() -> None:
    told = [
        Decision(
            house="house-a", der_id=f"miner-{at_s}", timestamp=START.after(at_s), tier=tier, limit="power",
            asked_kw=1.0, given_kw=1.0, sentence=f"{at_s} kW are there.",
        )
        for at_s, tier in ((1, "economic"), (3, "economic"), (2, "economic"), (4, "safety"))
    ]  # fmt: skip
    loads = [
        der(START, der_id=why.der_id, house="house-a", type="flexible_load", current_soc=None) for why in told
    ]
    (text,) = [line for line in shown(90, *loads, *told).splitlines() if line.startswith("house-a: ")]
    assert text.strip() == "house-a: 3 kW are there. 4 kW are there."


@pytest.mark.parametrize(
    ("messages", "after_s", "state"),
    [
        ([], 0, "ok"),
        ([der(START, **BATTERY)], 0, "ok"),
        ([der(START, **{**BATTERY, "following": "safe"})], 0, "safe"),
        ([StandingOrders(house="house-a", issued_at=START, held=[HeldDer(mode="pause", user="anna")])], 0, "stopped"),
        ([], 31, "silent"),
        ([Status(house="house-a", device="main", online=False, timestamp=START)], 0, "offline"),
    ],
)  # fmt: skip
def test_the_worst_that_can_be_said_of_a_house(messages: list[Any], after_s: float, state: str) -> None:
    assert state_of(*row(*messages, after_s=after_s)) == state
