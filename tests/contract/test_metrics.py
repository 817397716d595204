"""What the services export, what the Grafana dashboard asks for, and what the documentation says: the same names."""

import json
import re
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from der_controller.service import DerControllerService
from home_assistant.service import HomeAssistantService, Shown
from home_assistant.settings import HomeAssistantSettings
from meter.__main__ import build
from meter.service import MeterService
from meter.settings import MeterSettings
from optimizer.metrics import PlanCounts
from optimizer.service import OptimizerService
from optimizer.settings import OptimizerSettings
from orchestrator.metrics import LoopCounts
from orchestrator.service import Mark, OrchestratorService
from orchestrator.settings import OrchestratorSettings
from pvsim.model import simulated
from pvsim.service import PvsimService
from recorder.service import RecorderService
from recorder.settings import RecorderSettings
from runtime.clock import SystemClock
from runtime.lifecycle import Lifecycle
from runtime.metrics import Source, exposition
from runtime.settings import Layered
from runtime.store import Store
from tests.conftest import memory_bus

REPOSITORY = Path(__file__).parents[2]
DASHBOARD = json.loads((REPOSITORY / "examples" / "grafana" / "wattbus.json").read_text())
OF_WEB = {"wattbus_http_seconds"}
"""Of `runtime.web`, which every API has."""


def of_source(source: Source) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+) ", exposition(source()), re.MULTILINE))


def of_collector(collector: Collector) -> set[str]:
    registry = CollectorRegistry()
    registry.register(collector)
    return set(re.findall(r"^# TYPE (\S+) ", generate_latest(registry).decode(), re.MULTILINE))


async def exported() -> dict[str, set[str]]:
    """The names that each service exports, as Prometheus has them."""
    clock, life = SystemClock(), Lifecycle()
    bus, _ = memory_bus(clock)
    own = MeterSettings(house="house-a")
    optimizer = OptimizerService(Layered(OptimizerSettings(), {}), bus, clock, life)
    mark = Store(None, Mark, Mark())
    orchestrator = OrchestratorService(Layered(OrchestratorSettings(), {}), bus, clock, life, mark, None)
    shown = Store(None, Shown, Shown())
    names = {
        "meter": of_source(MeterService(own, *build(own, clock, None), bus, clock, life).metrics),
        "der_controller": of_source(DerControllerService("house-a", {}, 1.0, bus, clock, life).metrics),
        "pvsim": of_source(
            PvsimService(
                lambda house: simulated(lambda _: 0.0, "0", house, 0.0, 0.0), bus, clock, life
            ).metrics
        ),
        "recorder": of_source(RecorderService(RecorderSettings(), bus, clock, life).metrics),
        "home_assistant": of_source(
            HomeAssistantService(HomeAssistantSettings(), bus, clock, life, shown, "status").metrics
        ),
        "optimizer": of_collector(PlanCounts(optimizer, clock)),
        "orchestrator": of_collector(LoopCounts(orchestrator, clock)),
    }
    of_bus = of_source(bus.metrics)
    return {service: own_names | of_bus for service, own_names in names.items()}


def asked_for() -> set[str]:
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return set(re.findall(r"\bwattbus_\w+", " ".join(expressions)))


async def test_each_metric_of_the_dashboard_is_exported() -> None:
    everything = set().union(*(await exported()).values())
    summaries = {f"{name}{part}" for name in everything for part in ("_sum", "_count")}
    assert asked_for() - everything - summaries == set()


async def test_the_jobs_of_the_dashboard_are_scraped_and_export_what_is_asked_of_them() -> None:
    scraped = yaml.safe_load((REPOSITORY / "examples" / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"] for job in scraped["scrape_configs"]}
    names = await exported()
    assert jobs <= set(names)
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            for name, job in re.findall(r'(wattbus_\w+)\{job="(\w+)"', target["expr"]):
                assert job in jobs
                assert name in names[job]


def test_what_an_operator_looks_for_is_on_the_dashboard() -> None:
    wanted = {
        "wattbus_outbox_messages", "wattbus_rows_total", "wattbus_solve_seconds_total", "wattbus_late_ticks_total",
        "wattbus_tick_seconds_sum", "wattbus_violations_total", "wattbus_commands_total", "wattbus_ders",
        "wattbus_lag_seconds", "wattbus_age_seconds", "wattbus_rejected_total", "wattbus_dropped_total",
    }  # fmt: skip
    assert wanted <= asked_for()


def test_the_dashboard_asks_the_datasource_that_is_provisioned() -> None:
    path = REPOSITORY / "examples" / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
    (source,) = yaml.safe_load(path.read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}


async def test_each_metric_is_documented_and_each_documented_one_is_there() -> None:
    page = (REPOSITORY / "docs" / "metrics.md").read_text()
    everything = set().union(*(await exported()).values()) | OF_WEB
    told = set(re.findall(r"`(wattbus_\w+)`", page))
    assert told == everything


async def test_units_are_written_out() -> None:
    for name in set().union(*(await exported()).values()):
        assert not re.search(r"_(s|kw|kwh|w)$", name), f"{name}: Prometheus writes units out"
