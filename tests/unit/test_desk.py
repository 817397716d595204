"""What the operator is told of what counts."""

from pathlib import Path

import pytest

from wattbus.access import enroll, rotate

URLS = ("--readings-url", "amqps://rabbit.example", "--live-url", "mqtts://mosquitto.example")


@pytest.mark.parametrize(
    ("what", "account", "said"),
    [
        (
            ["--service", "recorder"],
            "service.recorder",
            "counts on (at Mosquitto only the new one counts) until",
        ),
        (["--service", "bridge"], "service.bridge", "counts on (at Mosquitto only the new one counts) until"),
        (["--service", "optimizer"], "service.optimizer", "counts on until"),
        (["house-d", "--meter", "main"], "house-d", "counts on until"),
    ],
)
def test_a_rotation_says_whose_old_password_ends_at_once(
    what: list[str],
    account: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert enroll.main([*what, *URLS]) == 0
    assert rotate.main([account]) == 0
    assert f"the old one {said} its own end" in capsys.readouterr().out
