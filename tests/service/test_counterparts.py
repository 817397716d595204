"""Reporter, optimizer and validator over HTTP: together, and when one is away, slow or talks nonsense."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

import optimizer.counterparts.reporter as reporter_command
import optimizer.counterparts.validator as validator_command
from contracts import topics
from contracts.instant import Instant
from contracts.messages import DerTelemetry
from energy.battery import BatterySpec
from energy.tariff import load_tariff
from optimizer.__main__ import serve
from optimizer.counterparts.playback import open_playback
from optimizer.counterparts.reporter_api import reporter_api
from optimizer.counterparts.simulator import Simulator
from optimizer.counterparts.validator_api import validator_api
from optimizer.model import PlanInputs, PlannerModel
from optimizer.remote import Bms, Reporter
from optimizer.settings import OptimizerSettings
from optimizer.sources import BmsBridge, RemoteBattery, ReporterForecasts, resampled
from optimizer.views import Dispatch, plain
from optimizer.wire import PowerForecast
from runtime import asking
from runtime.asking import RemoteError, open_client
from runtime.clock import Clock, ScaledClock, SystemClock
from runtime.door import Door
from runtime.errors import UsageError
from runtime.http import serving
from runtime.lifecycle import Lifecycle
from runtime.logs import get_log
from runtime.process import Context
from runtime.settings import Layered
from runtime.token import SITE, Tokens
from tests.broker_life import free_ports
from tests.conftest import START, memory_bus
from tests.contract.test_optimizer_api import schedule
from tests.openapi import check_api
from tests.secret_files import write_secret
from tests.unit.test_optimizer_model import SETUP, der

EXAMPLE = Path(__file__).parents[2] / "examples" / "data" / "fr_house_30min.csv"
SPEC = BatterySpec(capacity_kwh=10.0, max_charge_kw=5.0, max_discharge_kw=5.0)
LOG = get_log("test")
TOKEN = "short"  # noqa: S105 - of this test alone


class Stub:
    """A counterpart that answers as it is told; its last answer for ever."""

    def __init__(self, *answers: tuple[int, bytes], delay_s: float = 0.0) -> None:
        self.answers = list(answers)
        self.delay_s = delay_s
        self.requests: list[tuple[str, str, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive()).get("body", b"")
        self.requests.append((scope["method"], scope["path"], body))
        await asyncio.sleep(self.delay_s)
        status, answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": answer})


def forecast_json(start: Instant, *power_kw: float, step_min: float = 60) -> bytes:
    at = plain(start)
    return msgspec.json.encode(
        PowerForecast(timestamp=at, start=at, time_step_minutes=step_min, power_kw=list(power_kw))
    )


@asynccontextmanager
async def reporter_at(stub: Stub) -> AsyncIterator[Reporter]:
    async with serving(stub, "127.0.0.1", 0, LOG) as port, open_client() as http:
        yield Reporter(f"http://127.0.0.1:{port}", http, SystemClock())


def inputs(now: Instant = START) -> PlanInputs:
    model = PlannerModel("house-a", SETUP, None, now)
    model.hear(der(now), now)
    return model.plan_inputs(now)


async def test_hourly_load_is_resampled_to_the_plans_steps() -> None:
    stub = Stub((200, forecast_json(START, *[float(i) for i in range(49)])))
    async with reporter_at(stub) as reporter:
        refined = await ReporterForecasts({"house-a": reporter}).refine(inputs(START.after(1800)))
    assert refined.load.power_kw[:7] == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0]
    assert len(refined.load.power_kw) == 192
    assert refined.load.name == "reporter"
    assert refined.problem is not None
    assert refined.problem.load_kw == refined.load.power_kw
    assert refined.problem.pv_kw == refined.pv.power_kw
    assert {path for _, path, _ in stub.requests} == {"/api/forecasts/load", "/api/forecasts/solar"}


def test_resampling_holds_what_is_coarse_and_averages_what_is_fine() -> None:
    def said(step_min: float, *kw: float, start: Instant = START) -> PowerForecast:
        return msgspec.json.decode(forecast_json(start, *kw, step_min=step_min), type=PowerForecast)

    assert resampled(said(60, 1.0, 2.0), 900) == (START, [1.0] * 4 + [2.0] * 4)
    assert resampled(said(5, 1.0, 2.0, 3.0, 9.0), 900) == (START, [2.0])
    late = START.after(600)
    assert resampled(said(60, 1.0, start=late), 900) == (START.after(900), [1.0] * 3)
    assert resampled(said(5, 1.0), 900) == (START, [])


async def test_a_reporter_that_says_too_little_is_continued_from_the_day_before() -> None:
    stub = Stub((200, forecast_json(START, *[float(i) for i in range(24)])))
    async with reporter_at(stub) as reporter:
        refined = await ReporterForecasts({"house-a": reporter}).refine(inputs())
    assert refined.load.power_kw[:96] == refined.load.power_kw[96:]


GOOD = forecast_json(START, *[2.5] * 49)


@pytest.mark.parametrize(
    ("answers", "tries"),
    [
        ([(500, b"")], 3),
        ([(404, b"not here")], 1),
        ([(200, b"")], 1),
        ([(200, b"<html>")], 1),
        ([(200, b"\xff\xfe")], 1),
        ([(200, b"[]")], 1),
        ([(200, b'{"timestamp": 1}')], 1),
        ([(200, GOOD.replace(b"2.5", b"-1.0"))], 1),
        ([(200, GOOD.replace(b"2.5", b"1e9"))], 1),
        ([(200, GOOD.replace(b"2.5", b"null"))], 1),
        ([(200, GOOD.replace(b"T12:00:00Z", b"T12:00:00"))], 1),
        ([(200, GOOD.replace(b"2024-", b"9999-").replace(b"-07-01", b"-12-31"))], 1),
        ([(200, b" " * 1_100_000)], 1),
    ],
)
async def test_an_answer_that_will_not_do_falls_back_to_our_own_forecast(
    answers: list[tuple[int, bytes]], tries: int
) -> None:
    own = inputs()
    stub = Stub(*answers)
    async with reporter_at(stub) as reporter:
        forecasts = ReporterForecasts({"house-a": reporter})
        refined = await forecasts.refine(own)
    assert refined.load.name == refined.pv.name == "reporter-fallback"
    assert refined.load.power_kw == own.load.power_kw
    assert forecasts.fallbacks == 2
    assert len(stub.requests) == 2 * tries


async def test_what_a_reporter_said_stands_in_while_it_is_away() -> None:
    stub = Stub((200, forecast_json(START, *[float(i) for i in range(49)])))
    async with reporter_at(stub) as reporter:
        forecasts = ReporterForecasts({"house-a": reporter})
        before = await forecasts.refine(inputs())
        stub.answers = [(503, b"")]
        after = await forecasts.refine(inputs(START.after(7200)))
    assert after.load.name == "reporter-fallback"
    assert after.load.power_kw[:184] == before.load.power_kw[8:]
    # Beyond what was said: the same time a day before.
    assert after.load.power_kw[-1] == before.load.power_kw[100]


async def test_a_fault_that_passes_is_tried_again() -> None:
    stub = Stub((503, b""), (503, b""), (200, GOOD))
    async with reporter_at(stub) as reporter:
        assert (await reporter.load(48)).power_kw[0] == 2.5
    assert len(stub.requests) == 3


async def test_one_that_has_been_away_for_long_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "LEAVE_ALONE_S", 0.3)
    stub = Stub((503, b""))
    async with reporter_at(stub) as reporter:

        async def ask(says: str) -> int:
            before = len(stub.requests)
            with pytest.raises(RemoteError, match=says):
                await reporter.load(48)
            return len(stub.requests) - before

        assert [await ask("answers 503$") for _ in range(3)] == [3, 3, 3]
        assert [await ask("answers 503: left alone") for _ in range(5)] == [0] * 5
        await asyncio.sleep(0.35)
        assert await ask("answers 503$") == 1
        assert await ask("answers 503: left alone") == 0
        stub.answers = [(200, GOOD)]
        await asyncio.sleep(0.35)
        assert (await reporter.load(48)).power_kw[0] == 2.5
        assert (await reporter.load(48)).power_kw[0] == 2.5


async def test_one_that_refuses_is_not_away() -> None:
    stub = Stub((404, b"not here"))
    async with reporter_at(stub) as reporter:
        for _ in range(5):
            with pytest.raises(RemoteError, match="answers 404"):
                await reporter.load(48)
    assert len(stub.requests) == 5


async def test_a_slow_counterpart_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "TRY_WITHIN_S", 0.1)
    stub = Stub((200, GOOD), delay_s=0.4)
    async with reporter_at(stub) as reporter:
        with pytest.raises(
            RemoteError, match=r"Reporter at http://127.*/api/forecasts/load: (no answer|ReadTimeout)"
        ):
            await reporter.load(48)


async def test_nobody_there_is_said_in_one_line() -> None:
    (port,) = free_ports(1)
    async with open_client() as http:
        with pytest.raises(
            RemoteError, match=f"BMS at http://127.0.0.1:{port}/api/battery/soc: ConnectError"
        ):
            await Bms(f"http://127.0.0.1:{port}", http, SystemClock()).read()


async def until(condition: Callable[[], Any], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - of what is tested nothing sets an event
            await asyncio.sleep(0.02)


async def test_a_battery_behind_a_bms_is_on_the_bus_and_gets_its_commands() -> None:
    soc = b'{"timestamp": "2024-07-01T12:00:00Z", "soc": 0.65, "more": 1}'
    stub = Stub((503, b""))
    clock, life = ScaledClock(100.0, START, anchor=SystemClock().now()), Lifecycle()
    bus, _ = memory_bus(clock)
    heard: list[DerTelemetry] = []

    async def listen() -> None:
        async with bus.subscribe(topics.DER_TELEMETRY) as deliveries:
            async for delivery in life.each(deliveries):
                heard.append(delivery.message)  # noqa: PERF401 - each as it comes

    async with serving(stub, "127.0.0.1", 0, LOG) as port, open_client() as http:
        bms = Bms(f"http://127.0.0.1:{port}", http, clock)
        bridge = BmsBridge(RemoteBattery("house-a", SPEC, bms), bus, clock, life)
        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            group.create_task(bridge.run())
            await until(lambda: bridge.ailing)
            assert "answers 503" in bridge.ailing
            assert not heard
            stub.answers = [(200, soc)]
            await until(lambda: heard)
            await until(lambda: not bridge.ailing)
            assert (heard[0].current_soc, heard[0].capacity_kwh, heard[0].max_charge_kw) == (65.0, 10.0, 5.0)
            address = topics.SCHEDULE.at(house="house-a", der_id="battery")
            await bus.publish(address, schedule(clock.now().floor(900.0)))
            await until(lambda: any(method == "POST" for method, _, _ in stub.requests))
            life.stop()
    ((_, path, body),) = [request for request in stub.requests if request[0] == "POST"]
    assert path == "/api/battery/dispatch"
    assert list(json.loads(body)) == ["timestamp", "battery_power_kw", "status"]
    assert json.loads(body)["battery_power_kw"] == -75.5


async def test_a_validator_refuses_what_its_battery_can_not_do() -> None:
    simulator = Simulator(SPEC, 50.0, open_playback(EXAMPLE, "meter_w", "pv_w"), load_tariff(), 0.0, START)
    app = validator_api(simulator, "costa_rica", SystemClock())
    async with serving(app, "127.0.0.1", 0, LOG) as port, open_client() as http:
        bms = Bms(f"http://127.0.0.1:{port}", http, SystemClock())
        with pytest.raises(RemoteError, match=r"answers 409: .*outside -5\.\.5"):
            await bms.dispatch(Dispatch(timestamp=plain(START), battery_power_kw=6.0, status="optimal"))
        for body in (b"", b"{}", b'{"battery_power_kw": "much"}', b'{"battery_power_kw": 1e999}', b"\xff"):
            answer = await http.post(f"http://127.0.0.1:{port}/api/battery/dispatch", content=body)
            assert answer.status_code == 400, body
        assert simulator.commands == 0


@asynccontextmanager
async def counterparts(clock: Clock, door: Door | None = None) -> AsyncIterator[tuple[str, str, Simulator]]:
    """A Reporter and a validator of one recorded house."""
    playback = open_playback(EXAMPLE, "meter_w", "pv_w")
    simulator = Simulator(SPEC, 50.0, playback, load_tariff(), 0.0, clock.now())
    reporter = reporter_api(playback, clock, door)
    validator = validator_api(simulator, "costa_rica", clock, door)
    async with serving(reporter, "127.0.0.1", 0, LOG) as one, serving(validator, "127.0.0.1", 0, LOG) as two:
        yield f"http://127.0.0.1:{one}", f"http://127.0.0.1:{two}", simulator


async def test_what_they_say_has_no_noise_of_floating_point() -> None:
    """No 0.30000000000000004."""
    clock = ScaledClock(3600.0, START.after(8 * 3600), anchor=SystemClock().now())
    async with counterparts(clock) as (reporter_url, bms_url, simulator), open_client() as http:
        dispatch = f"{bms_url}/api/battery/dispatch"
        answers = [await http.post(dispatch, content=b'{"battery_power_kw": -0.1}') for _ in range(3)]
        assert simulator.energy.discharged_kwh > 0.0
        answers.append(await http.get(f"{bms_url}/api/account"))
        answers += [await http.get(f"{reporter_url}/api/forecasts/{kind}") for kind in ("load", "solar")]
    for answer in answers:
        assert answer.status_code == 200
        assert not re.findall(r"\d\.\d{7,}|e-\d", answer.text)


async def test_both_keep_their_openapi() -> None:
    async with counterparts(SystemClock()) as (reporter_url, bms_url, _):
        asked = await asyncio.to_thread(check_api, reporter_url)
        assert asked == ["GET /api/forecasts/load", "GET /api/forecasts/solar"]
        asked = await asyncio.to_thread(check_api, bms_url)
        assert set(asked) == {"GET /api/battery/soc", "POST /api/battery/dispatch", "GET /api/account"}


async def running(
    settings: OptimizerSettings, clock: Clock, check: Callable[[httpx.AsyncClient], Awaitable[None]]
) -> None:
    """The optimizer as its command runs it, until `check` is through."""
    life = Lifecycle()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(Layered(settings, {}), Context(clock, life)))
        url = f"http://127.0.0.1:{settings.service_port}"
        try:
            async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
                await check(http)
        finally:
            life.stop()


async def test_the_three_together_run_cycle_after_cycle(tmp_path: Path) -> None:
    # Peak hours in Costa Rica, and no sun in France: the battery works.
    clock = ScaledClock(150.0, START.after(8 * 3600), anchor=SystemClock().now())
    door = Door(tokens=Tokens({TOKEN: SITE}), is_open=False, is_local=True)
    token = write_secret(tmp_path / "token", TOKEN)
    async with counterparts(clock, door) as (reporter_url, bms_url, simulator):
        settings = OptimizerSettings(
            reporter_base_url=reporter_url,
            reporter_token_file=token,
            bms_base_url=bms_url,
            bms_token_file=token,
            service_port=free_ports(1)[0],
            battery_capacity_kwh=10.0,
            battery_power_max_kw=5.0,
            interval_min=5,
            state_dir=tmp_path,
        )

        async def check(http: httpx.AsyncClient) -> None:
            await until(lambda: simulator.commands >= 3, within_s=30.0)
            shown = {"Authorization": f"Bearer {TOKEN}"}
            status = (await http.get("/api/mpc/status")).json()
            assert status["houses"] == ["main"]
            assert status["optimizations_by_status"].keys() == {"optimal"}
            assert (await http.get("/health")).json()["status"] == "healthy"
            plan = (await http.get("/api/mpc/full_schedule")).json()
            assert plan["solver_status"] == "optimal"
            account = (await http.get(f"{bms_url}/api/account", headers=shown)).json()
            assert account["soc"] != 0.5
            assert account["commands"] >= 3
            flows = account["now"]
            supply = flows["grid_power_kw"] + flows["solar_kw"] - flows["curtailed_kw"]
            # Each of the five is rounded to 1e-6.
            assert supply == pytest.approx(flows["load_kw"] + flows["battery_power_kw"], abs=2.5e-6)

        await running(settings, clock, check)


async def test_without_its_counterparts_the_optimizer_serves_a_fallback(tmp_path: Path) -> None:
    gone, port = free_ports(2)
    settings = OptimizerSettings(
        reporter_base_url=f"http://127.0.0.1:{gone}",
        bms_base_url=f"http://127.0.0.1:{gone}",
        service_port=port,
        state_dir=tmp_path,
    )

    async def check(http: httpx.AsyncClient) -> None:
        async with asyncio.timeout(10.0):
            while (await http.get("/health")).status_code != 503:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert "BMS at" in (await http.get("/health")).json()["reason"]
        dispatch = (await http.get("/api/mpc/current_dispatch")).json()
        assert (dispatch["battery_power_kw"], dispatch["status"]) == (0.0, "fallback")
        assert (await http.get("/api/mpc/full_schedule")).status_code == 503

    await running(settings, SystemClock(), check)


async def test_with_the_reporter_away_the_battery_is_planned_all_the_same(tmp_path: Path) -> None:
    clock = ScaledClock(50.0, START, anchor=SystemClock().now())
    gone, port = free_ports(2)
    async with counterparts(clock) as (_, bms_url, simulator):
        settings = OptimizerSettings(
            reporter_base_url=f"http://127.0.0.1:{gone}",
            bms_base_url=bms_url,
            service_port=port,
            battery_capacity_kwh=10.0,
            battery_power_max_kw=5.0,
            state_dir=tmp_path,
        )

        async def check(http: httpx.AsyncClient) -> None:
            await until(lambda: simulator.commands, within_s=30.0)
            assert (await http.get("/api/mpc/current_dispatch")).json()["status"] == "optimal"

        await running(settings, clock, check)


@pytest.mark.parametrize("command", [reporter_command, validator_command])
def test_bad_usage_is_one_line(
    command: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main([]) == 2
    assert command.main(["--csv", "none.csv"]) == 2
    assert command.main(["--csv", str(EXAMPLE), "--service-port", "99999"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("wattbus: ")]
    assert len(lines) == 3
    assert "--csv is missing" in lines[0]
    assert "none.csv: no such file" in lines[1]
    assert "--service-port" in lines[2]


async def test_a_port_that_is_taken_is_named() -> None:
    stub = Stub((200, b""))
    async with serving(stub, "127.0.0.1", 0, LOG) as port:
        for where in ("--service-port", "--port"):
            says = rf"127.0.0.1:{port}: can't listen there \(.*\): choose another {where}$"
            with pytest.raises(UsageError, match=says):
                async with serving(stub, "127.0.0.1", port, LOG, port_is=where):
                    pass
