"""`wattbus check` says how long certificates last."""

from pathlib import Path

import pytest

from contracts.instant import Instant
from runtime.clock import ManualClock
from runtime.settings import CommonSettings
from wattbus.access.authority import CLIENT_DAYS, client_identity, new_authority
from wattbus.check import check_certificates

NOW = Instant.parse("2026-11-21T12:00:00Z")


@pytest.mark.parametrize(
    ("age_days", "problem", "told"),
    [(0, "", "825 days left"), (800, "25 days left: ask the operator", ""), (826, "-1 days left", "")],
)
def test_a_warning_thirty_days_before_the_end(tmp_path: Path, age_days: int, problem: str, told: str) -> None:
    authority = new_authority("site", NOW)
    identity = client_identity(authority, "house.house-d", NOW)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    (tmp_path / "client.pem").write_bytes(identity.pem)
    url = f"mqtts://{{client}}:pass@hive.example?ca={tmp_path}/ca.crt&cert={tmp_path}/client.pem"
    clock = ManualClock(NOW.after(age_days * 86400))
    (finding,) = check_certificates(CommonSettings(live_url=url), clock)
    assert CLIENT_DAYS == 825
    assert finding.problem.startswith(problem)
    assert bool(finding.problem) == bool(problem)
    assert told in str(finding)
    assert "pass@" not in str(finding)


def test_one_that_is_missing_is_said(tmp_path: Path) -> None:
    url = f"mqtts://hive.example?ca={tmp_path}/ca.crt&cert={tmp_path}/client.pem"
    (finding,) = check_certificates(CommonSettings(live_url=url), ManualClock(NOW))
    assert "can't be read" in finding.problem
