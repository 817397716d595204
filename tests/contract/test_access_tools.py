"""The commands of people and of houses' computers at guarded brokers: `wattbus check`, dashboards, replay."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from contracts.topics import SITE
from dashboard.__main__ import page
from dashboard.settings import DashboardSettings
from runtime.clock import SystemClock
from runtime.lifecycle import Lifecycle
from runtime.settings import CommonSettings
from tests.access_site import Guarded
from tests.broker_life import free_ports
from tests.contract.test_access_attacks import bus_of, opened
from tests.dashboard_house import say, telemetry
from tests.secret_files import write_secret
from wattbus import check

TOKEN = "a-token-of-the-tests"  # noqa: S105


@pytest.fixture(params=["rabbitmq", "mosquitto", "hivemq"])
def broker(request: pytest.FixtureRequest, access_broker: Callable[[str], Guarded]) -> Guarded:
    return access_broker(request.param)


@pytest.mark.parametrize(
    ("user", "house"),
    [
        ("house.house-d", "house-d"),
        ("plant.plant-p", "plant-p"),
        ("service.optimizer", SITE),
        ("dashboard.wall", SITE),
    ],
)
async def test_a_check_is_let_in_and_pushes_nobody_out(
    broker: Guarded, user: str, house: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "LISTEN_S", 0.2)
    client = "meter-house-d-main"
    async with opened(broker.url("house.house-d"), client) as meter:
        settings = CommonSettings(live_url=broker.url(user))
        findings = [finding async for finding in check.check_brokers(settings, house, SystemClock())]
        assert [str(finding) for finding in findings if finding.problem] == []
        assert "a message went there and back" in findings[0].told
        assert meter.connected


@pytest.mark.parametrize(
    ("user", "client"),
    [
        ("dashboard.wall", "dashboard-1a2b3c4d"),
        ("dashboard.wall", "top-1a2b3c4d"),
        ("operator.ann", "dashboard-5e6f7a8b"),
        ("service.replay", "replay-2026-11-21"),
        ("service.quarantine", "quarantine"),
        ("service.home-assistant", "home-assistant"),
    ],
)
async def test_a_tool_is_let_in_by_the_client_id_it_has(broker: Guarded, user: str, client: str) -> None:
    async with opened(broker.url(user), client) as transport:
        assert transport.connected


@pytest.mark.parametrize(("user", "status"), [("operator.ann", 202), ("dashboard.wall", 403)])
async def test_a_page_asks_in_the_name_of_its_account_alone(
    broker: Guarded, user: str, status: int, tmp_path: Path
) -> None:
    clock, (port,) = SystemClock(), free_ports(1)
    own = DashboardSettings(
        service_port=port, token_file=write_secret(tmp_path / "token", TOKEN), data_dir=tmp_path
    )
    async with (
        bus_of(broker, "house.house-d", tmp_path / "house") as house,
        bus_of(broker, user, tmp_path / "page") as bus,
        page(own, bus, lambda: True, clock, Lifecycle(), lambda _: 16.0),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as person,
    ):

        async def ask(name: str) -> httpx.Response:
            """Once the page knows the house, and is not at connecting again: RabbitMQ hangs up as it refuses."""
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            async with clock.timeout(20):
                while True:
                    await say(house, telemetry(clock.now(), 1.0, house="house-d"))
                    body = {"action": "pause", "user": name}
                    answer = await person.post("/api/houses/house-d/requests", json=body, headers=bearer)
                    if answer.status_code not in (404, 503):
                        return answer
                    await clock.sleep(0.2)

        answer = await ask("ann")
        assert answer.status_code == status, answer.text
        answer = await ask("ben")
        assert answer.status_code == 403
        assert "not asked: " in answer.text
