"""A plant's loads tick by tick: held between balances, safe when the plant is unknown, left out when they fail."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from contracts.instant import Instant
from contracts.messages import DerTelemetry, PlantReading
from orchestrator.balancer import NOTHING, Balancer, Shared
from orchestrator.devices import Link
from orchestrator.inputs import HouseLimits
from orchestrator.known import Known
from orchestrator.requests import Hold, Orders
from orchestrator.wear import Wear
from tests.conftest import START
from tests.unit.test_balance import PRESETS

PLANT = "complexo-paranhos"


def load(name: str, now: Instant, **more: Any) -> DerTelemetry:
    fields: dict[str, Any] = {
        "der_id": name, "house": PLANT, "is_online": True, "timestamp": now, "current_output": 0.0,
        "power_meter_measurement": 0.0, "baseline": 0.0, "contract_threshold": 3.0, "project_id": "P",
        "is_standalone": False, "connection_start_at": now, "current_soc": None, "type": "flexible_load",
        "nameplate_capacity": 3.0, "presets_kw": list(PRESETS), "preset_kw": 0.0, "safe_kw": 0.0, "managed": True,
        "priority": 0, "changing_until": None,
    }  # fmt: skip
    return DerTelemetry(**fields | more)


class Plant:
    """A plant, its loads and their balancer; the loads do at once what they are told."""

    def __init__(self, count: int = 20, **settings: Any) -> None:
        limits = HouseLimits(
            max_grid_import_kw=16, max_grid_export_kw=16, reading_fresh_s=30, ttl_s=30, **settings
        )
        self.known = Known(30, Wear(ZoneInfo("UTC")))
        self.balancer = Balancer(PLANT, limits)
        self.links: dict[str, Link] = {}
        self.orders = Orders()
        self.now = START
        self.seq = 0
        self.kw = {f"miner-{i:02}": 0.0 for i in range(1, count + 1)}
        self.more: dict[str, dict[str, Any]] = {}
        self.silent: set[str] = set()
        self.available_kw: float | None = 25.0

    def tick(self, seconds: float = 10.0) -> Shared:
        self.now = self.now.after(seconds)
        for name, kw in self.kw.items():
            if name not in self.silent:
                told = {"current_output": kw, "preset_kw": kw, **self.more.get(name, {})}
                self.known.hear(load(name, self.now, **told), self.now)
        if self.available_kw is not None:
            self.read(self.available_kw)
        shared = self.balancer.tick(self.known, self.links, self.orders, self.now)
        self.kw |= {v.der_id: v.given_kw for v in shared.verdicts if v.der_id not in self.silent}
        return shared

    def read(self, available_kw: float, **more: Any) -> None:
        self.seq += 1
        fields = {"house": PLANT, "boot": 1, "seq": self.seq, "timestamp": self.now} | more
        reading = PlantReading(**fields, generation_w=1e6, consumption_w=1e6 - available_kw * 1000)
        self.known.hear(reading, self.now)

    def minute(self) -> list[Shared]:
        return [self.tick() for _ in range(6)]

    @property
    def total_kw(self) -> float:
        return sum(self.kw.values())


def balanced(ticks: list[Shared]) -> Shared:
    (found,) = [shared for shared in ticks if shared.lines]
    return found


def test_a_house_without_loads_is_left_alone() -> None:
    plant = Plant(count=0)
    assert plant.tick() is NOTHING


def test_it_balances_once_a_minute_and_logs_as_the_document_shows() -> None:
    plant = Plant()
    done = balanced(plant.minute())
    assert plant.now == START.after(60)
    assert done.lines[0] == "Power balancer: target=23.0kW, current=0.0kW, delta=+23.0kW"
    assert done.lines[1] == "Adjusting miner-01 from preset 0 to 20 (+3000W)"
    assert [verdict.der_id for verdict in done.changed] == [f"miner-{i:02}" for i in range(1, 9)]
    assert plant.total_kw == pytest.approx(23.0, abs=0.1)
    assert [len(shared.changed) for shared in plant.minute()] == [0] * 6


def test_between_balances_every_load_is_told_the_same_again() -> None:
    plant = Plant()
    plant.minute()
    kept = plant.tick()
    assert len(kept.verdicts) == 20
    assert (kept.changed, kept.lines, kept.troubles) == ([], [], [])
    assert kept.verdicts[0].sentence == "miner-01 stays at preset 20 (3.00 kW)."


def test_each_change_says_why_and_what_else_could_have_been() -> None:
    plant = Plant(count=1)
    plant.available_kw = 5.0
    (verdict,) = balanced(plant.minute()).changed
    assert verdict.sentence == (
        "3.0 kW are there for the loads, which take 0.0 kW: miner-01 rises from preset 0 to 20 (0.00 to 3.00 kW)."
    )
    assert verdict.alternative == "Left at preset 0, 3.0 kW of it would go unused."
    plant.available_kw = 4.0
    plant.minute()
    plant.available_kw = 1.0
    (verdict,) = balanced(plant.minute()).changed
    assert (verdict.given_kw, verdict.limit) == (0.0, "available power")
    assert verdict.alternative == "Left at preset 20, the loads would take 3.0 kW more than that."


def test_presets_are_told_to_their_last_digit() -> None:
    """A load refuses what is none of its presets, and the knapsack reckons in whole watts."""
    plant = Plant(count=1)
    plant.more["miner-01"] = {"presets_kw": [1 / 3, 8 / 3, 3.0]}
    plant.available_kw = 4.7
    (verdict,) = balanced(plant.minute()).changed
    assert verdict.given_kw == 8 / 3


def test_what_a_load_was_set_to_before_is_kept_when_the_orchestrator_is_new() -> None:
    plant = Plant(count=2)
    plant.kw["miner-01"] = PRESETS[7]
    first = plant.tick()
    assert [verdict.given_kw for verdict in first.verdicts] == [PRESETS[7], 0.0]
    assert first.changed == []


def test_without_the_plant_every_load_goes_to_its_safe_preset_and_comes_back() -> None:
    plant = Plant()
    plant.more["miner-02"] = {"safe_kw": 1.0}
    plant.minute()
    plant.available_kw = None
    seen = [shared for _ in range(3) for shared in plant.minute()]
    (told,) = [shared for shared in seen if shared.changed]
    (trouble,) = told.troubles
    assert (trouble.name, trouble.severity) == ("plant-unknown", "critical")
    assert trouble.text == (
        f"{PLANT}: nothing was heard of the plant for 120 s: its 20 managed loads go to their safe presets"
    )
    assert plant.kw["miner-02"] == plant.total_kw == 1.0
    assert seen[-1].troubles == [trouble]
    plant.available_kw = 25.0
    assert [shared.troubles for shared in plant.minute()] == [[]] * 6
    assert plant.total_kw == pytest.approx(23.0, abs=0.1)


def test_a_plant_that_was_never_heard_of_is_waited_for() -> None:
    plant = Plant(count=1)
    plant.available_kw = None
    plant.kw["miner-01"] = 3.0
    seen = [plant.tick() for _ in range(14)]
    assert [bool(shared.troubles) for shared in seen] == [False] * 13 + [True]
    assert seen[12].verdicts[0].given_kw == 3.0
    assert plant.kw["miner-01"] == 0.0


@pytest.mark.parametrize("more", [{"trusted": False}, {"historical": True}])
def test_a_reading_that_is_not_trusted_or_not_of_now_counts_as_none(more: dict[str, Any]) -> None:
    plant = Plant(count=1)
    plant.available_kw = None
    for _ in range(20):
        plant.read(50.0, **more)
        plant.tick()
    assert plant.kw["miner-01"] == 0.0
    assert plant.tick().troubles


def test_a_load_that_is_being_started_waits_and_one_that_was_just_changed_too() -> None:
    plant = Plant(count=2, balancer_interval_s=10.0)
    plant.more["miner-01"] = {"changing_until": START.after(100)}
    plant.tick()
    assert [verdict.der_id for verdict in plant.tick().changed] == ["miner-02"]
    plant.available_kw = 2.5
    plant.tick()
    plant.tick()
    assert plant.kw["miner-02"] == 3.0  # 20 s after the change
    plant.tick()
    assert plant.kw["miner-02"] == 0.0


def test_a_load_that_fails_is_left_out_told_to_be_safe_and_what_it_draws_is_counted() -> None:
    plant = Plant(count=2)
    plant.links["miner-01"] = link = Link()
    link.misses = 3
    plant.more["miner-01"] = {"current_output": 2.0}  # whatever it is told
    plant.available_kw = 6.5
    done = balanced(plant.minute())
    told = {verdict.der_id: verdict for verdict in done.verdicts}
    assert told["miner-01"].given_kw == 0.0
    assert told["miner-01"].sentence == (
        "miner-01 does not answer: nothing counts on it until it obeys again: "
        "miner-01 goes to its safe preset (0.00 kW)."
    )
    assert told["miner-02"].given_kw == PRESETS[14]  # of 6.5 kW, 2 in reserve and 2 gone


def test_a_silent_load_is_left_out() -> None:
    plant = Plant(count=2)
    plant.minute()
    plant.silent.add("miner-01")
    plant.minute()
    kept = plant.tick()
    told = {verdict.der_id: verdict for verdict in kept.verdicts}
    assert told["miner-01"].limit == "stale telemetry"
    assert told["miner-01"].given_kw == 0.0


def test_only_managed_loads_are_told_anything() -> None:
    plant = Plant(count=3)
    plant.more["miner-01"] = {"managed": False}
    plant.minute()
    assert {verdict.der_id for verdict in plant.tick().verdicts} == {"miner-02", "miner-03"}


def test_loads_that_the_plant_counts_as_consumption_are_added_back() -> None:
    plant = Plant(consumption_includes_loads=True)
    for _ in range(4):
        plant.minute()
        assert plant.total_kw == pytest.approx(23.0, abs=0.1)
        plant.available_kw = 25.0 - plant.total_kw


@pytest.mark.parametrize("mode", ["pause", "safe"])
def test_a_person_stops_one_load(mode: Any) -> None:
    plant = Plant(count=2)
    plant.minute()
    plant.orders = Orders(holds={"miner-01": Hold(mode=mode, user="ana", since=START)})
    (changed,) = plant.tick().changed
    assert (changed.der_id, changed.given_kw, changed.tier) == ("miner-01", 0.0, "safety")
    does = "paused" if mode == "pause" else "stopped"
    assert changed.sentence == f"ana has {does} it: miner-01 goes to its safe preset (0.00 kW)."


def test_by_priority_if_that_is_wanted() -> None:
    plant = Plant(count=3, balancer_order="priority")
    plant.more["miner-03"] = {"priority": 5}
    plant.available_kw = 5.0
    plant.minute()
    assert plant.kw == {"miner-01": 0.0, "miner-02": 0.0, "miner-03": 3.0}
